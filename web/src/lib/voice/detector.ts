// Says where an utterance begins and ends, by energy alone: no model, no clock, no browser. Frames go in
// as the microphone gives them; the loudness of each, where speech has most of its energy, is held against
// the floor, which is the quietest that it was of late. So a fan, a street or a bad microphone raises the
// floor within seconds, and a voice stands above it.
//
// The beginning is told a few frames late, so that a click is none; what came before it is kept aside and
// stands in the utterance all the same. The end is told after a stretch of silence. Memory is bounded by
// the longest utterance, and no sample, however wrong, becomes more than a loud one.

import { FRAME, FRAME_MS, RATE } from "./frames";

export type Heard =
  | { kind: "start" }
  /** `cut` where it was ended by its length, not by a silence. */
  | { kind: "end"; samples: Float32Array; cut: boolean };

export interface DetectorOptions {
  /** Silence that ends an utterance. */
  hangMs?: number;
  /** Kept of what came before the beginning was told. */
  prerollMs?: number;
  mostMs?: number;
}

export const HANG_MS = 900;
export const PREROLL_MS = 480;
export const UTTERANCE_MS_MAX = 30_000;
/** Of the silence at its end this much stays in an utterance. */
const TAIL_MS = 320;
/** Frames of the last few that must be loud for a beginning. */
const LOUD_FRAMES = 3;
const OF_FRAMES = 5;
/** Above the floor, in decibels: where speech begins, and where it still goes on. */
const BEGIN_DB = 7;
const GO_ON_DB = 4;
/** The floor is the least loudness of so many stretches of so many frames: about 2.5 seconds. */
const STRETCHES = 10;
const STRETCH_FRAMES = 8;
/** Digital silence is no floor to hear a breath by. */
const FLOOR_DB_MIN = -62;
const SILENCE_DB = -100;
/** Where most of what a voice says lies: hum, wind and hiss do not count. */
const BAND_HZ = [180, 3_400] as const;

export class Detector {
  /** Loudness of the last frame, for a meter: 0 is silence, 1 is as loud as it gets. */
  level = 0;

  readonly #hang: number;
  readonly #preroll: number;
  readonly #most: number;
  readonly #band = new Band();
  readonly #floor = new Floor();
  #smooth = SILENCE_DB;
  /** Whether each of the last frames was loud, newest last. */
  #loud: boolean[] = [];
  /** Before a beginning, what may belong to it; from there on, the utterance. */
  #frames: Float32Array[] = [];
  #speaking = false;
  #quiet = 0;

  constructor({ hangMs = HANG_MS, prerollMs = PREROLL_MS, mostMs = UTTERANCE_MS_MAX }: DetectorOptions = {}) {
    this.#hang = Math.max(1, Math.round(hangMs / FRAME_MS));
    this.#preroll = Math.max(OF_FRAMES, Math.round(prerollMs / FRAME_MS));
    this.#most = Math.max(this.#preroll + 1, Math.floor(Math.min(mostMs, UTTERANCE_MS_MAX) / FRAME_MS));
  }

  get speaking(): boolean {
    return this.#speaking;
  }

  push(given: Float32Array): Heard | undefined {
    const frame = sane(given);
    const loudness = this.#band.loudness(frame);
    this.level = Math.min(Math.max((loudness + 60) / 50, 0), 1);
    // A rise counts at once, a fall is smoothed: within a word the voice dips.
    this.#smooth = Math.max(loudness, this.#smooth * 0.6 + loudness * 0.4);
    const floor = this.#floor.with(loudness);
    this.#frames.push(frame);
    return this.#speaking ? this.#inSpeech(floor) : this.#inSilence(loudness, floor);
  }

  /** Ends what is being said, as if it were silent from now on; nothing where nobody speaks. */
  flush(): Heard | undefined {
    return this.#speaking ? this.#end(false) : undefined;
  }

