// The machine behind the button to speak, with a microphone and an ear of the test's own.

import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { Refusal } from "../src/lib/realm";
import { RATE } from "../src/lib/voice/frames";
import { EarError } from "../src/lib/voice/ear-device";
import type { Mic } from "../src/lib/voice/mic";
import { HOLD_MS, IDLE_MS, STUCK_MS, Voice } from "../src/lib/voice/voice.svelte";
import { chain, frames, sentence, silence } from "./sounds";

const SPEECH = chain(silence(600), sentence(), silence(1_600));
const seconds = (samples: Float32Array | undefined) => (samples?.length ?? 0) / RATE;

function stage(hear: (samples: Float32Array, signal?: AbortSignal) => Promise<string> = async () => "some words") {
  const mics: (Mic & { closed: boolean })[] = [];
  const log: string[] = [];
  const heard: Float32Array[] = [];
  let allow: () => void = () => undefined;
  let refuse: (why: unknown) => void = () => undefined;
  const reading = { now: false };
  const voice = new Voice({
    openMic: () =>
      new Promise((given, refused) => {
        refuse = refused;
        allow = () => {
          const mic = { rate: RATE, closed: false, onframe: () => undefined, onlost: () => undefined, close: () => (mic.closed = true) } as Mic & { closed: boolean };
          mics.push(mic);
          given(mic);
        };
      }),
    ear: () => ({ hear: (samples, signal) => (heard.push(samples), hear(samples, signal)) }),
    onSpeech: () => void log.push("speech"),
    isReading: () => reading.now,
    onWords: (words) => void log.push(words),
  });
  const play = (sound: Float32Array) => frames(sound).forEach((frame) => mics.at(-1)?.onframe(frame));
  const listening = async () => {
    allow();
    await vi.advanceTimersByTimeAsync(0);
    expect(voice.state).toBe("listening");
  };
  return { voice, mics, log, heard, play, listening, reading, allow: () => allow(), refuse: (why: unknown) => refuse(why) };
}

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());
const settle = () => vi.advanceTimersByTimeAsync(0);

describe("tapped", () => {
  test("it ends with the utterance, and hands on its words", async () => {
    const { voice, mics, log, heard, play, listening } = stage();
    voice.press(0);
    voice.release(100);
    expect(voice.state).toBe("asking");
    await listening();
    expect(voice.held).toBe(false);
    play(SPEECH);
    expect(voice.state).toBe("hearing");
    expect(mics[0]?.closed).toBe(true);
    await settle();
    expect(log).toEqual(["speech", "speech", "some words"]);
    expect(voice.state).toBe("off");
    expect(seconds(heard[0])).toBeGreaterThan(2);
    expect(seconds(heard[0])).toBeLessThan(3.2);
  });

  test("pressed again it ends now; with nothing said nothing is sent", async () => {
    const { voice, heard, play, listening, log } = stage();
    voice.tap();
    await listening();
    play(silence(300));
    voice.press(1_000);
    voice.release(1_050);
    await settle();
    expect([voice.state, heard.length, voice.trouble]).toEqual(["off", 0, undefined]);
    voice.tap();
    await listening();
    play(SPEECH.subarray(0, 2 * RATE));
    voice.press(9_000);
    await settle();
    expect(log.at(-1)).toBe("some words");
    // That press began nothing new.
    voice.release(9_900);
    expect(voice.state).toBe("off");
  });

  test("what came while the finger was still down belongs to the utterance", async () => {
    const { voice, heard, play, listening } = stage();
    voice.press(0);
    await listening();
    play(SPEECH.subarray(0, RATE));
    voice.release(HOLD_MS - 1);
    play(SPEECH.subarray(RATE, 2 * RATE));
    voice.tap();
    await settle();
    expect(seconds(heard[0])).toBeGreaterThan(1.5);
  });

  test("nobody speaks: it ends by itself, and says whether there was any sound", async () => {
    for (const [loud, muted] of [[0, true], [0.01, false]] as const) {
      const { voice, mics, play, listening } = stage();
      voice.tap();
      await listening();
      play(silence(IDLE_MS + 100).map((_, at) => loud * Math.sin(at)));
      expect(voice.trouble).toEqual({ kind: "silence", muted });
      expect(mics[0]?.closed).toBe(true);
    }
  });

  test("while an answer is read it waits", async () => {
    const { voice, play, listening, reading, log } = stage();
    reading.now = true;
    voice.listen();
    await listening();
    expect(log).toEqual([]);
    play(silence(2 * IDLE_MS));
    expect(voice.state).toBe("listening");
    play(SPEECH);
    expect(log[0]).toBe("speech");
  });
});

describe("while it is written down", () => {
  test("a press throws nothing away: only Cancel does", async () => {
    let say: (words: string) => void = () => undefined;
    const { voice, play, listening, log } = stage(() => new Promise((heard) => (say = heard)));
    voice.tap();
    await listening();
    play(SPEECH);
    expect(voice.state).toBe("hearing");
    voice.press(9_000);
    voice.release(9_050);
    voice.tap();
    expect(voice.state).toBe("hearing");
    say("some words");
    await settle();
    expect(log.at(-1)).toBe("some words");
  });

  test("what it has cost stands until the next one", async () => {
    const { voice, play, listening } = stage();
    voice.tap();
    await listening();
    play(SPEECH);
    voice.cost = { asset: "grant", amount: "40" };
    await settle();
    expect(voice.cost).toEqual({ asset: "grant", amount: "40" });
    voice.tap();
    expect(voice.cost).toBeUndefined();
  });
});

