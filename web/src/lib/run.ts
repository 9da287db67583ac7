// One run of an intent, as a pure function of what the realm sent, and what of it is kept over a
// reload. As with questions: events may be repeated, an attempt may be thrown away, and a run ends
// once.

import type { Money } from "./amount";
import { list, number, record, text, type Phase, type Problem, type RealmEvent, whoseOf } from "./conversation";
import { base64Of, bytesOf, pieceText } from "./result";
import { chained } from "./voice/frames";

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
  /** Whose worker that is, in words. */
  whose?: string;
  /** Anybody's worker may serve it: said before it was sent. */
  any?: boolean;
  attempt: number;
  seq: number;
  restarts: number;
  pieces: number;
  /** The pieces as text, up to `STREAM_CHARS_MAX`. */
  streamed: string;
  /** The member of its pieces, and of its result, that is a sound in base64. */
  sound?: string;
  /** What came of it in pieces. */
  sounds?: string[];
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
/** Characters of sound in pieces: ten minutes of speech. */
const SOUND_CHARS_MAX = 40_000_000;
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
      const anew = attempt > run.attempt ? { attempt, seq: -1, pieces: 0, streamed: "", ...silent(run) } : {};
      return { ...named, phase: "running", ...anew, ...(worker && { worker, whose: whoseOf(record(data["worker"])) }) };
    }
    case "chunk":
      return onPiece(named, data);
    case "restarted":
      return { ...named, phase: "queued", restarts: run.restarts + 1, seq: -1, pieces: 0, streamed: "", ...silent(run) };
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
  const anew = attempt > run.attempt;
  const streamed = anew ? "" : run.streamed;
  const { sound, rest } = apart(data["piece"], run.sound);
  const more = streamed.length < STREAM_CHARS_MAX ? pieceText(rest) : "";
  const heard = sound === undefined ? {} : { sounds: bounded([...(anew ? [] : (run.sounds ?? [])), sound]) };
  return { ...run, phase: "running", attempt, seq, pieces: run.pieces + 1, streamed: (streamed + more).slice(0, STREAM_CHARS_MAX), ...heard };
}

/** Nothing of an attempt that was thrown away is heard. */
function silent(run: Run): { sounds?: string[] } {
  return run.sounds ? { sounds: [] } : {};
}

/** A piece without its sound, which nobody can read. */
function apart(piece: unknown, name: string | undefined): { sound?: string; rest: unknown } {
  const sound = name === undefined ? undefined : text(record(piece)[name]);
  if (name === undefined || sound === undefined) return { rest: piece };
  const { [name]: _sound, ...rest } = record(piece);
  return { sound, rest: text(rest["text"]) === undefined ? rest : { text: rest["text"] } };
}

function bounded(sounds: string[]): string[] {
  return sounds.reduce((sum, { length }) => sum + length, 0) > SOUND_CHARS_MAX ? sounds.slice(0, -1) : sounds;
}

/** The bytes of all pieces, one after the other, are the whole. */
function sounding(result: unknown, run: Run): unknown {
  const { sound, sounds = [] } = run;
  if (sound === undefined || sounds.length === 0 || record(result)[sound] !== undefined) return result;
  return { ...record(result), [sound]: base64Of(chained(sounds.map((part) => bytesOf(part) ?? new Uint8Array()))) };
}

function onEnd(run: Run, phase: "completed" | "failed" | "cancelled" | "expired", data: Record<string, unknown>, now: number): Run {
  const { away: _away, problem: _problem, sounds: _sounds, ...rest } = run;
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
  else ended.result = sounding(data["result"] ?? (run.pieces > 0 && !run.sounds ? run.streamed : null), run);
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
  const { result, sounds, ...rest } = run;
  const short: Run = { ...rest };
  // Sent again from its first piece, where it is too long to keep.
  if (run.streamed.length > KEPT_CHARS_MAX || sounds) Object.assign(short, { streamed: "", seq: -1, pieces: 0 });
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
