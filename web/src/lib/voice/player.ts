// Sound that comes in pieces, played without a gap. Each piece is a buffer that begins where the one
// before it ends, by the clock of the audio hardware.

import { Refusal } from "../realm";
import { output, type Output } from "./output";

export interface Player {
  /** Behind what is playing. Resolves when it has been heard, or was silenced; rejects with `Refusal` where nothing is heard. */
  play(samples: Float32Array, rate: number): Promise<void>;
  /** At once: within one block of 128 samples. */
  silence(): void;
}

/** Before the first piece, and after a gap: what the hardware needs to be told in time. */
const LEAD_S = 0.04;
/** A browser that still plays nothing then waits for a press. */
export const MUTE_MS = 2_000;

export class Loudspeaker implements Player {
  #sources = new Set<AudioBufferSourceNode>();
  /** Where the next piece begins, in the context's seconds. */
  #next = 0;

  constructor(private readonly out: Output = output) {}

  /** In a visitor's gesture: browsers play nothing before one. */
  ready(): void {
    this.out.open();
  }

  play(samples: Float32Array, rate: number): Promise<void> {
    if (samples.length === 0) return Promise.resolve();
    const context = this.out.open();
    const buffer = context.createBuffer(1, samples.length, rate);
    buffer.getChannelData(0).set(samples);
    const source = context.createBufferSource();
    source.buffer = buffer;
    source.connect(context.destination);
    this.#next = Math.max(this.#next, context.currentTime + LEAD_S);
    source.start(this.#next);
    this.#next += buffer.duration;
    this.#sources.add(source);
    return new Promise((heard, fail) => {
      const mute = setTimeout(() => context.state !== "running" && fail(new Refusal(MUTE)), MUTE_MS);
      source.onended = () => {
        clearTimeout(mute);
        this.#sources.delete(source);
        heard();
      };
    });
  }

  silence(): void {
    for (const source of this.#sources) {
      source.stop();
      source.disconnect();
    }
    // Where nothing runs nothing is told to have ended.
    this.#sources.clear();
    this.#next = 0;
  }
}

const MUTE = { code: "", message: "the browser plays nothing before a press: press Read aloud", status: 0 };
