// What the page knows of one question, as a pure function of what the realm sent.
//
// Events may be repeated (a resumed stream) and an attempt may be thrown away (`restarted`); a turn
// ends once and stays ended. Nothing here reads a clock: the time comes with each action.

import type { Money } from "./amount";
import { tokensOf } from "./context";

export type Phase =
  | "sending"
  | "accepted"
  | "queued"
  | "running"
  | "completed"
  | "failed"
  | "cancelled"
  | "expired"
  | "refused"
  | "lost";

export interface Problem {
  code: string;
  /** Empty where the realm told the code alone. */
  message: string;
  /** HTTP status of a refusal; 0 where there was none. */
  status: number;
  retryAfterMs?: number;
  /** The field at fault, as a JSON pointer or its bare name. */
  field?: string;
}

/** A file as text, sent along with a question. */
export interface Attached {
  name: string;
  text: string;
}

export interface Turn {
  key: string;
  question: string;
  attached?: Attached[];
  /** Who asked: nobody else may follow it. */
  account?: string;
  /** Another question, or another answer, stands in its place; it is kept. */
  replaced?: boolean;
  model: string;
  ceiling: Money | undefined;
  phase: Phase;
  text: string;
  /** Milliseconds since 1970, as is `endedAt`. */
  sentAt: number;
  endedAt?: number;
  intent?: string;
  position?: number;
  etaMs?: number;
  attempt: number;
  seq: number;
  worker?: string;
  /** Whose worker that is, in words. */
  whose?: string;
  realm?: string;
  restarts: number;
  /**
   * `length` where the model stopped at the token limit, `ceiling` at the price limit, `gone` where
   * the realm keeps the rest no longer.
   */
  cut?: "length" | "ceiling" | "gone";
  tokens?: number;
  cost?: Money;
  refunded?: Money;
  problem?: Problem;
  receipt?: unknown;
  stopping: boolean;
  resuming: boolean;
}

export interface RealmEvent {
  type: string;
  data: Record<string, unknown>;
}

export type Action =
  | { kind: "event"; event: RealmEvent; now: number }
  | { kind: "refused"; problem: Problem; now: number }
  | { kind: "lost"; message: string; now: number }
  | { kind: "learned"; status: string; data: Record<string, unknown>; now: number }
  | { kind: "taken up" }
  | { kind: "resuming"; on: boolean }
  | { kind: "stopping" };

export interface Message {
  role: "system" | "user" | "assistant";
  content: string;
}

/** Prior turns sent along with a question: at most this many messages and characters. */
export const HISTORY_MESSAGES_MAX = 12;
export const HISTORY_CHARS_MAX = 6_000;
/** Characters of one answer that the page keeps. */
const ANSWER_CHARS_MAX = 400_000;

const OVER: readonly Phase[] = ["completed", "failed", "cancelled", "expired", "refused", "lost"];

export function isOver(turn: Turn): boolean {
  return OVER.includes(turn.phase);
}

export function newTurn(
  start: Pick<Turn, "key" | "question" | "attached" | "account" | "model" | "ceiling" | "sentAt">,
): Turn {
  return {
    ...start,
    phase: "sending",
    text: "",
    attempt: -1,
    seq: -1,
    restarts: 0,
    stopping: false,
    resuming: false,
  };
}

export function reduce(turn: Turn, action: Action): Turn {
  switch (action.kind) {
    case "event":
      return onEvent({ ...turn, resuming: false }, action.event, action.now);
    case "refused":
      return isOver(turn) ? turn : end(turn, "refused", action.now, { problem: action.problem });
    case "lost": {
      const problem = { code: "", message: action.message, status: 0 };
      return isOver(turn) ? turn : end(turn, "lost", action.now, { problem });
    }
    case "learned":
      return onLearned(turn, action.status, action.data, action.now);
    case "taken up": {
      const { problem: _problem, endedAt: _endedAt, ...rest } = turn;
      return { ...rest, phase: turn.text === "" ? "accepted" : "running", resuming: true };
    }
    case "resuming":
      return { ...turn, resuming: action.on && !isOver(turn) };
    case "stopping":
      return isOver(turn) ? turn : { ...turn, stopping: true };
  }
}