  #inSilence(loudness: number, floor: number): Heard | undefined {
    if (this.#frames.length > this.#preroll) this.#frames.shift();
    this.#loud.push(loudness > floor + BEGIN_DB);
    if (this.#loud.length > OF_FRAMES) this.#loud.shift();
    if (this.#loud.filter(Boolean).length < LOUD_FRAMES) return undefined;
    this.#speaking = true;
    this.#quiet = 0;
    return { kind: "start" };
  }

  #inSpeech(floor: number): Heard | undefined {
    this.#quiet = this.#smooth > floor + GO_ON_DB ? 0 : this.#quiet + 1;
    if (this.#quiet >= this.#hang) return this.#end(false);
    return this.#frames.length >= this.#most ? this.#end(true) : undefined;
  }

  #end(cut: boolean): Heard {
    const spare = Math.max(this.#quiet - Math.ceil(TAIL_MS / FRAME_MS), 0);
    const kept = this.#frames.slice(0, Math.max(this.#frames.length - spare, 1));
    // What was not kept may be the silence before the next one.
    this.#frames = cut ? [] : this.#frames.slice(-Math.min(spare, this.#preroll) || this.#frames.length);
    this.#speaking = false;
    this.#loud = [];
    this.#quiet = 0;
    return { kind: "end", samples: joined(kept), cut };
  }
}

/** The quietest of late, in decibels. */
class Floor {
  #stretches: number[] = [];
  #least = Infinity;
  #count = 0;

  with(loudness: number): number {
    this.#least = Math.min(this.#least, loudness);
    this.#count += 1;
    const floor = Math.min(this.#least, ...this.#stretches);
    if (this.#count === STRETCH_FRAMES) {
      this.#stretches = [...this.#stretches, this.#least].slice(-STRETCHES);
      this.#least = Infinity;
      this.#count = 0;
    }
    return Math.max(floor, FLOOR_DB_MIN);
  }
}

/** A second-order high pass, then a low pass, of Butterworth's form. */
class Band {
  readonly #sections = [section(BAND_HZ[0], true), section(BAND_HZ[1], false)];

  /** Of the band in this frame, in decibels below the loudest sine. */
  loudness(frame: Float32Array): number {
    let energy = 0;
    for (const sample of frame) {
      const through = this.#sections.reduce((value, one) => one(value), sample);
      energy += through * through;
    }
    return Math.max(10 * Math.log10(energy / frame.length + 1e-12) + 3, SILENCE_DB);
  }
}

/** By the bilinear transform (R. Bristow-Johnson's formulas for filters of audio, Q = 1/√2). */
function section(hz: number, high: boolean): (sample: number) => number {
  const angle = (2 * Math.PI * hz) / RATE;
  const cos = Math.cos(angle);
  const alpha = Math.sin(angle) / Math.SQRT2;
  const a0 = 1 + alpha;
  const outer = (high ? 1 + cos : 1 - cos) / 2 / a0;
  const inner = (high ? -1 : 1) * 2 * outer;
  const [back1, back2] = [(-2 * cos) / a0, (1 - alpha) / a0];
  let [x1, x2, y1, y2] = [0, 0, 0, 0];
  return (sample) => {
    const out = outer * sample + inner * x1 + outer * x2 - back1 * y1 - back2 * y2;
    [x2, x1, y2, y1] = [x1, sample, y1, out];
    return out;
  };
}

/** A frame of numbers between -1 and 1, whatever came. */
function sane(frame: Float32Array): Float32Array {
  const out = new Float32Array(frame.length || FRAME);
  for (const [at, sample] of frame.entries()) out[at] = Number.isFinite(sample) ? Math.max(-1, Math.min(1, sample)) : 0;
  return out;
}

export function joined(frames: readonly Float32Array[]): Float32Array {
  const whole = new Float32Array(frames.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const frame of frames) {
    whole.set(frame, at);
    at += frame.length;
  }
  return whole;
}
