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
import { forgetKeys, KEYS_ITEM, loadKeys, saveKeys } from "./keys";
import { isLess } from "./amount";
import { Realm, Refusal, type Asset, type ChatBody, type Keys, type Model, type Quote } from "./realm";

const QUOTE_DELAY_MS = 300;
const POOLS_EVERY_MS = 20_000;
const POOLS_WHEN_EMPTY_MS = 5_000;
const RETRY_MS_MAX = 30_000;
/** How long the realm may take to confirm a stop. */
const STOP_MS_MAX = 8_000;
const TURNS_MAX = 200;

export const LENGTHS = [
  { label: "short", tokens: 128 },
  { label: "medium", tokens: 512 },
  { label: "long", tokens: 1024 },
] as const;

export type Link = "connecting" | "ready" | "unreachable";

export class Session {
  link = $state<Link>("connecting");
  /** What the realm said where it answered, but not with its pools. */
  linkProblem = $state.raw<Problem | undefined>(undefined);
  /** Seconds until the page tries the realm again. */
  retryIn = $state(0);
  models = $state.raw<Model[]>([]);
  keys = $state.raw<Keys | undefined>(loadKeys());
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

  current = $derived<Turn | undefined>(this.turns.at(-1));
  busy = $derived(this.pricing || (this.current !== undefined && !isOver(this.current)));
  chosen = $derived(
    this.models.find((model) => model.id === this.model) ??
      this.models.find((model) => model.slots > 0) ??
      this.models[0],
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
      this.keys = loadKeys();
      this.assets = undefined;
      void this.refreshAccount();
    });
    this.reconnect();
    void this.refreshAccount();
  }

  reconnect(): void {
    clearTimeout(this.#poolsTimer);
    clearInterval(this.#countdown);
    void this.#refreshPools();
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
      // A realm may keep even its price list for accounts.
      if (problem?.status === 401 && !this.keys && (await this.ensureAccount())) {
        return this.#refreshPools();
      }
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
    if (!found) {
      try {
        const keys = await this.#realm.guest();
        this.keysStay = saveKeys(keys);
        this.keys = keys;
      } catch (cause) {
        this.guestProblem = problemOf(cause);
        return false;
      }
    }
    this.keys ??= found;
    this.guestProblem = undefined;
    this.keyRefused = false;
    await this.refreshAccount();
    return true;
  }

  forget(): void {
    forgetKeys();
    this.keys = undefined;
    this.assets = undefined;
    this.keyRefused = false;
    this.guestProblem = undefined;
    this.#dropQuote();
  }

  async newGuest(): Promise<void> {
    this.forget();
    await this.ensureAccount();
    this.draftChanged();
  }

  // --- the price before ---

  /** Call after each change of the draft, the model or the length. */
  draftChanged(): void {
    clearTimeout(this.#quoteTimer);
    this.quoteProblem = undefined;
    if (this.draft.trim() === "" || !this.chosen) return this.#dropQuote();
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

  /** The quote of exactly what would be sent now; an outdated answer is dropped, never aborted. */
  async #price(): Promise<Quote | undefined> {
    clearTimeout(this.#quoteTimer);
    const data = this.#body(this.draft);
    if (!data) return undefined;
    const wanted = JSON.stringify([data, this.chosen?.price]);
    if (this.quote && this.#quoted === wanted) {
      this.quoting = false;
      return this.quote;
    }
    this.#quoteSerial += 1;
    const serial = this.#quoteSerial;
    this.quoting = true;
    try {
      if (!(await this.ensureAccount())) return undefined;
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

  /** Nothing is sent before its price stands on the page. */
  async ask(): Promise<void> {
    const question = this.draft.trim();
    if (question === "" || this.busy) return;
    this.pricing = true;
    const quote = await this.#price();
    this.pricing = false;
    const data = this.#body(question);
    if (!quote || !data || this.draft.trim() !== question) return;
    this.draft = "";
    this.#dropQuote();
    const turn = newTurn({
      key: this.#nextKey,
      question,
      model: data.model,
      ceiling: quote.ceiling,
      sentAt: performance.now(),
    });
    this.#nextKey += 1;
    this.turns = [...this.turns, turn].slice(-TURNS_MAX);
    void this.#run(turn.key, data);
  }

  /** Puts the question of a turn that gave nothing back into the box, and asks it. */
  async again(turn: Turn): Promise<void> {
    if (this.busy) return;
    this.turns = this.turns.filter((other) => other.key !== turn.key);
    this.draft = turn.question;
    await this.ask();
  }

  async #run(key: number, data: ChatBody): Promise<void> {
    const abort = new AbortController();
    this.#aborts.set(key, abort);
    const once = randomId();
    const finish = (action: Action) => {
      this.#apply(key, action);
      void this.refreshAccount();
    };
    try {
      await follow({
        submit: (signal) => this.#realm.submit(data, once, signal),
        resume: (intent, lastId, signal) => this.#realm.resume(intent, lastId, signal),
        onResuming: () => this.#apply(key, { kind: "resuming", on: true }),
        onEvent: (event) => {
          this.#apply(key, { kind: "event", event, now: performance.now() });
          const turn = this.#turn(key);
          // Stopped, or cleared away, before the realm had named it.
          const named = event.type === "mtor.intent.accepted.v1";
          if (named && (!turn || turn.stopping)) this.#cancel(text(event.data["intent"]));
          if (turn && isOver(turn)) void this.refreshAccount();
        },
        signal: abort.signal,
      });
    } catch (cause) {
      const now = performance.now();
      if (cause instanceof Refusal) {
        if (cause.problem.status === 401) this.keyRefused = true;
        finish({ kind: "refused", problem: cause.problem, now });
      } else {
        const stopped = abort.signal.aborted;
        const message = stopped
          ? "stopped here; the realm has not confirmed it"
          : "the connection to the realm was lost";
        finish({ kind: "lost", message, now });
      }
    } finally {
      this.#aborts.delete(key);
    }
  }

  stop(): void {
    const turn = this.current;
    if (!turn || isOver(turn) || turn.stopping) return;
    this.#apply(turn.key, { kind: "stopping" });
    this.#cancel(turn.intent);
    setTimeout(() => {
      const later = this.#turn(turn.key);
      if (later && !isOver(later)) this.#aborts.get(turn.key)?.abort();
    }, STOP_MS_MAX);
  }

  /** The end comes by the stream; a refused cancel means it was on its way already. */
  #cancel(intent: string | undefined): void {
    if (intent) this.#realm.cancel(intent).catch(() => undefined);
  }

  /** A new conversation. What still runs is cancelled; its end comes unseen. */
  clear(): void {
    this.stop();
    this.turns = [];
    this.draftChanged();
  }

  #turn(key: number): Turn | undefined {
    return this.turns.find((turn) => turn.key === key);
  }

  #apply(key: number, action: Action): void {
    this.turns = this.turns.map((turn) => (turn.key === key ? reduce(turn, action) : turn));
  }
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
