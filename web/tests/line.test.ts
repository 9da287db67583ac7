// What the page asks of the realm again, and when: above all of a voice that was here before a restart.

import { afterEach, beforeEach, expect, it, vi } from "vitest";
import { Line } from "../src/lib/line.svelte";
import { Unreachable, type Realm } from "../src/lib/realm";
import { toldOf } from "../src/lib/told";

beforeEach(() => {
  vi.useFakeTimers();
  vi.stubGlobal("document", { visibilityState: "visible" });
});
afterEach(() => {
  vi.useRealTimers();
  vi.unstubAllGlobals();
});

const pool = (intent: string) => ({ intent, model: `a ${intent}`, slots: 1, price: { amount: "20", per: 1_000, unit: "millisecond" } });

function stage(...serving: string[]) {
  const realm = { serving, arriving: [] as object[], away: false, asked: 0 };
  const answers = {
    async pools() {
      realm.asked += 1;
      if (realm.away) throw new Unreachable("away");
      return { items: realm.serving.map(pool) };
    },
    told: async () => toldOf({ arriving: realm.arriving }),
  };
  return { realm, line: new Line(answers as unknown as Realm) };
}

async function restarted() {
  const { realm, line } = stage("chat", "speak", "transcribe");
  await line.reconnect();
  realm.away = true;
  await vi.advanceTimersByTimeAsync(20_000);
  expect(line.state).toBe("unreachable");
  realm.away = false;
  realm.serving = ["chat"];
  await line.reconnect();
  expect([line.state, line.serves("speak")]).toEqual(["ready", false]);
  return { realm, line };
}

it("asks again at once for a voice that was here before the realm restarted, whatever is told to be on its way", async () => {
  const { realm, line } = await restarted();
  expect([line.has("speak"), line.has("transcribe"), line.has("other")]).toEqual([true, true, false]);
  realm.serving = ["chat", "speak", "transcribe"];
  await vi.advanceTimersByTimeAsync(1_600);
  expect([line.serves("speak"), line.serves("transcribe"), line.returning.size]).toEqual([true, true, 0]);
});

it("gives up on one that does not come back within a minute, unless it is said to come", async () => {
  const { realm, line } = await restarted();
  realm.arriving = [{ id: "a voice", intent: "speak", state: "starting" }, { id: "an ear", intent: "transcribe", state: "failed" }];
  await vi.advanceTimersByTimeAsync(63_000);
  expect([line.has("speak"), line.has("transcribe")]).toEqual([true, false]);
  realm.arriving = [];
  await vi.advanceTimersByTimeAsync(6_000);
  expect(line.has("speak")).toBe(false);
  const before = realm.asked;
  await vi.advanceTimersByTimeAsync(19_000);
  expect(realm.asked - before).toBeLessThanOrEqual(1);
});

it("asks more often while a voice comes for the first time, and shows nothing of it", async () => {
  const { realm, line } = stage("chat");
  realm.arriving = [{ id: "a voice", intent: "speak", state: "fetching" }];
  await line.reconnect();
  expect([line.has("speak"), line.told.arriving]).toEqual([false, []]);
  realm.serving = ["chat", "speak"];
  await vi.advanceTimersByTimeAsync(5_100);
  expect(line.serves("speak")).toBe(true);
});

const row = (intent: string, model: string | null, standing: string, owner: string, amount = "20", more = {}) => ({
  intent, model, standing, owners: [{ account: owner, standing }], slots: 1, price: { amount, per: 1_000, unit: "token" }, ...more,
});

function lineOf(items: object[], auto = "") {
  const answers = { pools: async () => ({ items }), told: async () => toldOf({ default: { chat: auto } }) };
  return new Line(answers as unknown as Realm);
}

it("never takes a stranger's model by itself, whatever its name or its price", async () => {
  const line = lineOf([row("chat", "aaa@5trangER", "probation", "5trangERxyz", "1"), row("chat", "zoo", "proven", "gooD"), row("chat", "own", "own", "rea1m")]);
  await line.reconnect();
  expect([line.auto?.id, line.models.length]).toEqual(["zoo", 3]);
  const told = lineOf([row("chat", "m@5trangER", "probation", "5trangERxyz"), row("chat", "own", "own", "rea1m"), row("chat", "zoo", "proven", "gooD")], "zoo");
  await told.reconnect();
  expect(told.auto?.id).toBe("zoo");
  const only = lineOf([row("chat", "m@5trangER", "probation", "5trangERxyz")], "m@5trangER");
  await only.reconnect();
  expect(only.auto).toBeUndefined();
  expect(only.models.map(({ id, standing, owner }) => [id, standing, owner])).toEqual([["m@5trangER", "probation", "5trangERxyz"]]);
});

it("offers no button that a stranger would serve, and counts strangers only where nobody else is", async () => {
  const line = lineOf([
    row("speak", "voice@5trangER", "probation", "5trangERxyz"),
    row("words", null, "probation", "5trangERxyz", "1", { trust: "any", slots: 4 }),
    row("sums", "a@5trangER", "probation", "5trangERxyz", "1", { slots: 4 }),
    row("sums", "b", "proven", "gooD", "5"),
    row("sums", "c", "own", "rea1m", "7"),
  ]);
  await line.reconnect();
  expect(["speak", "words", "sums"].map((intent) => line.serves(intent))).toEqual([false, false, true]);
  const told = (intent: string) => {
    const offer = line.offers.get(intent);
    return [offer?.standing, offer?.owners, offer?.any, offer?.slots, offer?.price.amount, offer?.models];
  };
  expect(told("words")).toEqual(["probation", ["5trangERxyz"], true, 4, "1", []]);
  expect(told("sums")).toEqual(["own", ["gooD", "rea1m"], false, 2, "5", ["a@5trangER", "b", "c"]]);
  expect(told("speak")).toEqual(["probation", ["5trangERxyz"], false, 1, "20", ["voice@5trangER"]]);
});
