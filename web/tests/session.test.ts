import { afterEach, beforeEach, expect, it, vi } from "vitest";
import { isOver } from "../src/lib/conversation";
import { forgetKeys } from "../src/lib/keys";
import { QUESTION_CHARS_MAX, Session } from "../src/lib/session.svelte";
import { standIn } from "./stand-in.mjs";

let server: Awaited<ReturnType<typeof standIn>>;
let session: Session;

beforeEach(async () => {
  for (const name of ["localStorage", "sessionStorage"]) vi.stubGlobal(name, storage());
  vi.stubGlobal("document", { visibilityState: "hidden" });
  forgetKeys();
  server = await standIn({ pieceMs: 1 });
  session = new Session(server.url);
  session.reconnect();
  await vi.waitFor(() => expect(session.link).toBe("ready"));
});

afterEach(async () => {
  vi.unstubAllGlobals();
  await server.close();
});

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
  expect(session.keys?.secret_key).toBeDefined();
  expect(session.draft).toBe("");
});

it("shows the quote's price, and what is asked at least only where there is no quote", async () => {
  expect(session.fromPrice(session.chosen!)).toBe("from 0.0001 grant per 1M tokens");
  session.draft = "hello";
  session.draftChanged();
  await vi.waitFor(() => expect(session.quote).toBeDefined());
  const { fetch } = globalThis;
  vi.stubGlobal("fetch", async (url: URL, init: RequestInit) => {
    const response = await fetch(url, init);
    if (url.pathname !== "/v1/quote") return response;
    return Response.json({ ...(await response.json()), ceiling: "999000" });
  });
  session.draft = "hello again";
  session.draftChanged();
  await vi.waitFor(() => expect(session.quote?.ceiling.amount).toBe("999000"));
  expect(session.tooLow).toBe(true);
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
  session.turns = [{ ...session.turns[0]!, phase: "lost" }];
  session.draft = "what I was writing";
  await session.again(session.turns[0]!);
  await vi.waitFor(() => expect(session.current?.phase).toBe("running"), 5_000);
  expect(posts()).toBe(1);
  expect(session.draft).toBe("what I was writing");
  session.stop();
  await over();
}, 10_000);

it("finds the answer and its bill again when the page is loaded again", async () => {
  await ask("slow restart");
  await vi.waitFor(() => expect(session.current?.phase).toBe("running"), 5_000);
  const { intent } = session.current!;
  const next = new Session(server.url);
  next.takeUpOpen();
  expect(next.current).toMatchObject({ intent, question: "", resuming: true });
  await vi.waitFor(() => expect(next.current?.text).not.toBe(""), 5_000);
  next.stop();
  await vi.waitFor(() => expect(next.current).toMatchObject({ phase: "cancelled", cost: { amount: "9" } }), 5_000);
  expect(posts()).toBe(1);
  await over();
  await vi.waitFor(() => expect(sessionStorage.getItem("mtor.open")).toBeNull());
  const later = new Session(server.url);
  later.takeUpOpen();
  expect(later.turns).toEqual([]);
}, 10_000);

it("asks anew what was over, and keeps what was being written", async () => {
  await ask("fail");
  expect(await over()).toMatchObject({ phase: "failed", problem: { code: "MT0025" } });
  session.draft = "what I was writing";
  await session.again(session.turns[0]!);
  await over();
  expect(posts()).toBe(2);
  expect(session.turns.map((turn) => turn.question)).toEqual(["fail", "fail"]);
  expect(session.draft).toBe("what I was writing");
});

it("gives no key up for another one", async () => {
  await ask("hello");
  await over();
  const first = session.keys;
  server.revoke();
  await session.refreshAccount();
  expect(session.keyRefused).toBe(true);
  session.reconnect();
  await vi.waitFor(() => expect(session.link).toBe("ready"));
  server.cut(true);
  await session.newGuest();
  expect(session.keys).toEqual(first);
  expect(session.guestProblem).toBeDefined();
  server.cut(false);
  await session.newGuest();
  expect(session.keyRefused).toBe(false);
  expect(session.keys?.account).not.toBe(first?.account);
  expect(session.former).toEqual([first]);
});

it("neither prices nor sends a question that is too long, and cuts nothing off", async () => {
  const long = "x".repeat(QUESTION_CHARS_MAX);
  session.draft = `${long}yz`;
  session.draftChanged();
  expect(session.excess).toBe(2);
  expect(session.quoting).toBe(false);
  await session.ask();
  expect(session.turns).toEqual([]);
  expect(server.calls).not.toContain("POST /v1/quote");
  await ask(` ${long} `);
  expect((await over())?.question).toBe(long);
});

it("takes a kept key back, and says what is wrong with a bad one", async () => {
  await ask("hello");
  await over();
  const first = session.keys!;
  session.forget();
  expect(await session.useKey("mtor_nonsense")).toMatchObject({ status: 401 });
  expect(session.keys).toBeUndefined();
  expect(await session.useKey(first.api_key)).toBeUndefined();
  expect(session.keys?.account).toBe(first.account);
});
