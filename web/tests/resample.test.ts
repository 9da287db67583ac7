// One rate into another: what is heard stays, what cannot be heard at the lower rate goes, and how the
// input was cut changes nothing.

import { describe, expect, test } from "vitest";
import { floats, pcm16, RATE, wav } from "../src/lib/voice/frames";
import { resample, Resampler } from "../src/lib/voice/resample";
import { chance, power, tone } from "./sounds";

const middle = (samples: Float32Array) => samples.subarray(samples.length >> 2, (samples.length * 3) >> 2);

describe.each([48_000, 44_100, 96_000, 22_050, 8_000, 16_000])("from %i a second", (from) => {
  test("a tone of 1 kHz keeps its loudness", () => {
    const out = resample(tone(1_000, 400, 0.5, from), from, RATE);
    expect(out.length).toBe(Math.round((tone(1_000, 400, 0.5, from).length * RATE) / from));
    expect(power(middle(out))).toBeCloseTo(0.125, 3);
    const wanted = tone(1_000, 400);
    const wrong = middle(out).map((sample, at) => sample - (wanted[(out.length >> 2) + at] ?? 0));
    expect(power(wrong)).toBeLessThan(1e-5);
  });

  test("does not depend on the cuts", () => {
    const next = chance(from);
    const input = Float32Array.from({ length: from / 5 }, () => next() * 2 - 1);
    const whole = new Resampler(from, RATE).push(input);
    const cut = new Resampler(from, RATE);
    const parts: number[] = [];
    for (let at = 0; at < input.length; ) {
      const size = Math.floor(next() * 300);
      parts.push(...cut.push(input.subarray(at, at + size)));
      at += size;
    }
    expect(parts.length).toBe(whole.length);
    expect(parts.every((sample, at) => Math.abs(sample - (whole[at] ?? NaN)) < 1e-6)).toBe(true);
  });
});

test("what is above the lower rate's half is 50 dB down", () => {
  for (const hz of [9_000, 12_000, 20_000]) expect(power(middle(resample(tone(hz, 400, 0.5, 48_000), 48_000, RATE)))).toBeLessThan(0.125e-5);
});

test("a rate that is none is refused", () => {
  for (const rate of [0, -1, Number.NaN, 1e9, 44_100.5]) expect(() => new Resampler(rate, RATE)).toThrow(RangeError);
});

test("16 bit samples come back as they were; what is too loud or no number stays in range", () => {
  const back = floats(pcm16(Float32Array.of(0, 0.5, -0.5, 1, -1, 7, -7, Number.NaN)));
  expect([...back].map((sample) => Math.round(sample * 1_000) / 1_000)).toEqual([0, 0.5, -0.5, 1, -1, 1, -1, 0]);
  const file = wav(pcm16(tone(440, 100)));
  expect(new TextDecoder().decode(file.subarray(0, 4))).toBe("RIFF");
  expect(file.length).toBe(44 + 2 * 1_600);
});
