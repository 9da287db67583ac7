// The page's state and everything it does with the realm. Components read fields and call methods;
// what events mean is decided in `conversation.ts`, how a stream is followed in `follow.ts`.

import {
  isOver,
  messagesFor,
  newTurn,
  reduce,
  text,
  type Action,
  type Problem,
  type Turn,
} from "./conversation";
import { follow } from "./follow";
import { followKeys, forgetKeys, formerKeys, KEYS_ITEM, loadKeys, saveKeys } from "./keys";
import { dropOpen, keepOpen, loadOpen } from "./open";
import { formatPrice, isLess, type Money } from "./amount";
import { Realm, Refusal, type Asset, type ChatBody, type Keys, type Model, type Quote } from "./realm";

const QUOTE_DELAY_MS = 300;
const POOLS_EVERY_MS = 20_000;
const POOLS_WHEN_EMPTY_MS = 5_000;
const RETRY_MS_MAX = 30_000;
/** How long a question that the realm has not even named yet may take to stop. */
const STOP_MS_MAX = 8_000;
/** What a guest account will pay with. */
const NEW_PURSE = { asset: "grant", decimals: 6 };
const TURNS_MAX = 200;
/** Characters of one question. What is longer is said to be, and neither priced nor sent. */
export const QUESTION_CHARS_MAX = 20_000;

export const LENGTHS = [
  { label: "short", tokens: 128 },
  { label: "medium", tokens: 512 },
  { label: "long", tokens: 1024 },
] as const;

/** What was sent for a turn: the same again joins the same intent. */
interface Sent {
  data: ChatBody;
  ceiling: Money;
  once: string;
}

export type Link = "connecting" | "ready" | "unreachable";

export class Session {
  link = $state<Link>("connecting");
  /** What the realm said where it answered, but not with its pools. */
  linkProblem = $state.raw<Problem | undefined>(undefined);
  /** Seconds until the page tries the realm again. */
  retryIn = $state(0);
  models = $state.raw<Model[]>([]);
  keys = $state.raw<Keys | undefined>(loadKeys());
  /** Accounts used before in this browser, the newest first. */
  former = $state.raw<Keys[]>(formerKeys());
  keysStay = $state(true);
  keyRefused = $state(false);
  /** Why a guest account could not be opened. */
  guestProblem = $state.raw<Problem | undefined>(undefined);
  assets = $state.raw<Asset[] | undefined>(undefined);
  turns = $state.raw<Turn[]>([]);
  draft = $state("");
  model = $state("");
  maxTokens = $state<number>(512);
  quote = $state.raw<Quote | undefined>(undefined);
  quoteProblem = $state.raw<Problem | undefined>(undefined);
  quoting = $state(false);
  /** True from the press of the button until the turn stands in the conversation. */
  pricing = $state(false);

