// What a sound's bytes are, so that the browser plays them.

import { wav } from "./voice/frames";

/** By how it begins. */
export function typeOfSound(bytes: Uint8Array): string | undefined {
  const letters = (from: number, to: number) => String.fromCharCode(...bytes.subarray(from, to));
  if (letters(0, 4) === "RIFF" && letters(8, 12) === "WAVE") return "audio/wav";
  if (letters(0, 4) === "OggS") return "audio/ogg";
  if (letters(0, 4) === "fLaC") return "audio/flac";
  if (letters(4, 8) === "ftyp") return "audio/mp4";
  if (bytes[0] === 0x1a && bytes[1] === 0x45 && bytes[2] === 0xdf && bytes[3] === 0xa3) return "audio/webm";
  const sync = bytes[0] === 0xff && ((bytes[1] ?? 0) & 0xe0) === 0xe0;
  if (!sync) return letters(0, 3) === "ID3" ? "audio/mpeg" : undefined;
  // The layer, of which AAC has none.
  return ((bytes[1] ?? 0) & 0x06) === 0 ? "audio/aac" : "audio/mpeg";
}

/** The length of a stream whose end its header could not know. */
const UNKNOWN = 0xffff_ffff;

/** A file of its own: with `rate`, bare 16 bit samples get a header; one that was streamed gets its lengths. */
export function whole(bytes: Uint8Array<ArrayBuffer>, rate?: number): Uint8Array<ArrayBuffer> {
  if (rate !== undefined && typeOfSound(bytes) === undefined) return wav(bytes, rate);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (bytes.length < 44 || typeOfSound(bytes) !== "audio/wav" || view.getUint32(40, true) !== UNKNOWN) return bytes;
  const mended = bytes.slice();
  const header = new DataView(mended.buffer);
  header.setUint32(4, bytes.length - 8, true);
  header.setUint32(40, bytes.length - 44, true);
  return mended;
}
