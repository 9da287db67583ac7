// Sound to words by the realm: what is sent, for at most which price, what of the stream counts.

import { describe, expect, test } from "vitest";
import { Refusal, type Realm } from "../src/lib/realm";
import { ceilingOf } from "../src/lib/voice/ask";
import { RealmEar, type RealmEarNeeds } from "../src/lib/voice/ear";
import { tone } from "./sounds";

const PRICE = { amount: "20", per: 1_000, unit: "millisecond" };

interface Sent {
  intent: string;
  ceiling: string;
  data: Record<string, unknown>;
}

/** A realm that says these events; a function among them runs instead. */
function realmOf(events: ([string, object] | (() => Promise<void>))[], refused?: Refusal) {
  const sent: Sent[] = [];
  const cancelled: string[] = [];
  const realm = {
    async submitWork(body: Sent) {
      sent.push(body);
      if (refused) throw refused;
      const stream = new ReadableStream<Uint8Array>({
        async start(control) {
          for (const event of events) {
            if (typeof event === "function") await event();
            else control.enqueue(new TextEncoder().encode(`data: ${JSON.stringify({ type: `mtor.intent.${event[0]}.v1`, data: { intent: "i1", ...event[1] } })}\n\n`));
          }
          control.close();
        },
      });
      return new Response(stream);
    },
    async resume(): Promise<Response> {
      throw new Error("not resumed");
    },
    async cancel(intent: string) {
      cancelled.push(intent);
    },
  };
  return { realm: realm as unknown as Realm, sent, cancelled };
}

function earOf(realm: Realm, more: Partial<RealmEarNeeds> = {}) {
  return new RealmEar({ realm, pay: async () => ({ asset: "grant" }), price: () => PRICE, ...more });
}

const SECOND = tone(300, 1_000);
const piece = (seq: number, text: string, attempt = 1): [string, object] => ["chunk", { attempt, seq, piece: { start_ms: 0, end_ms: 1, text } }];

describe("the realm's ear", () => {
  test("sends 16 bit samples for at most the price of their length, and gives the words as they come", async () => {
    const { realm, sent } = realmOf([["accepted", {}], piece(0, "What is "), piece(1, "the capital?"), ["completed", { result: { text: "What is the  capital?\n" }, cost: { asset: "grant", amount: "20" } }]]);
    const heard: string[] = [];
    const costs: string[] = [];
    const ear = earOf(realm, { onWords: (words) => heard.push(words), onCost: ({ amount }) => costs.push(amount) });
    expect(await ear.hear(SECOND)).toBe("What is the capital?");
    expect(heard).toEqual(["What is", "What is the capital?"]);
    expect(costs).toEqual(["20"]);
    expect(sent[0]).toMatchObject({ intent: "transcribe", ceiling: "21", data: { format: "pcm16", stream: true } });
    expect(String(sent[0]?.data["audio"]).length).toBe(Math.ceil((16_000 * 2) / 3) * 4);
  });

  test("what came only in pieces is what was said; a piece twice counts once, a void attempt not at all", async () => {
    const { realm } = realmOf([piece(0, "thrown away"), ["restarted", { attempt: 2 }], piece(0, "One", 2), piece(0, "One", 2), piece(1, "two.", 2), ["completed", { result: null }]]);
    expect(await earOf(realm).hear(SECOND)).toBe("One two.");
  });

  test("silence gives nothing, and no sound asks nothing", async () => {
    const { realm, sent } = realmOf([["completed", { result: { text: "", segments: [] } }]]);
    expect(await earOf(realm).hear(new Float32Array())).toBe("");
    expect(sent).toEqual([]);
    expect(await earOf(realm).hear(SECOND)).toBe("");
  });

  test("a refusal and a failure are told as they are", async () => {
    const refusal = new Refusal({ code: "MT0013", message: "the ceiling is below the price", status: 402 });
    await expect(earOf(realmOf([], refusal).realm).hear(SECOND)).rejects.toBe(refusal);
    const failed = realmOf([["accepted", {}], ["failed", { code: "MT0026", reason: "the model ended" }]]);
    await expect(earOf(failed.realm).hear(SECOND)).rejects.toMatchObject({ problem: { code: "MT0026", message: "the model ended" } });
  });

  test("given up it is cancelled on the realm, also where that had not named it yet", async () => {
    for (const before of [true, false]) {
      const abort = new AbortController();
      const give = async () => abort.abort(new Error("enough"));
      const events: Parameters<typeof realmOf>[0] = before ? [["accepted", {}], give] : [give, ["accepted", {}]];
      const { realm, cancelled } = realmOf([...events, async () => void (await new Promise((later) => setTimeout(later, 20)))]);
      await expect(earOf(realm).hear(SECOND, abort.signal)).rejects.toThrow("enough");
      await new Promise((later) => setTimeout(later, 50));
      expect(cancelled).toEqual(["i1"]);
    }
  });
});

test("a ceiling is rounded up, never down", () => {
  expect(ceilingOf(PRICE, 1, "grant").amount).toBe("1");
  expect(ceilingOf(PRICE, 1_000, "grant").amount).toBe("20");
  expect(ceilingOf(PRICE, 1_000.1, "grant").amount).toBe("21");
});
