import "fake-indexeddb/auto";
import { IDBDatabase, IDBFactory, IDBObjectStore } from "fake-indexeddb";
import { afterEach, beforeEach, expect, it, vi } from "vitest";
import { isOver } from "../src/lib/conversation";
import { forgetKeys } from "../src/lib/keys";
import { QUESTION_CHARS_MAX, Session } from "../src/lib/session.svelte";
import { fromJson, toJson, toMarkdown } from "../src/lib/stored";
import { Store } from "../src/lib/store";
import { standIn } from "./stand-in.mjs";

let server: Awaited<ReturnType<typeof standIn>>;
let session: Session;
const opened: Store[] = [];

beforeEach(async () => {
  for (const name of ["localStorage", "sessionStorage"]) vi.stubGlobal(name, storage());
  vi.stubGlobal("document", { visibilityState: "hidden" });
  vi.stubGlobal("indexedDB", new IDBFactory());
  forgetKeys();
  server = await standIn({ pieceMs: 1 });
  session = new Session(server.url, tab());
  session.line.reconnect();
  await vi.waitFor(() => expect(session.line.state).toBe("ready"));
});

afterEach(async () => {
  // Closed, it does not come back with the storage of the next test.
  for (const store of opened.splice(0)) store.close();
  vi.restoreAllMocks();
  vi.unstubAllGlobals();
  await server.close();
});

async function tab() {
  const store = await Store.open();
  opened.push(store);
  return store;
}

function storage() {
  const kept = new Map<string, string>();
  return {
    getItem: (name: string) => kept.get(name) ?? null,
    setItem: (name: string, value: string) => void kept.set(name, value),
    removeItem: (name: string) => void kept.delete(name),
  };
}

async function ask(question: string) {
  session.draft = question;
  await session.ask();
}

async function over() {
  await vi.waitFor(() => expect(session.current && isOver(session.current)).toBe(true), 5_000);
  return session.current;
}

const posts = () => server.calls.filter((call) => call === "POST /v1/intents").length;

it("asks with the price that was shown, and opens an account for it", async () => {
  const sent: string[] = [];
  const { fetch } = globalThis;
  vi.stubGlobal("fetch", (url: URL, init: RequestInit) => {
    if (init.method === "POST" && url.pathname === "/v1/intents") sent.push(String(init.body));
    return fetch(url, init);
  });
  await ask("hello");
  const shown = session.current?.ceiling;
  expect(await over()).toMatchObject({ phase: "completed", cost: { amount: "42" } });
  expect(sent.map((body) => JSON.parse(body).ceiling)).toEqual([shown?.amount]);
  expect(session.wallet.keys?.secret_key).toBeDefined();
  expect(session.draft).toBe("");
});

it("asks a question whose price is wanted once more while it is being asked for", async () => {
  const { fetch } = globalThis;
  vi.stubGlobal("fetch", async (url: URL, init: RequestInit) => {
    const response = await fetch(url, init);
    if (url.pathname === "/v1/quote") await new Promise((done) => setTimeout(done, 600));
    return response;
  });
  session.draft = "hello";
  const asking = session.ask();
  // As a new account does, which another part of the page has opened.
  session.price.soon(() => session.asBody("hello"));
  await asking;
  expect(session.turns.map(({ question }) => question)).toEqual(["hello"]);
  expect(server.calls.filter((call) => call === "POST /v1/quote")).toHaveLength(1);
});

it("shows the quote's price, and what is asked at least only where there is no quote", async () => {
  expect(session.fromPrice(session.chosen!)).toBe("from 0.0001 grant per 1M tokens");
  session.draft = "hello";
  session.draftChanged();
  await vi.waitFor(() => expect(session.price.quote).toBeDefined());
  const { fetch } = globalThis;
  vi.stubGlobal("fetch", async (url: URL, init: RequestInit) => {
    const response = await fetch(url, init);
    if (url.pathname !== "/v1/quote") return response;
    return Response.json({ ...(await response.json()), ceiling: "999000" });
  });
  session.draft = "hello again";
  session.draftChanged();
  await vi.waitFor(() => expect(session.price.quote?.ceiling.amount).toBe("999000"));
  expect(session.price.tooLow).toBe(true);
});

