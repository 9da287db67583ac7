// Runs questions of any conversation, several at once, and keeps what they bring. A question that was
// open when the page went away is taken up where the store has it, by one tab only.

import { isOver, text, type Turn } from "./conversation";
import { follow } from "./follow";
import { Refusal, type Realm } from "./realm";
import { stored, type Sent } from "./stored";
import type { Store } from "./store";
import type { Talk } from "./talk.svelte";

/** How long a question that the realm has not even named yet may take to stop. */
const STOP_MS_MAX = 8_000;
/** What an answer brought is kept at most this often: the realm says again what came after. */
const KEEP_EVERY_MS = 1_000;
/** A browser opens six connections to one address; some must be left for everything else. */
const STREAMS_MAX = 4;

export interface Needs {
  realm: Realm;
  store: Promise<Store>;
  /** A question has ended, for whatever reason. */
  onOver(talk: Talk, key: string): void;
  onKeyRefused(): void;
}

export class Runner {
  #needs: Needs;
  #aborts = new Map<string, AbortController>();
  #expected = new Set<string>();
  #kept = new Map<string, number>();
  #streams = 0;
  #waiting: (() => void)[] = [];

  constructor(needs: Needs) {
    this.#needs = needs;
  }

  runs(key: string): boolean {
    return this.#aborts.has(key) || this.#expected.has(key);
  }

  /** It is about to run: nobody else takes it up, or takes it for one that is gone, meanwhile. */
  expect(key: string): void {
    this.#expected.add(key);
  }

  /** Follows a question to its end. Where another tab follows it already, it comes after that one. */
  async run(talk: Talk, key: string, sent?: Sent): Promise<void> {
    this.#expected.delete(key);
    if (this.#aborts.has(key)) return;
    const abort = new AbortController();
    this.#aborts.set(key, abort);
    try {
      await alone(key, abort.signal, async () => {
        const store = await this.#needs.store;
        // Another tab may have brought it further, or to its end, meanwhile.
        const known = await store.turn(key);
        const mine = talk.turn(key);
        if (known && mine && known.turn.seq > mine.seq) talk.put({ ...known.turn, resuming: mine.resuming });
        if (known && mine && isOver(known.turn) && known.turn.phase !== "lost") return talk.put(known.turn);
        await this.#slot(abort.signal, () => this.#follow(talk, key, sent ?? known?.sent, abort.signal));
      });
    } catch {
      talk.apply(key, { kind: "lost", message: "stopped here before it was sent", now: Date.now() });
    } finally {
      // Begun before it counts as over here: what is read meanwhile may know of no end, and would be taken up.
      const keeping = talk.changing(() => this.keep(talk, key, sent));
      this.#aborts.delete(key);
      this.#kept.delete(key);
      await keeping;
      this.#needs.onOver(talk, key);
    }
  }

  async #slot(signal: AbortSignal, work: () => Promise<void>): Promise<void> {
    if (this.#streams >= STREAMS_MAX) {
      await new Promise<void>((go, fail) => {
        this.#waiting.push(go);
        signal.addEventListener("abort", () => {
          this.#waiting = this.#waiting.filter((other) => other !== go);
          fail(new Error("stopped"));
        });
      });
    } else this.#streams += 1;
    try {
      await work();
    } finally {
      // The place goes to who waits longest, or is free.
      const next = this.#waiting.shift();
      if (next) next();
      else this.#streams -= 1;
    }
  }

