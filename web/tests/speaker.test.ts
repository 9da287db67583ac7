// Reading aloud: how a growing answer is cut, what is asked of the realm and when, and that stopping is at
// once and cancels what was asked.

import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { newTurn, type Turn } from "../src/lib/conversation";
import { Refusal, Unreachable, type Realm } from "../src/lib/realm";
import { base64Of } from "../src/lib/result";
import { pcm16 } from "../src/lib/voice/frames";
import { Loudspeaker, MUTE_MS } from "../src/lib/voice/player";
import { Output } from "../src/lib/voice/output";
import { reasonOfVoice } from "../src/lib/voice/reason";
import { Reader } from "../src/lib/voice/reader.svelte";
import { INPUT_CHARS_MAX, Sentences } from "../src/lib/voice/sentences";
import { AHEAD_MAX, Speaker, spokenMs, type SpeakerNeeds } from "../src/lib/voice/speaker";
import { chance, tone } from "./sounds";

/** As it streams in, a few characters at a time. */
function streamed(text: string, step = 3): string[] {
  const cutter = new Sentences();
  const given: string[] = [];
  for (let at = 0; at < text.length; at += step) given.push(...cutter.next(text.slice(0, at), false));
  return [...given, ...cutter.next(text, true)];
}

describe("an answer is cut", () => {
  test("into sentences, as soon as each is whole", () => {
    const cutter = new Sentences();
    expect(cutter.next("The capital of France is Paris", false)).toEqual([]);
    expect(cutter.next("The capital of France is Paris.", false)).toEqual([]);
    expect(cutter.next("The capital of France is Paris. It lies", false)).toEqual(["The capital of France is Paris."]);
    expect(cutter.next("The capital of France is Paris. It lies on the Seine, in the north", true)).toEqual(["It lies on the Seine, in the north"]);
  });

  test.each([
    ["figures and abbreviations end none", "It weighs 3.5 tons, i.e. much. Dr. Jones of the U.S. Navy lifted it!", ["It weighs 3.5 tons, i.e. much.", "Dr. Jones of the U.S. Navy lifted it!"]],
    ["a line is a sentence", "# A heading of some length\nThen words without an end\n\nAnd more of them", ["# A heading of some length", "Then words without an end", "And more of them"]],
    ["what is short goes with what follows", "# Trees\n\nYes. A Merkle tree lets you check an entry.", ["# Trees\n\nYes. A Merkle tree lets you check an entry."]],
    ["the number of an item ends none", "1. Anyone may keep the root.\n2. The list may live anywhere.", ["1. Anyone may keep the root.", "2. The list may live anywhere."]],
    ["code is one whole", "See the code here, please:\n```python\nprint(1). Not the end\n\nx = 2\n```\nThat was all there is.", ["See the code here, please:", "```python\nprint(1). Not the end\n\nx = 2\n```", "That was all there is."]],
    ["code without an end is one, too", "See the code here, please:\n```\na. b. c. Dd.\n", ["See the code here, please:", "```\na. b. c. Dd."]],
    ["what says nothing is not said", "Above the line of dashes here.\n\n---\n\n| --- | --- |\nBelow the line of dashes here.", ["Above the line of dashes here.", "---\n\n| --- | --- |\nBelow the line of dashes here."]],
    ["nothing is nothing", "  \n\n ---", []],
  ])("%s", (_, text, wanted) => {
    expect(streamed(text)).toEqual(wanted);
    expect(streamed(text, 1)).toEqual(wanted);
    expect(streamed(text, 1_000)).toEqual(wanted);
  });

  test("what never ends is cut within bounds, and no word is lost", () => {
    const long = "word ".repeat(3_000);
    const given = streamed(long, 100);
    expect(given.every(({ length }) => length <= INPUT_CHARS_MAX)).toBe(true);
    expect(given.join(" ").match(/word/g)?.length).toBe(3_000);
    expect(streamed(`\`\`\`\n${"x".repeat(10_000)}\n\`\`\``).every(({ length }) => length <= INPUT_CHARS_MAX)).toBe(true);
  });

  test("whatever it is: every letter comes once, in order, however it streamed", () => {
    const parts = ["Word", " ", ".", "\n", "```", "3.5", "e.g.", "!", "- ", "| a |", "*b*", ", ", "ü", "\n\n", "# H"];
    for (let seed = 1; seed <= 200; seed += 1) {
      const next = chance(seed);
      const text = Array.from({ length: 60 }, () => parts[Math.floor(next() * parts.length)]).join("");
      const letters = (all: string) => all.replace(/[^\p{L}\p{N}]/gu, "");
      for (const step of [1, 7, 400]) expect(letters(streamed(text, step).join(" "))).toBe(letters(text));
    }
  });

  test("an answer that began anew is read from where it is shorter", () => {
    const cutter = new Sentences();
    cutter.next("The first attempt was this one. And", false);
    expect(() => cutter.next("The", false)).not.toThrow();
  });
});

