// One run of an intent, as a pure function of what the realm sent, and what of it is kept over a
// reload. As with questions: events may be repeated, an attempt may be thrown away, and a run ends
// once.

import type { Money } from "./amount";
import { list, number, record, text, type Phase, type Problem, type RealmEvent } from "./conversation";
import { pieceText } from "./result";

export interface Run {
  key: string;
  /** Of which intent. */
  name: string;
  account: string;
  data: unknown;
  durable: boolean;
  ceiling: Money | undefined;
  phase: Phase;
  /** Milliseconds since 1970. */
  sentAt: number;
  endedAt?: number;
  intent?: string;
  position?: number;
  etaMs?: number;
  worker?: string;
  attempt: number;
  seq: number;
  restarts: number;
  pieces: number;
  /** The pieces as text, up to `STREAM_CHARS_MAX`. */
  streamed: string;
  result?: unknown;
  /** The result was too large to keep over a reload; the realm may still have it. */
  away?: boolean;
  units?: number;
  cost?: Money;
  refunded?: Money;
  problem?: Problem;
  receipt?: unknown;
  /** Ended at the price limit. */
  cut?: boolean;
  stopping: boolean;
  resuming: boolean;
}

/** Characters of pieces that are kept; the result itself is kept whole. */
const STREAM_CHARS_MAX = 400_000;
export const RUNS_MAX = 50;
/** Characters of data or of a result that are kept over a reload. */
const KEPT_CHARS_MAX = 60_000;
const OVER: readonly Phase[] = ["completed", "failed", "cancelled", "expired", "refused", "lost"];

export function isDone(run: Run): boolean {
  return OVER.includes(run.phase);
}

export function onEvent(run: Run, event: RealmEvent, now: number): Run {
  const name = /^mtor\.intent\.([a-z]+)\.v1$/.exec(event.type)?.[1] ?? "";
  const data = event.data;
  const open = { ...run, resuming: false };
  if (name === "settled") return { ...open, receipt: data["receipt"] ?? true };
  if (isDone(run)) return run;
  const intent = text(data["intent"]) ?? run.intent;
  const named = intent ? { ...open, intent } : open;
  switch (name) {
    case "accepted": {
      const hold = moneyOf(data["hold"]);
      return { ...named, phase: "accepted", ...(hold && { ceiling: hold }) };
    }
    case "queued": {
      const { position: _p, etaMs: _e, ...rest } = named;
      const [position, etaMs] = [number(data["position"]), number(data["eta_ms"])];
      return { ...rest, phase: "queued", ...(position !== undefined && { position }), ...(etaMs !== undefined && { etaMs }) };
    }
    case "started": {
      const attempt = number(data["attempt"]) ?? run.attempt;
      const worker = text(record(data["worker"])["name"]) ?? text(record(data["worker"])["id"]);
      const anew = attempt > run.attempt ? { attempt, seq: -1, pieces: 0, streamed: "" } : {};
      return { ...named, phase: "running", ...anew, ...(worker && { worker }) };
    }
    case "chunk":
      return onPiece(named, data);
    case "restarted":
      return { ...named, phase: "queued", restarts: run.restarts + 1, seq: -1, pieces: 0, streamed: "" };
    case "completed":
    case "failed":
    case "cancelled":
    case "expired":
      return onEnd(named, name, data, now);
    default:
      return run;
  }
}

function onPiece(run: Run, data: Record<string, unknown>): Run {
  const attempt = number(data["attempt"]) ?? run.attempt;
  const seq = number(data["seq"]) ?? run.seq + 1;
  if (attempt < run.attempt || (attempt === run.attempt && seq <= run.seq)) return run;
  const streamed = attempt > run.attempt ? "" : run.streamed;
  const more = streamed.length < STREAM_CHARS_MAX ? pieceText(data["piece"]) : "";
  return { ...run, phase: "running", attempt, seq, pieces: run.pieces + 1, streamed: (streamed + more).slice(0, STREAM_CHARS_MAX) };
}

