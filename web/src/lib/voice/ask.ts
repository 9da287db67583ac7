// One intent asked from the page without a form: sent for at most a price that was shown, its pieces as
// they come, its result, and what it cost. Given up, it is cancelled on the realm, too.

import type { Money, Price } from "../amount";
import { number, record, text, type Problem, type RealmEvent } from "../conversation";
import { follow } from "../follow";
import { randomId } from "../ids";
import { Refusal, type Realm } from "../realm";

export interface Asked {
  intent: string;
  data: Record<string, unknown>;
  ceiling: Money;
  signal?: AbortSignal | undefined;
  /** Each once, in their order. */
  onPiece?: (piece: unknown) => void;
  /** Another worker begins anew: what pieces there were are void. */
  onAnew?: () => void;
  /** No connection to the realm now, or one again. */
  onAway?: (away: boolean) => void;
  /** What it cost, however it ended. */
  onCost?: (cost: Money) => void;
}

/** Resolves with the result, rejects with `Refusal`, or with the signal's reason. */
export function askWork(realm: Realm, asked: Asked): Promise<unknown> {
  return new Promise((resolve, reject) => new Asking(realm, asked, resolve, reject));
}

class Asking {
  readonly #realm: Realm;
  #intent = "";
  /** A request that names it is under way: what it brings is needed to cancel it. */
  #flying = false;
  #over = false;
  #attempt = -1;
  #seq = -1;
  #abort = new AbortController();

  constructor(
    realm: Realm,
    private readonly asked: Asked,
    private readonly done: (result: unknown) => void,
    private readonly fail: (why: unknown) => void,
  ) {
    // Whoever pays at its beginning also follows and cancels it, whatever account is chosen meanwhile.
    this.#realm = realm.fixed();
    const { signal } = asked;
    if (signal?.aborted) {
      fail(signal.reason);
      return;
    }
    const given = () => this.#giveUp();
    const away = () => this.#cancel();
    signal?.addEventListener("abort", given, { once: true });
    globalThis.addEventListener?.("pagehide", away);
    void this.#follow().finally(() => {
      signal?.removeEventListener("abort", given);
      globalThis.removeEventListener?.("pagehide", away);
    });
  }

  async #follow(): Promise<void> {
    const realm = this.#realm;
    const once = randomId();
    try {
      await follow({
        submit: (ended) => this.#submit(once, ended),
        resume: (intent, lastId, ended) => {
          // Given up while there was no connection, or the cancel did not get through.
          if (this.#isGivenUp()) this.#cancel();
          return realm.resume(intent, lastId, ended);
        },
        onEvent: (event) => this.#on(event),
        onResuming: () => {
          this.#dropped();
          this.asked.onAway?.(true);
        },
        signal: this.#abort.signal,
      });
      this.fail(new Refusal(LOST));
    } catch (cause) {
      this.fail(cause instanceof Refusal ? cause : new Refusal(LOST));
    }
  }

  async #submit(once: string, ended: AbortSignal): Promise<Response> {
    const { intent, data, ceiling } = this.asked;
    this.#flying = true;
    try {
      return await this.#realm.submitWork({ intent, data, ceiling: ceiling.amount }, once, ended);
    } catch (cause) {
      this.#dropped();
      throw cause;
    }
  }

  /** No connection now. What was given up before the realm had named it is not sent once more. */
  #dropped(): void {
    this.#flying = false;
    if (this.#isGivenUp() && !this.#intent) this.#abort.abort();
  }

  #isGivenUp(): boolean {
    return this.asked.signal?.aborted === true;
  }

  /** While it is under way and has no name yet, its first event cancels it. */
  #giveUp(): void {
    this.fail(this.asked.signal?.reason);
    if (!this.#intent && !this.#flying) this.#abort.abort();
    this.#cancel();
  }

  #cancel(): void {
    if (this.#intent && !this.#over) void this.#realm.cancel(this.#intent).catch(() => undefined);
  }

  #on({ type, data }: RealmEvent): void {
    this.asked.onAway?.(false);
    const named = this.#intent !== "";
    this.#intent = text(data["intent"]) ?? this.#intent;
    const cost = record(data["cost"]);
    const [asset, amount] = [text(cost["asset"]), text(cost["amount"])];
    const name = /^mtor\.intent\.([a-z]+)\.v1$/.exec(type)?.[1] ?? "";
    if (asset && amount && name !== "settled") this.asked.onCost?.({ asset, amount });
    if (name === "completed" || name in ENDS) this.#over = true;
    if (this.#isGivenUp()) return named ? undefined : this.#cancel();
    if (name === "chunk") this.#piece(data);
    else if (name === "restarted") this.asked.onAnew?.();
    else if (name === "completed") this.done(data["result"] ?? null);
    else if (name in ENDS) this.fail(new Refusal({ code: text(data["code"]) ?? "", message: text(data["reason"]) ?? ENDS[name] ?? "", status: 0 }));
  }

  #piece(data: Record<string, unknown>): void {
    const attempt = number(data["attempt"]) ?? this.#attempt;
    if (attempt < this.#attempt) return;
    if (attempt > this.#attempt) [this.#attempt, this.#seq] = [attempt, -1];
    const seq = number(data["seq"]) ?? this.#seq + 1;
    if (seq <= this.#seq) return;
    this.#seq = seq;
    this.asked.onPiece?.(data["piece"]);
  }
}

const LOST: Problem = { code: "", message: "the connection to the realm was lost", status: 0 };
const ENDS: Record<string, string> = { failed: "it failed", cancelled: "it was cancelled", expired: "nobody had done it in time" };

/** What so many units cost at most, rounded up. */
export function ceilingOf(price: Price, units: number, asset: string): Money {
  const [amount, per] = [BigInt(price.amount), BigInt(Math.max(price.per, 1))];
  const all = amount * BigInt(Math.ceil(units));
  return { asset, amount: ((all + per - 1n) / per).toString() };
}
