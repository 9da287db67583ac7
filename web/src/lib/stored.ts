// What is kept of conversations, and how two copies of it come together: of two tabs, or of a file
// that is brought back. Whatever comes from outside is read field by field.

import type { Money } from "./amount";
import { isOver, list, newTurn, number, record, text, type Attached, type Phase, type Turn } from "./conversation";
import type { ChatBody } from "./realm";

/** A question that waits until the answer before it is complete. */
export interface Queued {
  id: string;
  question: string;
  attached: Attached[];
}

/** A conversation without its turns. */
export interface Head {
  id: string;
  title: string;
  createdAt: number;
  changedAt: number;
  system: string;
  /** `null` where the model's own stands. */
  temperature: number | null;
  /** Empty for `auto`. */
  model: string;
  maxTokens: number;
  draft: string;
  queued: Queued[];
}

/** What was sent for a turn: the same again joins the same intent. */
export interface Sent {
  data: ChatBody;
  ceiling: Money;
  once: string;
}

export interface StoredTurn {
  conversation: string;
  turn: Turn;
  /** Only until the realm has named the intent. */
  sent?: Sent;
  /** 1 while it is being answered: an index finds these without reading the others. */
  open: 0 | 1;
}

export function stored(conversation: string, turn: Turn, sent?: Sent): StoredTurn {
  const named = turn.intent !== undefined;
  return { conversation, turn, ...(sent && !named && { sent }), open: isOver(turn) ? 0 : 1 };
}

/** Of two copies the one that knows more. What one of them has replaced stays so. */
export function further(known: StoredTurn | undefined, fresh: StoredTurn): StoredTurn {
  if (!known) return fresh;
  const best = isAhead(fresh.turn, known.turn) ? fresh : known;
  const replaced = known.turn.replaced === true || fresh.turn.replaced === true;
  return replaced && !best.turn.replaced ? { ...best, turn: { ...best.turn, replaced } } : best;
}

function isAhead(fresh: Turn, known: Turn): boolean {
  // Of two tabs one may be refused what the realm has taken from the other.
  if ((fresh.intent === undefined) !== (known.intent === undefined)) return fresh.intent !== undefined;
  return rank(fresh) >= rank(known) && !isBehind(fresh, known);
}

function rank(turn: Turn): number {
  if (isOver(turn) && turn.phase !== "lost") return turn.receipt === undefined ? 1 : 2;
  return 0;
}

function isBehind(turn: Turn, other: Turn): boolean {
  if (rank(turn) > rank(other)) return false;
  return turn.attempt < other.attempt || (turn.attempt === other.attempt && turn.seq < other.seq);
}

// --- files ---

const FORMAT = "mtor.conversations";
const VERSION = 1;
/** Bytes of a file that is brought back. */
export const IMPORT_BYTES_MAX = 64 * 1024 * 1024;
const TEXT_CHARS_MAX = 400_000;
const TITLE_CHARS_MAX = 200;
const PHASES: readonly Phase[] = ["completed", "failed", "cancelled", "expired", "refused", "lost"];

export interface Whole {
  head: Head;
  turns: Turn[];
}

export function toJson(all: readonly Whole[]): string {
  const conversations = all.map(({ head, turns }) => ({ ...head, turns }));
  return JSON.stringify({ format: FORMAT, version: VERSION, conversations }, null, 2);
}

export function toMarkdown({ head, turns }: Whole): string {
  const parts = turns
    .filter((turn) => !turn.replaced)
    .map((turn) => {
      const files = (turn.attached ?? []).map(({ name }) => `*with the file ${name}*\n\n`).join("");
      return `## ${turn.question.replace(/\s*\n\s*/g, " ")}\n\n${files}${turn.text || `*${turn.phase}*`}`;
    });
  return [`# ${head.title}`, ...parts].join("\n\n") + "\n";
}

/** The conversations of a file, or why it is none. */
export function fromJson(file: string): Whole[] | string {
  let body: Record<string, unknown>;
  try {
    body = record(JSON.parse(file));
  } catch {
    return "this file is not JSON; export one as JSON and bring that";
  }
  if (body["format"] !== FORMAT) return "this file holds no conversations of this page";
  if (body["version"] !== VERSION) return `this file has version ${String(body["version"])}, this page reads ${VERSION}`;
  return list(body["conversations"]).flatMap((item) => wholeOf(record(item)) ?? []);
}

function wholeOf(row: Record<string, unknown>): Whole | undefined {
  const id = text(row["id"]);
  if (!id || id.length > 64) return undefined;
  const createdAt = number(row["createdAt"]) ?? 0;
  const temperature = number(row["temperature"]);
  const head: Head = {
    id,
    title: cut(row["title"], TITLE_CHARS_MAX),
    createdAt,
    changedAt: number(row["changedAt"]) ?? createdAt,
    system: cut(row["system"]),
    temperature: temperature === undefined ? null : Math.min(Math.max(temperature, 0), 2),
    model: cut(row["model"], TITLE_CHARS_MAX),
    maxTokens: number(row["maxTokens"]) ?? 512,
    draft: cut(row["draft"]),
    // What waited in another browser is not sent, and paid, by this one.
    queued: [],
  };
  return { head, turns: list(row["turns"]).flatMap((turn) => turnOf(record(turn)) ?? []) };
}

function turnOf(row: Record<string, unknown>): Turn | undefined {
  const key = text(row["key"]);
  const sentAt = number(row["sentAt"]);
  if (!key || key.length > 64 || sentAt === undefined) return undefined;
  const attached = list(row["attached"]).flatMap((item) => {
    const name = text(record(item)["name"]);
    return name ? [{ name: cut(name, TITLE_CHARS_MAX), text: cut(record(item)["text"]) }] : [];
  });
  const start = { key, question: cut(row["question"]), model: cut(row["model"], TITLE_CHARS_MAX), ceiling: undefined, sentAt };
  const phase = PHASES.find((one) => one === row["phase"]) ?? "lost";
  const worker = text(row["worker"]);
  const cost = moneyOf(row["cost"]);
  const endedAt = number(row["endedAt"]);
  const tokens = number(row["tokens"]);
  return {
    ...newTurn(start),
    phase,
    text: cut(row["text"]),
    ...(attached.length > 0 && { attached }),
    ...(row["replaced"] === true && { replaced: true }),
    ...(worker && { worker: cut(worker, TITLE_CHARS_MAX) }),
    ...(cost && { cost }),
    ...(endedAt !== undefined && { endedAt }),
    ...(tokens !== undefined && { tokens }),
    ...(row["receipt"] !== undefined && { receipt: row["receipt"] }),
  };
}

function moneyOf(value: unknown): Money | undefined {
  const { asset, amount } = record(value);
  return typeof asset === "string" && typeof amount === "string" && /^\d{1,40}$/.test(amount) ? { asset, amount } : undefined;
}

function cut(value: unknown, most = TEXT_CHARS_MAX): string {
  return typeof value === "string" ? value.slice(0, most) : "";
}