it("tells what an answer cost whose events are gone", async () => {
  await ask("gone");
  expect(await over()).toMatchObject({ phase: "completed", cost: { amount: "42" }, cut: "gone" });
});

it("never says that nothing was charged for what the realm had taken", async () => {
  await ask("vanish");
  const turn = await over();
  expect(turn).toMatchObject({ phase: "lost" });
  expect(turn?.text).not.toBe("");
});

it("says that a refused price was refused", async () => {
  await ask("dear");
  expect(await over()).toMatchObject({ phase: "refused", problem: { code: "MT0013", status: 402 } });
});

it("stops a question also where the connection is down at that moment", async () => {
  await ask("slow");
  await vi.waitFor(() => expect(session.current?.phase).toBe("running"), 5_000);
  server.cut(true);
  session.stop();
  await vi.waitFor(() => expect(session.current?.resuming).toBe(true));
  expect(session.current?.stopping).toBe(true);
  server.cut(false);
  expect(await over()).toMatchObject({ phase: "cancelled", cost: { amount: "9" } });
}, 10_000);

it("takes a lost question up again instead of paying for a second one", async () => {
  await ask("slow drop");
  await vi.waitFor(() => expect(session.current?.phase).toBe("running"), 5_000);
  // As if all its tries had failed.
  session.talk.put({ ...session.turns[0]!, phase: "lost" });
  session.draft = "what I was writing";
  await session.again(session.turns[0]!);
  await vi.waitFor(() => expect(session.current?.phase).toBe("running"), 5_000);
  expect(posts()).toBe(1);
  expect(session.draft).toBe("what I was writing");
  session.stop();
  await over();
}, 10_000);

/** As a page that is loaded again: nothing is left but what the browser keeps. */
async function another() {
  const next = new Session(server.url, tab());
  next.line.reconnect();
  await vi.waitFor(() => expect(next.line.state).toBe("ready"));
  await next.talks.refreshHeads();
  return next;
}

it("finds question, answer and bill again when the page is loaded again, also midway", async () => {
  await ask("slow restart");
  await vi.waitFor(() => expect(session.current?.phase).toBe("running"), 5_000);
  const { intent } = session.current!;
  const next = await another();
  await next.talks.takeUpOpen();
  expect(next.talks.heads.map(({ title }) => title)).toEqual(["slow restart"]);
  expect(await next.talks.show(session.talk.id)).toBe(true);
  expect(next.current).toMatchObject({ intent, question: "slow restart" });
  await vi.waitFor(() => expect(next.current?.text).not.toBe(""), 5_000);
  next.stop();
  await vi.waitFor(() => expect(next.current).toMatchObject({ phase: "cancelled", cost: { amount: "9" } }), 5_000);
  expect(posts()).toBe(1);
  await over();
}, 10_000);

it("takes up every open question of every conversation", async () => {
  await ask("slow one");
  await vi.waitFor(() => expect(session.current?.phase).toBe("running"), 5_000);
  const first = session.talk.id;
  await session.talks.show("");
  await ask("slow two");
  await vi.waitFor(() => expect(session.current?.phase).toBe("running"), 5_000);
  expect(session.talks.running.size).toBe(2);
  const next = await another();
  await next.talks.takeUpOpen();
  expect([...next.talks.running].sort()).toEqual([first, session.talk.id].sort());
  for (const id of [first, session.talk.id]) {
    await next.talks.show(id);
    next.stop();
    await vi.waitFor(() => expect(next.current?.phase).toBe("cancelled"), 5_000);
  }
  expect(posts()).toBe(2);
}, 15_000);

