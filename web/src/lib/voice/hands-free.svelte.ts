// Hands-free: the microphone is open, each utterance is written down on this device, and what does not
// begin with the wake word is dropped there and then: it is not shown, not kept, and nothing of it leaves
// the page. What follows the word is a command or a question. A timer ends it where nobody calls.
//
// Knows no component, no realm and no conversation: what is to be done goes to `Acts`.

import { commandOf, type Command, type Doable } from "./commands";
import { EarError, type DeviceEar, type EarState } from "./ear-device";
import type { Detector } from "./detector";
import { nowHandsFree } from "./here.svelte";
import type { Mic, MicProblem } from "./mic";
import { addressed, DEFAULT_WAKE, wakeOf, type Wake } from "./wake";

/** What was done, in words, and how it is undone, as long as it can be. */
export interface Done {
  said: string;
  undo?: () => string | Promise<string>;
  /** False once it is too late. */
  undoable?: () => boolean;
}

export interface Acts {
  /** The text intents that the realm serves now. */
  intents(): readonly string[];
  question(text: string): Promise<Done>;
  command(command: Doable): Promise<Done>;
  /** Somebody has called: what is being read aloud stops. */
  called(): void;
}

export interface Needs {
  ear: DeviceEar;
  openMic(): Promise<Mic>;
  detector(): Detector;
  acts: Acts;
  /** Why there can be no microphone, of what `openMic` threw. */
  problemOf(cause: unknown): MicProblem;
  /** What is said now is meant for another microphone of the page. */
  isDeaf?(): boolean;
  /** One page of this browser at a time: how to make room for others, or nothing where another one listens. */
  alone?(): Promise<(() => void) | undefined>;
  now?: () => number;
}

export type Phase = "off" | "asking" | "loading" | "aside" | "waiting" | "hearing" | "listening" | "writing" | "failed";

/** One thing that was understood, newest first. */
export interface Entry extends Done {
  id: number;
  /** What was heard behind the wake word. */
  heard: string;
  kind: "question" | Command["kind"];
  undone?: boolean;
}

/** The word alone opens the ear for so long. */
export const OPEN_MS = 8_000;
export const MINUTES = [1, 5, 10, 30, 60] as const;
export const MINUTES_DEFAULT = 10;
const ENTRIES_MAX = 20;
/** A microphone that is open and gives nothing: so many seconds. */
export const STUCK_S = 5;
const ELSEWHERE = "Another tab of this browser listens already. Turn it off there first.";
/** Utterances that wait to be written down; of more the oldest is dropped. */
const WAITING_MAX = 3;
const LOCK = "mtor.hands-free";
const WORD_KEY = "mtor.voice.wake";
const MINUTES_KEY = "mtor.voice.minutes";

export class HandsFree {
  /** What the ear says of itself. */
  ear = $state.raw<EarState>({ kind: "off" });
  problem = $state.raw<MicProblem | undefined>(undefined);
  /** Somebody speaks now. */
  speaking = $state(false);
  /** The wake word alone was heard: what comes next is the question. */
  open = $state(false);
  on = $state(false);
  writing = $state(0);
  /** Utterances that nobody addressed to the page; of them nothing but their number is known. */
  passed = $state(0);
  entries = $state.raw<Entry[]>([]);
  help = $state(false);
  word = $state(kept(WORD_KEY) ?? DEFAULT_WAKE);
  minutes = $state(minutesOf(kept(MINUTES_KEY)));
  /** When it ends by itself. */
  endsAt = $state(0);
  /** Why it went off by itself. */
  ended = $state("");

  /** Of what is written as the wake word; nothing where that has not the form. */
  wake = $derived<Wake | undefined>(wakeOf(this.word));
  /** What calls: the last wake word that had the form. */
  calling = $state.raw<Wake | undefined>(wakeOf(this.word) ?? wakeOf(DEFAULT_WAKE));
  /** The microphone is open. */
  live = $state(false);
  /** What hears is being fetched; the microphone is not open. */
  fetching = $state(false);
  /** What is said now is for another microphone of the page. */
  aside = $state(false);
  phase = $derived.by<Phase>(() => {
    if (!this.on) return this.ear.kind === "failed" || this.problem ? "failed" : "off";
    if (this.fetching) return "loading";
    if (!this.live) return "asking";
    if (this.aside) return "aside";
    if (this.speaking) return "hearing";
    if (this.writing > 0) return "writing";
    return this.open ? "listening" : "waiting";
  });

  #needs: Needs;
  #now: () => number;
  #mic: Mic | undefined;
  #detector: Detector | undefined;
  #timer: ReturnType<typeof setInterval> | undefined;
  #opened: ReturnType<typeof setTimeout> | undefined;
  #openUntil = 0;
  #began = 0;
  #waiting: { samples: Float32Array; began: number }[] = [];
  #serial = 0;
  #quiet = 0;
  #unlock: (() => void) | undefined;
  #abort = new AbortController();
  /** What was heard is done one after another. */
  #acting: Promise<unknown> = Promise.resolve();
  /** What was heard before the last "stop" and has not begun is not begun. */
  #stopped = 0;
  /** It uses the ear. */
  #holds = false;
  #last = 0;

