// The official OpenAI client for JavaScript, unmodified, against a realm's audio routes.
//
// Usage: openai_audio.mjs BASE_URL API_KEY SOUND. Prints "ok" or fails with what was wrong. What the
// worker answers stands in crates/cli/tests/audio.rs.
import assert from "node:assert/strict";
import { createReadStream } from "node:fs";
import OpenAI from "openai";

const [base, apiKey, path] = process.argv.slice(2);
const client = new OpenAI({ baseURL: `${base}/v1`, apiKey, maxRetries: 0, timeout: 60_000 });
const hear = (more) =>
  client.audio.transcriptions.create({ model: "auto", file: createReadStream(path), ...more });
const say = (more) =>
  client.audio.speech.create({ model: "auto", voice: "alloy", input: "Hello. World.", ...more });
const said = "The worst is over. It is quiet.";

assert.equal((await hear({ language: "en", temperature: 0 })).text, said);
assert.equal(await hear({ response_format: "text" }), `${said}\n`);
assert.match(await hear({ response_format: "srt" }), /^1\n00:00:00,180 --> 00:00:01,900\nThe worst/);
assert.match(await hear({ response_format: "vtt" }), /^WEBVTT\n\n00:00:00\.180 --> /);
const verbose = await hear({ response_format: "verbose_json", timestamp_granularities: ["segment"] });
assert.deepEqual([verbose.segments.length, verbose.segments[1].start], [2, 4]);

let heard = "";
let done = "";
for await (const event of await hear({ stream: true })) {
  if (event.type === "transcript.text.delta") heard += event.delta;
  if (event.type === "transcript.text.done") done = event.text;
}
assert.deepEqual([heard, done], [said, said]);

const whole = await say({});
assert.equal(whole.headers.get("content-type"), "audio/wav");
const bytes = Buffer.from(await whole.arrayBuffer());
assert.deepEqual([bytes.subarray(0, 4).toString(), bytes.length], ["RIFF", 48_044 + 4_800]);
let streamed = 0;
for await (const some of (await say({})).body) streamed += some.length;
assert.equal(streamed, bytes.length);
const events = await (await say({ stream_format: "sse" })).text();
assert.match(events, /"type":"speech\.audio\.done"/);

const refused = async (call, status, code, param) => {
  const error = await call().then(() => assert.fail(`${code} expected`), (error) => error);
  assert.ok(error instanceof OpenAI.APIError, String(error));
  assert.deepEqual([error.status, error.code, error.param], [status, code, param]);
};
await refused(() => hear({ language: "fr" }), 400, "MT0029", "language");
await refused(() => hear({ prompt: "names" }), 400, "MT0002", "prompt");
await refused(() => hear({ timestamp_granularities: ["word"] }), 400, "MT0002", "timestamp_granularities[]");
await refused(() => hear({ model: "whisper-1" }), 404, "MT0007", "model");
await refused(() => say({ input: "early" }), 400, "MT0029", "voice");
await refused(() => say({ response_format: "midi" }), 400, "MT0002", "response_format");
// What fails in the middle is never taken for the whole.
await assert.rejects(async () => (await say({ input: "late" })).arrayBuffer());
await assert.rejects(
  async () => {
    for await (const _ of await hear({ language: "late", stream: true }));
  },
  (error) => error instanceof OpenAI.APIError && error.code === "MT0025",
);
console.log("ok");