  async #follow(talk: Talk, key: string, sent: Sent | undefined, signal: AbortSignal): Promise<void> {
    const { realm } = this.#needs;
    const known = talk.turn(key);
    const from = known?.intent && { intent: known.intent, lastId: lastIdOf(known) };
    try {
      await follow({
        ...(from && { from }),
        submit: (one) => {
          if (!sent) throw new Error("only what is known to the realm is followed without its data");
          return realm.submit(sent.data, sent.ceiling, sent.once, one);
        },
        resume: async (intent, lastId, one) => {
          // Stopped, or erased, while there was no connection.
          if (talk.turn(key)?.stopping !== false) await this.#cancel(intent);
          return realm.resume(intent, lastId, one);
        },
        onResuming: () => talk.apply(key, { kind: "resuming", on: true }),
        onEvent: (event) => {
          const before = talk.turn(key);
          const turn = talk.apply(key, { kind: "event", event, now: Date.now() });
          // Stopped, or erased, before the realm had named it.
          const intent = event.type === "mtor.intent.accepted.v1" && text(event.data["intent"]);
          if (intent && turn?.stopping !== false) void this.#cancel(intent).catch(() => undefined);
          if (turn) this.#keepSometimes(talk, turn, before?.phase !== turn.phase, sent);
          if (turn && before && isOver(turn) && !isOver(before)) this.#needs.onOver(talk, key);
        },
        signal,
      });
    } catch (cause) {
      await this.#ended(talk, key, cause, signal.aborted);
    }
  }

  #keepSometimes(talk: Talk, turn: Turn, news: boolean, sent?: Sent): void {
    const now = Date.now();
    if (!news && now - (this.#kept.get(turn.key) ?? 0) < KEEP_EVERY_MS) return;
    this.#kept.set(turn.key, now);
    void this.keep(talk, turn.key, sent);
  }

  async keep(talk: Talk, key: string, sent?: Sent): Promise<void> {
    const turn = talk.turn(key);
    if (turn) await (await this.#needs.store).put(stored(talk.id, turn, sent));
  }

  /** The thread is gone. Only what the realm never took is told as not charged. */
  async #ended(talk: Talk, key: string, cause: unknown, stopped: boolean): Promise<void> {
    const problem = cause instanceof Refusal ? cause.problem : undefined;
    if (problem?.status === 401) this.#needs.onKeyRefused();
    const intent = talk.turn(key)?.intent;
    const now = Date.now();
    if (problem && !intent) {
      talk.apply(key, { kind: "refused", problem, now });
      return;
    }
    if (problem && intent) {
      // Its state is kept longer than its events.
      const view = await this.#needs.realm.view(intent).catch(() => undefined);
      if (view) talk.apply(key, { kind: "learned", ...view, now });
    }
    const message = stopped
      ? "stopped here; the realm has not confirmed it"
      : problem
        ? "the realm keeps its events no longer, or not for this key; what it cost stands in the account"
        : "the connection to the realm was lost; the answer may be waiting there";
    talk.apply(key, { kind: "lost", message, now });
  }

  stop(talk: Talk): void {
    for (const turn of talk.all()) if (!isOver(turn) && !turn.stopping) this.#stop(talk, turn);
  }

  #stop(talk: Talk, turn: Turn): void {
    talk.apply(turn.key, { kind: "stopping" });
    if (turn.intent) {
      // Not heard now, it is said again with the next connection.
      this.#cancel(turn.intent).catch(() => undefined);
      return;
    }
    setTimeout(() => {
      const later = talk.turn(turn.key);
      if (later && !later.intent && !isOver(later)) this.#aborts.get(turn.key)?.abort();
    }, STOP_MS_MAX);
  }

  /** The end comes by the stream; a refused cancel means it was on its way already. */
  async #cancel(intent: string): Promise<void> {
    try {
      await this.#needs.realm.cancel(intent);
    } catch (cause) {
      if (!(cause instanceof Refusal) || cause.problem.status >= 500) throw cause;
    }
  }
}

/**
 * One tab at a time, where the browser has locks (on secure origins, and so on this machine); a realm
 * at home may be plain HTTP, and there two tabs may read the same answer, which the realm allows.
 */
async function alone(key: string, signal: AbortSignal, work: () => Promise<void>): Promise<void> {
  const locks = (globalThis.navigator as Navigator | undefined)?.locks as LockManager | undefined;
  if (!locks) return work();
  await locks.request(`mtor.turn.${key}`, { signal }, work);
}

/** The last piece seen, as the stream names it. */
function lastIdOf(turn: Turn): string {
  return turn.seq >= 0 ? `${turn.attempt}.${turn.seq}` : "";
}
