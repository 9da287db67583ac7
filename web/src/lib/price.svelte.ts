// The price before: the quote of the draft as it stands. An outdated answer is dropped, never aborted.

import { isLess } from "./amount";
import type { Problem } from "./conversation";
import { problemOf, type ChatBody, type Quote, type Realm } from "./realm";
import type { Wallet } from "./wallet.svelte";

const DELAY_MS = 300;

export class Price {
  quote = $state.raw<Quote | undefined>(undefined);
  problem = $state.raw<Problem | undefined>(undefined);
  quoting = $state(false);

  #realm: Realm;
  #wallet: Wallet;
  /** The list price that a quote was made of: with another one it is no longer what it was. */
  #listed: (model: string) => unknown;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #serial = 0;
  #quoted = "";

  constructor(realm: Realm, wallet: Wallet, listed: (model: string) => unknown) {
    this.#realm = realm;
    this.#wallet = wallet;
    this.#listed = listed;
  }

  get tooLow(): boolean {
    const { quote } = this;
    if (this.problem?.status === 402) return true;
    return quote !== undefined && isLess(this.#wallet.balanceOf(quote.ceiling.asset), quote.ceiling.amount);
  }

  drop(): void {
    clearTimeout(this.#timer);
    this.#serial += 1;
    this.#quoted = "";
    this.quote = undefined;
    this.problem = undefined;
    this.quoting = false;
  }

  /** Of what that gives in a moment: whoever types goes on typing. */
  soon(body: () => ChatBody | undefined): void {
    clearTimeout(this.#timer);
    this.problem = undefined;
    this.quoting = true;
    this.#timer = setTimeout(() => {
      const data = body();
      if (data) void this.of(data);
    }, DELAY_MS);
  }

  /** The quote of exactly these data. */
  async of(data: ChatBody): Promise<Quote | undefined> {
    clearTimeout(this.#timer);
    const wanted = JSON.stringify([data, this.#listed(data.model)]);
    if (this.quote && this.#quoted === wanted) {
      this.quoting = false;
      return this.quote;
    }
    this.quoting = true;
    // A new account voids what was asked before it, so it comes first.
    const known = await this.#wallet.ensure();
    this.#serial += 1;
    const serial = this.#serial;
    try {
      if (!known) return undefined;
      const quote = await this.#realm.quote(data);
      if (serial !== this.#serial) return undefined;
      this.quote = quote;
      this.#quoted = wanted;
      this.problem = undefined;
      return quote;
    } catch (cause) {
      if (serial !== this.#serial) return undefined;
      this.quote = undefined;
      this.problem = problemOf(cause);
      if (this.problem.status === 401) this.#wallet.keyRefused = true;
      return undefined;
    } finally {
      if (serial === this.#serial) this.quoting = false;
    }
  }
}
