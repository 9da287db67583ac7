import { describe, expect, it } from "vitest";
import { charsBeyond, roomOf } from "../src/lib/context";
import {
  HISTORY_CHARS_MAX,
  HISTORY_MESSAGES_MAX,
  isOver,
  messagesFor,
  newTurn,
  reduce,
  type Turn,
} from "../src/lib/conversation";

type Step = [string, Record<string, unknown>];
const hold = { asset: "grant", amount: "180" };
const cost = { asset: "grant", amount: "42" };
const piece = (content: string, finish: string | null = null) => ({
  choices: [{ index: 0, delta: { content }, finish_reason: finish }],
});
const chunk = (attempt: number, seq: number, content: string): Step => [
  "chunk",
  { intent: "i", attempt, seq, piece: piece(content) },
];
const started = (attempt: number, name = "kestrel"): Step => [
  "started",
  { intent: "i", attempt, worker: { id: `w-${name}`, name }, realm: "home" },
];

function begin(): Turn {
  return newTurn({ key: "1", question: "q", model: "m", ceiling: undefined, sentAt: 0 });
}

function play(steps: Step[], from = begin()): Turn {
  return steps.reduce(
    (turn, [name, data], at) =>
      reduce(turn, { kind: "event", event: { type: `mtor.intent.${name}.v1`, data }, now: at + 1 }),
    from,
  );
}

it("says whose worker answers, in words", () => {
  const of = (worker: object) => play([["started", { intent: "i", attempt: 1, worker: { id: "w", name: "kestrel", ...worker } }]]).whose;
  expect([{}, { owner: "5DJS6QuBhFWM", standing: "own" }, { owner: "5DJS6QuBhFWM", standing: "proven" }, { owner: "5DJS6QuBhFWM", standing: "probation" }].map(of)).toEqual([
    "", "the realm's own", "of 5DJS6QuB, proven", "of 5DJS6QuB, not yet proven",
  ]);
  expect(play([started(1), chunk(1, 0, "a"), ["restarted", { intent: "i", attempt: 1 }]]).whose).toBeUndefined();
});

describe("a turn", () => {
  it("goes from accepted to completed", () => {
    const steps: Step[] = [
      ["accepted", { intent: "i", hold, durable: false }],
      ["queued", { intent: "i", position: 3, eta_ms: 900 }],
      started(1),
      chunk(1, 0, "Hel"),
      chunk(1, 1, "lo"),
      ["completed", { intent: "i", reason: "done", result: null, usage: { units: 7, input: 5, output: 2 }, cost }],
      ["settled", { intent: "i", receipt: { signature: "s" } }],
    ];
    expect(steps.map((_, at) => play(steps.slice(0, at + 1)).phase)).toEqual([
      "accepted",
      "queued",
      "running",
      "running",
      "running",
      "completed",
      "completed",
    ]);
    expect(play(steps)).toMatchObject({
      intent: "i",
      text: "Hello",
      worker: "kestrel",
      realm: "home",
      ceiling: hold,
      cost,
      tokens: 7,
      endedAt: 6,
      position: 3,
      etaMs: 900,
      receipt: { signature: "s" },
    });
  });

  it("takes each piece once, however often a resumed stream repeats it", () => {
    const turn = play([started(1), chunk(1, 0, "a"), chunk(1, 1, "b"), chunk(1, 0, "a"), chunk(1, 1, "b"), chunk(1, 2, "c")]);
    expect(turn.text).toBe("abc");
  });

  it("throws away what the attempt before gave", () => {
    const half = play([started(1), chunk(1, 0, "wrong"), ["restarted", { intent: "i", attempt: 1 }]]);
    expect(half).toMatchObject({ text: "", phase: "queued", restarts: 1 });
    expect(half.worker).toBeUndefined();
    const whole = play([started(2, "merlin"), chunk(1, 1, "late"), chunk(2, 0, "right")], half);
    expect(whole).toMatchObject({ text: "right", worker: "merlin" });
    expect(play([["restarted", { intent: "i", attempt: 1 }]], half).restarts).toBe(1);
  });

  it("lets a later attempt replace an earlier one without a notice too", () => {
    expect(play([chunk(1, 0, "a"), chunk(2, 0, "b")]).text).toBe("b");
  });

  it("ends once", () => {
    const done = play([started(1), chunk(1, 0, "a"), ["completed", { intent: "i", reason: "done", cost }]]);
    const after = play([chunk(1, 1, "b"), ["failed", { code: "MT1", reason: "x" }], started(2)], done);
    expect(after).toEqual(done);
    expect(reduce(done, { kind: "lost", message: "x", now: 9 })).toEqual(done);
    expect(reduce(done, { kind: "stopping" })).toEqual(done);
  });

  it("shows a failure with its code and what came back", () => {
    const turn = play([started(1), ["failed", { intent: "i", code: "MT0025", reason: "gone", refunded: hold }]]);
    expect(turn).toMatchObject({ phase: "failed", problem: { code: "MT0025", message: "gone" }, refunded: hold });
  });

  it.each(["cancelled", "expired"] as const)("%s bills the metered part", (phase) => {
    const rest = { asset: "grant", amount: "138" };
    const turn = play([started(1), chunk(1, 0, "a"), [phase, { intent: "i", usage: { units: 3 }, cost, refunded: rest }]]);
    expect(turn).toMatchObject({ phase, cost, refunded: rest, tokens: 3, text: "a" });
  });

  it("says why an answer was cut", () => {
    const limit = play([["chunk", { attempt: 1, seq: 0, piece: piece("a", "length") }], ["completed", { reason: "done" }]]);
    expect(limit.cut).toBe("length");
    expect(play([chunk(1, 0, "a"), ["completed", { reason: "ceiling" }]]).cut).toBe("ceiling");
  });

  it("takes the whole result where no piece came", () => {
    const result = { choices: [{ message: { content: "whole" } }] };
    expect(play([["completed", { reason: "done", result }]]).text).toBe("whole");
    expect(play([chunk(1, 0, "pieces"), ["completed", { reason: "done", result }]]).text).toBe("pieces");
  });

  it("outlives events it does not know and data of the wrong shape", () => {
    const strange: Step[] = [
      ["mystery", {}],
      ["accepted", { hold: "much" }],
      ["queued", { position: "x" }],
      ["started", { worker: null, realm: 7 }],
      ["chunk", { piece: { choices: "none" } }],
      ["completed", { usage: null, cost: { amount: 5 } }],
    ];
    expect(play(strange)).toMatchObject({ phase: "completed", text: "" });
    expect(play([["started", { attempt: 1, worker: {}, realm: { name: "far" } }]]).realm).toBe("far");
  });

  it("learns its end from the intent's state, also after it was lost", () => {
    const lost = reduce(play([started(1), chunk(1, 0, "half")]), { kind: "lost", message: "gone", now: 9 });
    const ended = { status: "completed", data: { cost, usage: { units: 7 }, result: null }, now: 10 };
    expect(reduce(lost, { kind: "learned", ...ended })).toMatchObject({ phase: "completed", cost, text: "half", cut: "gone" });
    const kept = { ...ended, data: { cost, result: { pieces: [piece("half"), piece(" and whole")] } } };
    const whole = reduce(lost, { kind: "learned", ...kept });
    expect(whole).toMatchObject({ text: "half and whole" });
    expect(whole.cut).toBeUndefined();
    expect(reduce(lost, { kind: "learned", status: "open", data: {}, now: 10 })).toEqual(lost);
    const restarted = reduce(lost, { kind: "learned", status: "failed", data: { code: "MT0026" }, now: 10 });
    expect(restarted).toMatchObject({ phase: "failed", problem: { code: "MT0026", message: "" } });
    const open = reduce(lost, { kind: "taken up" });
    expect(open).toMatchObject({ phase: "running", text: "half", resuming: true });
    expect(isOver(open)).toBe(false);
  });

  it("knows refused, lost, stopping and resuming", () => {
    const problem = { code: "MT0018", message: "slow down", status: 429, retryAfterMs: 4_000 };
    const refused = reduce(begin(), { kind: "refused", problem, now: 5 });
    expect(refused).toMatchObject({ phase: "refused", problem, endedAt: 5 });
    expect(isOver(refused)).toBe(true);
    expect(reduce(begin(), { kind: "lost", message: "gone", now: 5 }).phase).toBe("lost");
    const resuming = reduce(reduce(begin(), { kind: "stopping" }), { kind: "resuming", on: true });
    expect(resuming).toMatchObject({ stopping: true, resuming: true });
    expect(play([chunk(1, 0, "a")], resuming)).toMatchObject({ stopping: true, resuming: false });
  });
});

