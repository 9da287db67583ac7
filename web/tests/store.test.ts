import "fake-indexeddb/auto";
import { IDBFactory, IDBObjectStore } from "fake-indexeddb";
import { afterEach, beforeEach, expect, it, vi } from "vitest";
import { newTurn, type Turn } from "../src/lib/conversation";
import { further, stored, type Head } from "../src/lib/stored";
import { Store } from "../src/lib/store";

const HEAD: Head = { id: "c", title: "t", createdAt: 1, changedAt: 1, system: "", temperature: null, model: "", maxTokens: 512, draft: "", queued: [] };
const TURN: Turn = newTurn({ key: "k", question: "q", model: "m", ceiling: undefined, sentAt: 1 });

const opened: Store[] = [];
async function tab() {
  const store = await Store.open();
  opened.push(store);
  return store;
}

beforeEach(() => void vi.stubGlobal("indexedDB", new IDBFactory()));
afterEach(() => {
  for (const store of opened.splice(0)) store.close();
  vi.unstubAllGlobals();
  vi.restoreAllMocks();
});

it("two tabs change what they change, and no more", async () => {
  const [one, two] = [await tab(), await tab()];
  await one.add(HEAD);
  await Promise.all([one.patch("c", { title: "new" }), two.patch("c", { draft: "written" })]);
  expect(await one.head("c")).toMatchObject({ title: "new", draft: "written" });
  await Promise.all([one.put(stored("c", { ...TURN, key: "a" })), two.put(stored("c", { ...TURN, key: "b" }))]);
  expect((await two.turns("c")).map(({ turn }) => turn.key).sort()).toEqual(["a", "b"]);
});

it("a database that opens late keeps what was said until then", async () => {
  const before = await tab();
  // What is to be deleted waits for who has it open, and who comes now waits for that.
  indexedDB.deleteDatabase("mtor");
  const troubles: string[] = [];
  const store = await Store.open("mtor", 20);
  opened.push(store);
  store.onTrouble = (trouble) => troubles.push(trouble);
  expect(store.trouble).toBe("forbidden");
  await store.add(HEAD);
  await store.put(stored("c", { ...TURN, text: "said meanwhile" }));
  before.close();
  await vi.waitFor(() => expect(troubles).toEqual([""]));
  await store.put(stored("c", { ...TURN, seq: 1, text: "said meanwhile, and after" }));
  const other = await tab();
  expect((await other.heads()).map(({ id }) => id)).toEqual(["c"]);
  expect((await other.turn("k"))?.turn.text).toBe("said meanwhile, and after");
});

it("a tab that knows less takes nothing back", async () => {
  const [one, two] = [await tab(), await tab()];
  await one.add(HEAD);
  await one.put(stored("c", { ...TURN, phase: "running", attempt: 1, seq: 9, text: "long" }));
  await two.put(stored("c", { ...TURN, phase: "running", attempt: 1, seq: 4, text: "lo" }));
  expect((await one.turn("k"))?.turn.text).toBe("long");
  await one.put(stored("c", { ...TURN, phase: "completed", attempt: 1, seq: 9, text: "long", replaced: true }));
  await two.put(stored("c", { ...TURN, phase: "running", attempt: 1, seq: 30, text: "longer" }));
  expect((await one.turn("k"))?.turn).toMatchObject({ phase: "completed", replaced: true });
});

it("what one tab has erased the other does not bring back", async () => {
  const [one, two] = [await tab(), await tab()];
  await one.add(HEAD);
  await two.put(stored("c", TURN));
  await one.erase("c");
  await two.put(stored("c", { ...TURN, seq: 3 }));
  await two.patch("c", { title: "again" });
  expect([await one.heads(), await one.turns("c"), await one.open()]).toEqual([[], [], []]);
});