/** A realm whose sentences are spoken when the test says so, and a player whose sound ends when it says so. */
function stage() {
  const asked: { input: string; body: Record<string, unknown>; say: (...events: [string, object][]) => void; refuse: () => void; drop: () => void }[] = [];
  let resumes = 0;
  const cancelled: string[] = [];
  const played: { samples: Float32Array; rate: number; end: () => void }[] = [];
  const log: string[] = [];
  const realm = {
    fixed: () => realm as unknown as Realm,
    submitWork(body: { data: Record<string, unknown>; ceiling: string }) {
      const id = `i${asked.length}`;
      return new Promise<Response>((given, refused) => {
        const stream = new ReadableStream<Uint8Array>({
          start(control) {
            const say = (...events: [string, object][]) => {
              for (const [type, data] of events) control.enqueue(new TextEncoder().encode(`data: ${JSON.stringify({ type: `mtor.intent.${type}.v1`, data: { intent: id, ...data } })}\n\n`));
              if (events.some(([type]) => type === "completed" || type === "failed")) control.close();
            };
            const drop = () => control.error(new Error("dropped"));
            asked.push({ drop, input: String(body.data["input"]), body: { ...body.data, ceiling: body.ceiling }, say, refuse: () => refused(new Refusal({ code: "MT0018", message: "too many at once", status: 429 })) });
            say(["accepted", {}]);
          },
        });
        given(new Response(stream));
      });
    },
    async resume(intent: string): Promise<Response> {
      if (++resumes < 2) throw new Unreachable("away");
      return new Response(new ReadableStream<Uint8Array>({
        start(control) {
          const say = (...events: [string, object][]) => {
            for (const [type, data] of events) control.enqueue(new TextEncoder().encode(`data: ${JSON.stringify({ type: `mtor.intent.${type}.v1`, data: { intent, ...data } })}\n\n`));
          };
          asked.push({ drop: () => control.error(new Error("dropped")), input: "", body: {}, say, refuse: () => undefined });
        },
      }));
    },
    async cancel(intent: string) {
      cancelled.push(intent);
    },
  };
  const needs: SpeakerNeeds = {
    realm: realm as unknown as Realm,
    player: {
      play: (samples, rate) => new Promise((end) => played.push({ samples, rate, end })),
      silence: () => void log.push("silence"),
    },
    pay: async () => ({ asset: "grant" }),
    price: () => ({ amount: "20", per: 1_000, unit: "millisecond" }),
    voice: () => ({ voice: "bf_emma", speed: 2 }),
    onCost: ({ amount }) => void log.push(`cost ${amount}`),
    onEnd: (problem) => void log.push(`end ${problem?.code ?? ""}`.trim()),
  };
  return { speaker: new Speaker(needs), needs, asked, cancelled, played, log };
}

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void (vi.useRealTimers(), vi.unstubAllGlobals()));
const settle = () => vi.advanceTimersByTimeAsync(0);
const audio = (ms: number) => base64Of(pcm16(tone(300, ms, 0.5, 24_000)));
const piece = (seq: number, ms = 10): [string, object] => ["chunk", { attempt: 1, seq, piece: { audio: audio(ms), text: "" } }];
const done: [string, object] = ["completed", { result: { rate: 24_000 }, cost: { asset: "grant", amount: "3" } }];

