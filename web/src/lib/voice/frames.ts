// What the voice of a visitor is on this page: 16,000 samples a second, one channel, in frames of 32 ms.

export const RATE = 16_000;
export const FRAME = 512;
export const FRAME_MS = (FRAME * 1_000) / RATE;

/** 16 bit samples, little-endian: what `transcribe` calls `pcm16`. */
export function pcm16(samples: Float32Array): Uint8Array {
  const bytes = new Uint8Array(samples.length * 2);
  const view = new DataView(bytes.buffer);
  for (const [at, sample] of samples.entries()) {
    const whole = Number.isFinite(sample) ? Math.max(-1, Math.min(1, sample)) : 0;
    view.setInt16(at * 2, Math.round(whole * 32_767), true);
  }
  return bytes;
}

export function floats(bytes: Uint8Array): Float32Array {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  return Float32Array.from({ length: bytes.length >> 1 }, (_, at) => view.getInt16(at * 2, true) / 32_768);
}

/** A sound file that everything plays, of 16 bit samples in one channel. */
export function wav(sound: Uint8Array, rate: number = RATE): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(44 + sound.length);
  const view = new DataView(bytes.buffer);
  const word = (at: number, letters: string) => bytes.set([...letters].map((letter) => letter.charCodeAt(0)), at);
  word(0, "RIFF");
  view.setUint32(4, 36 + sound.length, true);
  word(8, "WAVEfmt ");
  view.setUint32(16, 16, true);
  view.setUint16(20, 1, true);
  view.setUint16(22, 1, true);
  view.setUint32(24, rate, true);
  view.setUint32(28, rate * 2, true);
  view.setUint16(32, 2, true);
  view.setUint16(34, 16, true);
  word(36, "data");
  view.setUint32(40, sound.length, true);
  bytes.set(sound, 44);
  return bytes;
}

export function chained(parts: readonly Uint8Array[]): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(parts.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const part of parts) {
    bytes.set(part, at);
    at += part.length;
  }
  return bytes;
}
