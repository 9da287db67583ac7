import "fake-indexeddb/auto";
import { IDBFactory } from "fake-indexeddb";
import { afterEach, beforeEach, expect, it, vi } from "vitest";
import { isOver } from "../src/lib/conversation";
import { Desk } from "../src/lib/desk.svelte";
import { forgetKeys } from "../src/lib/keys";
import { Session } from "../src/lib/session.svelte";
import { Store } from "../src/lib/store";
import { actsOf } from "../src/lib/voice/acts";
import type { Acts } from "../src/lib/voice/hands-free.svelte";
import { standIn } from "./stand-in.mjs";

let server: Awaited<ReturnType<typeof standIn>>;
let store: Store;
let session: Session;
let acts: Acts;
let atOnce: boolean;
let shown: string[];
let read: string[];

beforeEach(async () => {
  for (const name of ["localStorage", "sessionStorage"]) {
    const kept = new Map<string, string>();
    vi.stubGlobal(name, { getItem: (key: string) => kept.get(key) ?? null, setItem: (key: string, value: string) => kept.set(key, value), removeItem: (key: string) => kept.delete(key) });
  }
  vi.stubGlobal("document", { visibilityState: "hidden" });
  vi.stubGlobal("indexedDB", new IDBFactory());
  forgetKeys();
  server = await standIn({ pieceMs: 1 });
  store = await Store.open();
  session = new Session(server.url, Promise.resolve(store));
  session.line.reconnect();
  await vi.waitFor(() => expect(session.line.state).toBe("ready"));
  [atOnce, shown, read] = [true, [], []];
  const desk = new Desk(server.url, session.wallet);
  await desk.refresh();
  await vi.waitFor(() => expect(session.line.serves("speak")).toBe(true));
  const voice = { speaking: false, read: ({ text }: { text: string }) => void read.push(text), stop: () => void read.push("silence") };
  acts = actsOf({ session, desk, voice, atOnce: () => atOnce, show: (id) => (shown.push(id), void session.talks.show(id)) });
});

afterEach(async () => {
  store.close();
  vi.unstubAllGlobals();
  await server.close();
});

const over = () => vi.waitFor(() => expect(session.current && isOver(session.current)).toBe(true), 5_000);

it("asks what was heard, and reads the answer again", async () => {
  expect(await acts.command({ kind: "repeat" })).toMatchObject({ said: "There is no answer yet." });
  expect((await acts.question("what is a ring?")).said).toBe("Asked.");
  expect(session.current?.question).toBe("what is a ring?");
  await over();
  await acts.command({ kind: "repeat" });
  acts.called();
  expect([read[0]?.includes("Merkle"), read[1]]).toEqual([true, "silence"]);
  // Where nobody speaks it says so, and reads nothing.
  session.line.offers = new Map();
  expect((await acts.command({ kind: "repeat" })).said).toBe("This realm reads nothing aloud now.");
  expect(read.length).toBe(2);
});

it("stops the answer of a question that was asked, as long as it comes", async () => {
  const done = await acts.question("slow one");
  expect([done.said, done.undoable?.()]).toEqual(["Asked.", true]);
  expect(await done.undo?.()).toBe("The answer is stopped.");
  await over();
  expect([session.current?.phase, done.undoable?.()]).toEqual(["cancelled", false]);
});

it("sends nothing that stood in the box before somebody called", async () => {
  const file = { name: "a.txt", text: "private" };
  for (const stands of [() => (session.draft = "a private sentence"), () => (session.talk.attached = [file])]) {
    stands();
    const done = await acts.question("what time is it?");
    expect([done.said, session.turns.length]).toEqual(["In the box: something stood there already. Say “send” to ask it all.", 0]);
    expect(session.draft).toMatch(/what time is it\?$/);
    await done.undo?.();
    expect(session.draft).toBe(session.talk.attached.length > 0 ? "" : "a private sentence");
    session.endEdit();
  }
  await acts.question("hello");
  await over();
  const [turn] = session.turns;
  if (!turn) throw new Error("nothing was asked");
  session.edit(turn);
  session.draft = "";
  await acts.question("what time is it?");
  expect([session.turns.length, session.talk.editing]).toEqual([1, turn.key]);
  expect((await acts.command({ kind: "send" })).said).toBe("Asked.");
  await over();
});

