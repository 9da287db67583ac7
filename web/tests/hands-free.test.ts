import { afterEach, beforeEach, expect, it, vi } from "vitest";
import type { Doable } from "../src/lib/voice/commands";
import type { Detector, Heard } from "../src/lib/voice/detector";
import { EarError, type DeviceEar, type EarState } from "../src/lib/voice/ear-device";
import { alone, canUndo, HandsFree, OPEN_MS, STUCK_S, type Acts, type Done } from "../src/lib/voice/hands-free.svelte";
import { isHandsFree } from "../src/lib/voice/here.svelte";
import type { Mic } from "../src/lib/voice/mic";

let did: string[];
let mic: Mic & { closed: boolean };
let watcher: (state: EarState) => void;
let heard: string[];
let held: number;
let hands: HandsFree;
let load: () => Promise<void>;
let deaf = false;
/** What the ear says at last. */
let slowly: Promise<string> | undefined;
/** A question waits for its price. */
let priced: Promise<void> | undefined;
/** The microphone gives nothing. */
let mute: boolean;
let opening: Promise<void> | undefined;
let elsewhere: boolean;
let locked: number;

beforeEach(() => {
  vi.useFakeTimers();
  const kept = new Map<string, string>();
  vi.stubGlobal("localStorage", { getItem: (name: string) => kept.get(name) ?? null, setItem: (name: string, value: string) => kept.set(name, value) });
  did = [];
  heard = [];
  held = 0;
  slowly = undefined;
  priced = undefined;
  opening = undefined;
  [mute, elsewhere, deaf, locked] = [false, false, false, 0];
  load = async () => watcher({ kind: "ready", factor: 20 });
  hands = fresh();
});

afterEach(() => {
  vi.useRealTimers();
  vi.unstubAllGlobals();
});

function fresh(): HandsFree {
  const ear = {
    state: { kind: "off" },
    watch: (given: typeof watcher) => (watcher = given),
    acquire: () => ((held += 1), load()),
    release: () => (held -= 1),
    hear: async () => (await slowly) ?? heard.shift() ?? "",
  };
  const acts: Acts = {
    intents: () => ["echo"],
    question: async (text) => (await priced, did.push(`question ${text}`), { said: "Asked.", undo: () => (did.push("undone"), "Gone.") }),
    command: async (command: Doable): Promise<Done> => (did.push(command.kind === "ask" ? `ask ${command.intent} ${command.text}` : command.kind), { said: "Done." }),
    called: () => void did.push("called"),
  };
  // A frame's first sample tells what the detector makes of it.
  const detector = { push: (frame: Float32Array): Heard | undefined => (frame[0] === 1 ? { kind: "start" } : frame[0] === 2 ? { kind: "end", samples: frame, cut: false } : undefined) };
  return new HandsFree({
    ear: ear as unknown as DeviceEar,
    openMic: async () => {
      await opening;
      const own = { rate: 16_000 as const, onframe: (_frame: Float32Array) => undefined as void, onlost: () => undefined, closed: false, close: () => undefined as void };
      const beat = setInterval(() => !mute && own.onframe(Float32Array.of(0)), 500);
      own.close = () => ((own.closed = true), clearInterval(beat));
      return (mic = own);
    },
    alone: async () => (elsewhere ? undefined : ((locked += 1), () => void (locked -= 1))),
    detector: () => detector as unknown as Detector,
    acts,
    problemOf: () => "denied",
    isDeaf: () => deaf,
  });
}

/** One utterance that the ear hears so. */
async function say(text: string, thenMs = 0) {
  heard.push(text);
  mic.onframe(Float32Array.of(1));
  expect(hands.phase).toBe("hearing");
  mic.onframe(Float32Array.of(2));
  await vi.advanceTimersByTimeAsync(thenMs);
}

it("acts on what follows the word, and drops everything else", async () => {
  await hands.start();
  expect(hands.phase).toBe("waiting");
  await say("What a lovely day.");
  await say("My computer is slow.");
  expect([did, hands.passed, hands.entries]).toEqual([[], 2, []]);
  await say("Computer, what is a ring?");
  expect(did.splice(0)).toEqual(["called", "question what is a ring?"]);
  await say("Computer, stop.");
  await say("Computer, ask echo hello.");
  expect(did.splice(0)).toEqual(["called", "stop", "called", "ask echo hello."]);
  expect(hands.entries.map(({ heard: words, kind }) => [kind, words])).toEqual([["ask", "ask echo hello."], ["stop", "stop."], ["question", "what is a ring?"]]);
  await say("Computer, help.");
  expect([hands.help, did.splice(0)]).toEqual([true, ["called"]]);
  await say("");
  expect(hands.phase).toBe("waiting");
});

it("does not listen to what is said to another microphone of the page", async () => {
  await hands.start();
  deaf = true;
  mic.onframe(Float32Array.of(1));
  expect(hands.phase).toBe("aside");
  mic.onframe(Float32Array.of(2));
  await vi.advanceTimersByTimeAsync(0);
  deaf = false;
  mic.onframe(Float32Array.of(0));
  expect([did, hands.passed, hands.phase]).toEqual([[], 0, "waiting"]);
  await say("Computer, stop.");
  expect(did).toEqual(["called", "stop"]);
});