it("asks only once what a page that went away had sent without hearing of it", async () => {
  const { fetch } = globalThis;
  // The answer to the submission never reaches the page.
  vi.stubGlobal("fetch", async (url: URL, init: RequestInit) => {
    const response = await fetch(url, init);
    return init.method === "POST" && url.pathname === "/v1/intents" ? new Promise(() => undefined) : response;
  });
  await ask("hello");
  await vi.waitFor(() => expect(posts()).toBe(1));
  vi.stubGlobal("fetch", fetch);
  const next = await another();
  await next.talks.takeUpOpen();
  await next.talks.show(session.talk.id);
  await vi.waitFor(() => expect(next.current).toMatchObject({ phase: "completed", question: "hello" }), 5_000);
  expect(posts()).toBe(2);
  expect(server.intents()).toBe(1);
}, 10_000);

it("lets a question wait for the answer before it, and gives it back", async () => {
  await ask("slow");
  await vi.waitFor(() => expect(session.current?.phase).toBe("running"), 5_000);
  await ask("second");
  await ask("third");
  expect(session.talk.queued.map(({ question }) => question)).toEqual(["second", "third"]);
  await session.takeBack(session.talk.queued[1]!.id);
  expect(session.draft).toBe("third");
  // Stopped, what waits is held until its owner says so.
  session.stop();
  await vi.waitFor(() => expect(session.talk.held).toBe(true), 5_000);
  expect(session.turns).toHaveLength(1);
  await session.sendQueued();
  await vi.waitFor(() => expect(session.turns.map(({ question }) => question)).toEqual(["slow", "second"]));
  await over();
  expect(session.talk.queued).toEqual([]);
}, 10_000);

it.each([
  ["full", () => vi.spyOn(IDBObjectStore.prototype, "put"), "QuotaExceededError"],
  ["closed by the browser", () => vi.spyOn(IDBDatabase.prototype, "transaction"), "InvalidStateError"],
] as const)("loses no question that waits where the storage is %s", async (_, spy, name) => {
  await ask("slow");
  await vi.waitFor(() => expect(session.current?.phase).toBe("running"), 5_000);
  await ask("before");
  await ask("taken back");
  spy().mockImplementation(() => {
    throw new DOMException("refused", name);
  });
  await ask("after");
  await ask("after that");
  const waits = () => session.talk.queued.map(({ question }) => question);
  expect(waits()).toEqual(["before", "taken back", "after", "after that"]);
  await session.takeBack(session.talk.queued[1]!.id);
  await session.takeBack(session.talk.queued[2]!.id);
  expect([session.draft, waits()]).toEqual(["taken back\nafter that", ["before", "after"]]);
  session.stop();
  await vi.waitFor(() => expect(session.talk.held).toBe(true), 5_000);
  await session.sendQueued();
  const asked = () => session.turns.map(({ question, phase }) => [question, phase]);
  await vi.waitFor(() => expect(asked()).toEqual([["slow", "cancelled"], ["before", "completed"], ["after", "completed"]]), 8_000);
  expect(waits()).toEqual([]);
}, 20_000);

/** Two tabs in which a question waits that neither can take out of the storage. */
async function twoWaiting() {
  await ask("hello");
  await over();
  const { id } = session.talk;
  // The tab of the beginning is out of it: it would send what waits as soon as its own answer is settled.
  opened[0]?.close();
  await (await tab()).addQueued(id, { id: "w", question: "restart", attached: [] });
  const both = [await another(), await another()] as const;
  for (const one of both) await one.talks.show(id);
  vi.spyOn(IDBObjectStore.prototype, "put").mockImplementation(() => {
    throw new DOMException("no room", "QuotaExceededError");
  });
  return both;
}

