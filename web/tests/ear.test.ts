import "fake-indexeddb/auto";
import { createHash } from "node:crypto";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { afterEach, beforeEach, expect, it, vi } from "vitest";
import { deviceEar, filesOf } from "../src/lib/voice/device";
import { EarCore, knownSound, TooSlow, type Hearing } from "../src/lib/voice/ear-core";
import { DeviceEar, type EarState } from "../src/lib/voice/ear-device";
import type { FromEar, ToEar } from "../src/lib/voice/ear-words";
import { Tokens, TooLong, tokensMax } from "../src/lib/voice/moonshine";
import { hearHere, hearsHere } from "../src/lib/voice/here.svelte";
import { bring, inDatabase, pathOf, type Shelf, type WeightFile } from "../src/lib/voice/weights";

// --- the vocabulary ---

it("reads lengths of one and of two bytes, and refuses what is no vocabulary", () => {
  const file = Uint8Array.from([3, 97, 98, 99, 0, 0x82, 1, ...new Array(130).fill(120), 4, 0xe2, 0x96, 0x81, 100]);
  const tokens = Tokens.read(file, 4);
  expect(tokens.text([0, 3, 1])).toBe("abc d");
  expect(tokens.text([2]).length).toBe(130);
  expect(tokens.text([9])).toBe("");
  for (const bad of [[], [5, 97], [0x80], [1, 97]]) expect(() => Tokens.read(Uint8Array.from(bad), 4)).toThrow(/vocabulary/);
});

it("bounds the tokens of a sound by its length", () => {
  expect([tokensMax(0), tokensMax(16_000), tokensMax(160_000)]).toEqual([2, 9, 67]);
});

// --- how fast, and how long ---

/** Takes so many milliseconds for each step, by a clock of its own. */
function slow(stepMs: number) {
  let now = 0;
  const hearing: Hearing = {
    hear: async (samples, late = () => false, steps = tokensMax(samples.length)) => {
      for (let step = 0; step < steps; step += 1) {
        if (late()) throw new TooLong("late");
        now += stepMs;
      }
      return "heard";
    },
  };
  return new EarCore(hearing, () => now);
}

it("turns itself off on a device that is slower than speech", async () => {
  expect(knownSound().length).toBe(32_000);
  // 15 steps for two seconds: a step may take 133 ms.
  expect(await slow(10).measure()).toBeCloseTo(2_000 / 150);
  await expect(slow(140).measure()).rejects.toMatchObject({ factor: expect.closeTo(0.952, 2) });
  // So slow that the first run is not waited for.
  await expect(slow(5_000).measure()).rejects.toBeInstanceOf(TooSlow);
});

it("gives an utterance its own length, and gives up after two that were late", async () => {
  const core = slow(250);
  const ten = new Float32Array(160_000);
  // 67 steps of 250 ms are more than ten seconds.
  await expect(core.hear(ten)).rejects.toBeInstanceOf(TooLong);
  // A short one has three seconds, and being in time forgives.
  expect(await core.hear(new Float32Array(16_000))).toBe("heard");
  await expect(core.hear(ten)).rejects.toBeInstanceOf(TooLong);
  await expect(core.hear(ten)).rejects.toBeInstanceOf(TooSlow);
});

// --- the weights ---

const bytesOf = (words: string) => new TextEncoder().encode(words);
const fileOf = (name: string, words: string): WeightFile => ({
  name,
  bytes: bytesOf(words).length,
  sha256: createHash("sha256").update(words).digest("hex"),
});

let server: Server;
let base: string;
let served: Record<string, string>;
let asked: string[];

beforeEach(async () => {
  served = { "a.bin": "first words", "b.bin": "second" };
  asked = [];
  server = createServer((request, response) => {
    const { pathname } = new URL(request.url ?? "", "http://x");
    asked.push(request.url ?? "");
    const words = served[pathname.split("/").at(-1) ?? ""];
    response.statusCode = words === undefined ? 404 : 200;
    response.end(words ?? "no");
  });
  await new Promise<void>((done) => server.listen(0, "127.0.0.1", done));
  base = `http://127.0.0.1:${(server.address() as AddressInfo).port}/`;
});

