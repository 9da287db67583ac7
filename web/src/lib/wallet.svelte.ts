// Who pays: the account in use and those before it, what it has, and how a guest gets one.

import { isLess } from "./amount";
import type { Problem } from "./conversation";
import { followKeys, forgetKeys, formerKeys, KEYS_ITEM, loadKeys, saveKeys } from "./keys";
import { problemOf, Refusal, type Asset, type Keys, type Realm } from "./realm";

/** The sysop's invitation in `#invite=CODE`, which goes from the address. */
function takeInvite(): string | null {
  const invite = new URLSearchParams(globalThis.location?.hash.slice(1)).get("invite");
  if (invite) history.replaceState(null, "", location.pathname + location.search);
  return invite;
}

export class Wallet {
  keys = $state.raw<Keys | undefined>(loadKeys());
  /** Accounts used before in this browser, the newest first. */
  former = $state.raw<Keys[]>(formerKeys());
  keysStay = $state(true);
  keyRefused = $state(false);
  /** Why a guest account could not be opened. */
  guestProblem = $state.raw<Problem | undefined>(undefined);
  assets = $state.raw<Asset[] | undefined>(undefined);
  /** Why an empty account was given nothing today. */
  noGrant = $state.raw<Problem | undefined>(undefined);
  /** Why nothing can be asked with what there is. */
  lack = $derived(this.guestProblem ?? this.noGrant);
  /** What pays next: the grant while there is one, else the token. */
  purse = $derived(
    this.assets?.find((row) => row.asset === "grant" && isLess("0", row.balance)) ??
      this.assets?.find((row) => row.asset === "9000") ??
      this.assets?.[0],
  );

  /** What was asked with the account before is void. */
  onVoid: () => void = () => undefined;
  /** Another account is in use, and what it has is known. */
  onUsed: () => void = () => undefined;

  #realm: Realm;
  #invite = takeInvite();
  #guest: Promise<boolean> | undefined;

  constructor(realm: Realm) {
    this.#realm = realm;
  }

  start(): void {
    // Another tab opened or forgot the account.
    addEventListener("storage", (event) => {
      if (event.key !== null && event.key !== KEYS_ITEM) return;
      this.keys = followKeys();
      this.former = formerKeys();
      this.assets = undefined;
      this.keyRefused = false;
      void this.refresh();
    });
    void this.refresh();
  }

  decimalsOf(asset: string): number | undefined {
    return this.assets?.find((row) => row.asset === asset)?.decimals;
  }

  balanceOf(asset: string): string | undefined {
    return this.assets?.find((row) => row.asset === asset)?.balance;
  }

  async refresh(): Promise<void> {
    if (!this.keys) return;
    try {
      const { assets, noGrant } = await this.#realm.account();
      this.assets = assets;
      this.noGrant = assets.some((row) => isLess("0", row.balance)) ? undefined : noGrant;
      this.keyRefused = false;
    } catch (cause) {
      if (cause instanceof Refusal && cause.problem.status === 401) this.keyRefused = true;
    }
  }

  /** Opens a guest account if there is none. One at a time, however many ask. */
  ensure(): Promise<boolean> {
    if (this.keys) return Promise.resolve(!this.keyRefused);
    this.#guest ??= this.#openGuest().finally(() => (this.#guest = undefined));
    return this.#guest;
  }

  async #openGuest(): Promise<boolean> {
    const found = loadKeys();
    try {
      const invite = this.#invite;
      // It serves once, and one that does not serve is in the way of an account without.
      this.#invite = null;
      await this.#use(found ?? (await this.#realm.guest(invite)));
    } catch (cause) {
      this.guestProblem = problemOf(cause);
      return false;
    }
    return true;
  }

  /** Makes this the account in use; the one before is kept as a former one. */
  async #use(keys: Keys): Promise<void> {
    this.keysStay = saveKeys(keys);
    this.keys = keys;
    this.former = formerKeys();
    this.assets = undefined;
    this.guestProblem = undefined;
    this.noGrant = undefined;
    this.keyRefused = false;
    this.onVoid();
    await this.refresh();
    this.onUsed();
  }

  /** Takes a kept key back. Gives what is wrong with it, or nothing. */
  async useKey(api_key: string): Promise<Problem | undefined> {
    try {
      const known = this.former.find((keys) => keys.api_key === api_key);
      await this.#use({ ...known, ...(await this.#realm.accountOf(api_key)) });
      return undefined;
    } catch (cause) {
      return problemOf(cause);
    }
  }

  forget(): void {
    forgetKeys();
    this.keys = undefined;
    this.assets = undefined;
    this.keyRefused = false;
    this.guestProblem = undefined;
    this.noGrant = undefined;
    this.onVoid();
  }

  /**
   * An account in place of one whose key is refused: a former one that this realm knows, else a new
   * guest. The one before is kept, and nothing is given up before there is another.
   */
  async newGuest(): Promise<void> {
    for (const keys of this.former) if (!(await this.useKey(keys.api_key))) return;
    try {
      await this.#use(await this.#realm.guest());
    } catch (cause) {
      this.guestProblem = problemOf(cause);
    }
  }
}