describe("the speaker", () => {
  test("asks for a sentence at once, with voice and speed, for at most what its letters may last", async () => {
    const { speaker, asked } = stage();
    speaker.say(["Twelve chars"]);
    await settle();
    expect(asked[0]?.body).toEqual({ input: "Twelve chars", voice: "bf_emma", speed: 2, response_format: "pcm", stream: true, ceiling: "240" });
    expect(spokenMs("Twelve chars", 2)).toBe(12_000);
  });

  test("asks at most two ahead of what is heard, plays in order, and says what it cost", async () => {
    const { speaker, asked, played, log } = stage();
    speaker.say(["One.", "Two.", "Three.", "Four.", "Five."]);
    speaker.close();
    await settle();
    expect(asked.map(({ input }) => input)).toEqual(["One.", "Two.", "Three."]);
    expect(asked.length).toBe(1 + AHEAD_MAX);
    // The second is there first, and waits.
    asked[1]?.say(piece(0, 20), done);
    await settle();
    expect(played).toEqual([]);
    asked[0]?.say(piece(0, 10), piece(1, 10), done);
    await settle();
    // The next stands behind it before it has been heard: without a gap.
    expect(played.map(({ samples }) => samples.length)).toEqual([240, 240, 480]);
    expect(asked.length).toBe(3);
    played[1]?.end();
    await settle();
    expect(asked[3]?.input).toBe("Four.");
    played[2]?.end();
    await settle();
    expect(asked[4]?.input).toBe("Five.");
    for (const one of asked.slice(2)) one.say(piece(0), done);
    await settle();
    for (const one of played) one.end();
    await settle();
    expect(log).toEqual(["cost 3", "cost 3", "cost 3", "cost 3", "cost 3", "silence", "end"]);
  });

  test("an odd byte waits for its other half; a realm without pieces gives the whole", async () => {
    const { speaker, asked, played } = stage();
    speaker.say(["One.", "Two."]);
    await settle();
    const bytes = pcm16(tone(300, 10, 0.5, 24_000));
    const part = (seq: number, from: number, to: number): [string, object] => ["chunk", { attempt: 1, seq, piece: { audio: base64Of(bytes.subarray(from, to)) } }];
    asked[0]?.say(part(0, 0, 101), part(1, 101, 480), done);
    asked[1]?.say(["completed", { result: { rate: 16_000, audio: audio(10) } }]);
    await settle();
    expect(played.slice(0, 2).reduce((sum, { samples }) => sum + samples.length, 0)).toBe(240);
    expect(played[2]?.rate).toBe(16_000);
  });

  test("stopped it is silent before anything else happens, and cancels what was asked", async () => {
    const { speaker, asked, cancelled, played, log } = stage();
    speaker.say(["One.", "Two.", "Three.", "Four."]);
    await settle();
    asked[0]?.say(piece(0));
    await settle();
    expect(played.length).toBe(1);
    speaker.stop();
    expect(log).toEqual(["silence", "end"]);
    await settle();
    expect(cancelled.sort()).toEqual(["i0", "i1", "i2"]);
    // What still comes is not heard, and nothing more is asked.
    asked[0]?.say(piece(1), done);
    played[0]?.end();
    speaker.say(["Five."]);
    await settle();
    expect(played.length).toBe(1);
    expect(asked.length).toBe(3);
    expect(speaker.ended).toBe(true);
  });

  test("what the realm refuses ends it, with the reason, once", async () => {
    const { speaker, asked, log } = stage();
    speaker.say(["One.", "Two."]);
    await settle();
    asked[0]?.say(["failed", { code: "MT0025", reason: "the worker was lost" }]);
    asked[1]?.say(["failed", { code: "MT0026", reason: "the worker was lost" }]);
    await settle();
    expect(log).toEqual(["silence", "end MT0025"]);
  });

  test.each([1, 1e9])("sound of %s samples a second is refused, and ends it", async (rate) => {
    const { speaker, asked, log } = stage();
    speaker.say(["One."]);
    await settle();
    asked[0]?.say(["completed", { result: { rate, audio: audio(10) } }]);
    await settle();
    expect(log).toEqual(["silence", "end"]);
  });

  test("a player that cannot play ends it, and says why", async () => {
    for (const play of [() => Promise.reject(new Refusal({ code: "MUTE", message: "", status: 0 })), () => { throw new Error("no context"); }]) {
      const { needs, asked, log } = stage();
      const speaker = new Speaker({ ...needs, player: { ...needs.player, play } });
      speaker.say(["One.", "Two."]);
      await settle();
      asked[0]?.say(piece(0), done);
      await settle();
      expect([speaker.ended, log.at(-1)?.startsWith("end")]).toEqual([true, true]);
    }
  });

  test("nothing to say is the end", async () => {
    const { speaker, log } = stage();
    speaker.close();
    expect(log).toEqual(["silence", "end"]);
  });
});

/** A browser's output that runs, or not. */
function output(state: "running" | "suspended") {
  const ended: (() => void)[] = [];
  class Context {
    state = state;
    currentTime = 0;
    destination = {};
    resume = async () => undefined;
    createBuffer = (_: number, length: number, rate: number) => ({ duration: length / rate, getChannelData: () => new Float32Array(length) });
    createBufferSource = () => {
      const source = { buffer: undefined, onended: () => undefined as void, connect() {}, disconnect() {}, start: () => void ended.push(() => source.onended()), stop() {} };
      return source;
    };
  }
  vi.stubGlobal("AudioContext", Context);
  return { ended };
}

