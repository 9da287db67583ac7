// Runs on the browser's audio thread: what the microphone gives becomes frames of 512 samples at 16 kHz,
// which are posted to the page. It keeps nothing.

import { FRAME, RATE } from "./frames";
import { Resampler } from "./resample";

/** What the audio thread's own scope holds; TypeScript's DOM library does not tell. */
declare const sampleRate: number;
declare class AudioWorkletProcessor {
  readonly port: MessagePort;
}
declare function registerProcessor(name: string, processor: new () => AudioWorkletProcessor): void;

class Capture extends AudioWorkletProcessor {
  readonly #resampler = new Resampler(sampleRate, RATE);
  #frame = new Float32Array(FRAME);
  #filled = 0;

  /** Called for every 128 samples. Its output stays silent: nobody hears themselves. */
  process(inputs: Float32Array[][]): boolean {
    const channels = inputs[0] ?? [];
    if (channels.length > 0) this.#take(this.#resampler.push(mono(channels)));
    return true;
  }

  #take(samples: Float32Array): void {
    for (const sample of samples) {
      this.#frame[this.#filled] = sample;
      this.#filled += 1;
      if (this.#filled < FRAME) continue;
      this.port.postMessage(this.#frame, [this.#frame.buffer]);
      this.#frame = new Float32Array(FRAME);
      this.#filled = 0;
    }
  }
}

/** Asked for with one channel, a device may give two all the same. */
function mono(channels: Float32Array[]): Float32Array {
  const [first = new Float32Array(), ...others] = channels;
  if (others.length === 0) return first;
  return first.map((sample, at) => others.reduce((sum, other) => sum + (other[at] ?? 0), sample) / channels.length);
}

registerProcessor("mtor-capture", Capture);
