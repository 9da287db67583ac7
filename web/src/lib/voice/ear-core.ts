// What the worker of the device's ear does, without the worker: is this device fast enough, and how long
// may one utterance take. Time is given, so that tests need no slow machine.

import { RATE, TooLong, tokensMax } from "./moonshine";

/** What hears: Moonshine, or a test's stand-in. */
export interface Hearing {
  hear(samples: Float32Array, late?: () => boolean, steps?: number): Promise<string>;
}

/** Seconds of the known sound. */
const KNOWN_SECONDS = 2;
/** Of real time: a device that takes longer than the sound itself is too slow. */
export const FACTOR_MIN = 1;
/** For an utterance: its own length, and at least this. */
const HEAR_MS_MIN = 3_000;
/** In a row, and the device is too slow after all: it may be hot, or busy. */
const LATE_MAX = 2;

export class TooSlow extends Error {
  constructor(readonly factor: number) {
    super("this device hears slower than people speak");
  }
}

/** The same on every device: a falling tone with the rhythm of syllables. Only the time it takes counts. */
export function knownSound(): Float32Array {
  const samples = new Float32Array(KNOWN_SECONDS * RATE);
  for (let at = 0; at < samples.length; at += 1) {
    const time = at / RATE;
    const loud = Math.max(0, Math.sin(2 * Math.PI * 4 * time));
    samples[at] = 0.3 * loud * Math.sin(2 * Math.PI * (180 - 30 * time) * time);
  }
  return samples;
}

export class EarCore {
  #late = 0;

  constructor(
    private readonly hearing: Hearing,
    private readonly now: () => number,
  ) {}

  /**
   * How many times faster than speech this device hears, with as many words as so much sound may have.
   * The first run is not counted: it makes ready what later ones use.
   */
  async measure(): Promise<number> {
    const sound = knownSound();
    const steps = tokensMax(sound.length);
    const began = this.now();
    try {
      await this.hearing.hear(sound, () => this.now() - began > 4 * KNOWN_SECONDS * 1_000, steps);
    } catch (cause) {
      throw cause instanceof TooLong ? new TooSlow(0) : cause;
    }
    const second = this.now();
    await this.hearing.hear(sound, undefined, steps);
    const factor = (KNOWN_SECONDS * 1_000) / Math.max(this.now() - second, 1);
    if (factor < FACTOR_MIN) throw new TooSlow(factor);
    return factor;
  }

  /** Rejects with `TooLong` where it takes longer than it may, and with `TooSlow` where that is no exception. */
  async hear(samples: Float32Array): Promise<string> {
    const began = this.now();
    const most = Math.max((samples.length / RATE) * 1_000, HEAR_MS_MIN);
    try {
      const text = await this.hearing.hear(samples, () => this.now() - began > most);
      this.#late = 0;
      return text;
    } catch (cause) {
      if (!(cause instanceof TooLong)) throw cause;
      this.#late += 1;
      throw this.#late >= LATE_MAX ? new TooSlow(0) : cause;
    }
  }
}