describe("the loudspeaker", () => {
  test("a browser that plays nothing before a press is told so, and not waited for", async () => {
    output("suspended");
    const said = new Loudspeaker(new Output()).play(new Float32Array(10), 24_000).catch((why: Refusal) => why.problem.message);
    await vi.advanceTimersByTimeAsync(MUTE_MS);
    expect(await said).toMatch(/press Read aloud/);
  });

  test("what lasts longer than that is heard to its end", async () => {
    const { ended } = output("running");
    const log: string[] = [];
    void new Loudspeaker(new Output()).play(new Float32Array(240_000), 24_000).then(() => log.push("heard"));
    await vi.advanceTimersByTimeAsync(3 * MUTE_MS);
    expect(log).toEqual([]);
    ended[0]?.();
    await settle();
    expect(log).toEqual(["heard"]);
  });
});

describe("a press makes sound ready", () => {
  const press = (kind: string) => {
    const page = new EventTarget();
    const resumed: string[] = [];
    vi.stubGlobal("AudioContext", class {
      state = "suspended";
      resume = async () => void resumed.push(kind);
    });
    return { page, resumed };
  };
  const keep = (readAlways: boolean) => vi.stubGlobal("localStorage", { getItem: () => JSON.stringify({ readAlways }) });

  test.each(["click", "keydown", "touchend"])("in the event itself (%s), where every answer is read aloud", (kind) => {
    const { page, resumed } = press(kind);
    keep(true);
    new Output().readyOnPress(page);
    expect(resumed).toEqual([]);
    page.dispatchEvent(new Event(kind));
    expect(resumed).toEqual([kind]);
  });

  test("and opens none where nothing is read by itself", () => {
    const { page, resumed } = press("click");
    keep(false);
    new Output().readyOnPress(page);
    page.dispatchEvent(new Event("click"));
    expect(resumed).toEqual([]);
  });
});

describe("the reader", () => {
  const turn = (change: Partial<Turn>): Turn => ({ ...newTurn({ key: "k", question: "q", model: "m", sentAt: 0, ceiling: { asset: "grant", amount: "1" } }), phase: "running", ...change });
  const reader = () => {
    const { needs, asked, log } = stage();
    return { reader: new Reader({ ...needs, onBegin: () => undefined, onPaid: () => undefined }), asked, log };
  };

  test("by itself it reads what comes or has just come, once; no answer that was over long ago", () => {
    const { reader: one } = reader();
    expect([one.isNew(turn({ key: "a" }), 5), one.isNew(turn({ key: "a" }), 6)]).toEqual([true, false]);
    const over = (endedAt: number) => turn({ key: `e${endedAt}`, phase: "completed", endedAt });
    expect([one.isNew(over(1_000_000), 1_003_000), one.isNew(over(1), 3_600_000)]).toEqual([true, false]);
  });

  test("an answer that another worker begins anew is read anew, from its beginning", async () => {
    const { reader: one, asked } = reader();
    one.read(turn({ text: "The first attempt was this one. And then" }));
    await settle();
    one.grown(turn({ text: "" }));
    expect(one.reading).toBe("k");
    one.grown(turn({ text: "Another worker says something else. And" }));
    await settle();
    expect(asked.map(({ input }) => input)).toEqual(["The first attempt was this one.", "Another worker says something else."]);
  });

  test("while the realm is away it says so, until the realm is heard again, or it is stopped", async () => {
    for (const stop of [false, true]) {
      const { reader: one, asked } = reader();
      one.read(turn({ text: "The first attempt was this one. And then" }));
      await settle();
      expect(one.away).toBe(false);
      asked[0]?.drop();
      await vi.advanceTimersByTimeAsync(600);
      expect([one.away, one.reading]).toEqual([true, "k"]);
      if (stop) one.stop();
      // The first one's place is taken up again.
      else {
        await vi.advanceTimersByTimeAsync(1_500);
        asked.at(-1)?.say(piece(0));
        await settle();
      }
      expect(one.away).toBe(false);
    }
  });

  test("says in plain words what a restarted realm, and a lost voice, mean for who listens", () => {
    const problem = (code: string) => ({ code, message: "words for programmers", status: 0 });
    for (const code of ["MT0034", "MT0010"]) {
      expect(reasonOfVoice(problem(code), "read")).toBe("The realm restarted while it read. Press Read aloud again.");
      expect(reasonOfVoice(problem(code), "hear")).toBe("The realm restarted while it listened.");
    }
    expect(reasonOfVoice({ ...problem("MT0025"), message: "the worker was lost" }, "read")).toBe("The worker was lost. What speaks comes back in some seconds: try again then.");
    expect(reasonOfVoice({ ...problem("MT0025"), message: "the worker was lost" }, "hear")).toBe("The worker was lost. What hears comes back in some seconds: try again then.");
    expect(reasonOfVoice({ ...problem("MT0018"), message: "too many at once" }, "read")).toBe("Too many at once.");
  });
});
