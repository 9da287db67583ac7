// Speaking a question: the microphone, the detector and the ear in one machine of four states. Tapped, it
// listens until the detector says that the utterance is over; held, as long as it is held. What was heard
// is handed on as words. Sound is in memory only, and only until it has become words.

import type { Money } from "../amount";
import type { Problem } from "../conversation";
import { problemOf } from "../realm";
import { Detector, joined, UTTERANCE_MS_MAX } from "./detector";
import type { Ear } from "./ear";
import { EarError } from "./ear-device";
import type { EarProblem } from "./ear-words";
import { FRAME_MS } from "./frames";
import { problemOfMic, type Mic, type MicProblem } from "./mic";

export type VoiceState = "off" | "asking" | "listening" | "hearing";

export type Trouble =
  | { kind: "mic"; problem: MicProblem }
  | { kind: "realm"; problem: Problem }
  /** This device's own ear. */
  | { kind: "ear"; problem: EarProblem }
  /** Nobody spoke; `muted` where there was not even a breath. */
  | { kind: "silence"; muted: boolean };

export interface VoiceNeeds {
  openMic(signal: AbortSignal): Promise<Mic>;
  /** Which one is asked anew for each utterance. */
  ear(): Ear;
  /** Somebody wants to speak, or does: whoever reads aloud is silent from now on. */
  onSpeech(): void;
  /** True while an answer is read aloud: nobody is expected to speak then. */
  isReading(): boolean;
  onWords(words: string): void;
}

/** Pressed for longer than this it is held; for less it was tapped. */
export const HOLD_MS = 350;
/** Tapped, and nobody speaks. */
export const IDLE_MS = 12_000;
/** A microphone that gives no frames at all. */
export const STUCK_MS = 5_000;
/** A click that a browser makes of a press that was seen already. */
const CLICK_MS = 600;

export class Voice {
  state = $state<VoiceState>("off");
  /** Listens as long as it is held. */
  held = $state(false);
  /** Loudness of the last frame, 0 to 1. */
  level = $state(0);
  /** The detector takes what comes for speech. */
  speaking = $state(false);
  /** What has been understood so far, while it is being written down. */
  words = $state("");
  /** What is waited for before it can be written down. */
  note = $state("");
  trouble = $state.raw<Trouble | undefined>(undefined);
  /** What writing down the last utterance has cost. */
  cost = $state.raw<Money | undefined>(undefined);
  on = $derived(this.state !== "off");

  readonly #needs: VoiceNeeds;
  #abort = new AbortController();
  #mic: Mic | undefined;
  #detector = new Detector();
  /** All of it, where it is held. */
  #frames: Float32Array[] = [];
  #spoken = false;
  /** Nobody has pressed anything: nobody has to speak. */
  #beside = false;
  #loudest = 0;
  #idle = 0;
  #watch: ReturnType<typeof setTimeout> | undefined;
  #pressedAt: number | undefined;
  #pressSeenAt = -Infinity;
  /** What could not be understood for a reason that may pass. */
  #again: Float32Array | undefined;

  constructor(needs: VoiceNeeds) {
    this.#needs = needs;
  }

  get mayRetry(): boolean {
    return this.#again !== undefined;
  }

  // --- the button ---

  /** An event of the button: a pointer, a key, or a click that nothing came before. */
  hand(event: Event): void {
    const key = "key" in event ? event.key : " ";
    if (key !== " " && key !== "Enter") return;
    switch (event.type) {
      case "pointerdown":
        if (event instanceof PointerEvent && event.button !== 0) return;
        capture(event);
        return this.press(event.timeStamp);
      case "keydown":
        return "repeat" in event && event.repeat === true ? undefined : this.press(event.timeStamp);
      case "click":
        return this.#pressedAt !== undefined || event.timeStamp - this.#pressSeenAt < CLICK_MS ? undefined : this.tap();
      default:
        return this.release(event.timeStamp);
    }
  }

  press(at: number): void {
    this.#pressedAt = at;
    this.#pressSeenAt = at;
    if (this.state === "off") {
      this.held = true;
      void this.#begin();
    } else this.#pressedAgain();
  }

  release(at: number): void {
    const since = this.#pressedAt;
    if (since === undefined) return;
    this.#pressedAt = undefined;
    this.#pressSeenAt = at;
    if (!this.held) return;
    // Asked for leave meanwhile, one cannot have spoken.
    if (this.state === "listening" && at - since >= HOLD_MS) this.finish();
    else this.held = false;
  }

  /** Listens until the utterance is over; while it listens, ends it now. */
  tap(): void {
    if (this.state !== "off") return this.#pressedAgain();
    this.held = false;
    void this.#begin();
  }