it("two tabs pay once for a question that neither can take out of the storage", async () => {
  const [one, two] = await twoWaiting();
  await Promise.all([one.sendQueued(), two.sendQueued()]);
  for (const next of [one, two]) {
    await vi.waitFor(() => expect(next.turns.map(({ question, phase }) => [question, phase])).toEqual([["hello", "completed"], ["restart", "completed"]]), 5_000);
    expect(next.talk.queued).toEqual([]);
  }
  expect(one.current?.intent).toBe(two.current?.intent);
  expect([posts(), server.intents()]).toEqual([3, 2]);
  vi.restoreAllMocks();
  await one.talks.change(one.talk.id, { title: "there is room" });
  await two.talks.change(one.talk.id, { title: "there is room" });
  const kept = await (await tab()).turns(one.talk.id);
  expect(kept.map(({ turn }) => turn.question)).toEqual(["hello", "restart"]);
}, 10_000);

it("asks in one tab what two would ask in other words", async () => {
  const [one, two] = await twoWaiting();
  await one.sendQueued();
  await vi.waitFor(() => expect(one.current?.phase).toBe("completed"), 5_000);
  two.talk.maxTokens = 128;
  await two.sendQueued();
  await vi.waitFor(() => expect(two.current).toMatchObject({ phase: "refused", problem: { code: "MT0011" } }), 5_000);
  expect(server.intents()).toBe(2);
  // Both have it to keep: the answer stays.
  vi.restoreAllMocks();
  await one.talks.change(one.talk.id, { title: "there is room" });
  await two.talks.change(one.talk.id, { title: "there is room" });
  const kept = await (await tab()).turns(one.talk.id);
  expect(kept.map(({ turn }) => turn.phase)).toEqual(["completed", "completed"]);
}, 10_000);

/** Holds the next call of this method: before it does anything, or when it has all it wanted. */
function held(store: Store, method: "head" | "heads" | "put" | "takeQueued" | "addQueued", when: "before" | "after") {
  let go: () => void = () => undefined;
  const gate = new Promise<void>((open) => (go = open));
  const own = store[method].bind(store) as (...args: unknown[]) => Promise<unknown>;
  const spy = vi.spyOn(store, method as "head").mockImplementationOnce(async (...args) => {
    if (when === "before") await gate;
    const done = await own(...args);
    if (when === "after") await gate;
    return done as never;
  });
  return { spy, go };
}
const pause = () => new Promise((done) => setTimeout(done, 60));

it.each([["full", "before"], ["full", "after"], ["usable", "before"], ["usable", "after"]] as const)(
  "shows no question as waiting that it is asking, whatever it reads meanwhile: storage %s, read %s it is taken", async (storage, order) => {
    const [one] = await twoWaiting();
    if (storage === "usable") vi.restoreAllMocks();
    const [store, id] = [opened.at(-2)!, one.talk.id];
    const shown: string[][] = [];
    const take = one.talk.take.bind(one.talk);
    let begun = false;
    one.talk.take = (head) => (take(head), begun && void shown.push(one.talk.queued.map(({ question }) => question)));
    // Another tab has changed something, and this one reads while it is taking the question out.
    const slow = order === "before" ? [held(store, "takeQueued", "before")] : [held(store, "heads", "after"), held(store, "head", "after")];
    if (order === "after") store.onChange(id);
    const sending = one.sendQueued();
    if (order === "before") await vi.waitFor(() => expect(slow[0]?.spy).toHaveBeenCalled());
    else await vi.waitFor(() => expect(one.turns).toHaveLength(2));
    begun = true;
    if (order === "before") store.onChange(id);
    await pause();
    for (const { go } of slow) go();
    await sending;
    await vi.waitFor(() => expect(one.turns.map(({ question, phase }) => [question, phase])).toEqual([["hello", "completed"], ["restart", "completed"]]), 5_000);
    await pause();
    expect(one.talk.queued).toEqual([]);
    expect(shown.flat()).toEqual([]);
    expect(server.intents()).toBe(2);
  }, 10_000);

it("loses no question from view that it is putting behind the others while it reads", async () => {
  await ask("slow");
  await vi.waitFor(() => expect(session.current?.phase).toBe("running"), 5_000);
  const [store, id] = [opened[0]!, session.talk.id];
  await vi.waitFor(async () => expect(await store.head(id)).toBeDefined());
  const slow = [held(store, "heads", "after"), held(store, "head", "after")];
  store.onChange(id);
  await pause();
  await ask("next");
  for (const { go } of slow) go();
  await pause();
  expect(session.talk.queued.map(({ question }) => question)).toEqual(["next"]);
  session.stop();
  await over();
}, 10_000);

