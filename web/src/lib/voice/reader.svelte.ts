// Answers read aloud: one at a time, also while they are still being written.

import type { Money } from "../amount";
import { isOver, type Problem, type Turn } from "../conversation";
import { Sentences } from "./sentences";
import { Speaker, type SpeakerNeeds } from "./speaker";

export interface ReaderNeeds extends Omit<SpeakerNeeds, "onCost" | "onEnd" | "onAway"> {
  /** An answer begins to be read. */
  onBegin(): void;
  /** It cost something. */
  onPaid(): void;
}

/** What has just ended still comes for who waits for it. */
const JUST_MS = 10_000;

export class Reader {
  /** The turn that is read, or empty. */
  reading = $state("");
  /** The realm does not answer: what is still to be read waits for it. */
  away = $state(false);
  /** By turn: what reading it has cost in this visit. */
  costs = $state.raw<ReadonlyMap<string, Money>>(new Map());
  /** Why the turn was not read to its end. */
  problem = $state.raw<{ key: string; problem: Problem } | undefined>(undefined);

  readonly #needs: ReaderNeeds;
  #speaker: Speaker | undefined;
  #sentences = new Sentences();
  /** Characters that it had when it was last looked at. */
  #length = 0;
  #seen = new Set<string>();

  constructor(needs: ReaderNeeds) {
    this.#needs = needs;
  }

  /** True once for each turn, and only while somebody may wait for it. */
  isNew(turn: Turn, now = Date.now()): boolean {
    const fresh = !this.#seen.has(turn.key);
    this.#seen.add(turn.key);
    return fresh && (!isOver(turn) || now - (turn.endedAt ?? 0) < JUST_MS);
  }

  /** From its beginning; what is still to come follows by `grown`. */
  read(turn: Turn): void {
    this.stop();
    this.problem = undefined;
    this.reading = turn.key;
    this.#length = 0;
    this.#sentences = new Sentences();
    const speaker = new Speaker({
      ...this.#needs,
      onCost: (cost) => this.#paid(turn.key, cost),
      onAway: (away) => {
        if (this.#speaker === speaker) this.away = away;
      },
      onEnd: (problem) => {
        if (this.#speaker !== speaker) return;
        this.#speaker = undefined;
        this.reading = "";
        this.away = false;
        if (problem) this.problem = { key: turn.key, problem };
      },
    });
    this.#speaker = speaker;
    this.#needs.onBegin();
    this.grown(turn);
  }

  grown(turn: Turn): void {
    if (this.reading !== turn.key) return;
    // Another worker writes it anew, in other words: what was said of it counts no more.
    if (turn.text.length < this.#length) return this.read(turn);
    this.#length = turn.text.length;
    const over = isOver(turn);
    this.#speaker?.say(this.#sentences.next(turn.text, over));
    if (over) this.#speaker?.close();
  }

  /** Silent at once. */
  stop(): void {
    this.#speaker?.stop();
  }

  #paid(key: string, { asset, amount }: Money): void {
    const known = this.costs.get(key);
    const before = known?.asset === asset ? BigInt(known.amount) : 0n;
    this.costs = new Map(this.costs).set(key, { asset, amount: (before + BigInt(amount)).toString() });
    this.#needs.onPaid();
  }
}