it("a question that waits is sent by one tab", async () => {
  const [one, two] = [await tab(), await tab()];
  await one.add({ ...HEAD, queued: [{ id: "w", question: "q", attached: [] }] });
  const taken = await Promise.all([one.takeQueued("c", "w"), two.takeQueued("c", "w")]);
  expect(taken.sort()).toEqual(["gone", "taken"]);
});

it("says that there is no room, and keeps in memory what it cannot keep", async () => {
  const store = await tab();
  await store.add(HEAD);
  const troubles: string[] = [];
  store.onTrouble = (trouble) => troubles.push(trouble);
  vi.spyOn(IDBObjectStore.prototype, "put").mockImplementation(() => {
    throw new DOMException("no room", "QuotaExceededError");
  });
  await store.put(stored("c", { ...TURN, text: "said" }));
  expect(troubles).toEqual(["full"]);
  expect((await store.turns("c")).map(({ turn }) => turn.text)).toEqual(["said"]);
  vi.restoreAllMocks();
  await store.put(stored("c", { ...TURN, seq: 2, text: "said more" }));
  expect((await (await tab()).turns("c")).map(({ turn }) => turn.text)).toEqual(["said more"]);
});

function noRoom() {
  vi.spyOn(IDBObjectStore.prototype, "put").mockImplementation(() => {
    throw new DOMException("no room", "QuotaExceededError");
  });
}

it("what waits is known, and taken once, where there is no room for it", async () => {
  const store = await tab();
  await store.add({ ...HEAD, queued: [{ id: "kept", question: "q", attached: [] }] });
  noRoom();
  await store.addQueued("c", { id: "new", question: "r", attached: [] });
  await store.patch("c", { title: "changed" });
  expect(await store.head("c")).toMatchObject({ title: "changed", queued: [{ id: "kept" }, { id: "new" }] });
  const taken = [await store.takeQueued("c", "new"), await store.takeQueued("c", "new")];
  expect(taken).toEqual(["taken", "gone"]);
  // It stands where it cannot be taken out of: who asked has the copy to use, once.
  expect([await store.takeQueued("c", "kept"), await store.takeQueued("c", "kept")]).toEqual(["unknown", "gone"]);
  expect((await store.head("c"))?.queued).toEqual([]);
  vi.restoreAllMocks();
  await store.patch("c", { draft: "room again" });
  expect(await (await tab()).head("c")).toMatchObject({ title: "changed", draft: "room again", queued: [] });
});

it("two tabs let questions wait at once", async () => {
  const [one, two] = [await tab(), await tab()];
  await one.add(HEAD);
  await Promise.all([one.addQueued("c", { id: "a", question: "q", attached: [] }), two.addQueued("c", { id: "b", question: "q", attached: [] })]);
  expect((await one.head("c"))?.queued.map(({ id }) => id).sort()).toEqual(["a", "b"]);
});

it("once there is room again, what was in memory is kept, and nothing is said to be in the way", async () => {
  const store = await tab();
  await store.add({ ...HEAD, id: "old" });
  const troubles: string[] = [];
  store.onTrouble = (trouble) => troubles.push(trouble);
  noRoom();
  await store.add(HEAD);
  await store.put(stored("c", { ...TURN, text: "said" }));
  expect(store.trouble).toBe("full");
  vi.restoreAllMocks();
  await store.erase("old");
  expect([store.trouble, troubles.at(-1)]).toEqual(["", ""]);
  const other = await tab();
  expect((await other.heads()).map(({ id }) => id)).toEqual(["c"]);
  expect((await other.turn("k"))?.turn.text).toBe("said");
});

it("of two copies the one that knows more stays", () => {
  const done = stored("c", { ...TURN, phase: "completed", receipt: {} });
  expect(further(done, stored("c", { ...TURN, phase: "completed" }))).toBe(done);
  const lost = stored("c", { ...TURN, phase: "lost" });
  const taken = stored("c", { ...TURN, phase: "running" });
  expect(further(lost, taken)).toBe(taken);
});