function onEnd(run: Run, phase: "completed" | "failed" | "cancelled" | "expired", data: Record<string, unknown>, now: number): Run {
  const { away: _away, problem: _problem, ...rest } = run;
  const cost = moneyOf(data["cost"]);
  const refunded = moneyOf(data["refunded"]);
  const units = number(record(data["usage"])["units"]);
  const ended: Run = { ...rest, phase, endedAt: now, stopping: false, ...(cost && { cost }), ...(refunded && { refunded }), ...(units !== undefined && { units }) };
  if (phase === "failed") {
    ended.problem = { code: text(data["code"]) ?? "", message: text(data["reason"]) ?? "", status: 0 };
  }
  if (phase !== "completed") return ended;
  if (data["reason"] === "ceiling") ended.cut = true;
  const pieces = record(data["result"])["pieces"];
  // What came only in pieces is the result.
  if (Array.isArray(pieces) && Object.keys(record(data["result"])).length === 1) ended.result = joined(pieces);
  else ended.result = data["result"] ?? (run.pieces > 0 ? run.streamed : null);
  return ended;
}

function joined(pieces: unknown[]): unknown {
  const texts = pieces.every((piece) => typeof piece === "string" || !pieceText(piece).endsWith("}\n"));
  return texts ? pieces.map(pieceText).join("") : pieces;
}

/** What `GET /v1/intents/{id}` knows of it. */
export function onLearned(run: Run, status: string, data: Record<string, unknown>, now: number): Run {
  if (!["completed", "failed", "cancelled", "expired"].includes(status)) return run;
  const { endedAt, ...open } = run;
  const learned = onEvent({ ...open, phase: "running" }, { type: `mtor.intent.${status}.v1`, data }, endedAt ?? now);
  return run.receipt === undefined ? learned : { ...learned, receipt: run.receipt };
}

function moneyOf(value: unknown): Money | undefined {
  const asset = text(record(value)["asset"]);
  const amount = text(record(value)["amount"]);
  return asset && amount ? { asset, amount } : undefined;
}

// --- over a reload ---

const RUNS_ITEM = "mtor.runs";

/** For this tab, and as long as it is open: no longer, and nowhere else. */
export function keepRuns(runs: readonly Run[]): void {
  const kept = runs.slice(0, RUNS_MAX).map(shortened);
  // The newest come first: where the browser's room is short, the old ones go.
  for (let count = kept.length; count >= 0; count = count > 0 ? Math.floor(count / 2) : -1) {
    try {
      sessionStorage.setItem(RUNS_ITEM, JSON.stringify(kept.slice(0, count)));
      return;
    } catch {
      // Without storage the runs last as long as the page.
    }
  }
}

function shortened(run: Run): Run {
  const { result, ...rest } = run;
  const short: Run = { ...rest };
  // Sent again from its first piece, where it is too long to keep.
  if (run.streamed.length > KEPT_CHARS_MAX) Object.assign(short, { streamed: "", seq: -1, pieces: 0 });
  if (sizeOf(run.data) > KEPT_CHARS_MAX) short.data = undefined;
  if (result !== undefined && sizeOf(result) <= KEPT_CHARS_MAX) short.result = result;
  else if (result !== undefined) short.away = true;
  return short;
}

function sizeOf(value: unknown): number {
  return typeof value === "string" ? value.length : (JSON.stringify(value)?.length ?? 0);
}

export function loadRuns(): Run[] {
  try {
    const kept = list(JSON.parse(sessionStorage.getItem(RUNS_ITEM) ?? "[]"));
    return kept.flatMap((item) => {
      const run = record(item);
      // Written by this page, in this tab: only what the page leans on is looked at.
      if (!text(run["key"]) || !text(run["name"]) || !text(run["phase"])) return [];
      return [item as Run];
    });
  } catch {
    return [];
  }
}
