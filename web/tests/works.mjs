// A TEST TOOL: the kinds of work of the stand-in, beside chat. The page has never heard of any of
// these names: it must draw them from their manifests alone.

/** @param {string} name @param {string} summary @param {object} parameters @param {object} [more] */
const manifest = (name, summary, parameters, more = {}) => ({
  name, version: 1, summary, parameters, meter: { unit: "intent", bound: "one", output_default: 0, output_max: 0 },
  price: { amount: "40", per: 1 }, deadline: { default_ms: 30_000, max_ms: 600_000 }, pure: false, bytes_max: 400_000, check: "none", ...more,
});

/** As the realm's own manifests have it, as far as the page looks at it. */
const TIMED = { meter: { unit: "millisecond", bound: "sound" }, price: { amount: "20", per: 1_000 }, bytes_max: 16_773_120 };

export const MANIFESTS = [
  manifest("chat", "Answers a conversation.", { type: "object", required: ["messages"], properties: { messages: { type: "array", minItems: 1 } } }),
  manifest("idle", "Nobody serves this.", { type: "object", properties: {} }),
  manifest("portrait", "Draws a face.", { type: "object", additionalProperties: false, properties: {} }, { result: { media: "image/png" } }),
  manifest("scribe", "Writes a letter.", {
    type: "object", required: ["messages", "shape"],
    properties: {
      messages: { type: "array", minItems: 1, examples: [[{ role: "user", content: "Hello" }]], description: "the conversation" },
      model: { type: ["string", "null"], maxLength: 256, description: "a model" },
      shape: { type: "array", minItems: 1, maxItems: 2, items: { type: "integer", minimum: 1 } },
      data: { type: "string", description: "base64" },
    },
  }),
  manifest("stage", "Plays one scene.", {
    type: "object", required: ["act"], additionalProperties: false,
    properties: { act: { enum: ["rows", "tone", "flood", "vector", "page", "fake", "tree", "slow", "fail"], description: "what is played" } },
  }),
  manifest("speak", "Says a text.", {
    type: "object", required: ["input"],
    properties: {
      input: { type: "string", minLength: 1, maxLength: 4_096, description: "what is to be said" },
      voice: { type: ["string", "null"], maxLength: 64 },
      response_format: { enum: ["wav", "pcm", "opus"] },
      stream: { type: ["boolean", "null"] },
    },
  }, { ...TIMED, result: { media: "application/json", schema: { type: "object", properties: { audio: { type: "string", contentEncoding: "base64", contentMediaType: "audio/wav" }, rate: { type: "integer" } } } } }),
  manifest("transcribe", "Writes down what is said in a sound.", {
    type: "object", required: ["audio"], additionalProperties: false,
    properties: {
      audio: { type: "string", format: "base64", contentMediaType: "audio/*", description: "the sound" },
      format: { enum: ["pcm16", "wav", "flac", "mp3", "mp4", "ogg", "webm"] },
      stream: { type: ["boolean", "null"] },
    },
  }, TIMED),
  manifest("survey", "Takes one field of each kind.", {
    type: "object", required: ["essay", "count", "agree", "mood"], additionalProperties: false,
    properties: {
      essay: { type: "string", title: "Your essay", description: "as long as you like", minLength: 3 },
      nick: { type: "string", maxLength: 20, examples: ["Kit"] },
      count: { type: "integer", minimum: 1, maximum: 9, default: 2 },
      share: { type: ["number", "null"], minimum: 0, maximum: 1 },
      agree: { type: "boolean" },
      loud: { type: "boolean", default: false },
      mood: { enum: ["calm", "wild", 7] },
      kind: { oneOf: [{ const: "a", title: "The first" }, { const: "b", title: "The second" }] },
      tags: { type: "array", items: { type: "string", maxLength: 10 }, maxItems: 3 },
      place: { type: "object", required: ["town"], properties: { town: { type: "string", maxLength: 40 }, deep: { type: "object", properties: { level: { type: "integer" } } } } },
      blob: { type: "string", contentEncoding: "base64" },
      notes: { type: "string", format: "file" },
      either: { type: ["string", "array"], description: "one text, or a list" },
      free: { description: "any JSON" },
      odd: { anyOf: [{ type: "string" }, { type: "object" }] },
    },
  }),
];

/** Rows of `GET /v1/pools`; `slots` of one may differ. */
export const POOLS = MANIFESTS.filter(({ name }) => name !== "chat" && name !== "idle").map(({ name, meter, price }) => ({
  intent: name, model: name === "scribe" ? "quill-1" : null, standing: "own", slots: 2, busy: 0, depth: 0, price: { ...price, unit: meter.unit }, eta_ms: 0,
}));

/** The owner of workers that nobody has checked. */
export const STRANGER = "5DJS6QuBhFWMAXVFoxyRqKSZ1rGhkKTKkBvmQnLm1Kfv";
/** As a realm lists the same of that owner. @param {any} row */
export function strange(row) {
  const model = row.model && `${row.model}@${STRANGER.slice(0, 8)}`;
  return { ...row, model, standing: "probation", owners: [{ account: STRANGER, standing: "probation" }], ...(!model && { trust: "any" }) };
}

/** What a realm says of files that it cannot use. */
export const PROBLEMS = [
  { file: "stage.toml", problem: "line 11: unknown variant `apples`, expected one of `one`, `bytes`, `points`, `bytes_and_output`", keeps: "stage" },
  { file: "new-<b>words</b>.toml", problem: "field `name`: the name is taken by survey.toml: choose another", keeps: null },
];

/** One red point. */
export const PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8BQDwAEhQGAhKmMIQAAAABJRU5ErkJggg==";