describe("held", () => {
  test("it listens as long as it is held, pauses included", async () => {
    const { voice, heard, play, listening } = stage();
    voice.press(0);
    await listening();
    play(SPEECH);
    play(SPEECH);
    expect(voice.state).toBe("listening");
    voice.release(HOLD_MS + 8_000);
    await settle();
    expect(seconds(heard[0])).toBeCloseTo((2 * SPEECH.length) / RATE, 0);
  });

  test("no longer than an utterance may be", async () => {
    const { voice, heard, play, listening } = stage();
    voice.press(0);
    await listening();
    for (let at = 0; at < 12; at += 1) play(SPEECH);
    await settle();
    expect(voice.state).toBe("off");
    expect(seconds(heard[0])).toBeLessThanOrEqual(30.1);
    voice.release(60_000);
    expect(voice.state).toBe("off");
  });

  test("while leave was asked for it was only tapped", async () => {
    const { voice, listening } = stage();
    voice.press(0);
    voice.release(5_000);
    await listening();
    expect(voice.held).toBe(false);
  });

  test("with nothing said it says so", async () => {
    const { voice, heard, play, listening } = stage();
    voice.press(0);
    await listening();
    play(silence(1_000));
    voice.release(1_000);
    expect(voice.trouble?.kind).toBe("silence");
    expect(heard).toEqual([]);
  });
});

describe("troubles", () => {
  test("what the browser throws is one of the list; the next press tries again", async () => {
    const { voice, refuse, listening } = stage();
    voice.tap();
    refuse(new DOMException("", "NotAllowedError"));
    await settle();
    expect(voice.trouble).toEqual({ kind: "mic", problem: "denied" });
    voice.tap();
    expect(voice.trouble).toBeUndefined();
    await listening();
  });

  test("given up while leave is asked for: a microphone that comes then is closed at once", async () => {
    const { voice, mics, allow } = stage();
    voice.tap();
    voice.cancel();
    allow();
    await settle();
    expect([voice.state, mics[0]?.closed]).toEqual(["off", true]);
  });

  test("given up while it is written down: the ear is told, and nothing is handed on", async () => {
    let given: AbortSignal | undefined;
    const { voice, play, listening, log } = stage((_, signal) => new Promise((_, fail) => signal?.addEventListener("abort", () => ((given = signal), fail(signal.reason)))));
    voice.tap();
    await listening();
    play(SPEECH);
    voice.cancel();
    await settle();
    expect(given?.aborted).toBe(true);
    expect([voice.state, voice.trouble, log.includes("some words")]).toEqual(["off", undefined, false]);
  });

  test("a microphone that gives nothing at all is told", async () => {
    const { voice, mics, listening } = stage();
    voice.tap();
    await listening();
    await vi.advanceTimersByTimeAsync(STUCK_MS + 1);
    expect([voice.trouble, mics[0]?.closed]).toEqual([{ kind: "mic", problem: "busy" }, true]);
  });

  test("it goes away: what was said is written down all the same", async () => {
    const { voice, mics, play, listening, log } = stage();
    voice.tap();
    await listening();
    play(SPEECH.subarray(0, 2 * RATE));
    mics[0]?.onlost();
    await settle();
    expect(voice.trouble).toEqual({ kind: "mic", problem: "lost" });
    expect(log.at(-1)).toBe("some words");
  });

  test("what was refused can be tried again with the same sound, and is forgotten when given up", async () => {
    let times = 0;
    const { voice, play, listening, heard, log } = stage(async () => {
      times += 1;
      if (times === 1) throw new Refusal({ code: "MT0018", message: "too many", status: 429 });
      if (times === 3) throw new EarError("slow", "");
      return "at last";
    });
    voice.tap();
    await listening();
    play(SPEECH);
    await settle();
    expect([voice.trouble?.kind, voice.mayRetry]).toEqual(["realm", true]);
    voice.retry();
    await settle();
    expect(heard[1]).toEqual(heard[0]);
    expect([log.at(-1), voice.mayRetry, voice.trouble]).toEqual(["at last", false, undefined]);
    voice.tap();
    await listening();
    play(SPEECH);
    await settle();
    expect(voice.trouble).toEqual({ kind: "ear", problem: "slow" });
    voice.cancel();
    expect(voice.mayRetry).toBe(false);
  });

  test("what was told and closed is forgotten, the sound too", async () => {
    const { voice, play, listening } = stage(async () => {
      throw new Refusal({ code: "MT0018", message: "too many", status: 429 });
    });
    voice.tap();
    await listening();
    play(SPEECH);
    await settle();
    expect(voice.mayRetry).toBe(true);
    voice.dismiss();
    expect([voice.mayRetry, voice.trouble]).toEqual([false, undefined]);
  });

  test("what one's own device could not hear goes to the realm only where that is said", async () => {
    const { voice, play, listening, heard, log } = stage(async () => {
      throw new EarError("slow", "");
    });
    voice.tap();
    await listening();
    play(SPEECH);
    await settle();
    const realm = { hear: async (samples: Float32Array) => `realm ${samples.length}` };
    voice.retry();
    await settle();
    expect([heard.length, log.at(-1)]).toEqual([2, "speech"]);
    voice.retry(realm);
    await settle();
    expect([heard.length, log.at(-1)]).toEqual([2, `realm ${heard[0]?.length}`]);
  });

  test("that nobody interrupts an answer is no trouble", async () => {
    const { voice, mics, play, listening, reading } = stage();
    reading.now = true;
    voice.listen();
    await listening();
    reading.now = false;
    play(silence(IDLE_MS + 100));
    expect([voice.state, voice.trouble, mics[0]?.closed]).toEqual(["off", undefined, true]);
  });

  test("no words are told as such", async () => {
    const { voice, play, listening } = stage(async () => "");
    voice.tap();
    await listening();
    play(SPEECH);
    await settle();
    expect(voice.trouble?.kind).toBe("silence");
  });
});
