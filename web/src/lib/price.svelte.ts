// The price before: the quote of the draft as it stands.

import { isLess } from "./amount";
import { Quoting } from "./quoting.svelte";
import type { ChatBody, Quote, Realm } from "./realm";
import type { Wallet } from "./wallet.svelte";

const DELAY_MS = 300;

export class Price extends Quoting<Quote> {
  #realm: Realm;
  #wallet: Wallet;
  /** The list price that a quote was made of: with another one it is no longer what it was. */
  #listed: (model: string) => unknown;

  constructor(realm: Realm, wallet: Wallet, listed: (model: string) => unknown) {
    super();
    this.#realm = realm;
    this.#wallet = wallet;
    this.#listed = listed;
  }

  get tooLow(): boolean {
    const { quote } = this;
    if (this.problem?.status === 402) return true;
    return quote !== undefined && isLess(this.#wallet.balanceOf(quote.ceiling.asset), quote.ceiling.amount);
  }

  /** Of what that gives in a moment. */
  soon(body: () => ChatBody | undefined): void {
    this.later(() => {
      const data = body();
      if (data) void this.of(data);
    }, DELAY_MS);
  }

  /** The quote of exactly these data. */
  async of(data: ChatBody): Promise<Quote | undefined> {
    const wanted = JSON.stringify([data, this.#listed(data.model)]);
    const known = this.known(wanted);
    if (known) return known;
    const account = () => this.#wallet.ensure();
    const quote = await this.asked(wanted, () => this.#realm.quote(data), account);
    if (this.problem?.status === 401) this.#wallet.keyRefused = true;
    return quote;
  }
}