describe("the messages of the next question", () => {
  const turn = (question: string, text: string, phase: Turn["phase"] = "completed") => ({
    ...begin(),
    question,
    text,
    phase,
  });

  it("are the useful turns, oldest first, then the question", () => {
    const turns = [turn("a", "A"), turn("b", "", "failed"), turn("c", "part", "cancelled"), turn("d", "no", "failed")];
    expect(messagesFor(turns, "now").map((message) => message.content)).toEqual(["a", "A", "c", "part", "now"]);
    expect(messagesFor(turns, "now").map((message) => message.role)).toEqual(["user", "assistant", "user", "assistant", "user"]);
  });

  it("are bounded in number and in characters", () => {
    const many = Array.from({ length: 40 }, (_, at) => turn(`q${at}`, "x"));
    expect(messagesFor(many, "now")).toHaveLength(HISTORY_MESSAGES_MAX + 1);
    expect(messagesFor(many, "now")[0]?.content).toBe("q34");
    const big = [turn("q", "x".repeat(HISTORY_CHARS_MAX)), turn("r", "y")];
    expect(messagesFor(big, "now").map((message) => message.content)).toEqual(["r", "y", "now"]);
  });

  it("are bounded by what the model can read, the answer and the prompt included", () => {
    // Each message of 3 kB takes about a thousand tokens.
    const turns = ["a", "b", "c"].map((name) => turn(name.repeat(1_500), name.repeat(1_500)));
    const kept = (room: number, system = "") => messagesFor(turns, "q".repeat(3_000), system, room).filter(({ role }) => role === "user").length - 1;
    expect([undefined, 16_384, 4_096, 2_048].map((context) => kept(roomOf(context, 512)))).toEqual([2, 2, 2, 0]);
    expect(kept(roomOf(4_096, 2_000))).toBe(1);
    expect(kept(roomOf(4_096, 512), "s".repeat(3_000))).toBe(1);
    // Three bytes, one token.
    expect(messagesFor([turn("水".repeat(1_000), "水".repeat(1_000))], "now", "", 2_000)).toHaveLength(1);
    expect(messagesFor(turns, "q".repeat(90_000), "", 10)).toHaveLength(1);
  });

  it("leave a model of little context something to read", () => {
    expect(roomOf(512, 1_024)).toBe(256);
    expect(charsBeyond("hello", "", roomOf(512, 1_024))).toBe(0);
    expect(charsBeyond("x".repeat(900), "", 256)).toBe(156);
    expect(charsBeyond("水".repeat(300), "", 256)).toBe(52);
    expect(charsBeyond("x", "", roomOf(undefined, 1_024))).toBe(0);
  });
});