  /** What is being written down is given up by Cancel and Escape alone. */
  #pressedAgain(): void {
    if (this.state === "listening") this.finish();
    else if (this.state === "asking") this.cancel();
  }

  // --- listening ---

  /** As tapped, but whoever reads aloud goes on until somebody speaks. */
  listen(): void {
    if (this.state !== "off") return;
    this.held = false;
    void this.#begin(true);
  }

  async #begin(beside = false): Promise<void> {
    this.#reset();
    this.#beside = beside;
    if (!beside) this.#needs.onSpeech();
    const { signal } = this.#abort;
    this.state = "asking";
    try {
      const mic = await this.#needs.openMic(signal);
      if (signal.aborted) return mic.close();
      this.#listen(mic);
    } catch (cause) {
      if (!signal.aborted) this.#end({ kind: "mic", problem: problemOfMic(cause) });
    }
  }

  #listen(mic: Mic): void {
    this.#mic = mic;
    mic.onframe = (frame) => this.#frame(frame);
    mic.onlost = () => this.#lost();
    this.state = "listening";
    this.#isAlive();
  }

  #isAlive(): void {
    clearTimeout(this.#watch);
    this.#watch = setTimeout(() => this.#end({ kind: "mic", problem: "busy" }), STUCK_MS);
  }

  #frame(frame: Float32Array): void {
    if (this.state !== "listening") return;
    this.#isAlive();
    const heard = this.#detector.push(frame);
    this.level = this.#detector.level;
    this.speaking = this.#detector.speaking;
    this.#loudest = Math.max(this.#loudest, this.level);
    if (this.held) this.#frames.push(frame);
    if (heard?.kind === "start") {
      this.#spoken = true;
      this.#needs.onSpeech();
    }
    if (this.held) {
      if (this.#frames.length * FRAME_MS >= UTTERANCE_MS_MAX) this.finish();
    } else if (heard?.kind === "end") void this.#hear(heard.samples);
    else if (!this.speaking) this.#waits();
  }

  #waits(): void {
    this.#idle = this.#needs.isReading() ? 0 : this.#idle + FRAME_MS;
    if (this.#idle >= IDLE_MS) this.#end(this.#silence());
  }

  #silence(): Trouble | undefined {
    return this.#beside ? undefined : { kind: "silence", muted: this.#loudest === 0 };
  }

  #lost(): void {
    const trouble: Trouble = { kind: "mic", problem: "lost" };
    if (this.#spoken && this.state === "listening") void this.#hear(this.#soFar(), trouble);
    else if (this.state !== "hearing") this.#end(trouble);
  }

  /** What was said is all there is. */
  finish(): void {
    if (this.state !== "listening") return;
    if (this.#spoken) void this.#hear(this.#soFar());
    else this.#end(this.held ? this.#silence() : undefined);
  }

  #soFar(): Float32Array {
    if (this.held) return joined(this.#frames);
    const end = this.#detector.flush();
    return end?.kind === "end" ? end.samples : new Float32Array();
  }

  // --- from sound to words ---

  async #hear(samples: Float32Array, trouble?: Trouble, ear?: Ear): Promise<void> {
    const { signal } = this.#abort;
    this.#close();
    this.state = "hearing";
    try {
      const words = await (ear ?? this.#needs.ear()).hear(samples, signal);
      if (signal.aborted) return;
      this.#end(trouble ?? (words === "" ? this.#silence() : undefined));
      if (words !== "") this.#needs.onWords(words);
    } catch (cause) {
      if (signal.aborted) return;
      this.#end(cause instanceof EarError ? { kind: "ear", problem: cause.problem } : { kind: "realm", problem: problemOf(cause) });
      this.#again = samples;
    }
  }

  /** The same sound once more, by the ear that had none for it unless another one is named. */
  retry(ear?: Ear): void {
    const samples = this.#again;
    if (!samples || this.on) return;
    this.#reset();
    void this.#hear(samples, undefined, ear);
  }

  /** What was told has been read: nothing of it is kept. */
  dismiss(): void {
    if (!this.on) this.#end();
  }

  /** Nothing of it is kept. */
  cancel(): void {
    this.#end();
  }

  #reset(): void {
    this.#abort = new AbortController();
    this.#spoken = false;
    this.#loudest = 0;
    this.#idle = 0;
    this.#again = undefined;
    this.words = "";
    this.trouble = undefined;
    this.cost = undefined;
  }

  #end(trouble?: Trouble): void {
    this.#abort.abort(new DOMException("given up", "AbortError"));
    this.#close();
    this.#again = undefined;
    this.held = false;
    this.words = "";
    this.note = "";
    this.trouble = trouble;
    this.state = "off";
  }

  #close(): void {
    clearTimeout(this.#watch);
    this.#mic?.close();
    this.#mic = undefined;
    this.#frames = [];
    // The one before holds what was heard.
    this.#detector = new Detector();
    this.level = 0;
    this.speaking = false;
  }
}

/** So that letting go elsewhere is seen, too. */
function capture(event: Event): void {
  const button = event.target instanceof Element ? event.target.closest("button") : null;
  try {
    if (event instanceof PointerEvent) button?.setPointerCapture(event.pointerId);
  } catch {
    // It was let go before the page could look.
  }
}