afterEach(async () => {
  vi.restoreAllMocks();
  vi.useRealTimers();
  await new Promise((done) => server.close(done));
});

const files = [fileOf("a.bin", "first words"), fileOf("b.bin", "second")];
const get = (shelf: Shelf, wanted = files, onProgress = (_received: number, _bytes: number) => undefined as void) =>
  bring({ base, model: "m", files: wanted, shelf, onProgress });

it("fetches once, keeps by hash, and drops what was kept before", async () => {
  const shelf = inDatabase();
  const progress: number[] = [];
  const found = await get(shelf, files, (received, bytes) => {
    expect(bytes).toBe(17);
    progress.push(received);
  });
  expect(new TextDecoder().decode(found.get("a.bin"))).toBe("first words");
  expect([...progress].sort((a, b) => a - b)).toEqual(progress);
  expect(progress.at(-1)).toBe(17);
  expect(asked).toEqual(files.map((file) => `/${pathOf("m", file)}`));
  await get(shelf);
  expect(asked.length).toBe(2);
  // Another content, another hash: what was kept of it goes.
  served["a.bin"] = "other words";
  const other = fileOf("a.bin", "other words");
  await get(shelf, [other]);
  expect(await shelf.get(pathOf("m", files[0]!))).toBeUndefined();
  expect(await shelf.get(pathOf("m", other))).toBeDefined();
  expect(await shelf.get(pathOf("m", files[1]!))).toBeDefined();
});

it("uses nothing but what has the hash", async () => {
  const none: Shelf = { get: async () => undefined, put: vi.fn(async () => undefined), keepOnly: async () => undefined };
  for (const [words, problem] of [
    ["first wordz", "broken"],
    ["first words and more", "broken"],
    ["first", "fetch"],
  ] as const) {
    served["a.bin"] = words;
    await expect(get(none)).rejects.toMatchObject({ problem });
  }
  delete served["a.bin"];
  await expect(get(none)).rejects.toMatchObject({ problem: "fetch" });
  expect(none.put).not.toHaveBeenCalled();
  // What is kept is checked as well.
  served["a.bin"] = "first words";
  const spoilt: Shelf = { ...none, get: async () => bytesOf("first wordz") };
  expect(new TextDecoder().decode((await get(spoilt)).get("a.bin"))).toBe("first words");
  // A shelf that cannot keep, or cannot be read, costs another fetch.
  const broken: Shelf = { get: () => Promise.reject(new Error("no")), put: () => Promise.reject(new Error("full")), keepOnly: async () => undefined };
  expect((await get(broken)).size).toBe(2);
});

it("believes a realm only what has the form", () => {
  const hash = "ab".repeat(32);
  const good = { name: "encoder.ort", bytes: 5, sha256: hash };
  const bad = [{ ...good, bytes: 1e12 }, { ...good, bytes: 1.5 }, { ...good, bytes: -1 }, { ...good, sha256: hash.toUpperCase() }, { ...good, name: "" }, 5, null];
  expect(filesOf({ data: [{ id: "x" }, { id: "m", files: [good, ...bad] }] }, "m")).toEqual([good]);
  for (const models of [undefined, {}, { data: 5 }, { data: [{ id: "m" }] }]) expect(filesOf(models, "m")).toEqual([]);
});

// --- the page's side of it ---

/** A worker whose answers the test gives. */
class Fake {
  heard: ToEar[] = [];
  ended = false;
  onmessage: (event: { data: FromEar }) => void = () => undefined;
  onerror: (event: { message: string }) => void = () => undefined;
  postMessage(words: ToEar) {
    this.heard.push(words);
  }
  terminate() {
    this.ended = true;
  }
  say(words: FromEar) {
    this.onmessage({ data: words });
  }
}