it("opens for the next utterance after the word alone, for some seconds", async () => {
  await hands.start();
  await say("Computer.");
  expect(hands.phase).toBe("listening");
  await say("What is a ring?");
  expect([did.splice(0), hands.phase]).toEqual([["called", "called", "question What is a ring?"], "waiting"]);
  // Only the next one.
  await say("And another thing.");
  expect(did).toEqual([]);
  await say("Computer.");
  did.splice(0);
  await vi.advanceTimersByTimeAsync(OPEN_MS + 1);
  expect(hands.phase).toBe("waiting");
  await say("Too late.");
  expect([did, hands.passed]).toEqual([[], 2]);
});

it("undoes what was heard, once, by hand and by word", async () => {
  await hands.start();
  await say("Computer, who are you?");
  const [entry] = hands.entries;
  expect(entry && canUndo(entry)).toBe(true);
  await say("Computer, undo that.");
  expect(did).toContain("undone");
  expect(hands.entries.map(({ undone, said }) => [undone, said])).toEqual([[true, "Gone."]]);
  await say("Computer, undo.");
  expect(hands.entries[0]).toMatchObject({ kind: "undo", said: "There is nothing that can be undone." });
  expect(did.filter((one) => one === "undone").length).toBe(1);
});

it("ends by itself where nobody calls, and begins anew with each call", async () => {
  hands.setMinutes(5);
  await hands.start();
  const first = hands.endsAt;
  await say("Nothing for you.", 4 * 60_000);
  expect(hands.endsAt).toBe(first);
  await say("Computer, stop.");
  expect(hands.endsAt).toBe(first + 4 * 60_000);
  await vi.advanceTimersByTimeAsync(5 * 60_000 + 1);
  expect([hands.phase, hands.on, mic.closed, held]).toEqual(["off", false, true, 0]);
  expect(hands.ended).toContain("5 minutes");
  // What was chosen is kept; what is no choice is not.
  expect([fresh().minutes, (hands.setMinutes(7), hands.minutes)]).toEqual([5, 10]);
});

it("gives microphone and ear back however it ends", async () => {
  await hands.start();
  hands.stop();
  expect([mic.closed, held, hands.phase]).toEqual([true, 0, "off"]);
  await hands.start();
  mic.onlost();
  expect([hands.problem, hands.phase, held, hands.on]).toEqual(["lost", "failed", 0, false]);
  await hands.start();
  watcher({ kind: "failed", problem: "slow", message: "slow" });
  expect([hands.phase, mic.closed, held]).toEqual(["failed", true, 0]);
  // Stopped while it writes something down: that is dropped, and it hears again at once.
  await hands.start();
  let told = (_words: string) => undefined as void;
  slowly = new Promise((done) => (told = done));
  mic.onframe(Float32Array.of(1));
  mic.onframe(Float32Array.of(2));
  hands.stop();
  slowly = undefined;
  await hands.start();
  await say("Computer, stop.");
  told("Computer, cancel.");
  await vi.advanceTimersByTimeAsync(0);
  expect(did.splice(0)).toEqual(["called", "stop"]);
  hands.stop();
  // Stopped while it loads.
  let loaded = () => undefined as void;
  load = () => new Promise((done) => (loaded = done));
  const starting = hands.start();
  await vi.advanceTimersByTimeAsync(0);
  hands.stop();
  loaded();
  await starting;
  expect([hands.on, mic.closed, held]).toEqual([false, true, 0]);
  load = () => Promise.reject(new EarError("fetch", "no"));
  await hands.start();
  expect([hands.on, hands.problem, mic.closed, held]).toEqual([false, undefined, true, 0]);
});

it("takes another word of the form, and keeps to the last good one", async () => {
  hands.setWord("Red Alert");
  expect(fresh().word).toBe("red alert");
  hands.setWord("x");
  expect([hands.wake, fresh().word]).toEqual([undefined, "red alert"]);
  await hands.start();
  expect(hands.on).toBe(false);
  hands = fresh();
  await hands.start();
  // While another one is being typed.
  hands.setWord("j");
  await say("Red alert, stop.");
  expect(did).toEqual(["called", "stop"]);
  hands.setWord("jarvis");
  await say("Jarvis, repeat.");
  expect(did.slice(2)).toEqual(["called", "repeat"]);
});

it("hears a stop while a question waits for its price, and does nothing that was stopped", async () => {
  await hands.start();
  let price = () => undefined as void;
  priced = new Promise((done) => (price = done));
  await say("Computer, what is a ring?");
  await say("Computer, ask echo hello.");
  expect(hands.phase).toBe("waiting");
  await say("Computer, stop.");
  expect(did.splice(0)).toEqual(["called", "called", "called", "stop"]);
  price();
  await vi.advanceTimersByTimeAsync(0);
  expect(did).toEqual(["question what is a ring?"]);
  expect(hands.entries.map(({ kind, said }) => [kind, said])).toEqual([["ask", "Not done: it was stopped before."], ["question", "Asked."], ["stop", "Done."]]);
  // What fails is said, and it hears on.
  priced = Promise.reject(new Error("no room"));
  await say("Computer, who are you?");
  expect(hands.entries[0]?.said).toBe("It could not be done: no room");
  priced = undefined;
  await say("Computer, who are you?");
  expect(hands.entries[0]?.said).toBe("Asked.");
});