  constructor(needs: Needs) {
    this.#needs = needs;
    this.#now = needs.now ?? (() => Date.now());
    this.ear = needs.ear.state;
    needs.ear.watch((state) => {
      this.ear = state;
      if (state.kind === "failed") this.#off();
    });
  }

  async start(): Promise<void> {
    if (this.on || !this.wake) return;
    this.on = true;
    this.problem = undefined;
    this.ended = "";
    this.passed = 0;
    const serial = (this.#serial += 1);
    this.#abort = new AbortController();
    try {
      const unlock = this.#needs.alone ? await this.#needs.alone() : () => undefined;
      if (serial !== this.#serial) return unlock?.();
      if (!unlock) {
        this.#off();
        this.ended = ELSEWHERE;
        return;
      }
      this.#unlock = unlock;
      nowHandsFree(true);
      const mic = await this.#openReady(serial);
      if (serial !== this.#serial) return mic?.close();
      if (!mic) return;
      this.#mic = mic;
      this.live = true;
      mic.onlost = () => {
        this.problem = "lost";
        this.#off();
      };
    } catch (cause) {
      if (serial !== this.#serial) return;
      // The ear has said itself what became of it.
      if (!(cause instanceof EarError)) this.problem = this.#needs.problemOf(cause);
      return this.#off();
    }
    this.#detector = this.#needs.detector();
    this.#mic.onframe = (frame) => this.#frame(frame);
    this.#quiet = 0;
    this.#timer = setInterval(() => this.#tick(), 1_000);
    this.#wait();
  }

  /** Asks for leave first, without which there is no use in 44 MB; it is closed again while they come. */
  async #openReady(serial: number): Promise<Mic | undefined> {
    const mic = await this.#needs.openMic();
    if (serial !== this.#serial) return mic;
    this.#holds = true;
    if (this.ear.kind === "ready") {
      this.#mic = mic;
      await this.#needs.ear.acquire();
      return mic;
    }
    mic.close();
    this.fetching = true;
    await this.#needs.ear.acquire();
    if (serial !== this.#serial) return undefined;
    this.fetching = false;
    return this.#needs.openMic();
  }

  stop(): void {
    this.ended = "";
    this.problem = undefined;
    this.#off();
  }

  #off(): void {
    this.#serial += 1;
    this.#abort.abort(new DOMException("turned off", "AbortError"));
    this.#unlock?.();
    this.#unlock = undefined;
    nowHandsFree(false);
    this.#mic?.close();
    this.#mic = undefined;
    this.#detector = undefined;
    this.#waiting = [];
    this.#close();
    clearInterval(this.#timer);
    if (this.#holds) this.#needs.ear.release();
    this.#holds = false;
    this.endsAt = 0;
    this.on = false;
    this.live = false;
    this.fetching = false;
    this.aside = false;
    this.speaking = false;
    this.writing = 0;
  }

  setWord(written: string): void {
    this.word = written;
    if (!this.wake) return;
    this.calling = this.wake;
    keep(WORD_KEY, this.wake.words);
  }

  setMinutes(minutes: number): void {
    this.minutes = minutesOf(String(minutes));
    keep(MINUTES_KEY, String(this.minutes));
    if (this.endsAt > 0) this.#wait();
  }

  /** The timer begins anew. */
  #wait(): void {
    this.endsAt = this.#now() + this.minutes * 60_000;
  }

  /** By the clock of the day: one that counts stands still where a machine sleeps. */
  #isOver(): boolean {
    if (this.endsAt === 0 || this.#now() < this.endsAt) return false;
    const { minutes } = this;
    this.stop();
    this.ended = `Nobody called for ${minutes === 1 ? "a minute" : `${minutes} minutes`}: the microphone is off.`;
    return true;
  }

  #tick(): void {
    if (this.#isOver()) return;
    this.#quiet += 1;
    if (this.#quiet < STUCK_S) return;
    this.problem = "busy";
    this.#off();
  }

  #frame(frame: Float32Array): void {
    this.#quiet = 0;
    if (this.#isOver()) return;
    const isDeaf = this.#needs.isDeaf?.() ?? false;
    if (isDeaf !== this.aside) {
      this.aside = isDeaf;
      this.#detector = this.#needs.detector();
      this.speaking = false;
    }
    if (isDeaf) return;
    const heard = this.#detector?.push(frame);
    if (heard?.kind === "start") {
      this.#began = this.#now();
      this.speaking = true;
    } else if (heard?.kind === "end") {
      this.speaking = false;
      this.#waiting = [...this.#waiting, { samples: heard.samples, began: this.#began }].slice(-WAITING_MAX);
      if (this.writing === 0) void this.#write();
    }
  }

  async #write(): Promise<void> {
    const serial = this.#serial;
    const { signal } = this.#abort;
    try {
      for (let next = this.#waiting.shift(); next; next = this.#waiting.shift()) {
        this.writing = this.#waiting.length + 1;
        // One that takes too long is as good as unheard; the ear itself says when it gives up.
        const text = await this.#needs.ear.hear(next.samples, signal).catch(() => "");
        // Turned off meanwhile, and maybe on again: what it heard is nobody's.
        if (serial !== this.#serial) return;
        if (text !== "") this.#heard(text, next.began);
      }
    } finally {
      if (serial === this.#serial) this.writing = 0;
    }
  }

  #heard(text: string, began: number): void {
    const wake = this.calling;
    if (!wake) return;
    const called = addressed(text, wake);
    const rest = called ?? (began <= this.#openUntil ? text.trim() : undefined);
    if (rest === undefined) {
      this.passed += 1;
      return;
    }
    this.#wait();
    this.#needs.acts.called();
    this.#close();
    if (rest === "") return this.#listen();
    // Beside the listening: a price that comes late keeps no "stop" waiting.
    void this.understand(rest);
  }

  /** The word alone. */
  #listen(): void {
    this.open = true;
    this.#openUntil = this.#now() + OPEN_MS;
    this.#opened = setTimeout(() => (this.open = false), OPEN_MS);
  }

  #close(): void {
    clearTimeout(this.#opened);
    this.open = false;
    this.#openUntil = 0;
  }

  /** Behind the wake word. Never rejects. */
  async understand(rest: string): Promise<void> {
    const { acts } = this.#needs;
    const command = commandOf(rest, acts.intents());
    this.help = command?.kind === "help";
    if (command?.kind === "help") return this.#enter({ said: "These are the commands." }, rest, "help");
    if (command?.kind === "undo") {
      const last = this.entries.find((entry) => canUndo(entry));
      if (last) return this.undo(last.id);
      return this.#enter({ said: "There is nothing that can be undone." }, rest, "undo");
    }
    const done = await this.#do(command, rest).catch((cause: unknown) => ({ said: `It could not be done: ${wordsOf(cause)}` }));
    this.#enter(done, rest, command?.kind ?? "question");
  }

  #do(command: Doable | undefined, rest: string): Promise<Done> {
    const { acts } = this.#needs;
    if (command?.kind === "stop" || command?.kind === "cancel") {
      this.#stopped += 1;
      return acts.command(command);
    }
    const [serial, stopped] = [this.#serial, this.#stopped];
    const act = async (): Promise<Done> => {
      if (serial !== this.#serial) return { said: "Not done: hands-free was turned off before." };
      if (stopped !== this.#stopped) return { said: "Not done: it was stopped before." };
      return command ? acts.command(command) : acts.question(rest);
    };
    const done = this.#acting.then(act);
    this.#acting = done.catch(() => undefined);
    return done;
  }

  #enter(done: Done, heard: string, kind: Entry["kind"]): void {
    const entry: Entry = { ...done, id: (this.#last += 1), heard, kind };
    this.entries = [entry, ...this.entries].slice(0, ENTRIES_MAX);
  }

  async undo(id: number): Promise<void> {
    const entry = this.entries.find((one) => one.id === id);
    if (!entry || !canUndo(entry)) return;
    // At once, so that it is not undone twice.
    this.#replace({ ...entry, undone: true });
    const said = await Promise.resolve(entry.undo?.()).catch((cause: unknown) => `It could not be undone: ${wordsOf(cause)}`) ?? "";
    this.#replace({ ...entry, undone: true, said });
  }

  #replace(entry: Entry): void {
    this.entries = this.entries.map((one) => (one.id === entry.id ? entry : one));
  }
}

export function canUndo(entry: Entry): boolean {
  return entry.undo !== undefined && !entry.undone && (entry.undoable?.() ?? true);
}

function wordsOf(cause: unknown): string {
  return cause instanceof Error ? cause.message : String(cause);
}

/** One tab of a browser listens: two would ask each question twice. */
export async function alone(locks: LockManager | undefined = navigator.locks): Promise<(() => void) | undefined> {
  // Pages that came unencrypted have none, and no microphone.
  if (!locks) return () => undefined;
  return new Promise((done) => {
    const held = (lock: Lock | null) => (lock ? new Promise<void>((release) => done(() => release())) : done(undefined));
    locks.request(LOCK, { ifAvailable: true }, held).catch(() => done(() => undefined));
  });
}

function minutesOf(text: string | undefined): number {
  return MINUTES.find((one) => String(one) === text) ?? MINUTES_DEFAULT;
}

function kept(key: string): string | undefined {
  try {
    return localStorage.getItem(key) ?? undefined;
  } catch {
    return undefined;
  }
}

function keep(key: string, value: string): void {
  try {
    localStorage.setItem(key, value);
  } catch {
    // A private window forgets it.
  }
}
