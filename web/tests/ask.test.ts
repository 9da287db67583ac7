// One intent asked without a form: what leaves the page when it is given up, and what is cancelled.

import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { Unreachable, type Realm } from "../src/lib/realm";
import { askWork } from "../src/lib/voice/ask";

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void (vi.useRealTimers(), vi.unstubAllGlobals()));
const settle = (ms = 0) => vi.advanceTimersByTimeAsync(ms);

/** A realm that is away until the test says otherwise, and whose streams the test writes. */
function stage() {
  const calls: string[] = [];
  const streams: ReadableStreamDefaultController<Uint8Array>[] = [];
  const at = { away: false, deaf: false, slow: undefined as Promise<void> | undefined };
  const stream = async (call: string) => {
    calls.push(call);
    await at.slow;
    if (at.away) throw new Unreachable("away");
    return new Response(new ReadableStream<Uint8Array>({ start: (control) => void streams.push(control) }));
  };
  const realm = {
    fixed: () => realm as unknown as Realm,
    submitWork: () => stream("submit"),
    resume: (intent: string) => stream(`resume ${intent}`),
    async cancel(intent: string) {
      calls.push(`cancel ${intent}`);
      if (at.deaf) throw new Unreachable("away");
    },
  };
  const say = (type: string, data: object = {}) =>
    streams.at(-1)?.enqueue(new TextEncoder().encode(`data: ${JSON.stringify({ type: `mtor.intent.${type}.v1`, data: { intent: "i", ...data } })}\n\n`));
  const abort = new AbortController();
  const log: unknown[] = [];
  const go = () =>
    void askWork(realm as unknown as Realm, { intent: "transcribe", data: {}, ceiling: { asset: "grant", amount: "1" }, signal: abort.signal }).then(
      (result) => log.push(result),
      (why: unknown) => log.push(why instanceof Error ? why.name : why),
    );
  return { calls, streams, at, say, abort, log, go };
}

test("what is over is not cancelled, though its asker has closed behind it", async () => {
  const { calls, say, abort, log, go } = stage();
  go();
  await settle();
  say("accepted");
  say("completed", { result: 7 });
  await settle();
  expect(log).toEqual([7]);
  abort.abort();
  await settle();
  expect(calls).toEqual(["submit"]);
});

test.each([["while it is tried", 0], ["between two tries", 700]])("given up while the realm is away, %s: nothing is sent when it is back", async (_, ms) => {
  const { calls, at, abort, log, go } = stage();
  at.away = true;
  let go_on: () => void = () => undefined;
  if (ms === 0) at.slow = new Promise((done) => (go_on = done));
  go();
  await settle(ms);
  const before = calls.length;
  abort.abort();
  go_on();
  await settle();
  at.away = false;
  await settle(60_000);
  expect(calls.length).toBe(before);
  expect(log).toEqual(["AbortError"]);
});

test("given up while it is on its way: its first event cancels it, and it is not asked again", async () => {
  const { calls, say, abort, go } = stage();
  go();
  await settle();
  abort.abort();
  await settle();
  expect(calls).toEqual(["submit"]);
  say("accepted");
  await settle();
  expect(calls).toEqual(["submit", "cancel i"]);
});

test("given up, and the stream closes before it has a name: it is not sent once more", async () => {
  const { calls, streams, abort, go } = stage();
  go();
  await settle();
  abort.abort();
  streams[0]?.close();
  await settle(60_000);
  expect(calls).toEqual(["submit"]);
});

test("a cancel that did not get through is said again when the realm is back", async () => {
  const { calls, streams, at, say, abort, go } = stage();
  go();
  await settle();
  say("accepted");
  await settle();
  at.deaf = at.away = true;
  streams[0]?.error(new Error("dropped"));
  abort.abort();
  await settle(700);
  at.deaf = at.away = false;
  await settle(10_000);
  expect(calls.slice(0, 2)).toEqual(["submit", "cancel i"]);
  expect(calls.slice(-2)).toEqual(["cancel i", "resume i"]);
});

test("a page that goes away cancels what it has asked", async () => {
  const page = new EventTarget();
  vi.stubGlobal("addEventListener", page.addEventListener.bind(page));
  vi.stubGlobal("removeEventListener", page.removeEventListener.bind(page));
  const { calls, say, go } = stage();
  go();
  await settle();
  say("accepted");
  await settle();
  page.dispatchEvent(new Event("pagehide"));
  expect(calls).toEqual(["submit", "cancel i"]);
  say("completed", { result: 1 });
  await settle();
  page.dispatchEvent(new Event("pagehide"));
  expect(calls).toEqual(["submit", "cancel i"]);
});