function onEvent(turn: Turn, event: RealmEvent, now: number): Turn {
  const name = /^mtor\.intent\.([a-z]+)\.v1$/.exec(event.type)?.[1];
  const data = event.data;
  if (name === "settled") return { ...turn, receipt: data["receipt"] ?? true };
  if (isOver(turn)) return turn;
  switch (name) {
    case "accepted": {
      const hold = money(data["hold"]);
      return { ...forward(turn, "accepted"), ...(hold && { ceiling: hold }), ...ids(data) };
    }
    case "queued":
      return {
        ...forward(turn, "queued"),
        ...ids(data),
        ...count("position", data["position"]),
        ...count("etaMs", data["eta_ms"]),
      };
    case "started":
      return onStarted(turn, data);
    case "chunk":
      return onChunk(turn, data);
    case "restarted":
      return onRestarted(turn, data);
    case "completed":
      return onCompleted(turn, data, now);
    case "failed": {
      const code = text(data["code"]) ?? "";
      const message = text(data["reason"]) ?? "";
      return end(turn, "failed", now, { problem: { code, message, status: 0 }, ...bill(data) });
    }
    case "cancelled":
      return end(turn, "cancelled", now, bill(data));
    case "expired":
      return end(turn, "expired", now, bill(data));
    default:
      return turn;
  }
}

/** The end of an intent whose events are gone, as its state tells it. */
function onLearned(turn: Turn, status: string, data: Record<string, unknown>, now: number): Turn {
  if (isOver(turn) && turn.phase !== "lost") return turn;
  const { problem: _problem, endedAt: _endedAt, ...open } = turn;
  const event = { type: `mtor.intent.${status}.v1`, data };
  const whole = list(record(data["result"])["pieces"]).map(pieceText).join("");
  const kept = whole.length > turn.text.length ? whole.slice(0, ANSWER_CHARS_MAX) : turn.text;
  const learned = onEvent({ ...open, phase: "running", text: kept }, event, now);
  if (!isOver(learned)) return turn;
  const gone = status === "completed" && turn.text !== "" && kept === turn.text;
  return gone ? { ...learned, cut: "gone" } : learned;
}

function pieceText(piece: unknown): string {
  return text(record(record(list(record(piece)["choices"])[0])["delta"])["content"]) ?? "";
}

function onStarted(turn: Turn, data: Record<string, unknown>): Turn {
  const attempt = number(data["attempt"]) ?? turn.attempt;
  if (attempt < turn.attempt) return turn;
  const worker = record(data["worker"]);
  const realm = data["realm"];
  const workerName = text(worker["name"]) ?? text(worker["id"]);
  const realmName = text(realm) ?? text(record(realm)["name"]) ?? text(record(realm)["id"]);
  return {
    ...onAttempt(turn, attempt),
    phase: "running",
    ...ids(data),
    ...(workerName && { worker: workerName, whose: whoseOf(worker) }),
    ...(realmName && { realm: realmName }),
  };
}

/** Of who serves, as an event tells it; nothing where the realm does not say. */
export function whoseOf(worker: Record<string, unknown>): string {
  const owner = text(worker["owner"])?.slice(0, 8);
  const standing = worker["standing"];
  if (standing === "own") return "the realm's own";
  return owner ? `of ${owner}, ${standing === "proven" ? "proven" : "not yet proven"}` : "";
}

function onChunk(turn: Turn, data: Record<string, unknown>): Turn {
  const attempt = number(data["attempt"]) ?? turn.attempt;
  const seq = number(data["seq"]);
  if (attempt < turn.attempt) return turn;
  const current = onAttempt(turn, attempt);
  if (seq !== undefined && seq <= current.seq) return turn;
  const choice = record(list(record(data["piece"])["choices"])[0]);
  const piece = pieceText(data["piece"]);
  return {
    ...current,
    phase: "running",
    ...ids(data),
    seq: seq ?? current.seq,
    text: (current.text + piece).slice(0, ANSWER_CHARS_MAX),
    ...(choice["finish_reason"] === "length" && { cut: "length" as const }),
  };
}

/** What the attempt before gave is discarded; a repeat of the notice is not. */
function onRestarted(turn: Turn, data: Record<string, unknown>): Turn {
  const attempt = number(data["attempt"]);
  if (attempt !== undefined && attempt < turn.attempt) return turn;
  if (attempt !== undefined && attempt === turn.attempt && turn.seq < 0) return turn;
  const { worker: _worker, whose: _whose, cut: _cut, ...rest } = turn;
  return {
    ...rest,
    phase: "queued",
    text: "",
    seq: -1,
    attempt: attempt ?? turn.attempt,
    restarts: turn.restarts + 1,
  };
}

