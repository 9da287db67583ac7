// Sounds for tests: a spoken sentence (`fixtures/france.ulaw.wav`, made by `espeak-ng -v en-us -s 150 -w a.wav
// "What is the capital of France?"; ffmpeg -i a.wav -ar 8000 -ac 1 -c:a pcm_mulaw france.ulaw.wav`), noises, tones.

import { readFileSync } from "node:fs";
import { FRAME, RATE } from "../src/lib/voice/frames";
import { joined } from "../src/lib/voice/detector";
import { resample } from "../src/lib/voice/resample";

/** "What is the capital of France?", 16,000 a second, about two seconds. */
export function sentence(): Float32Array {
  const bytes = readFileSync(new URL("./fixtures/france.ulaw.wav", import.meta.url));
  const from = bytes.indexOf("data") + 8;
  const samples = Float32Array.from(bytes.subarray(from), (byte) => {
    const bits = ~byte & 0xff;
    const size = (((bits & 0x0f) << 3) + 0x84) << ((bits >> 4) & 7);
    return ((bits & 0x80 ? -1 : 1) * (size - 0x84)) / 32_768;
  });
  return resample(samples, 8_000, RATE);
}

export function silence(ms: number): Float32Array {
  return new Float32Array((ms * RATE) / 1_000);
}

export function tone(hz: number, ms: number, loud = 0.5, rate = RATE): Float32Array {
  return Float32Array.from({ length: Math.round((ms * rate) / 1_000) }, (_, at) => loud * Math.sin((2 * Math.PI * hz * at) / rate));
}

/** The same every time. */
export function chance(seed: number): () => number {
  let state = seed >>> 0 || 1;
  return () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) / 2 ** 32;
  };
}

/** Of a fan (each frequency as loud as the next), or of a street (lower ones louder). */
export function noise(ms: number, kind: "white" | "pink", seed = 7): Float32Array {
  const next = chance(seed);
  const rows = new Float32Array(12);
  return Float32Array.from({ length: Math.round((ms * RATE) / 1_000) }, (_, at) => {
    if (kind === "white") return next() * 2 - 1;
    for (let row = 0; row < rows.length; row += 1) if (at % 2 ** row === 0) rows[row] = next() * 2 - 1;
    return rows.reduce((sum, value) => sum + value, 0) / rows.length;
  });
}

export function power(samples: Float32Array): number {
  return samples.reduce((sum, sample) => sum + sample * sample, 0) / samples.length;
}

/** `sound` with noise under all of it, `db` below `speech`. */
export function under(sound: Float32Array, speech: Float32Array, db: number, kind: "white" | "pink", seed?: number): Float32Array {
  const hiss = noise((sound.length * 1_000) / RATE, kind, seed);
  const factor = Math.sqrt(power(speech) / power(hiss) / 10 ** (db / 10));
  return sound.map((sample, at) => sample + factor * (hiss[at] ?? 0));
}

export function chain(...parts: Float32Array[]): Float32Array {
  return joined(parts);
}

/** As the microphone gives it; the last frame is filled up. */
export function frames(sound: Float32Array): Float32Array[] {
  return Array.from({ length: Math.ceil(sound.length / FRAME) }, (_, at) => {
    const frame = new Float32Array(FRAME);
    frame.set(sound.subarray(at * FRAME, (at + 1) * FRAME));
    return frame;
  });
}
