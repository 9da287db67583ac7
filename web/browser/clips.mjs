// Sounds as files for Chromium's microphone. The clips of `data/` were said by `speak`.

import { readFileSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

export const RATE = 48_000;
const DATA = fileURLToPath(new URL("data/", import.meta.url));

/** The samples of a clip. @param {import("playwright-core").Browser} browser @param {string} name */
export async function decoded(browser, name) {
  const page = await browser.newPage();
  const packed = readFileSync(`${DATA}${name}.ogg`).toString("base64");
  const samples = await page.evaluate(
    async ({ packed, rate }) => {
      const bytes = Uint8Array.from(atob(packed), (letter) => letter.charCodeAt(0));
      const sound = await new OfflineAudioContext(1, 1, rate).decodeAudioData(bytes.buffer);
      return Array.from(sound.getChannelData(0), (sample) => Math.round(Math.max(-1, Math.min(1, sample)) * 32_767));
    },
    { packed, rate: RATE },
  );
  await page.close();
  return samples;
}

/** 16 bit samples in one channel as a file. @param {number[]} samples @param {number} rate */
export function wav(samples, rate) {
  const bytes = Buffer.alloc(44 + samples.length * 2);
  bytes.write("RIFF", 0);
  bytes.writeUInt32LE(36 + samples.length * 2, 4);
  bytes.write("WAVEfmt ", 8);
  for (const [at, value] of [[16, 16], [24, rate], [28, rate * 2]]) bytes.writeUInt32LE(value ?? 0, at);
  for (const [at, value] of [[20, 1], [22, 1], [32, 2], [34, 16]]) bytes.writeUInt16LE(value ?? 0, at);
  bytes.write("data", 36);
  bytes.writeUInt32LE(samples.length * 2, 40);
  for (const [at, sample] of samples.entries()) bytes.writeInt16LE(sample, 44 + at * 2);
  return bytes;
}

/**
 * Writes a file for the microphone: clips, and seconds of silence between them.
 * @param {import("playwright-core").Browser} browser @param {(string | number)[]} parts @param {string} path
 */
export async function microphone(browser, parts, path) {
  /** @type {number[]} */
  const samples = [];
  for (const part of parts) {
    const more = typeof part === "number" ? new Array(Math.round(part * RATE)).fill(0) : await decoded(browser, part);
    for (const sample of more) samples.push(sample);
  }
  writeFileSync(path, wav(samples, RATE));
  return path;
}