function onCompleted(turn: Turn, data: Record<string, unknown>, now: number): Turn {
  const choice = record(list(record(data["result"])["choices"])[0]);
  const whole = text(record(choice["message"])["content"]) ?? text(choice["text"]) ?? "";
  return end(turn, "completed", now, {
    ...bill(data),
    ...(turn.text === "" && { text: whole.slice(0, ANSWER_CHARS_MAX) }),
    ...(data["reason"] === "ceiling" && { cut: "ceiling" as const }),
  });
}

/** A later attempt without a `restarted` before it still replaces what an earlier one gave. */
function onAttempt(turn: Turn, attempt: number): Turn {
  if (attempt === turn.attempt) return turn;
  return { ...turn, attempt, seq: -1, text: "" };
}

function forward(turn: Turn, phase: Phase): Turn {
  return turn.phase === "running" ? turn : { ...turn, phase };
}

function end(turn: Turn, phase: Phase, now: number, more: Partial<Turn>): Turn {
  return { ...turn, ...more, phase, endedAt: now, stopping: false, resuming: false };
}

function bill(data: Record<string, unknown>): Partial<Turn> {
  const usage = record(data["usage"]);
  const cost = money(data["cost"]);
  const refunded = money(data["refunded"]);
  return {
    ...count("tokens", usage["units"]),
    ...(cost && { cost }),
    ...(refunded && { refunded }),
  };
}

/**
 * The messages of the next question: the newest turns that fit, oldest first, behind the prompt. `room`
 * is what the model can read, in tokens; the question itself is never left out.
 */
export function messagesFor(turns: readonly Turn[], question: string, system = "", room = Infinity): Message[] {
  const messages: Message[] = [{ role: "user", content: question }];
  let chars = 0;
  let tokens = tokensOf(question) + (system.trim() === "" ? 0 : tokensOf(system.trim()));
  for (const turn of turns.toReversed()) {
    const useful = turn.phase === "completed" || turn.phase === "cancelled";
    if (!useful || turn.replaced || turn.text.trim() === "") continue;
    const asked = contentOf(turn.question, turn.attached);
    chars += asked.length + turn.text.length;
    tokens += tokensOf(asked) + tokensOf(turn.text);
    if (tokens > room) break;
    if (chars > HISTORY_CHARS_MAX || messages.length + 2 > HISTORY_MESSAGES_MAX + 1) break;
    messages.unshift({ role: "user", content: asked }, { role: "assistant", content: turn.text });
  }
  if (system.trim() !== "") messages.unshift({ role: "system", content: system.trim() });
  return messages;
}

/** A question with its files below it, each by its name in a fence that its text cannot close. */
export function contentOf(question: string, attached: readonly Attached[] = []): string {
  const files = attached.map(({ name, text: body }) => {
    const longest = Math.max(2, ...(body.match(/`+/g) ?? []).map((run) => run.length));
    const fence = "`".repeat(longest + 1);
    return `File \`${name}\`:\n${fence}\n${body}\n${fence}`;
  });
  return [question, ...files].filter((part) => part !== "").join("\n\n");
}

function ids(data: Record<string, unknown>): Partial<Turn> {
  const intent = text(data["intent"]);
  return intent ? { intent } : {};
}

function count<K extends "position" | "etaMs" | "tokens">(key: K, value: unknown) {
  const found = number(value);
  return (found === undefined ? {} : { [key]: found }) as Partial<Pick<Turn, K>>;
}

function money(value: unknown): Money | undefined {
  const asset = text(record(value)["asset"]);
  const amount = text(record(value)["amount"]);
  return asset && amount ? { asset, amount } : undefined;
}

export function record(value: unknown): Record<string, unknown> {
  return typeof value === "object" && value !== null ? (value as Record<string, unknown>) : {};
}

export function list(value: unknown): unknown[] {
  return Array.isArray(value) ? value : [];
}

export function text(value: unknown): string | undefined {
  return typeof value === "string" && value !== "" ? value : undefined;
}

export function number(value: unknown): number | undefined {
  return typeof value === "number" && Number.isFinite(value) ? value : undefined;
}