it("keeps a conversation in view whose storage cannot be read when another tab has changed it", async () => {
  await ask("hello");
  await over();
  vi.spyOn(IDBDatabase.prototype, "transaction").mockImplementation(() => {
    throw new DOMException("closed", "InvalidStateError");
  });
  opened[0]!.onChange(session.talk.id);
  await pause();
  expect(session.turns.map(({ question }) => question)).toEqual(["hello"]);
});

/** The storage closes between the head of a conversation and its turns. */
function turnsUnreadable() {
  const own = IDBDatabase.prototype.transaction;
  return vi.spyOn(IDBDatabase.prototype, "transaction").mockImplementation(function (this: IDBDatabase, ...args) {
    if (args[0] === "turns") throw new DOMException("closed", "InvalidStateError");
    return own.apply(this, args);
  });
}

it("empties no conversation in view whose turns cannot be read any more, though its head could", async () => {
  await ask("hello");
  await over();
  const closed = turnsUnreadable();
  opened[0]!.onChange(session.talk.id);
  await vi.waitFor(() => expect(session.talks.trouble).toBe("forbidden"));
  await pause();
  expect(session.turns.map(({ question }) => question)).toEqual(["hello"]);
  closed.mockRestore();
});

it("shows no conversation as empty whose turns cannot be read, and shows it whole when they can", async () => {
  await ask("hello");
  await over();
  const { id } = session.talk;
  await vi.waitFor(async () => expect((await opened[0]!.turn(session.current!.key))?.turn.phase).toBe("completed"));
  await pause();
  await session.talks.show("");
  const closed = turnsUnreadable();
  expect(await session.talks.show(id)).toBe(false);
  closed.mockRestore();
  await vi.waitFor(() => expect(session.talks.trouble).toBe(""), 5_000);
  expect(await session.talks.show(id)).toBe(true);
  expect(session.turns.map(({ question }) => question)).toEqual(["hello"]);
}, 10_000);

it("sees, when its storage is back, what another tab did meanwhile", async () => {
  await ask("hello");
  await over();
  const { id } = session.talk;
  await vi.waitFor(async () => expect((await opened[0]!.turn(session.current!.key))?.turn.phase).toBe("completed"));
  const other = await tab();
  const closed = turnsUnreadable();
  opened[0]!.onChange(id);
  await vi.waitFor(() => expect(session.talks.trouble).toBe("forbidden"));
  await other.patch(id, { title: "renamed" });
  await pause();
  closed.mockRestore();
  await vi.waitFor(() => expect(session.talk.title).toBe("renamed"), 5_000);
}, 10_000);

it("sends what waits as soon as the answer before it is complete", async () => {
  await ask("one");
  await ask("two");
  await ask("three");
  await vi.waitFor(() => expect(session.turns.map(({ question, phase }) => [question, phase])).toEqual(
    [["one", "completed"], ["two", "completed"], ["three", "completed"]]), 8_000);
}, 10_000);

it("keeps aside what an edited question replaces, and sends none of it along", async () => {
  await ask("one");
  await over();
  await ask("two");
  await over();
  session.edit(session.turns[0]!);
  await ask("one, said better");
  await over();
  expect(session.turns.map(({ question }) => question)).toEqual(["one, said better"]);
  expect(session.talk.turns.filter(({ replaced }) => replaced)).toHaveLength(2);
  await session.again(session.current!);
  await over();
  expect(session.turns.map(({ question }) => question)).toEqual(["one, said better"]);
  expect(session.talk.turns).toHaveLength(4);
}, 10_000);

