import { afterEach, beforeEach, expect, it, vi } from "vitest";
import { afterUpdate } from "../src/lib/update";

let listeners: (() => Promise<void>)[];
let answers: { give(index: string): void; fail(): void }[];
const again = vi.fn();

beforeEach(() => {
  [listeners, answers] = [[], []];
  again.mockClear();
  vi.stubGlobal("addEventListener", (_: string, listener: () => Promise<void>) => listeners.push(listener));
  vi.stubGlobal("fetch", () => new Promise<Response>((give, fail) => answers.push({ give: (index) => give(new Response(index)), fail: () => fail(new TypeError("failed to fetch")) })));
  afterUpdate("http://realm.test/assets/index-1.js", again);
});
afterEach(() => vi.unstubAllGlobals());

const missed = () => listeners[0]!();

it("asks for the index once at a time, however many parts did not come", async () => {
  const all = [missed(), missed(), missed()];
  expect(answers).toHaveLength(1);
  answers[0]!.fail();
  await Promise.all(all);
  const next = missed();
  expect(answers).toHaveLength(2);
  answers[1]!.give("assets/index-1.js");
  await next;
  expect(again).not.toHaveBeenCalled();
});

it("loads an old page again, once", async () => {
  const all = [missed(), missed()];
  answers[0]!.give("assets/index-2.js");
  await Promise.all(all);
  expect(again).toHaveBeenCalledOnce();
});

it("takes half an index for none, and asks again the next time", async () => {
  vi.stubGlobal("fetch", async () => ({ ok: true, text: () => Promise.reject(new TypeError("network error")) }));
  await missed();
  vi.stubGlobal("fetch", async () => new Response("assets/index-2.js"));
  await missed();
  expect(again).toHaveBeenCalledOnce();
});
