import "fake-indexeddb/auto";
import { forceCloseDatabase, IDBFactory, IDBObjectStore } from "fake-indexeddb";
import { afterEach, beforeEach, expect, it, vi } from "vitest";
import { newTurn, type Turn } from "../src/lib/conversation";
import { further, stored, type Head } from "../src/lib/stored";
import { REOPENS_MAX, Store } from "../src/lib/store";

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
  // What the realm has named for one tab, whatever it refused the other.
  const named = stored("c", { ...TURN, phase: "running", intent: "i" });
  const refused = stored("c", { ...TURN, phase: "refused" });
  expect([further(named, refused), further(refused, named)]).toEqual([named, named]);
  expect(further(refused, stored("c", TURN))).toBe(refused);
});

it("what is said while a move fails is neither lost nor given to two", async () => {
  const store = await tab();
  await store.add({ ...HEAD, id: "old" });
  noRoom();
  await store.add({ ...HEAD, queued: [{ id: "w", question: "q", attached: [] }] });
  vi.restoreAllMocks();
  const { put } = IDBObjectStore.prototype;
  let said: Promise<unknown> | undefined;
  vi.spyOn(IDBObjectStore.prototype, "put").mockImplementation(function (this: IDBObjectStore, value, key) {
    const request = put.call(this, value, key);
    if (value.id === "c" && !said) {
      said = Promise.all([
        store.takeQueued("c", "w"),
        store.addQueued("c", { id: "new", question: "r", attached: [] }),
        store.patch("c", { title: "changed" }),
        store.put(stored("c", { ...TURN, text: "said" })),
      ]);
      this.transaction.abort();
    }
    return request;
  });
  await store.patch("old", { title: "there is room" });
  expect(await said).toEqual(["taken", undefined, undefined, undefined]);
  const all = async (of: Store) => [await of.head("c"), (await of.turns("c")).map(({ turn }) => turn.text)];
  const wanted = [{ title: "changed", queued: [{ id: "new" }] }, ["said"]];
  expect(await all(store)).toMatchObject(wanted);
  await store.patch("old", { title: "and goes on being there" });
  expect(store.trouble).toBe("");
  expect(await all(await tab())).toMatchObject(wanted);
});

it("what is said before it is known that a conversation could not be kept goes with it", async () => {
  const store = await tab();
  await store.add({ ...HEAD, id: "old" });
  const { put } = IDBObjectStore.prototype;
  vi.spyOn(IDBObjectStore.prototype, "put").mockImplementationOnce(function (this: IDBObjectStore, value, key) {
    const request = put.call(this, value, key);
    this.transaction.abort();
    return request;
  });
  await Promise.all([
    store.add(HEAD),
    store.patch("c", { title: "changed" }),
    store.put(stored("c", { ...TURN, text: "said" })),
    store.addQueued("c", { id: "w", question: "q", attached: [] }),
  ]);
  await store.patch("old", { title: "there is room" });
  const other = await tab();
  expect(await other.head("c")).toMatchObject({ title: "changed", queued: [{ id: "w" }] });
  expect((await other.turns("c")).map(({ turn }) => turn.text)).toEqual(["said"]);
});

/** Every connection that is opened from now on, the newest last. */
function connections() {
  const requests: IDBOpenDBRequest[] = [];
  const { open } = IDBFactory.prototype;
  vi.spyOn(IDBFactory.prototype, "open").mockImplementation(function (this: IDBFactory, ...rest) {
    const request = open.apply(this, rest);
    requests.push(request);
    return request;
  });
  return requests;
}

it.each(["says so", "says nothing"])("opens a storage anew that the browser has closed and %s", async (how) => {
  const requests = connections();
  const store = await tab();
  await store.add(HEAD);
  const troubles: string[] = [];
  store.onTrouble = (trouble) => troubles.push(trouble);
  const { result } = requests[0]!;
  if (how === "says so") forceCloseDatabase(result as never);
  else result.close();
  await store.put(stored("c", { ...TURN, text: "said meanwhile" }));
  expect(store.trouble).toBe("forbidden");
  await vi.waitFor(() => expect(troubles.at(-1)).toBe(""), 3_000);
  await store.patch("c", { title: "after" });
  const other = await tab();
  expect(await other.head("c")).toMatchObject({ title: "after" });
  expect((await other.turn("k"))?.turn.text).toBe("said meanwhile");
});

it("opens a storage that is closed again and again less and less often, and then no more", async () => {
  const requests = connections();
  vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout"] });
  try {
    const store = await tab();
    let closed = 0;
    const minutes = async (count: number) => {
      for (let second = 0; second < count * 60; second += 1) {
        await vi.advanceTimersByTimeAsync(1_000);
        await new Promise((done) => setImmediate(done));
        for (const request of requests.slice(closed)) if (request.readyState === "done") forceCloseDatabase(request.result as never), (closed += 1);
      }
    };
    await minutes(1);
    expect(requests.length).toBeLessThan(10);
    await minutes(29);
    expect(requests).toHaveLength(1 + REOPENS_MAX);
    expect(store.trouble).toBe("forbidden");
  } finally {
    vi.useRealTimers();
  }
});
