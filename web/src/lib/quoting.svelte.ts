// What something may cost, as the realm says it, for whoever shows a price while its subject changes.
// Of what is asked only the last counts: an outdated answer is dropped, never aborted.

import type { Problem } from "./conversation";
import { problemOf } from "./realm";

export class Quoting<Q> {
  quote = $state.raw<Q | undefined>(undefined);
  problem = $state.raw<Problem | undefined>(undefined);
  quoting = $state(false);

  #timer: ReturnType<typeof setTimeout> | undefined;
  #serial = 0;
  #quoted = "";
  /** What is being asked: who asks the same meanwhile gets the same answer, and outdates nobody. */
  #asking: { subject: string; quote: Promise<Q | undefined> } | undefined;

  drop(): void {
    clearTimeout(this.#timer);
    this.#serial += 1;
    this.#asking = undefined;
    this.#quoted = "";
    this.quote = undefined;
    this.problem = undefined;
    this.quoting = false;
  }

  /** Whoever types goes on typing: only the last one is asked. */
  protected later(ask: () => void, delayMs: number): void {
    clearTimeout(this.#timer);
    this.problem = undefined;
    this.quoting = true;
    this.#timer = setTimeout(ask, delayMs);
  }

  /** The quote of `subject` where it is here: then nothing more is asked. */
  protected known(subject: string): Q | undefined {
    if (this.quote === undefined || this.#quoted !== subject) return undefined;
    clearTimeout(this.#timer);
    this.quoting = false;
    return this.quote;
  }

  /**
   * Nothing where it is refused, as `problem` says, or outdated when it comes. `first` may void what
   * was asked before it; where it is false nothing is asked.
   */
  protected async asked(subject: string, ask: () => Promise<Q>, first?: () => Promise<boolean>): Promise<Q | undefined> {
    clearTimeout(this.#timer);
    this.quoting = true;
    const ready = first === undefined || (await first());
    if (ready && this.#asking?.subject === subject) return this.#asking.quote;
    this.#serial += 1;
    const quote = this.#ask(subject, this.#serial, ready, ask);
    if (ready) this.#asking = { subject, quote };
    return quote;
  }

  async #ask(subject: string, serial: number, ready: boolean, ask: () => Promise<Q>): Promise<Q | undefined> {
    try {
      if (!ready) return undefined;
      const quote = await ask();
      if (serial !== this.#serial) return undefined;
      this.quote = quote;
      this.#quoted = subject;
      this.problem = undefined;
      return quote;
    } catch (cause) {
      if (serial !== this.#serial) return undefined;
      this.quote = undefined;
      this.problem = problemOf(cause);
      return undefined;
    } finally {
      if (serial === this.#serial) {
        this.quoting = false;
        this.#asking = undefined;
      }
    }
  }
}
