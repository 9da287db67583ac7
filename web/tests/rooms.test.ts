import { afterEach, beforeEach, expect, it, vi } from "vitest";
import type { Turn } from "../src/lib/conversation";
import { Line } from "../src/lib/line.svelte";
import type { Realm } from "../src/lib/realm";
import type { Session } from "../src/lib/session.svelte";
import { toldOf } from "../src/lib/told";
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

/** A realm's page whose voice is asked for while `serving` says what there is. */
function restarted(serving: () => string[]) {
  const asked: { intent: string; ceiling: string }[] = [];
  vi.stubGlobal("document", { baseURI: "http://realm/", visibilityState: "visible" });
  vi.stubGlobal("fetch", async (url: URL, init: RequestInit) => {
    if (url.pathname !== "/v1/intents") return new Response(null, { status: 204 });
    const { intent, ceiling } = JSON.parse(String(init.body));
    asked.push({ intent, ceiling });
    const said = [["accepted", {}], ["completed", { result: { text: "some words" } }]] as const;
    return new Response(said.map(([type, data]) => `data: ${JSON.stringify({ type: `mtor.intent.${type}.v1`, data: { intent: "i", ...data } })}\n\n`).join(""));
  });
  const pool = (intent: string) => ({ intent, slots: 1, price: { amount: "20", per: 1_000, unit: "millisecond" } });
  const line = new Line({ pools: async () => ({ items: serving().map(pool) }), told: async () => toldOf({}) } as unknown as Realm);
  const wallet = { ensure: async () => true, purse: { asset: "grant" }, refresh: async () => undefined };
  const session = { hears: false, draft: "", talk: { id: "t" }, wallet, line };
  return { asked, line, ear: roomsOf(session as unknown as Session).ear };
}

it("waits for the price of a voice that is coming back: a press in that time never offers to pay nothing", async () => {
  vi.useFakeTimers();
  try {
    let serving = ["transcribe"];
    const { asked, line, ear } = restarted(() => serving);
    await line.reconnect();
    serving = [];
    await line.reconnect();
    const heard = ear.hear(new Float32Array(16_000));
    await vi.advanceTimersByTimeAsync(3_000);
    expect(asked).toEqual([]);
    serving = ["transcribe"];
    await vi.advanceTimersByTimeAsync(2_000);
    expect(await heard).toBe("some words");
    expect(asked.map(({ intent, ceiling }) => [intent, Number(ceiling) > 0])).toEqual([["transcribe", true]]);
  } finally {
    vi.useRealTimers();
  }
});

it("asks for the price once more where none is known, and says so if there is none", async () => {
  let serving = ["chat"];
  const { asked, line, ear } = restarted(() => serving);
  await line.reconnect();
  await expect(ear.hear(new Float32Array(16_000))).rejects.toMatchObject({ problem: { code: "MT0017", message: expect.stringContaining("hears") } });
  expect(asked).toEqual([]);
  serving = ["transcribe"];
  expect(await ear.hear(new Float32Array(16_000))).toBe("some words");
});
