import { afterEach, describe, expect, it } from "vitest";
import { newTurn, reduce, type RealmEvent } from "../src/lib/conversation";
import { follow, TRIES_MAX } from "../src/lib/follow";
import { chatModels, Realm, Refusal, Unreachable, type ChatBody } from "../src/lib/realm";
import { standIn } from "./stand-in.mjs";

type StandIn = Awaited<ReturnType<typeof standIn>>;
const open: StandIn[] = [];
afterEach(async () => {
  for (const server of open.splice(0)) await server.close();
});

async function realmOf(scenario = "ok") {
  const server = await standIn({ scenario, pieceMs: 0 });
  open.push(server);
  let key: string | undefined;
  const realm = new Realm(server.url, () => key);
  const join = async () => {
    const keys = await realm.guest();
    key = keys.api_key;
    return keys;
  };
  return { server, realm, join };
}

const HOLD = { asset: "grant", amount: "180" };
const ask = (content: string): ChatBody => ({
  model: "m",
  messages: [{ role: "user", content }],
  stream: true,
  max_tokens: 64,
});

async function run(realm: Realm, question: string) {
  const events: RealmEvent[] = [];
  let resumed = 0;
  let turn = newTurn({ key: "1", question, model: "m", ceiling: undefined, sentAt: 0 });
  await follow({
    submit: (signal) => realm.submit(ask(question), HOLD, `once-${question}`, signal),
    resume: (intent, lastId, signal) => realm.resume(intent, lastId, signal),
    onEvent: (event) => {
      events.push(event);
      turn = reduce(turn, { kind: "event", event, now: events.length });
    },
    onResuming: () => (resumed += 1),
    signal: new AbortController().signal,
    sleep: () => Promise.resolve(),
  });
  return { events, turn, resumed };
}

describe("following an intent", () => {
  it("reads a stream to its receipt", async () => {
    const { realm, join } = await realmOf();
    await join();
    const { turn, resumed } = await run(realm, "hello");
    expect(turn).toMatchObject({ phase: "completed", worker: "kestrel", cost: { asset: "grant", amount: "42" } });
    expect(turn.receipt).toBeDefined();
    expect(turn.text).toContain("Merkle tree");
    expect(resumed).toBe(0);
  });

  it("resumes behind the last id after a drop, and loses no piece", async () => {
    const { realm, join, server } = await realmOf();
    await join();
    const whole = await run(realm, "hello");
    const broken = await run(realm, "drop");
    expect(broken.turn.text).toBe(whole.turn.text);
    expect(broken.resumed).toBe(1);
    expect(broken.events.length).toBe(whole.events.length);
    expect(server.calls.filter((call) => call === "POST /v1/intents")).toHaveLength(2);
  });

  it("keeps only the last attempt", async () => {
    const { realm, join } = await realmOf();
    await join();
    const { turn } = await run(realm, "restart");
    expect(turn.restarts).toBe(1);
    expect(turn.text).not.toContain("thrown away");
  });

  it("hands a refusal on with its code and its wait", async () => {
    const { realm, join } = await realmOf();
    await join();
    const refusal = await run(realm, "refuse").catch((cause: unknown) => cause);
    expect(refusal).toBeInstanceOf(Refusal);
    expect((refusal as Refusal).problem).toMatchObject({ code: "MT0018", status: 429, retryAfterMs: 4_000 });
  });

  it("gives up after a bounded number of connections that bring nothing", async () => {
    let calls = 0;
    const lost = follow({
      submit: () => {
        calls += 1;
        return Promise.reject(new Unreachable("down"));
      },
      resume: () => Promise.reject(new Error("never named")),
      onEvent: () => undefined,
      onResuming: () => undefined,
      signal: new AbortController().signal,
      sleep: () => Promise.resolve(),
    });
    await expect(lost).rejects.toThrow("connection was lost");
    expect(calls).toBe(TRIES_MAX);
  });

  it("gives up on connections that bring the same again and again", async () => {
    const queued = 'event: x\ndata: {"type":"mtor.intent.queued.v1","data":{"intent":"i","position":1}}\n\n';
    const piece = 'id: 1.0\ndata: {"type":"mtor.intent.chunk.v1","data":{"intent":"i"}}\n\n';
    let calls = 0;
    const again = () => {
      calls += 1;
      return Promise.resolve(new Response(queued + piece));
    };
    const lost = follow({
      submit: again,
      resume: again,
      onEvent: () => undefined,
      onResuming: () => undefined,
      signal: new AbortController().signal,
      sleep: () => Promise.resolve(),
    });
    await expect(lost).rejects.toThrow("connection was lost");
    expect(calls).toBe(TRIES_MAX);
  });

  it("does not sleep on when told to stop", async () => {
    const abort = new AbortController();
    const lost = follow({
      submit: () => Promise.reject(new Unreachable("down")),
      resume: () => Promise.reject(new Error("never named")),
      onEvent: () => undefined,
      // Before the first pause of half a second.
      onResuming: () => queueMicrotask(() => abort.abort()),
      signal: abort.signal,
    });
    const began = performance.now();
    await expect(lost).rejects.toThrow("abort");
    expect(performance.now() - began).toBeLessThan(400);
  });

  it("treats a silent stream as dropped, and stops when told to", async () => {
    const abort = new AbortController();
    const silent = follow({
      submit: () => Promise.resolve(new Response(new ReadableStream({}))),
      resume: () => Promise.reject(new Error("never named")),
      onEvent: () => undefined,
      onResuming: () => abort.abort(),
      signal: abort.signal,
      sleep: () => Promise.resolve(),
      silenceMs: 5,
    });
    await expect(silent).rejects.toThrow("abort");
  });

  it("stops listening quietly once the end is known", async () => {
    const end = 'id: 1.0\ndata: {"type":"mtor.intent.completed.v1","data":{"intent":"i"}}\n\n';
    const seen: string[] = [];
    await follow({
      submit: () => Promise.resolve(new Response(`data: not json\n\n${end}`)),
      resume: () => Promise.reject(new Error("not needed")),
      onEvent: (event) => seen.push(event.type),
      onResuming: () => expect.unreachable(),
      signal: new AbortController().signal,
    });
    expect(seen).toEqual(["mtor.intent.completed.v1"]);
  });
});

