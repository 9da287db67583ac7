// The device's own ear: what is said is written down in this page, by weights that the realm serves, and
// no sound leaves it. Loaded only when somebody asks for it.

import type { EarProblem, FromEar, ToEar } from "./ear-words";
import type { WeightFile } from "./weights";
import workerUrl from "./ear-worker.ts?worker&url";

export const EAR_MODEL = "moonshine-tiny-en";
/** What it fetches, the runtime apart. */
export const EAR_FILES = ["encoder.ort", "decoder.ort", "tokenizer.bin"] as const;
/** Longer than the worker's own bound for any utterance: after that it has hung. */
const HUNG_MS = 45_000;
/** Nobody holds it: the next utterance may come soon, and loading it anew takes seconds. */
const IDLE_MS = 60_000;

export type EarState =
  | { kind: "off" }
  | { kind: "loading"; received: number; bytes: number }
  /** The weights are here. */
  | { kind: "starting" }
  | { kind: "ready"; factor: number }
  | { kind: "failed"; problem: EarProblem; message: string };

/** What is wrong, and what to do. */
export const EAR_REMEDIES: Record<EarProblem, { what: string; then: string }> = {
  insecure: {
    what: "Browsers let only pages that came encrypted check what they fetch.",
    then: "Open this page by https, or on the realm's own machine by http://localhost.",
  },
  "not served": {
    what: "This realm gives no page what hears speech.",
    then: "Its owner can start it with mtor up --voice on.",
  },
  fetch: { what: "What hears speech did not come whole.", then: "Try again: what has come is kept. Where that does not help, load this page again." },
  broken: { what: "What came is not what the realm promised, and is not used.", then: "Try again later, or tell the realm's owner." },
  unsupported: { what: "This browser cannot run what hears speech.", then: "Use a newer one, or let the realm listen." },
  slow: {
    what: "This device hears slower than people speak.",
    then: "Close what else runs and try again, or let the realm listen.",
  },
  late: { what: "This device did not write that down in time.", then: "Say it again, in shorter sentences." },
  failed: { what: "What hears speech stopped.", then: "Turn it on again." },
};

export class EarError extends Error {
  constructor(
    readonly problem: EarProblem,
    message: string,
  ) {
    super(message);
  }
}

interface Policy {
  createScriptURL(url: string): unknown;
}
let policy: Policy | undefined;

/** The page's policy lets one address, and none but this one, become a worker's script. */
function scriptOf(url: string): string {
  const types = Reflect.get(globalThis, "trustedTypes") as { createPolicy(name: string, rules: object): Policy } | undefined;
  const only = (asked: string) => {
    if (asked !== url) throw new TypeError("no worker of this page");
    return asked;
  };
  policy ??= types?.createPolicy("mtor-worker", { createScriptURL: only });
  // What comes back is no string, and a worker takes it all the same.
  return (policy?.createScriptURL(url) ?? url) as string;
}

interface Waiting {
  done(text: string): void;
  fail(why: Error): void;
  timer: ReturnType<typeof setTimeout>;
}

export class DeviceEar {
  state: EarState = { kind: "off" };

  #watching = new Set<(state: EarState) => void>();
  #users = 0;
  #worker: Worker | undefined;
  #waiting = new Map<number, Waiting>();
  #ready: { done: () => void; fail: (why: Error) => void } | undefined;
  #loading: Promise<void> | undefined;
  #last = 0;
  /** Of one load until it has ended: what an older one still brings is nobody's. */
  #serial = 0;
  #idle: ReturnType<typeof setTimeout> | undefined;

  /** `files`: what the realm serves of the model. */
  constructor(
    private readonly base: string,
    private readonly files: () => Promise<readonly WeightFile[]>,
    private readonly make: () => Worker = () => new Worker(scriptOf(workerUrl), { type: "module", name: "mtor-ear" }),
  ) {}

  /** Tells of each change of its state until the returned function is called. */
  watch(watcher: (state: EarState) => void): () => void {
    this.#watching.add(watcher);
    return () => this.#watching.delete(watcher);
  }

  /** As `load`, for one more user. */
  acquire(): Promise<void> {
    this.#hold();
    return this.load();
  }

  /** The last user's word ends the worker, and its memory goes with it. */
  release(): void {
    this.#users = Math.max(this.#users - 1, 0);
    this.#closeUnheld();
  }

  #hold(): void {
    clearTimeout(this.#idle);
    this.#users += 1;
  }

  #closeUnheld(): void {
    if (this.#users === 0 && this.state.kind !== "failed") this.close();
  }