it("sends nothing along that was replaced, whatever it read while it replaced it", async () => {
  const sent: string[] = [];
  const { fetch } = globalThis;
  vi.stubGlobal("fetch", (url: URL, init: RequestInit) => {
    if (init.method === "POST" && url.pathname === "/v1/intents") sent.push(String(init.body));
    return fetch(url, init);
  });
  await ask("one");
  await over();
  const store = opened[0]!;
  await vi.waitFor(async () => expect((await store.turn(session.current!.key))?.turn.phase).toBe("completed"));
  await pause();
  session.edit(session.turns[0]!);
  session.draft = "one, said better";
  const slow = held(store, "put", "before");
  const asking = session.ask();
  await vi.waitFor(() => expect(slow.spy).toHaveBeenCalled());
  store.onChange(session.talk.id);
  await pause();
  slow.go();
  await asking;
  await over();
  await ask("two");
  await over();
  expect(session.turns.map(({ question }) => question)).toEqual(["one, said better", "two"]);
  expect(JSON.parse(sent.at(-1)!).data.messages.map(({ content }: { content: string }) => content)).not.toContain("one");
}, 10_000);

it("takes up nothing again whose end it is keeping, whatever it reads meanwhile", async () => {
  const store = opened[0]!;
  const own = store.put.bind(store);
  let go: () => void = () => undefined;
  const gate = new Promise<void>((open) => (go = open));
  let ending = false;
  vi.spyOn(store, "put").mockImplementation(async (fresh) => {
    if (fresh.turn.phase === "lost") await ((ending = true), gate);
    return own(fresh);
  });
  await ask("vanish");
  await vi.waitFor(() => expect(ending).toBe(true), 5_000);
  const resumed = server.calls.length;
  store.onChange(session.talk.id);
  await pause();
  expect([session.current?.phase, server.calls.length]).toEqual(["lost", resumed]);
  go();
  await pause();
  expect(session.current?.phase).toBe("lost");
}, 10_000);

it("sends the prompt, the temperature and the files of a conversation, and prices them", async () => {
  const sent: string[] = [];
  const { fetch } = globalThis;
  vi.stubGlobal("fetch", (url: URL, init: RequestInit) => {
    if (init.method === "POST" && url.pathname !== "/v1/accounts/guest") sent.push(JSON.stringify(JSON.parse(String(init.body)).data));
    return fetch(url, init);
  });
  await session.talks.change(session.talk.id, { system: "Be brief.", temperature: 0.2 });
  session.talk.attached = [{ name: "a.txt", text: "```\nx" }];
  await ask("what is this?");
  await over();
  const [priced, asked] = sent.map((body) => JSON.parse(body));
  expect(priced).toEqual(asked);
  expect(asked).toMatchObject({
    temperature: 0.2,
    messages: [{ role: "system", content: "Be brief." }, { role: "user", content: "what is this?\n\nFile `a.txt`:\n````\n```\nx\n````" }],
  });
});

it("exports, erases and brings back", async () => {
  await ask("hello");
  await over();
  await vi.waitFor(async () => expect((await session.talks.export())[0]?.turns[0]?.phase).toBe("completed"));
  const all = await session.talks.export();
  expect(toMarkdown(all[0]!)).toContain("## hello");
  await session.talks.erase(session.talk.id);
  expect([session.talks.heads, session.turns]).toEqual([[], []]);
  const back = fromJson(toJson(all));
  if (typeof back === "string") throw new Error(back);
  await session.talks.import(back);
  await session.talks.import(back);
  expect(session.talks.heads.map(({ title }) => title)).toEqual(["hello", "hello"]);
  await session.talks.show(session.talks.heads[0]!.id);
  expect(session.current).toMatchObject({ question: "hello", phase: "completed", cost: { amount: "42" } });
  expect(await session.talks.search("MERKLE")).toHaveProperty("size", 2);
  await session.talks.eraseAll();
  expect(session.talks.heads).toEqual([]);
  expect(fromJson("{}")).toContain("no conversations");
});

