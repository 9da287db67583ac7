// Sounds in forms and results: what bytes are, what of a result is a sound, and how pieces become one.

import { describe, expect, test } from "vitest";
import { base64Of, shownOf, soundIn } from "../src/lib/result";
import { onEvent, type Run } from "../src/lib/run";
import { formOf } from "../src/lib/schema";
import { typeOfSound, whole } from "../src/lib/sound";
import { pcm16, wav } from "../src/lib/voice/frames";
import { tone } from "./sounds";

const bytes = (...parts: (string | number)[]) => Uint8Array.from(parts.flatMap((part) => (typeof part === "string" ? [...part].map((letter) => letter.charCodeAt(0)) : [part])));
const SAMPLES = pcm16(tone(440, 20));
const FILE = wav(SAMPLES, 24_000);
/** As `speak` has it. */
const SCHEMA = { type: "object", properties: { rate: { type: "integer" }, audio: { type: "string", contentEncoding: "base64", contentMediaType: "audio/wav" } } };

test.each([
  ["audio/wav", FILE],
  ["audio/ogg", bytes("OggS", 0, 2)],
  ["audio/flac", bytes("fLaC", 0)],
  ["audio/mp4", bytes(0, 0, 0, 24, "ftypM4A ")],
  ["audio/webm", bytes(0x1a, 0x45, 0xdf, 0xa3)],
  ["audio/mpeg", bytes("ID3", 4)],
  ["audio/mpeg", bytes(0xff, 0xfb, 0x90)],
  ["audio/aac", bytes(0xff, 0xf1, 0x50)],
  [undefined, bytes("<html>")],
  [undefined, new Uint8Array()],
])("by how it begins it is %s", (type, given) => {
  expect(typeOfSound(given)).toBe(type);
});

test("a stream that did not know its length gets it; bare samples get a header; all else stays", () => {
  const streamed = FILE.slice();
  streamed.fill(0xff, 4, 8).fill(0xff, 40, 44);
  expect(whole(streamed)).toEqual(FILE);
  expect(whole(Uint8Array.from(SAMPLES), 24_000)).toEqual(FILE);
  expect(whole(FILE)).toBe(FILE);
  const other = bytes("OggS", 0);
  expect(whole(other, 24_000)).toBe(other);
});

describe("a result", () => {
  test("with a member that its schema calls a sound is played", () => {
    expect(soundIn(SCHEMA)).toBe("audio");
    expect(shownOf({ audio: base64Of(FILE), rate: 24_000 }, "application/json", SCHEMA)).toMatchObject({ kind: "sound", type: "audio/wav", bytes: FILE });
    expect(shownOf({ audio: base64Of(SAMPLES), rate: 24_000, response_format: "pcm" }, undefined, SCHEMA)).toMatchObject({ kind: "sound", bytes: FILE });
    expect(shownOf({ audio: base64Of(bytes("OggS", 0)), response_format: "opus" }, undefined, SCHEMA)).toMatchObject({ kind: "sound", type: "audio/ogg" });
  });

  test("without one, or with what is no base64, is what it is", () => {
    expect(soundIn({ properties: { text: { type: "string" } } })).toBeUndefined();
    expect(soundIn("nonsense")).toBeUndefined();
    expect(shownOf({ audio: "%%%", rate: 1 }, undefined, SCHEMA).kind).not.toBe("sound");
    expect(shownOf({ rate: 1 }, undefined, SCHEMA).kind).not.toBe("sound");
    expect(shownOf({ audio: base64Of(FILE) }, undefined, undefined).kind).not.toBe("sound");
  });
});

test("pieces of a sound become one, an attempt that was thrown away none, and their words are what is read", () => {
  const start: Run = {
    key: "k", name: "speak", account: "", data: {}, durable: false, ceiling: undefined, phase: "sending", sentAt: 0, attempt: -1, seq: -1, restarts: 0,
    pieces: 0, streamed: "", stopping: false, resuming: false, sound: "audio",
  };
  const piece = (attempt: number, seq: number, sound: Uint8Array, text: string) => ({ type: "mtor.intent.chunk.v1", data: { attempt, seq, piece: { audio: base64Of(sound), text, start_ms: 0 } } });
  const events = [
    piece(1, 0, FILE, "Thrown away."),
    { type: "mtor.intent.restarted.v1", data: { attempt: 2 } },
    piece(2, 0, FILE.subarray(0, 101), "One. "),
    piece(2, 0, FILE.subarray(0, 101), "One. "),
    piece(2, 1, FILE.subarray(101), "Two."),
    { type: "mtor.intent.completed.v1", data: { result: { rate: 24_000 } } },
  ];
  const run = events.reduce((now, event) => onEvent(now, event, 1), start);
  expect(run.streamed).toBe("One. Two.");
  expect(run.result).toEqual({ rate: 24_000, audio: base64Of(FILE) });
  expect(run.sounds).toBeUndefined();
});

test("a field that takes a sound can be recorded", () => {
  const form = formOf({ type: "object", properties: { audio: { type: "string", format: "base64", contentMediaType: "audio/*" }, blob: { type: "string", format: "base64" } } });
  expect(form.parts.map(({ kind, base64, sound }) => [kind, base64, sound])).toEqual([["file", true, true], ["file", true, false]]);
});
