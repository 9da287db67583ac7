// Follows one intent from its submission to its end, over as many connections as that takes.
//
// Before the realm has named the intent, a lost connection submits again under the same idempotency
// key; after that, the stream is resumed behind the last id seen. So the question is never asked
// twice, and a piece is never lost.

import { record, type RealmEvent } from "./conversation";
import { Refusal } from "./realm";
import { SseParser, type SseMessage } from "./sse";

export interface FollowOptions {
  /** An intent that is known already, and the last id seen of it. */
  from?: { intent: string; lastId: string };
  submit(signal: AbortSignal): Promise<Response>;
  resume(intent: string, lastId: string, signal: AbortSignal): Promise<Response>;
  onEvent(event: RealmEvent): void;
  onResuming(): void;
  signal: AbortSignal;
  sleep?(ms: number): Promise<void>;
  silenceMs?: number;
}

/** Connections in a row without one new event before the page gives up. */
export const TRIES_MAX = 8;
/** A stream without a byte, comments included, for this long counts as dropped. */
const SILENCE_MS = 60_000;
/** Events of one intent that are told apart by what they say; beyond them only pieces are news. */
const EVENTS_MAX = 200;
/** How long the receipt may follow the end before the page stops listening. */
const SETTLE_MS = 20_000;
const ENDS = /^mtor\.intent\.(completed|failed|cancelled|expired)\.v1$/;

function backoffMs(tries: number): number {
  return Math.min(500 * 2 ** tries, 8_000);
}

/** Resolves when the stream is over; rejects with `Refusal`, or `Error` where the thread was lost. */
export async function follow(options: FollowOptions): Promise<void> {
  const sleep = options.sleep ?? ((ms) => pause(ms, options.signal));
  const { intent = "", lastId = "" } = options.from ?? {};
  const seen: Seen = { intent, lastId, ended: false, events: new Set() };
  let tries = 0;
  while (tries < TRIES_MAX) {
    if (tries > 0) {
      options.onResuming();
      await sleep(backoffMs(tries - 1));
    }
    options.signal.throwIfAborted();
    tries += 1;
    try {
      const response = seen.intent
        ? await options.resume(seen.intent, seen.lastId, options.signal)
        : await options.submit(options.signal);
      // What one read brought is handed on at once: a long replay is then drawn once, not per piece.
      for await (const messages of reads(response, options, seen)) {
        for (const message of messages) if (take(message, seen, options)) tries = 0;
      }
    } catch (cause) {
      if (options.signal.aborted || seen.ended) break;
      if (cause instanceof Refusal && !mayRetry(cause, seen.intent !== "")) throw cause;
    }
    if (seen.ended) return;
    // A stream that closed without an end is a drop, whatever it had brought.
    tries = Math.max(tries, 1);
  }
  options.signal.throwIfAborted();
  if (!seen.ended) throw new Error("the connection was lost");
}

/** A refused submission is final; a refused resumption is tried again if the realm is only busy. */
function mayRetry(refusal: Refusal, resuming: boolean): boolean {
  const { status } = refusal.problem;
  return resuming && (status === 429 || status >= 500);
}

interface Seen {
  intent: string;
  lastId: string;
  ended: boolean;
  /** What events said: one without an id of its own is said again by a resumed stream. */
  events: Set<string>;
}

/** Whether it brought anything new. */
function take(message: SseMessage, seen: Seen, options: FollowOptions): boolean {
  const piece = message.id !== "" && message.id !== seen.lastId;
  if (piece) seen.lastId = message.id;
  const event = eventOf(message.event, message.data);
  if (!event) return piece;
  const said = JSON.stringify(event);
  const first = seen.events.size < EVENTS_MAX && !seen.events.has(said);
  if (first) seen.events.add(said);
  if (typeof event.data["intent"] === "string") seen.intent = event.data["intent"];
  if (ENDS.test(event.type)) seen.ended = true;
  options.onEvent(event);
  return piece || first;
}

/** Ends early, without an error, when the signal is given. */
function pause(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((done) => {
    const timer = setTimeout(done, ms);
    signal.addEventListener("abort", () => (clearTimeout(timer), done()), { once: true });
  });
}

async function* reads(response: Response, options: FollowOptions, seen: Seen) {
  const reader = response.body?.getReader();
  if (!reader) return;
  const parser = new SseParser();
  let closed = false;
  let timer: ReturnType<typeof setTimeout> | undefined;
  try {
    for (;;) {
      const wait = seen.ended ? SETTLE_MS : (options.silenceMs ?? SILENCE_MS);
      const silent = new Promise<never>((_, fail) => {
        timer = setTimeout(() => fail(new Error("the stream went silent")), wait);
      });
      const { done, value } = await Promise.race([reader.read(), silent]);
      clearTimeout(timer);
      closed = done;
      if (done) return;
      yield parser.push(value);
    }
  } finally {
    clearTimeout(timer);
    if (!closed) reader.cancel().catch(() => undefined);
  }
}

function eventOf(name: string, data: string): RealmEvent | undefined {
  let parsed: Record<string, unknown>;
  try {
    parsed = record(JSON.parse(data));
  } catch {
    return undefined;
  }
  const type = typeof parsed["type"] === "string" ? parsed["type"] : name;
  return { type, data: record(parsed["data"]) };
}
