// A recording for a form: as long as one likes up to a bound, then a WAV file. In memory only.

import { chained, pcm16, RATE, wav } from "./frames";
import { Detector } from "./detector";
import { openMic, problemOfMic, type Mic, type MicProblem } from "./mic";

/** What `transcribe` takes at most is 10 MB: a little more than five minutes. */
export const RECORDING_MS_MAX = 300_000;

export class Recorder {
  state = $state<"off" | "asking" | "recording">("off");
  ms = $state(0);
  level = $state(0);
  problem = $state.raw<MicProblem | undefined>(undefined);

  #abort = new AbortController();
  #mic: Mic | undefined;
  #sound: Uint8Array[] = [];

  /** `done` is told of a recording that ended by itself: at its bound, or because the device went away. */
  constructor(
    private readonly mostMs: number,
    private readonly done: () => void,
  ) {}

  async start(): Promise<void> {
    this.cancel();
    this.problem = undefined;
    this.state = "asking";
    const { signal } = (this.#abort = new AbortController());
    try {
      const mic = await openMic(signal);
      if (signal.aborted) return mic.close();
      this.#record(mic);
    } catch (cause) {
      if (signal.aborted) return;
      this.state = "off";
      this.problem = problemOfMic(cause);
    }
  }

  #record(mic: Mic): void {
    const meter = new Detector();
    this.#mic = mic;
    this.state = "recording";
    mic.onframe = (frame) => {
      meter.push(frame);
      this.level = meter.level;
      this.#sound.push(pcm16(frame));
      this.ms += (frame.length * 1_000) / RATE;
      if (this.ms >= Math.min(this.mostMs, RECORDING_MS_MAX)) this.done();
    };
    mic.onlost = () => {
      this.problem = "lost";
      this.done();
    };
  }

  /** What was recorded, as a file; nothing where there is none. */
  stop(): Uint8Array<ArrayBuffer> | undefined {
    const sound = chained(this.#sound);
    this.cancel();
    return sound.length === 0 ? undefined : wav(sound);
  }

  cancel(): void {
    this.#abort.abort();
    this.#mic?.close();
    this.#mic = undefined;
    this.#sound = [];
    this.state = "off";
    this.ms = 0;
    this.level = 0;
  }
}
