// Sound at one rate becomes sound at another, in a stream: what comes out does not depend on how the
// input was cut. A windowed sinc for each phase of the fraction between the rates; a rate of a browser is
// a whole number, so there are few phases.

/** Zero crossings of the sinc on each side: more is sharper, and costs more. */
const CROSSINGS = 16;
/** Of the lower rate's half: the rest is where the filter falls off. */
const PASS = 0.92;
/** Rates that a browser or a file may have. */
export const RATE_MIN = 3_000;
export const RATE_MAX = 384_000;

export class Resampler {
  /** `up` samples come out for `down` that go in. */
  readonly #up: number;
  readonly #down: number;
  readonly #half: number;
  readonly #kernels: Float32Array[];
  /** What later output still needs, oldest first. */
  #held: Float32Array;
  /** Of the next output: its place in `#held`, and the phase behind it. */
  #at: number;
  #phase = 0;

  constructor(from: number, to: number) {
    const sound = [from, to].every((rate) => Number.isInteger(rate) && rate >= RATE_MIN && rate <= RATE_MAX);
    if (!sound) throw new RangeError(`no resampling from ${from} to ${to} samples a second`);
    const common = gcd(from, to);
    this.#up = to / common;
    this.#down = from / common;
    const cutoff = Math.min(1, to / from) * PASS;
    this.#half = Math.ceil(CROSSINGS / cutoff);
    this.#kernels = Array.from({ length: this.#up }, (_, phase) => kernel(phase / this.#up, this.#half, cutoff));
    this.#held = new Float32Array(this.#half - 1);
    this.#at = this.#half - 1;
  }

  /** What these samples complete. */
  push(samples: Float32Array): Float32Array {
    const held = new Float32Array(this.#held.length + samples.length);
    held.set(this.#held);
    held.set(samples, this.#held.length);
    const out = new Float32Array(Math.ceil(((held.length + 1) * this.#up) / this.#down) + 1);
    let count = 0;
    // The kernel reaches `half - 1` samples back and `half` ahead.
    while (this.#at + this.#half < held.length) {
      const weights = this.#kernels[this.#phase] ?? new Float32Array();
      const from = this.#at - this.#half + 1;
      let sum = 0;
      for (let tap = 0; tap < weights.length; tap += 1) sum += (weights[tap] ?? 0) * (held[from + tap] ?? 0);
      out[count] = sum;
      count += 1;
      const moved = this.#phase + this.#down;
      this.#at += Math.floor(moved / this.#up);
      this.#phase = moved % this.#up;
    }
    const used = Math.min(this.#at - this.#half + 1, held.length);
    this.#held = held.slice(used);
    this.#at -= used;
    return out.slice(0, count);
  }
}

/** The whole of a sound, its end included. */
export function resample(samples: Float32Array, from: number, to: number): Float32Array {
  if (from === to) return samples.slice();
  const length = Math.round((samples.length * to) / from);
  const padded = new Float32Array(samples.length + Math.ceil((2 * CROSSINGS * Math.max(from / to, 1)) / PASS) + 2);
  padded.set(samples);
  return new Resampler(from, to).push(padded).slice(0, length);
}

/** Weights for an output that lies `phase` of a sample behind the middle; their sum is one. */
function kernel(phase: number, half: number, cutoff: number): Float32Array {
  const weights = Float32Array.from({ length: 2 * half }, (_, tap) => {
    const distance = tap - (half - 1) - phase;
    const window = 0.5 + 0.5 * Math.cos((Math.PI * distance) / half);
    return Math.abs(distance) > half ? 0 : sinc(distance * cutoff) * cutoff * window;
  });
  const sum = weights.reduce((total, weight) => total + weight, 0);
  return weights.map((weight) => weight / sum);
}

function sinc(at: number): number {
  return at === 0 ? 1 : Math.sin(Math.PI * at) / (Math.PI * at);
}

function gcd(a: number, b: number): number {
  return b === 0 ? a : gcd(b, a % b);
}