it("does nothing that had not begun when it was turned off", async () => {
  await hands.start();
  let price = () => undefined as void;
  priced = new Promise((done) => (price = done));
  await say("Computer, what is a ring?");
  await say("Computer, ask echo hello.");
  did.splice(0);
  hands.stop();
  await hands.start();
  price();
  await vi.advanceTimersByTimeAsync(0);
  expect(did).toEqual(["question what is a ring?"]);
  expect(hands.entries[0]?.said).toBe("Not done: hands-free was turned off before.");
});

it("notices a microphone that gives nothing, and a night in which the clock of its timer stood still", async () => {
  await hands.start();
  await vi.advanceTimersByTimeAsync(60_000);
  expect(hands.phase).toBe("waiting");
  mute = true;
  await vi.advanceTimersByTimeAsync(STUCK_S * 1_000 + 1_000);
  expect([hands.phase, hands.problem, mic.closed, held, locked]).toEqual(["failed", "busy", true, 0, 0]);
  mute = false;
  await hands.start();
  vi.setSystemTime(Date.now() + 8 * 3_600_000);
  mic.onframe(Float32Array.of(1));
  expect([hands.phase, mic.closed]).toEqual(["off", true]);
  expect(hands.ended).toContain("10 minutes");
});

it("says what it waits for, also where it is tried again", async () => {
  load = () => Promise.reject(new EarError("fetch", "no"));
  watcher({ kind: "failed", problem: "fetch", message: "no" });
  expect(hands.phase).toBe("failed");
  let allow = () => undefined as void;
  opening = new Promise((done) => (allow = done));
  load = () => new Promise(() => watcher({ kind: "loading", received: 0, bytes: 0 }));
  void hands.start();
  await vi.advanceTimersByTimeAsync(0);
  expect([hands.phase, isHandsFree()]).toEqual(["asking", true]);
  allow();
  await vi.advanceTimersByTimeAsync(0);
  expect(hands.phase).toBe("loading");
  // Ready from the microphone's button, it still asks for the microphone.
  hands.stop();
  expect([hands.phase, isHandsFree()]).toEqual(["off", false]);
  watcher({ kind: "ready", factor: 20 });
  opening = new Promise(() => undefined);
  void hands.start();
  await vi.advanceTimersByTimeAsync(0);
  expect(hands.phase).toBe("asking");
});

it("keeps no microphone open while what hears is being fetched", async () => {
  let come = () => undefined as void;
  load = () => new Promise((done) => (come = () => (watcher({ kind: "ready", factor: 20 }), done())));
  const starting = hands.start();
  await vi.advanceTimersByTimeAsync(0);
  watcher({ kind: "loading", received: 1, bytes: 44 });
  // It was asked for leave, and closed.
  const first = mic;
  expect([hands.phase, hands.live, first.closed]).toEqual(["loading", false, true]);
  come();
  await starting;
  expect([hands.phase, mic === first, mic.closed]).toEqual(["waiting", false, false]);
  // Ready at once, it is opened once.
  hands.stop();
  load = async () => undefined;
  await hands.start();
  expect([hands.phase, mic.closed]).toEqual(["waiting", false]);
});

it("opens no microphone when it was turned off while what hears was fetched", async () => {
  let come = () => undefined as void;
  load = () => new Promise((done) => (come = done));
  const starting = hands.start();
  await vi.advanceTimersByTimeAsync(0);
  const first = mic;
  hands.stop();
  come();
  await starting;
  expect([mic === first, mic.closed, held, hands.phase]).toEqual([true, true, 0, "off"]);
});

it("listens in one tab of a browser", async () => {
  elsewhere = true;
  await hands.start();
  expect([hands.on, hands.phase, held]).toEqual([false, "off", 0]);
  expect(hands.ended).toContain("Another tab");
  elsewhere = false;
  await hands.start();
  expect([hands.phase, hands.ended, locked]).toEqual(["waiting", "", 1]);
  hands.stop();
  expect(locked).toBe(0);
  // The browser's own lock, as far as it has one.
  let free = true;
  const request = async (_name: string, _options: unknown, hold: (lock: object | null) => Promise<void> | void) => {
    if (!free) return hold(null);
    free = false;
    await hold({});
    free = true;
  };
  const locks = { request } as unknown as LockManager;
  const [one, two] = [await alone(locks), await alone(locks)];
  expect(two).toBeUndefined();
  one?.();
  await vi.advanceTimersByTimeAsync(0);
  expect(await alone(locks)).toBeDefined();
  expect(await alone({ request: () => Promise.reject(new Error("no")) } as unknown as LockManager)).toBeDefined();
});