const OFFERED = ["encoder.ort", "decoder.ort", "tokenizer.bin"].map((name) => fileOf(name, name));

function ear(offered: readonly WeightFile[] = OFFERED) {
  const workers: Fake[] = [];
  const made = new DeviceEar("http://realm/", async () => offered, () => {
    workers.push(new Fake());
    return workers.at(-1) as unknown as Worker;
  });
  const states: EarState["kind"][] = [];
  made.watch(({ kind }) => states.at(-1) !== kind && states.push(kind));
  return { ear: made, workers, states };
}

it("loads once for all who ask, and ends with the last of them", async () => {
  const { ear: made, workers, states } = ear();
  const both = Promise.all([made.acquire(), made.acquire()]);
  await vi.waitFor(() => expect(workers.length).toBe(1));
  expect(workers[0]?.heard).toEqual([{ kind: "load", base: "http://realm/", model: "moonshine-tiny-en", files: OFFERED }]);
  workers[0]?.say({ kind: "progress", received: 1, bytes: 2 });
  workers[0]?.say({ kind: "starting" });
  workers[0]?.say({ kind: "ready", factor: 20 });
  await both;
  const samples = new Float32Array(8);
  const [one, two] = [made.hear(samples), made.hear(samples)];
  await vi.waitFor(() => expect(workers[0]?.heard.length).toBe(3));
  workers[0]?.say({ kind: "heard", id: 2, text: "two" });
  workers[0]?.say({ kind: "unheard", id: 1, message: "late" });
  expect(await two).toBe("two");
  await expect(one).rejects.toMatchObject({ problem: "late" });
  expect(await made.hear(new Float32Array(0))).toBe("");
  made.release();
  expect(workers[0]?.ended).toBe(false);
  made.release();
  expect([workers[0]?.ended, states]).toEqual([true, ["loading", "starting", "ready", "off"]]);
});

it("says why it does not hear, and can be tried again", async () => {
  const { ear: made, workers } = ear([]);
  await expect(made.acquire()).rejects.toMatchObject({ problem: "not served" });
  made.release();
  expect(made.state).toMatchObject({ kind: "failed", problem: "not served" });
  expect(workers.length).toBe(0);

  const slowOne = ear();
  const loading = slowOne.ear.acquire();
  await vi.waitFor(() => expect(slowOne.workers.length).toBe(1));
  slowOne.workers[0]?.say({ kind: "failed", problem: "slow", message: "slow" });
  await expect(loading).rejects.toMatchObject({ problem: "slow" });
  expect([slowOne.ear.state.kind, slowOne.workers[0]?.ended]).toEqual(["failed", true]);
  const again = slowOne.ear.load();
  await vi.waitFor(() => expect(slowOne.workers.length).toBe(2));
  slowOne.workers[1]?.say({ kind: "ready", factor: 2 });
  await again;
  expect(slowOne.ear.state.kind).toBe("ready");
});

it("is closed while it loads, and begins anew: nothing of the first comes back", async () => {
  const { ear: made, workers, states } = ear();
  const first = expect(made.acquire()).rejects.toMatchObject({ name: "AbortError" });
  await vi.waitFor(() => expect(workers.length).toBe(1));
  made.release();
  await first;
  expect([workers[0]?.ended, states]).toEqual([true, ["loading", "off"]]);
  const second = made.acquire();
  await vi.waitFor(() => expect(workers.length).toBe(2));
  workers[0]?.say({ kind: "ready", factor: 1 });
  expect(states.at(-1)).toBe("loading");
  workers[1]?.say({ kind: "ready", factor: 20 });
  await second;
  expect(states).toEqual(["loading", "off", "loading", "ready"]);
});