describe("the realm's answers", () => {
  it("opens a guest account and reads it", async () => {
    const { realm, join } = await realmOf();
    expect((await join()).secret_key).toBeDefined();
    expect(await realm.account()).toMatchObject({ assets: [{ asset: "grant", decimals: 6, balance: "250000" }, { asset: "9000" }], noGrant: undefined });
    expect((await realm.quote(ask("hi"))).ceiling).toMatchObject({ asset: "grant" });
  });

  it("turns a refused key into a refusal with status 401", async () => {
    const { realm } = await realmOf();
    await expect(realm.account()).rejects.toMatchObject({ problem: { status: 401, code: "MT0008" } });
  });

  it("tells no answer from a refusal", async () => {
    const realm = new Realm("http://127.0.0.1:9/", () => undefined);
    await expect(realm.pools()).rejects.toBeInstanceOf(Unreachable);
  });

  it("makes one line a model of several pools, and takes chat pools only", () => {
    const pool = (model: string, more: object) => ({ intent: "chat", model, price: { amount: "9", per: 1000, unit: "token" }, slots: 2, busy: 1, depth: 4, eta_ms: 50, ...more });
    const models = chatModels({ items: [pool("a", {}), pool("a", { trust: "own", eta_ms: 10 }), pool("b", { slots: 0 }), pool("c", { intent: "embed" }), null, pool("d", { price: null })] });
    expect(models).toMatchObject([{ id: "a", slots: 4, busy: 2, depth: 8, etaMs: 10 }, { id: "b", slots: 0 }]);
    expect(chatModels("nonsense")).toEqual([]);
    const asks = (amount: string) => pool("a", { price: { amount, per: 1000, unit: "token" } });
    const [cheapest] = chatModels({ items: [asks("10"), asks("9"), asks("11")] });
    expect(cheapest?.price).toEqual({ amount: "9", per: 1000, unit: "token" });
  });
});
