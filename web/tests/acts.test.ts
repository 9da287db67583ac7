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
  const [intent] = acts.intents().filter((name) => name !== "chat");
  expect(acts.intents()).toContain("chat");
  if (intent) {
    const done = await acts.command({ kind: "ask", intent, text: "hello there" });
    expect(done.said).toBe(`${intent} is asked.`);
    expect(server.calls).toContain("POST /v1/quote");
  }
  expect((await acts.command({ kind: "ask", intent: "nobody", text: "x" })).said).toBe("nobody takes no text.");
  expect((await acts.command({ kind: "ask", intent: "chat", text: "who are you?" })).said).toBe("Asked.");
  await over();
});
