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