  /** Characters of the draft beyond what a question may have. */
  excess = $derived(Math.max(this.draft.trim().length - QUESTION_CHARS_MAX, 0));
  current = $derived<Turn | undefined>(this.turns.at(-1));
  busy = $derived(this.pricing || (this.current !== undefined && !isOver(this.current)));
  chosen = $derived(
    this.models.find((model) => model.id === this.model) ??
      this.models.find((model) => model.slots > 0) ??
      this.models[0],
  );
  /** What pays next: the grant while there is one, else the token. */
  purse = $derived(
    this.assets?.find((row) => row.asset === "grant" && isLess("0", row.balance)) ??
      this.assets?.find((row) => row.asset === "9000") ??
      this.assets?.[0],
  );
  tooLow = $derived(
    this.quoteProblem?.status === 402 ||
      (this.quote !== undefined &&
        isLess(this.#balanceOf(this.quote.ceiling.asset), this.quote.ceiling.amount)),
  );

  #realm: Realm;
  #retries = 0;
  #poolsTimer: ReturnType<typeof setTimeout> | undefined;
  #countdown: ReturnType<typeof setInterval> | undefined;
  #quoteTimer: ReturnType<typeof setTimeout> | undefined;
  #quoteSerial = 0;
  #quoted = "";
  #nextKey = 1;
  #guest: Promise<boolean> | undefined;
  #aborts = new Map<number, AbortController>();
  #sent = new Map<number, Sent>();

  constructor(base: string) {
    this.#realm = new Realm(base, () => this.keys?.api_key);
  }

  start(): void {
    addEventListener("online", () => this.reconnect());
    document.addEventListener("visibilitychange", () => {
      if (document.visibilityState === "visible") this.reconnect();
    });
    // Another tab opened or forgot the account.
    addEventListener("storage", (event) => {
      if (event.key !== null && event.key !== KEYS_ITEM) return;
      this.keys = followKeys();
      this.former = formerKeys();
      this.assets = undefined;
      this.keyRefused = false;
      void this.refreshAccount();
    });
    this.reconnect();
    void this.refreshAccount();
    this.takeUpOpen();
  }

  reconnect(): void {
    clearTimeout(this.#poolsTimer);
    clearInterval(this.#countdown);
    void this.#refreshPools();
  }

  /** The lowest price that anybody asks here now; a quote tells what a question may cost. */
  fromPrice(model: Model): string {
    const { asset, decimals } = this.purse ?? NEW_PURSE;
    const price = formatPrice(model.price, asset, decimals);
    return model.price.amount === "0" ? price : `from ${price}`;
  }

  decimalsOf(asset: string): number | undefined {
    return this.assets?.find((row) => row.asset === asset)?.decimals;
  }

  #balanceOf(asset: string): string | undefined {
    return this.assets?.find((row) => row.asset === asset)?.balance;
  }

  // --- the realm ---

  async #refreshPools(): Promise<void> {
    try {
      this.models = await this.#realm.chatModels();
      const wasAway = this.link !== "ready";
      this.link = "ready";
      this.linkProblem = undefined;
      this.#retries = 0;
      if (wasAway && this.keys && !this.assets) void this.refreshAccount();
      const wait = this.models.length > 0 ? POOLS_EVERY_MS : POOLS_WHEN_EMPTY_MS;
      // A hidden page asks nothing; it catches up when it is seen again.
      if (document.visibilityState === "visible") {
        clearTimeout(this.#poolsTimer);
        this.#poolsTimer = setTimeout(() => void this.#refreshPools(), wait);
      }
    } catch (cause) {
      const problem = cause instanceof Refusal ? cause.problem : undefined;
      this.link = "unreachable";
      this.linkProblem = problem;
      const wished = problem?.retryAfterMs ?? 0;
      const wait = Math.min(Math.max(1_000 * 2 ** this.#retries, wished), RETRY_MS_MAX);
      this.#retries = Math.min(this.#retries + 1, 10);
      this.retryIn = Math.ceil(wait / 1_000);
      clearInterval(this.#countdown);
      this.#countdown = setInterval(() => {
        this.retryIn -= 1;
        if (this.retryIn <= 0) this.reconnect();
      }, 1_000);
    }
  }

  // --- the account ---

  async refreshAccount(): Promise<void> {
    if (!this.keys) return;
    try {
      this.assets = await this.#realm.assets();
      this.keyRefused = false;
    } catch (cause) {
      if (cause instanceof Refusal && cause.problem.status === 401) this.keyRefused = true;
    }
  }

  /** Opens a guest account if there is none. One at a time, however many ask. */
  ensureAccount(): Promise<boolean> {
    if (this.keys) return Promise.resolve(!this.keyRefused);
    this.#guest ??= this.#openGuest().finally(() => (this.#guest = undefined));
    return this.#guest;
  }

  async #openGuest(): Promise<boolean> {
    const found = loadKeys();
    try {
      await this.#use(found ?? (await this.#realm.guest()));
    } catch (cause) {
      this.guestProblem = problemOf(cause);
      return false;
    }
    return true;
  }

  /** Makes this the account in use; the one before is kept as a former one. */
  async #use(keys: Keys): Promise<void> {
    this.keysStay = saveKeys(keys);
    this.keys = keys;
    this.former = formerKeys();
    this.assets = undefined;
    this.guestProblem = undefined;
    this.keyRefused = false;
    this.#dropQuote();
    await this.refreshAccount();
    this.draftChanged();
  }

  /** Takes a kept key back. Gives what is wrong with it, or nothing. */
  async useKey(api_key: string): Promise<Problem | undefined> {
    try {
      const known = this.former.find((keys) => keys.api_key === api_key);
      await this.#use({ ...known, ...(await this.#realm.accountOf(api_key)) });
      return undefined;
    } catch (cause) {
      return problemOf(cause);
    }
  }

  forget(): void {
    forgetKeys();
    this.keys = undefined;
    this.assets = undefined;
    this.keyRefused = false;
    this.guestProblem = undefined;
    this.#dropQuote();
  }

  /**
   * An account in place of one whose key is refused: a former one that this realm knows, else a new
   * guest. The one before is kept, and nothing is given up before there is another.
   */
  async newGuest(): Promise<void> {
    for (const keys of this.former) if (!(await this.useKey(keys.api_key))) return;
    try {
      await this.#use(await this.#realm.guest());
    } catch (cause) {
      this.guestProblem = problemOf(cause);
    }
  }

  // --- the price before ---

  /** Call after each change of the draft, the model or the length. */
  draftChanged(): void {
    clearTimeout(this.#quoteTimer);
    this.quoteProblem = undefined;
    if (this.draft.trim() === "" || this.excess > 0 || !this.chosen) return this.#dropQuote();
    this.quoting = true;
    this.#quoteTimer = setTimeout(() => void this.#price(), QUOTE_DELAY_MS);
  }

  #dropQuote(): void {
    clearTimeout(this.#quoteTimer);
    this.#quoteSerial += 1;
    this.#quoted = "";
    this.quote = undefined;
    this.quoteProblem = undefined;
    this.quoting = false;
  }

  /** The price of the draft as it stands. */
  async #price(): Promise<void> {
    const data = this.#body(this.draft);
    if (data) await this.#priceOf(data);
  }

  /** The quote of exactly these data; an outdated answer is dropped, never aborted. */
  async #priceOf(data: ChatBody): Promise<Quote | undefined> {
    clearTimeout(this.#quoteTimer);
    const wanted = JSON.stringify([data, this.chosen?.price]);
    if (this.quote && this.#quoted === wanted) {
      this.quoting = false;
      return this.quote;
    }
    this.quoting = true;
    // A new account voids what was asked before it, so it comes first.
    const known = await this.ensureAccount();
    this.#quoteSerial += 1;
    const serial = this.#quoteSerial;
    try {
      if (!known) return undefined;
      const quote = await this.#realm.quote(data);
      if (serial !== this.#quoteSerial) return undefined;
      this.quote = quote;
      this.#quoted = wanted;
      this.quoteProblem = undefined;
      return quote;
    } catch (cause) {
      if (serial !== this.#quoteSerial) return undefined;
      this.quote = undefined;
      this.quoteProblem = problemOf(cause);
      if (this.quoteProblem.status === 401) this.keyRefused = true;
      return undefined;
    } finally {
      if (serial === this.#quoteSerial) this.quoting = false;
    }
  }

  #body(question: string): ChatBody | undefined {
    const model = this.chosen?.id;
    if (!model) return undefined;
    const messages = messagesFor(this.turns, question.trim());
    return { model, messages, stream: true, max_tokens: this.maxTokens };
  }

  // --- asking ---

  /** Nothing is sent before its price stands on the page, and nothing but what was priced. */
  async ask(): Promise<void> {
    const question = this.draft.trim();
    if (question === "" || this.excess > 0 || this.busy) return;
    const sent = await this.#prepare(this.#body(question));
    if (!sent || this.draft.trim() !== question) return;
    this.draft = "";
    this.#dropQuote();
    this.#send(question, sent);
  }

  async #prepare(data: ChatBody | undefined): Promise<Sent | undefined> {
    if (!data) return undefined;
    this.pricing = true;
    const quote = await this.#priceOf(data);
    this.pricing = false;
    return quote && { data, ceiling: quote.ceiling, once: randomId() };
  }

  #send(question: string, sent: Sent): void {
    const { data, ceiling } = sent;
    const key = this.#nextKey;
    this.#nextKey += 1;
    const sentAt = performance.now();
    const turn = newTurn({ key, question, model: data.model, ceiling, sentAt });
    this.turns = [...this.turns, turn].slice(-TURNS_MAX);
    this.#sent.set(key, sent);
    void this.#run(key, sent);
  }

  /**
   * Once more for a turn that did not come to its answer. One that may still run, or has run, on the
   * realm is taken up where it was lost; only what is over is asked, and paid, anew.
   */
  async again(turn: Turn): Promise<void> {
    const sent = this.#sent.get(turn.key);
    if (this.busy) return;
    if (turn.phase === "lost" && (sent || turn.intent)) {
      this.#apply(turn.key, { kind: "taken up" });
      void this.#run(turn.key, sent);
      return;
    }
    if (!sent) return;
    // What it gave stays where it is.
    if (turn.text === "") this.turns = this.turns.filter((other) => other.key !== turn.key);
    const anew = await this.#prepare(sent.data);
    this.#dropQuote();
    this.draftChanged();
    if (anew) this.#send(turn.question, anew);
    else if (turn.text === "") this.turns = [...this.turns, turn];
  }

  /** What was being answered when this tab was loaded again; its question is known no more. */
  takeUpOpen(): void {
    const open = loadOpen();
    if (!open || open.account !== this.keys?.account) return;
    const sentAt = open.askedAt - performance.timeOrigin;
    const turn = newTurn({ key: this.#nextKey, question: "", model: "", ceiling: undefined, sentAt });
    this.#nextKey += 1;
    this.turns = [...this.turns, { ...turn, intent: open.intent, phase: "accepted", resuming: true }];
    void this.#run(turn.key);
  }

  async #run(key: number, sent?: Sent): Promise<void> {
    const abort = new AbortController();
    this.#aborts.set(key, abort);
    const known = this.#turn(key);
    const from = known?.intent && { intent: known.intent, lastId: lastIdOf(known) };
    try {
      await follow({
        ...(from && { from }),
        submit: (signal) => {
          if (!sent) throw new Error("only what is known to the realm is followed without its data");
          return this.#realm.submit(sent.data, sent.ceiling, sent.once, signal);
        },
        resume: async (intent, lastId, signal) => {
          // Stopped, or cleared away, while there was no connection.
          if (this.#turn(key)?.stopping !== false) await this.#cancel(intent);
          return this.#realm.resume(intent, lastId, signal);
        },
        onResuming: () => this.#apply(key, { kind: "resuming", on: true }),
        onEvent: (event) => {
          this.#apply(key, { kind: "event", event, now: performance.now() });
          const turn = this.#turn(key);
          // Stopped, or cleared away, before the realm had named it.
          const named = event.type === "mtor.intent.accepted.v1";
          const intent = text(event.data["intent"]);
          if (named && intent && turn) this.#keepOpen(turn, intent);
          if (named && intent && turn?.stopping !== false) void this.#cancel(intent).catch(() => undefined);
          if (turn && isOver(turn)) void this.refreshAccount();
        },
        signal: abort.signal,
      });
    } catch (cause) {
      await this.#ended(key, cause, abort.signal.aborted);
    } finally {
      this.#aborts.delete(key);
      const turn = this.#turn(key);
      if (turn?.intent && isOver(turn) && turn.phase !== "lost") dropOpen(turn.intent);
    }
  }

  #keepOpen({ sentAt }: Turn, intent: string): void {
    if (!this.keys) return;
    const askedAt = Math.round(performance.timeOrigin + sentAt);
    keepOpen({ intent, account: this.keys.account, askedAt });
  }

  /** The thread is gone. Only what the realm never took is told as not charged. */
  async #ended(key: number, cause: unknown, stopped: boolean): Promise<void> {
    const problem = cause instanceof Refusal ? cause.problem : undefined;
    if (problem?.status === 401) this.keyRefused = true;
    const intent = this.#turn(key)?.intent;
    if (problem && !intent) {
      this.#apply(key, { kind: "refused", problem, now: performance.now() });
    } else {
      if (problem && intent) await this.#learn(key, intent);
      // Nobody will ever tell more.
      if (problem?.status === 404 || problem?.status === 410) dropOpen(intent);
      const message = stopped
        ? "stopped here; the realm has not confirmed it"
        : problem
          ? "the realm keeps its events no longer, or not for this key; what it cost stands in the account"
          : "the connection to the realm was lost; the answer may be waiting there";
      this.#apply(key, { kind: "lost", message, now: performance.now() });
    }
    void this.refreshAccount();
  }

  /** Its state is kept longer than its events. */
  async #learn(key: number, intent: string): Promise<void> {
    const view = await this.#realm.view(intent).catch(() => undefined);
    if (view) this.#apply(key, { kind: "learned", ...view, now: performance.now() });
  }

  stop(): void {
    const turn = this.current;
    if (!turn || isOver(turn) || turn.stopping) return;
    this.#apply(turn.key, { kind: "stopping" });
    if (turn.intent) {
      // Not heard now, it is said again with the next connection.
      this.#cancel(turn.intent).catch(() => undefined);
      return;
    }
    setTimeout(() => {
      const later = this.#turn(turn.key);
      if (later && !later.intent && !isOver(later)) this.#aborts.get(turn.key)?.abort();
    }, STOP_MS_MAX);
  }

  /** The end comes by the stream; a refused cancel means it was on its way already. */
  async #cancel(intent: string): Promise<void> {
    try {
      await this.#realm.cancel(intent);
    } catch (cause) {
      if (!(cause instanceof Refusal) || cause.problem.status >= 500) throw cause;
    }
  }

  /** A new conversation. What still runs is cancelled; its end comes unseen. */
  clear(): void {
    this.stop();
    this.turns = [];
    this.#sent.clear();
    dropOpen();
    this.draftChanged();
  }

  #turn(key: number): Turn | undefined {
    return this.turns.find((turn) => turn.key === key);
  }

  #apply(key: number, action: Action): void {
    this.turns = this.turns.map((turn) => (turn.key === key ? reduce(turn, action) : turn));
  }
}

/** The last piece seen, as the stream names it. */
function lastIdOf(turn: Turn): string {
  return turn.seq >= 0 ? `${turn.attempt}.${turn.seq}` : "";
}

function problemOf(cause: unknown): Problem {
  return cause instanceof Refusal
    ? cause.problem
    : { code: "", message: "the realm did not answer", status: 0 };
}

/** `crypto.randomUUID` exists only on secure origins; a realm at home may be plain HTTP. */
function randomId(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