  /** Fetches, checks, starts and measures it; once, however often it is called. Rejects with `EarError`, or `AbortError` where it was closed. */
  load(): Promise<void> {
    return (this.#loading ??= this.#loadAs((this.#serial += 1)));
  }

  async #loadAs(serial: number): Promise<void> {
    try {
      await this.#load(serial);
    } catch (cause) {
      // It has been ended, which was told.
      if (serial !== this.#serial) throw cause;
      const why = cause instanceof EarError ? cause : new EarError("failed", cause instanceof Error ? cause.message : String(cause));
      this.#end({ kind: "failed", problem: why.problem, message: why.message }, why);
      throw why;
    }
  }

  async #load(serial: number): Promise<void> {
    this.#tell({ kind: "loading", received: 0, bytes: 0 });
    if (typeof crypto === "undefined" || !crypto.subtle) throw new EarError("insecure", "no hashes here");
    const served = await this.files().catch(() => {
      throw new EarError("fetch", "the realm does not answer");
    });
    if (serial !== this.#serial) throw closed();
    const files = EAR_FILES.flatMap((name) => served.find((file) => file.name === name) ?? []);
    if (files.length < EAR_FILES.length) throw new EarError("not served", "the realm serves no such files");
    const worker = this.make();
    this.#worker = worker;
    const ready = new Promise<void>((done, fail) => (this.#ready = { done, fail }));
    worker.onmessage = ({ data }: MessageEvent<FromEar>) => {
      if (this.#worker === worker) this.#on(data);
    };
    worker.onerror = ({ message }) => {
      if (this.#worker === worker) this.#on(broken(message));
    };
    this.#say({ kind: "load", base: this.base, model: EAR_MODEL, files });
    await ready;
  }

  /** The words of 16 kHz mono sound; empty where nobody spoke. Who only hears now and then holds it by this. */
  async hear(samples: Float32Array, signal?: AbortSignal): Promise<string> {
    this.#hold();
    try {
      await unlessGone(this.load(), signal);
      return samples.length === 0 ? "" : await this.#hear(samples, signal);
    } finally {
      this.#users -= 1;
      clearTimeout(this.#idle);
      this.#idle = setTimeout(() => this.#closeUnheld(), IDLE_MS);
    }
  }

  #hear(samples: Float32Array, signal?: AbortSignal): Promise<string> {
    const id = (this.#last += 1);
    return new Promise<string>((resolve, reject) => {
      const gone = () => this.#answer(id)?.fail(reasonOf(signal));
      const timer = setTimeout(() => this.#on({ kind: "failed", problem: "slow", message: "it has not answered in time" }), HUNG_MS);
      const over = <T>(then: (value: T) => void) => (value: T) => {
        clearTimeout(timer);
        signal?.removeEventListener("abort", gone);
        then(value);
      };
      this.#waiting.set(id, { done: over(resolve), fail: over(reject), timer });
      signal?.addEventListener("abort", gone, { once: true });
      // Whoever asks may ask once more with it.
      const own = samples.slice();
      this.#say({ kind: "hear", id, samples: own }, [own.buffer]);
    });
  }

  close(): void {
    this.#end({ kind: "off" }, closed());
  }

  #answer(id: number): Waiting | undefined {
    const waiting = this.#waiting.get(id);
    this.#waiting.delete(id);
    return waiting;
  }

  #on(words: FromEar): void {
    switch (words.kind) {
      case "progress":
        return this.#tell({ kind: "loading", received: words.received, bytes: words.bytes });
      case "starting":
        return this.#tell({ kind: "starting" });
      case "ready":
        this.#tell({ kind: "ready", factor: words.factor });
        return this.#ready?.done();
      case "heard":
        return this.#answer(words.id)?.done(words.text);
      case "unheard":
        return this.#answer(words.id)?.fail(new EarError("late", words.message));
      case "failed":
        return this.#end({ kind: "failed", problem: words.problem, message: words.message }, new EarError(words.problem, words.message));
    }
  }

  #end(state: EarState, why: Error): void {
    this.#serial += 1;
    this.#worker?.terminate();
    this.#worker = undefined;
    this.#loading = undefined;
    for (const id of [...this.#waiting.keys()]) this.#answer(id)?.fail(why);
    this.#ready?.fail(why);
    this.#ready = undefined;
    this.#tell(state);
  }

  #say(words: ToEar, given: Transferable[] = []): void {
    this.#worker?.postMessage(words, given);
  }

  #tell(state: EarState): void {
    this.state = state;
    for (const watcher of this.#watching) watcher(state);
  }
}

function closed(): DOMException {
  return new DOMException("closed", "AbortError");
}

/** A script that did not come has no words; one that does not run here has. */
function broken(message: string | undefined): FromEar {
  if (message) return { kind: "failed", problem: "unsupported", message };
  return { kind: "failed", problem: "fetch", message: "the worker's script did not come" };
}

function reasonOf(signal: AbortSignal | undefined): Error {
  return signal?.reason instanceof Error ? signal.reason : closed();
}

function unlessGone(loading: Promise<void>, signal: AbortSignal | undefined): Promise<void> {
  return new Promise((resolve, reject) => {
    const gone = () => reject(reasonOf(signal));
    if (signal?.aborted) gone();
    signal?.addEventListener("abort", gone, { once: true });
    void loading.then(resolve, reject).finally(() => signal?.removeEventListener("abort", gone));
  });
}