it("works in memory where the browser keeps nothing, and says so", async () => {
  vi.stubGlobal("indexedDB", { open: () => { throw new Error("forbidden"); } });
  const next = await another();
  expect(next.talks.trouble).toBe("forbidden");
  next.draft = "hello";
  await next.ask();
  await vi.waitFor(() => expect(next.current?.phase).toBe("completed"), 5_000);
  const { id } = next.talk;
  await next.talks.show("");
  expect(next.turns).toEqual([]);
  await next.talks.show(id);
  expect(next.current?.question).toBe("hello");
});

it("asks anew what was over, and keeps what was being written", async () => {
  await ask("fail");
  expect(await over()).toMatchObject({ phase: "failed", problem: { code: "MT0025" } });
  session.draft = "what I was writing";
  await session.again(session.turns[0]!);
  await over();
  expect(posts()).toBe(2);
  expect(session.turns.map((turn) => turn.question)).toEqual(["fail"]);
  expect(session.talk.turns.map((turn) => turn.replaced === true)).toEqual([true, false]);
  expect(session.draft).toBe("what I was writing");
});

it("gives no key up for another one", async () => {
  await ask("hello");
  await over();
  const first = session.wallet.keys;
  server.revoke();
  await session.wallet.refresh();
  expect(session.wallet.keyRefused).toBe(true);
  session.line.reconnect();
  await vi.waitFor(() => expect(session.line.state).toBe("ready"));
  server.cut(true);
  await session.wallet.newGuest();
  expect(session.wallet.keys).toEqual(first);
  expect(session.wallet.guestProblem).toBeDefined();
  server.cut(false);
  await session.wallet.newGuest();
  expect(session.wallet.keyRefused).toBe(false);
  expect(session.wallet.keys?.account).not.toBe(first?.account);
  expect(session.wallet.former).toEqual([first]);
});

it("neither prices nor sends a question that is too long, and cuts nothing off", async () => {
  const long = "x".repeat(QUESTION_CHARS_MAX);
  session.draft = `${long}yz`;
  session.draftChanged();
  expect(session.excess).toBe(2);
  expect(session.price.quoting).toBe(false);
  await session.ask();
  expect(session.turns).toEqual([]);
  expect(server.calls).not.toContain("POST /v1/quote");
  await ask(` ${long} `);
  expect((await over())?.question).toBe(long);
});

it("sends a model what it can read, and tells before what it may not", async () => {
  const narrow = await standIn({ pieceMs: 1, context: 1_024 });
  try {
    const sent: string[] = [];
    const { fetch } = globalThis;
    vi.stubGlobal("fetch", (url: URL, init: RequestInit) => {
      if (init.method === "POST" && url.pathname === "/v1/intents") sent.push(String(init.body));
      return fetch(url, init);
    });
    session = new Session(narrow.url, tab());
    session.line.reconnect();
    await vi.waitFor(() => expect(session.line.state).toBe("ready"));
    await ask("a question of its own");
    await over();
    await ask("x".repeat(1_400));
    await over();
    // A submission may be said again, under its own key: what it says is looked at, not how often.
    const long = sent.find((body) => body.includes("xxxx"))!;
    const contents = JSON.parse(long).data.messages.map(({ content }: { content: string }) => content.length);
    expect(contents).toEqual([1_400]);
    session.draft = "x".repeat(1_600);
    expect([session.tight, session.excess]).toEqual([90, 0]);
    session.talk.maxTokens = 128;
    expect(session.tight).toBe(0);
  } finally {
    await narrow.close();
  }
}, 10_000);

it("takes a kept key back, and says what is wrong with a bad one", async () => {
  await ask("hello");
  await over();
  const first = session.wallet.keys!;
  session.wallet.forget();
  expect(await session.wallet.useKey("mtor_nonsense")).toMatchObject({ status: 401 });
  expect(session.wallet.keys).toBeUndefined();
  expect(await session.wallet.useKey(first.api_key)).toBeUndefined();
  expect(session.wallet.keys?.account).toBe(first.account);
});