it("takes a waiting question back with its files, and gives both back", async () => {
  const file = { name: "a.txt", text: "private" };
  await acts.question("slow one");
  session.draft = "about this file";
  session.talk.attached = [file];
  await acts.command({ kind: "send" });
  expect(session.talk.queued.length).toBe(1);
  const done = await acts.command({ kind: "cancel" });
  expect([session.draft, session.talk.attached, session.talk.queued.length]).toEqual(["", [], 0]);
  expect((await acts.question("another one")).said).toBe("It waits for the answer before.");
  expect(session.talk.queued[0]?.attached).toEqual([]);
  await done.undo?.();
  expect([session.draft, session.talk.attached]).toEqual(["about this file", [file]]);
  await acts.command({ kind: "cancel" });
  await acts.command({ kind: "stop" });
});

it("takes back what is still being priced", async () => {
  let asked: Awaited<ReturnType<Acts["question"]>> | undefined;
  let price = () => undefined as void;
  const waits = new Promise<void>((done) => (price = done));
  const real = fetch;
  vi.stubGlobal("fetch", async (...given: Parameters<typeof fetch>) => {
    if (String(given[0]).includes("/v1/quote")) await waits;
    return real(...given);
  });
  const asking = acts.question("what is a ring?").then((done) => (asked = done));
  await vi.waitFor(() => expect(session.pricing).toBe(true));
  const stopped = await acts.command({ kind: "stop" });
  price();
  await asking;
  expect([stopped.said, asked?.said, session.turns.length, session.draft]).toEqual(["Not asked.", "Not asked.", 0, ""]);
  await stopped.undo?.();
  expect(session.draft).toBe("what is a ring?");
});

it("leaves it in the box where that is wished, until it is sent or taken out", async () => {
  atOnce = false;
  session.draft = "Now:";
  const done = await acts.question("what is a ring?");
  expect([session.draft, session.turns.length, done.undoable?.()]).toEqual(["Now: what is a ring?", 0, true]);
  await done.undo?.();
  expect(session.draft).toBe("Now:");
  // Written on meanwhile, it is the visitor's own.
  const again = await acts.question("what is a ring?");
  session.draft += " Or two?";
  expect(again.undoable?.()).toBe(false);
  expect((await acts.command({ kind: "send" })).said).toBe("Asked.");
  expect([session.draft, session.current?.question]).toEqual(["", "Now: what is a ring? Or two?"]);
  await over();
  expect((await acts.command({ kind: "send" })).said).toContain("nothing in the box");
});

it("takes back a question that waits, as long as it does", async () => {
  await acts.question("slow one");
  const done = await acts.question("the next one");
  expect([done.said, session.talk.queued.length, done.undoable?.()]).toEqual(["It waits for the answer before.", 1, true]);
  await done.undo?.();
  expect([session.draft, session.talk.queued.length, done.undoable?.()]).toEqual(["the next one", 0, false]);
  // Cancel empties the box first, then ends the answer.
  const cancelled = await acts.command({ kind: "cancel" });
  expect(session.draft).toBe("");
  await cancelled.undo?.();
  expect(session.draft).toBe("the next one");
  await acts.command({ kind: "cancel" });
  expect((await acts.command({ kind: "cancel" })).said).toBe("The answer is cancelled.");
  await over();
  expect(session.current?.phase).toBe("cancelled");
  expect((await acts.command({ kind: "cancel" })).said).toBe("There is nothing to cancel.");
  expect((await acts.command({ kind: "stop" })).said).toBe("Silence.");
});

it("opens a new conversation, and goes back", async () => {
  expect((await acts.command({ kind: "new conversation" })).said).toBe("This conversation is new.");
  await acts.question("hello");
  await over();
  const before = session.talk.id;
  const done = await acts.command({ kind: "new conversation" });
  await vi.waitFor(() => expect(session.talk.id).not.toBe(before));
  await done.undo?.();
  expect(shown).toEqual(["", before]);
  await vi.waitFor(() => expect(session.talk.id).toBe(before));
});

it("asks an intent that takes a text, for what it costs, and stops it", async () => {
  const intent = acts.intents().find((name) => name !== "chat");
  if (intent === undefined) throw new Error("the stand-in serves no intent that takes a text");
  expect(acts.intents()).toContain("chat");
  const done = await acts.command({ kind: "ask", intent, text: "hello there" });
  expect(done.said).toBe(`${intent} is asked.`);
  expect(server.calls).toContain("POST /v1/quote");
  expect((await acts.command({ kind: "ask", intent: "nobody", text: "x" })).said).toBe("nobody takes no text.");
  expect((await acts.command({ kind: "ask", intent: "chat", text: "who are you?" })).said).toBe("Asked.");
  await over();
});