/** Of a letter that is said. */
const LETTER_MS = 40;
const SAID_PER_S = 24_000;

/** A soft tone that lasts as long as the words. @param {string} words */
function said(words) {
  const bytes = Buffer.alloc(Math.ceil((words.length * LETTER_MS * SAID_PER_S) / 1_000) * 2);
  for (let at = 0; at < bytes.length / 2; at += 1) bytes.writeInt16LE(Math.round(3_000 * Math.sin((2 * Math.PI * 330 * at) / SAID_PER_S)), at * 2);
  return bytes;
}

/** A header that says nothing of the length, as that of a stream. */
function header() {
  const bytes = Buffer.alloc(44);
  bytes.write("RIFF", 0), bytes.writeUInt32LE(0xffffffff, 4), bytes.write("WAVEfmt ", 8), bytes.writeUInt32LE(16, 16);
  bytes.writeUInt16LE(1, 20), bytes.writeUInt16LE(1, 22), bytes.writeUInt32LE(SAID_PER_S, 24), bytes.writeUInt32LE(SAID_PER_S * 2, 28);
  bytes.writeUInt16LE(2, 32), bytes.writeUInt16LE(16, 34), bytes.write("data", 36), bytes.writeUInt32LE(0xffffffff, 40);
  return bytes;
}

/** @param {any} data @param {boolean} streamed */
function spoken(data, streamed) {
  const form = data.response_format ?? "wav";
  const sentences = String(data.input).match(/[^.!?]+[.!?]*\s*/g) ?? [String(data.input)];
  const sounds = sentences.map((words, at) => Buffer.concat([form === "wav" && at === 0 ? header() : Buffer.alloc(0), said(words)]));
  const result = { response_format: form, rate: SAID_PER_S, voice: data.voice ?? "af_heart", duration_ms: String(data.input).length * LETTER_MS, segments: [] };
  if (streamed) return { pieces: sounds.map((sound, at) => ({ audio: sound.toString("base64"), text: sentences[at], start_ms: 0, end_ms: 0 })), result };
  return { result: { ...result, audio: Buffer.concat(sounds).toString("base64") } };
}

/** Words where there was a sound, nothing where there was none. @param {any} data @param {string} words */
function heard(data, words) {
  const bytes = Buffer.from(data.audio, "base64");
  let loudest = 0;
  for (let at = data.format === "pcm16" ? 0 : 44; at + 1 < bytes.length; at += 2) loudest = Math.max(loudest, Math.abs(bytes.readInt16LE(at)));
  const text = loudest > 300 ? words : "";
  const pieces = text.split(/(?<=,) /).filter(Boolean).map((part) => ({ start_ms: 0, end_ms: 1, text: part }));
  return { pieces, result: { text, language: "en", duration_ms: Math.round(bytes.length / 32), segments: pieces } };
}

/** A tenth of a second of silence. */
function wav() {
  const bytes = Buffer.alloc(44 + 800);
  bytes.write("RIFF", 0), bytes.writeUInt32LE(836, 4), bytes.write("WAVEfmt ", 8), bytes.writeUInt32LE(16, 16);
  bytes.writeUInt16LE(1, 20), bytes.writeUInt16LE(1, 22), bytes.writeUInt32LE(8_000, 24), bytes.writeUInt32LE(8_000, 28);
  bytes.writeUInt16LE(1, 32), bytes.writeUInt16LE(8, 34), bytes.write("data", 36), bytes.writeUInt32LE(800, 40), bytes.fill(128, 44);
  return bytes.toString("base64");
}

/** What the realm would say of these data, if it refused them. @param {string} intent @param {any} data */
export function faultOf(intent, data) {
  if (intent === "survey" && /forbidden/.test(JSON.stringify(data))) {
    return { field: "/place/town", message: "field `/place/town`: expected a town that is allowed" };
  }
  if (data?.model === "nope") return { field: "model", message: "no worker here offers that model; on offer: quill-1" };
  if (intent === "scribe" && data?.data) return { field: "/data", message: "field `/data`: 16 bytes, but `shape` asks for 4" };
  return undefined;
}

/**
 * Pieces and result. `words` are what is heard, `streamed` whether pieces are wanted.
 * @param {string} intent @param {any} data @param {string} words @param {boolean} streamed
 * @returns {{pieces?: unknown[], result?: unknown, fails?: boolean, slow?: boolean}}
 */
export function played(intent, data, words, streamed) {
  if (intent === "portrait") return { result: PNG };
  if (intent === "speak") return spoken(data, data.stream ?? streamed);
  if (intent === "transcribe") return heard(data, words);
  switch (data?.act) {
    case "rows":
      return { result: Array.from({ length: 250 }, (_, at) => ({ name: `row ${at}`, mass: at * 1.5, ok: at % 2 === 0 })) };
    case "tone":
      return { result: `data:audio/wav;base64,${wav()}` };
    case "flood":
      return { result: "flood ".repeat(40_000) };
    case "vector":
      return { result: { media_type: "image/svg+xml", data: Buffer.from("<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>").toString("base64") } };
    case "page":
      return { result: "data:text/html;base64," + Buffer.from("<script>alert(1)</script>").toString("base64") };
    case "fake":
      return { result: { media_type: "image/png", data: Buffer.from("this is no picture").toString("base64") } };
    case "tree":
      return { result: { html: "<img src=x onerror=alert(1)>", list: Array.from({ length: 5_000 }, (_, at) => [at, { at }]) } };
    case "slow":
      return { pieces: Array.from({ length: 60 }, (_, at) => `word${at} `), result: null, slow: true };
    case "fail":
      return { pieces: ["half "], fails: true };
    default:
      return { pieces: [{ got: 1 }, { got: 2 }], result: { received: data } };
  }
}
