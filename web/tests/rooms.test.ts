import { afterEach, beforeEach, expect, it, vi } from "vitest";
import type { Turn } from "../src/lib/conversation";
import type { Session } from "../src/lib/session.svelte";
import { nowHandsFree } from "../src/lib/voice/here.svelte";
import { roomsOf } from "../src/lib/voice/rooms";

beforeEach(() => {
  vi.stubGlobal("document", { baseURI: "http://realm/" });
});

afterEach(() => {
  nowHandsFree(false);
  vi.unstubAllGlobals();
});

/** Whether the microphone is opened beside an answer that is read. */
async function opensBeside(handsFree: boolean): Promise<boolean> {
  const session = { hears: false, draft: "", talk: { id: "t" }, wallet: {}, line: { offers: new Map(), serves: () => true } };
  const { reader, settings, voice } = roomsOf(session as unknown as Session);
  settings.interrupts = true;
  nowHandsFree(handsFree);
  reader.read({ key: "k", text: "", phase: "streaming" } as unknown as Turn);
  await Promise.resolve();
  voice.cancel();
  reader.stop();
  return session.hears;
}

it("opens no microphone beside a reading while hands-free listens: what is said without its word goes nowhere", async () => {
  expect(await opensBeside(false)).toBe(true);
  expect(await opensBeside(true)).toBe(false);
});
