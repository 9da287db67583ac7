// From sound to words. Where that is done, on the realm or on this device, is behind one interface.

import type { Money, Price } from "../amount";
import { record } from "../conversation";
import type { Realm } from "../realm";
import { base64Of } from "../result";
import { askWork, ceilingOf } from "./ask";
import { FRAME_MS, pcm16, RATE } from "./frames";

export interface Ear {
  /** The words of 16 kHz mono sound; empty where nobody spoke. */
  hear(samples: Float32Array, signal?: AbortSignal): Promise<string>;
}

/** What the realm does for it, and who pays. */
export interface RealmEarNeeds {
  realm: Realm;
  /** Opens an account if there is none. Rejects with the realm's refusal. */
  pay(): Promise<{ asset: string }>;
  /** As it stands on the page, once it does: no more than this is paid. */
  price(): Promise<Price>;
  /** What has been heard so far. */
  onWords?: (words: string) => void;
  onCost?: (cost: Money) => void;
}

/** The realm's intent `transcribe`. */
export class RealmEar implements Ear {
  constructor(private readonly needs: RealmEarNeeds) {}

  async hear(samples: Float32Array, signal?: AbortSignal): Promise<string> {
    const { realm, pay, price, onWords, onCost } = this.needs;
    if (samples.length === 0) return "";
    const { asset } = await pay();
    let words = "";
    const result = await askWork(realm, {
      intent: "transcribe",
      data: { audio: base64Of(pcm16(samples)), format: "pcm16", stream: true },
      ceiling: ceilingOf(await price(), (samples.length * 1_000) / RATE + FRAME_MS, asset),
      signal,
      onPiece: (piece) => {
        words = spoken(`${words} ${wordsOf(piece)}`);
        onWords?.(words);
      },
      onAnew: () => (words = ""),
      ...(onCost && { onCost }),
    });
    return spoken(wordsOf(result)) || words;
  }
}

function wordsOf(said: unknown): string {
  const words = record(said)["text"];
  return typeof words === "string" ? words : "";
}

/** In one line, as it is put into a box. */
function spoken(words: string): string {
  return words.replace(/\s+/g, " ").trim();
}
