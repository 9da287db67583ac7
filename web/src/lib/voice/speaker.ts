// Reads sentences aloud, one after another: each is asked of the realm's intent `speak` as soon as it is
// whole, and heard as its sound comes. At most two are asked ahead of the one that is heard, so that
// stopping wastes little; what was asked and not heard is cancelled.

import type { Money, Price } from "../amount";
import { number, record, text, type Problem } from "../conversation";
import { problemOf, Refusal, type Realm } from "../realm";
import { bytesOf } from "../result";
import { askWork, ceilingOf } from "./ask";
import { floats } from "./frames";
import type { Player } from "./player";

/** Of `response_format` pcm, unless the result says another. */
const RATE = 24_000;
/** What any sound of speech has; browsers refuse what is far beyond. */
const [RATE_MIN, RATE_MAX] = [8_000, 192_000];
/** Beside the one that is heard. */
export const AHEAD_MAX = 2;
/** What the edge takes a character to last at most, at speed 1. */
const CHAR_MS = 2_000;

export interface SpeakerNeeds {
  realm: Realm;
  player: Player;
  pay(): Promise<{ asset: string }>;
  /** Once there is one. */
  price(): Price | Promise<Price>;
  /** Without a voice it is the one that the model has if none is named. */
  voice(): { voice?: string; speed: number };
  onCost(cost: Money): void;
  /** The realm does not answer now, or does again. */
  onAway?: (away: boolean) => void;
  /** All was heard, it was stopped, or it failed. */
  onEnd(problem?: Problem): void;
}

/** Milliseconds that a text may last at most: what is held is priced by it. */
export function spokenMs(input: string, speed: number): number {
  return Math.ceil(([...input].length * CHAR_MS) / speed);
}

export class Speaker {
  readonly #needs: SpeakerNeeds;
  #abort = new AbortController();
  #waiting: string[] = [];
  /** Asked and not heard to its end, in the order in which they are heard. */
  #asked = 0;
  /** The sound of what was asked last is with the player, behind which the next one's is put. */
  #handed: Promise<void> = Promise.resolve();
  #closed = false;
  #ended = false;

  constructor(needs: SpeakerNeeds) {
    this.#needs = needs;
  }

  get ended(): boolean {
    return this.#ended;
  }

  say(sentences: readonly string[]): void {
    if (this.#ended || this.#closed) return;
    this.#waiting.push(...sentences);
    this.#go();
  }

  /** No more sentences will come. */
  close(): void {
    this.#closed = true;
    this.#go();
  }

  /** Silent at once. */
  stop(): void {
    this.#end();
  }

  #end(problem?: Problem): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#needs.player.silence();
    this.#abort.abort(new DOMException("silenced", "AbortError"));
    this.#waiting = [];
    this.#needs.onEnd(problem);
  }

  #go(): void {
    while (!this.#ended && this.#asked <= AHEAD_MAX) {
      const sentence = this.#waiting.shift();
      if (sentence === undefined) break;
      this.#asked += 1;
      this.#sentence(sentence);
    }
    if (this.#closed && !this.#ended && this.#asked === 0 && this.#waiting.length === 0) this.#end();
  }

  #sentence(input: string): void {
    const sound = new Sound();
    this.#ask(input, sound).then(
      () => sound.close(),
      (cause: unknown) => {
        sound.close();
        this.#end(problemOf(cause));
      },
    );
    const before = this.#handed;
    let heard: Promise<void> = Promise.resolve();
    this.#handed = (async () => {
      await before;
      for await (const { samples, rate } of sound.pieces()) {
        if (this.#ended) return;
        heard = this.#needs.player.play(samples, rate);
        heard.catch(() => undefined);
      }
    })();
    this.#handed.then(() => heard).then(
      () => {
        this.#asked -= 1;
        this.#go();
      },
      (cause: unknown) => this.#end(cause instanceof Refusal ? cause.problem : UNPLAYED),
    );
  }

  async #ask(input: string, sound: Sound): Promise<void> {
    const { realm, price, voice: chosen, pay, onCost } = this.#needs;
    const { voice, speed } = chosen();
    const { asset } = await pay();
    const result = await askWork(realm, {
      intent: "speak",
      data: { input, ...(voice === undefined ? {} : { voice }), speed, response_format: "pcm", stream: true },
      ceiling: ceilingOf(await price(), spokenMs(input, speed), asset),
      signal: this.#abort.signal,
      onPiece: (piece) => sound.add(text(record(piece)["audio"])),
      onAnew: () => sound.anew(),
      onAway: (away) => void (this.#ended || this.#needs.onAway?.(away)),
      onCost,
    });
    const rate = number(record(result)["rate"]);
    if (rate !== undefined && !(rate >= RATE_MIN && rate <= RATE_MAX)) throw new Refusal({ ...UNPLAYED, message: `sound of ${rate} samples a second is not played here` });
    if (rate) sound.rate = rate;
    // A backend that gives no pieces.
    if (!sound.began) sound.add(text(record(result)["audio"]));
  }
}

const UNPLAYED: Problem = { code: "", message: "this browser cannot play the sound", status: 0 };

/** Of one sentence, as it comes. */
class Sound {
  rate = RATE;
  began = false;
  #pieces: Float32Array[] = [];
  #odd = new Uint8Array();
  #closed = false;
  #more: () => void = () => undefined;

  add(base64: string | undefined): void {
    const bytes = base64 === undefined ? undefined : bytesOf(base64);
    if (!bytes || bytes.length === 0) return;
    this.began = true;
    const all = new Uint8Array(this.#odd.length + bytes.length);
    all.set(this.#odd);
    all.set(bytes, this.#odd.length);
    const even = all.length & ~1;
    this.#odd = all.slice(even);
    this.#pieces.push(floats(all.subarray(0, even)));
    this.#more();
  }

  /** What was not handed on yet is said again by another worker. */
  anew(): void {
    this.#pieces = [];
    this.#odd = new Uint8Array();
  }

  close(): void {
    this.#closed = true;
    this.#more();
  }

  async *pieces(): AsyncGenerator<{ samples: Float32Array; rate: number }> {
    for (;;) {
      const samples = this.#pieces.shift();
      if (samples) yield { samples, rate: this.rate };
      else if (this.#closed) return;
      else await new Promise<void>((more) => (this.#more = more));
    }
  }
}