it("closed while the realm is still asked, makes no worker for nobody", async () => {
  const answers: ((files: readonly WeightFile[]) => void)[] = [];
  const workers: Fake[] = [];
  const made = new DeviceEar("http://realm/", () => new Promise((done) => answers.push(done)), () => {
    workers.push(new Fake());
    return workers.at(-1) as unknown as Worker;
  });
  const first = expect(made.acquire()).rejects.toMatchObject({ name: "AbortError" });
  made.release();
  const second = made.acquire();
  for (const answer of answers) answer(OFFERED);
  await first;
  await vi.waitFor(() => expect(workers.length).toBe(1));
  workers[0]?.say({ kind: "ready", factor: 20 });
  await second;
  expect([workers.length, made.state.kind]).toEqual([1, "ready"]);
});

it("goes on for who hears now and then, and ends a minute later", async () => {
  vi.useFakeTimers();
  const { ear: made, workers } = ear();
  const heard = made.hear(new Float32Array(8));
  await vi.advanceTimersByTimeAsync(0);
  workers[0]?.say({ kind: "ready", factor: 20 });
  await vi.advanceTimersByTimeAsync(0);
  // Hands-free, turned on and off meanwhile.
  await made.acquire();
  made.release();
  expect(workers[0]?.ended).toBe(false);
  workers[0]?.say({ kind: "heard", id: 1, text: "one" });
  expect(await heard).toBe("one");
  await vi.advanceTimersByTimeAsync(59_000);
  expect(workers[0]?.ended).toBe(false);
  // Given up before it was loaded, it is not loaded for ever.
  await vi.advanceTimersByTimeAsync(2_000);
  expect([workers[0]?.ended, made.state.kind]).toEqual([true, "off"]);
  const abort = new AbortController();
  const given = expect(made.hear(new Float32Array(8), abort.signal)).rejects.toMatchObject({ name: "AbortError" });
  await vi.advanceTimersByTimeAsync(0);
  abort.abort();
  await given;
  await vi.advanceTimersByTimeAsync(61_000);
  expect([workers[1]?.ended, made.state.kind]).toEqual([true, "off"]);
});

it("tells a script that did not come from one that cannot run", async () => {
  for (const [message, problem] of [["", "fetch"], ["SyntaxError", "unsupported"]] as const) {
    const { ear: made, workers } = ear();
    const loading = expect(made.acquire()).rejects.toMatchObject({ problem });
    await vi.waitFor(() => expect(workers.length).toBe(1));
    workers[0]?.onerror({ message });
    await loading;
  }
});

it("gives up an utterance on a signal, and everything on a worker that hangs", async () => {
  const { ear: made, workers } = ear();
  const loading = made.acquire();
  await vi.waitFor(() => expect(workers.length).toBe(1));
  workers[0]?.say({ kind: "ready", factor: 2 });
  await loading;
  const abort = new AbortController();
  const given = made.hear(new Float32Array(8), abort.signal);
  await vi.waitFor(() => expect(workers[0]?.heard.length).toBe(2));
  abort.abort();
  await expect(given).rejects.toMatchObject({ name: "AbortError" });
  vi.useFakeTimers();
  const hung = made.hear(new Float32Array(8));
  const told = expect(hung).rejects.toMatchObject({ problem: "slow" });
  await vi.advanceTimersByTimeAsync(60_000);
  await told;
  expect([workers[0]?.ended, made.state.kind]).toEqual([true, "failed"]);
});

it("says why it cannot hear, and leaves the visitor's switch as it is", async () => {
  hearHere(true);
  vi.stubGlobal("fetch", async () => Response.json({ data: [{ id: "moonshine-tiny-en" }] }));
  await expect(deviceEar("http://realm/").hear(new Float32Array(8))).rejects.toMatchObject({ problem: "not served" });
  expect(hearsHere()).toBe(true);
  vi.stubGlobal("fetch", () => Promise.reject(new TypeError("no")));
  await expect(deviceEar("http://realm/").hear(new Float32Array(8))).rejects.toMatchObject({ problem: "fetch" });
  expect(hearsHere()).toBe(true);
  hearHere(false);
  vi.unstubAllGlobals();
});
