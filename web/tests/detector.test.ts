// Where an utterance begins and ends: on a spoken sentence in silence and in noise, and on what is none.

import { describe, expect, test } from "vitest";
import { Detector, HANG_MS, PREROLL_MS, UTTERANCE_MS_MAX, type DetectorOptions, type Heard } from "../src/lib/voice/detector";
import { FRAME, FRAME_MS, RATE } from "../src/lib/voice/frames";
import { chain, chance, frames, noise, power, sentence, silence, tone, under } from "./sounds";

const SPEECH = sentence();
const SPEECH_MS = (SPEECH.length * 1_000) / RATE;

interface At {
  ms: number;
  heard: Heard;
}

function run(sound: Float32Array, options: DetectorOptions = {}): At[] {
  const detector = new Detector(options);
  const found: At[] = [];
  for (const [at, frame] of frames(sound).entries()) {
    const heard = detector.push(frame);
    if (heard) found.push({ ms: (at + 1) * FRAME_MS, heard });
  }
  return found;
}

const kinds = (found: At[]) => found.map(({ heard }) => heard.kind);
const ms = (samples: Float32Array) => (samples.length * 1_000) / RATE;

/** One utterance, begun and ended where it was, and whole. */
function isOneUtterance(found: At[], from: number, to: number, slack: number): void {
  expect(kinds(found)).toEqual(["start", "end"]);
  const [start, end] = found;
  expect(start?.ms).toBeGreaterThan(from);
  expect(start?.ms).toBeLessThan(from + slack);
  expect(end?.ms).toBeGreaterThan(to + HANG_MS - slack - 400);
  expect(end?.ms).toBeLessThan(to + HANG_MS + slack);
  if (end?.heard.kind !== "end") throw new Error("no end");
  expect(end.heard.cut).toBe(false);
  expect(ms(end.heard.samples)).toBeGreaterThan(to - from - 2 * 150);
  expect(ms(end.heard.samples)).toBeLessThan(to - from + PREROLL_MS + 700);
}

describe("a sentence", () => {
  const quiet = chain(silence(1_000), SPEECH, silence(2_000));

  test("in silence is one utterance, with what came before its beginning was sure", () => {
    isOneUtterance(run(quiet), 1_000, 1_000 + SPEECH_MS, 300);
  });

  test.each([["white", 1], ["white", 2], ["pink", 3], ["pink", 4], ["pink", 5]] as const)("with %s noise 10 dB below it is the same (seed %i)", (kind, seed) => {
    isOneUtterance(run(under(chain(silence(2_000), SPEECH, silence(2_500)), SPEECH, 10, kind, seed)), 2_000, 2_000 + SPEECH_MS, 500);
  });

  test("said at once, into a microphone that has just opened, is heard whole", () => {
    const found = run(chain(SPEECH, silence(2_000)));
    expect(kinds(found)).toEqual(["start", "end"]);
    const end = found[1]?.heard;
    if (end?.kind !== "end") throw new Error("no end");
    expect(ms(end.samples)).toBeGreaterThan(SPEECH_MS - 100);
  });

  test("whispered far away is heard, 34 dB below", () => {
    expect(kinds(run(quiet.map((sample) => sample * 0.02)))).toEqual(["start", "end"]);
  });

  test("so loud that it clips is heard, and is no louder than sound can be", () => {
    const found = run(quiet.map((sample) => sample * 40));
    isOneUtterance(found, 1_000, 1_000 + SPEECH_MS, 300);
    const end = found[1]?.heard;
    if (end?.kind === "end") expect(end.samples.every((sample) => Math.abs(sample) <= 1)).toBe(true);
  });

  test("twice, with a pause between, is two", () => {
    const found = run(chain(silence(800), SPEECH, silence(1_600), SPEECH, silence(1_600)));
    expect(kinds(found)).toEqual(["start", "end", "start", "end"]);
  });

  test("ends sooner where a shorter silence is asked for", () => {
    const [, end] = run(quiet, { hangMs: 400 });
    expect(end?.ms).toBeLessThan(1_000 + SPEECH_MS + 600);
  });
});

describe("what is no speech", () => {
  test("is not told: silence, noise, hum, clicks", () => {
    expect(run(silence(5_000))).toEqual([]);
    for (const kind of ["white", "pink"] as const) expect(run(noise(20_000, kind).map((sample) => sample * 0.1))).toEqual([]);
    expect(run(tone(50, 5_000, 0.3))).toEqual([]);
    const clicks = silence(4_000);
    for (const at of [9_000, 20_000, 40_000]) clicks.fill(0.9, at, at + 200);
    expect(run(clicks)).toEqual([]);
  });

  test("a fan that starts is taken for speech for a few seconds, and no longer", () => {
    const found = run(chain(silence(2_000), noise(12_000, "white").map((sample) => sample * 0.1)));
    expect(kinds(found)).toEqual(["start", "end"]);
    expect(found[1]?.ms).toBeLessThan(7_000);
  });

  test("wrong numbers are silence", () => {
    const wrong = new Float32Array(FRAME).map((_, at) => [Number.NaN, Infinity, -Infinity, 0][at % 4] ?? 0);
    const detector = new Detector();
    for (let at = 0; at < 40; at += 1) detector.push(wrong);
    expect(detector.level).toBeLessThanOrEqual(1);
    const after = frames(chain(silence(500), SPEECH, silence(1_500))).map((frame) => detector.push(frame)?.kind);
    expect(after.filter(Boolean)).toEqual(["start", "end"]);
  });
});

describe("bounds", () => {
  test("an utterance without an end is ended, and memory with it", () => {
    // A voice that never pauses: loud and quiet in turns, three a second.
    const endless = tone(300, 70_000).map((sample, at) => sample * (Math.sin((2 * Math.PI * 3 * at) / RATE) > -0.6 ? 1 : 0.001));
    const ends = run(endless).flatMap(({ heard }) => (heard.kind === "end" ? [heard] : []));
    expect(ends.length).toBeGreaterThanOrEqual(2);
    for (const end of ends) expect(ms(end.samples)).toBeLessThanOrEqual(UTTERANCE_MS_MAX);
    expect(ends[0]?.cut).toBe(true);
  });

  test("flush ends what is being said, and nothing where nobody speaks", () => {
    const detector = new Detector();
    expect(detector.flush()).toBeUndefined();
    for (const frame of frames(chain(silence(500), SPEECH))) detector.push(frame);
    const end = detector.flush();
    expect(end?.kind === "end" && ms(end.samples)).toBeGreaterThan(SPEECH_MS);
    expect(detector.flush()).toBeUndefined();
  });

  test("whatever comes: starts and ends take turns, and no sample is out of range", () => {
    for (let seed = 1; seed <= 40; seed += 1) {
      const next = chance(seed);
      const detector = new Detector({ mostMs: 2_000 });
      let speaking = false;
      for (let at = 0; at < 400; at += 1) {
        const loud = next() ** 4 * 2;
        const frame = new Float32Array(FRAME).map(() => (next() < 0.001 ? Number.NaN : (next() * 2 - 1) * loud));
        const heard = detector.push(frame);
        if (heard) expect(heard.kind).toBe(speaking ? "end" : "start");
        if (heard) speaking = !speaking;
        expect(detector.speaking).toBe(speaking);
        if (heard?.kind === "end") {
          expect(ms(heard.samples)).toBeLessThanOrEqual(2_000);
          expect(power(heard.samples)).toBeLessThanOrEqual(1);
        }
      }
    }
  });
});
