// One conversation as the page draws it. The truth is a plain list; what is drawn is a copy of it
// that pieces reach once a frame, so that a fast answer costs no more drawing than the screen shows.

import { isOver, reduce, type Action, type Attached, type Turn } from "./conversation";
import type { Head, Queued } from "./stored";

const TITLE_CHARS_MAX = 80;
/** Where there is no screen to keep up with. */
const UNSEEN_MS = 16;

export class Talk {
  /** False until its first question. */
  kept = $state(false);
  title = $state("");
  createdAt = Date.now();
  turns = $state.raw<Turn[]>([]);
  draft = $state("");
  attached = $state.raw<Attached[]>([]);
  system = $state("");
  temperature = $state.raw<number | null>(null);
  /** Empty for `auto`. */
  model = $state("");
  maxTokens = $state(512);
  queued = $state.raw<Queued[]>([]);
  /** The question that is being asked again in other words. */
  editing = $state<string | undefined>(undefined);
  /** Why what waits is not sent. */
  held = $state(false);

  shown = $derived(this.turns.filter((turn) => !turn.replaced));
  current = $derived<Turn | undefined>(this.shown.at(-1));
  running = $derived(this.turns.some((turn) => !isOver(turn)));

  #truth: Turn[] = [];
  #due = false;
  #changes = 0;
  #changing: Promise<unknown> = Promise.resolve();

  constructor(readonly id: string) {}

  static of(head: Head): Talk {
    const talk = new Talk(head.id);
    talk.kept = true;
    talk.createdAt = head.createdAt;
    talk.take(head);
    talk.draft = head.draft;
    return talk;
  }

  /** What another tab may have changed. What is being written here stays. */
  take(head: Head): void {
    this.title = head.title;
    this.system = head.system;
    this.temperature = head.temperature;
    this.model = head.model;
    this.maxTokens = head.maxTokens;
    this.queued = head.queued;
  }

  /**
   * A change that begins here, and ends when it is kept, or cannot be. What is read of this conversation
   * meanwhile may be older than what stands here.
   */
  async changing<T>(change: () => Promise<T>): Promise<T> {
    this.#changes += 1;
    const done = change();
    // Not the outcomes: each would hold those before it.
    this.#changing = Promise.allSettled([this.#changing, done]).then(() => undefined);
    return done;
  }

  /** Reads it at rest: again and again, until no change of its own began meanwhile. What is done with it is done at once. */
  async atRest<T>(read: () => Promise<T>, then: (found: T) => void): Promise<void> {
    for (;;) {
      const before = this.#changes;
      await this.#changing;
      const found = await read();
      if (this.#changes === before) return then(found);
    }
  }

  head(): Head {
    const { id, title, createdAt, system, temperature, model, maxTokens, draft, queued } = this;
    return { id, title, createdAt, changedAt: Date.now(), system, temperature, model, maxTokens, draft, queued };
  }

  /** As it is now, drawn or not. */
  all(): readonly Turn[] {
    return this.#truth;
  }

  turn(key: string): Turn | undefined {
    return this.#truth.find((turn) => turn.key === key);
  }

  add(turn: Turn): void {
    this.#truth = [...this.#truth, turn];
    this.title ||= titleOf(turn.question) || (turn.attached?.[0]?.name ?? "Untitled");
    this.#draw();
  }

  set(turns: Turn[]): void {
    this.#truth = turns;
    this.#draw();
  }

  put(fresh: Turn): void {
    this.set(this.#truth.map((turn) => (turn.key === fresh.key ? fresh : turn)));
  }

  remove(key: string): void {
    this.set(this.#truth.filter((turn) => turn.key !== key));
  }

  apply(key: string, action: Action): Turn | undefined {
    const at = this.#truth.findIndex((turn) => turn.key === key);
    const before = this.#truth[at];
    if (!before) return undefined;
    const after = reduce(before, action);
    // In place: what is drawn is another list.
    this.#truth[at] = after;
    const piece = action.kind === "event" && before.phase === "running" && after.phase === "running";
    if (piece) this.#drawSoon();
    else this.#draw();
    return after;
  }

  #draw(): void {
    this.turns = [...this.#truth];
  }

  #drawSoon(): void {
    if (this.#due) return;
    this.#due = true;
    const draw = () => {
      this.#due = false;
      this.#draw();
    };
    const seen = typeof requestAnimationFrame === "function" && document.visibilityState === "visible";
    if (seen) requestAnimationFrame(draw);
    else setTimeout(draw, UNSEEN_MS);
  }
}

export function titleOf(question: string): string {
  const line = question.trim().split("\n", 1)[0]?.replace(/\s+/g, " ").trim() ?? "";
  return line.length > TITLE_CHARS_MAX ? `${line.slice(0, TITLE_CHARS_MAX - 1).trimEnd()}…` : line;
}
