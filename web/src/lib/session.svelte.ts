// The page's state and everything it does with the realm. Components read fields and call methods;
// what events mean is decided in `conversation.ts`, how a question is run in `runner.ts`, what is kept
// in `store.ts`.

import { SvelteMap } from "svelte/reactivity";
import { formatPrice, isLess } from "./amount";
import { contentOf, isOver, messagesFor, newTurn, type Attached, type Problem, type Turn } from "./conversation";
import { dropDraft, keepDraft, loadDraft } from "./drafts";
import { followKeys, forgetKeys, formerKeys, KEYS_ITEM, loadKeys, saveKeys } from "./keys";
import { Realm, Refusal, type Asset, type ChatBody, type Keys, type Model, type Quote } from "./realm";
import { Runner } from "./runner";
import { stored, type Head, type Sent, type Whole } from "./stored";
import { Store, type Trouble } from "./store";
import { Talk } from "./talk.svelte";
import { nameless, NOTHING_TOLD, type About, type Told } from "./told";

const QUOTE_DELAY_MS = 300;
const POOLS_EVERY_MS = 20_000;
const POOLS_WHEN_EMPTY_MS = 5_000;
/** While something is on its way; its figures move that often. */
const POOLS_WHEN_ARRIVING_MS = 1_500;
const RETRY_MS_MAX = 30_000;
const DRAFT_DELAY_MS = 500;
/** What a guest account will pay with. */
const NEW_PURSE = { asset: "grant", decimals: 6 };
/** Characters of one question, its files included. What is longer is said to be, and neither priced nor sent. */
export const QUESTION_CHARS_MAX = 20_000;
export const SYSTEM_CHARS_MAX = 4_000;
/** Questions of one conversation that wait. */
export const QUEUED_MAX = 20;

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
  /** Accounts used before in this browser, the newest first. */
  former = $state.raw<Keys[]>(formerKeys());
  keysStay = $state(true);
  keyRefused = $state(false);
  /** Why a guest account could not be opened. */
  guestProblem = $state.raw<Problem | undefined>(undefined);
  assets = $state.raw<Asset[] | undefined>(undefined);
  /** Conversations with something going on, and the one in view. */
  #talks = new SvelteMap<string, Talk>();
  /** Every conversation of this browser, the last changed first. */
  heads = $state.raw<Head[]>([]);
  /** The one in view. */
  talk = $state.raw<Talk>(new Talk(randomId()));
  /** Why what is said here is not kept. */
  trouble = $state<Trouble>("");
  told = $state.raw<Told>(NOTHING_TOLD);
  quote = $state.raw<Quote | undefined>(undefined);
  quoteProblem = $state.raw<Problem | undefined>(undefined);
  quoting = $state(false);
  /** True from the press of the button until the turn stands in the conversation. */
  pricing = $state(false);

  /** Characters of the draft beyond what a question may have. */
  excess = $derived(Math.max(contentOf(this.draft.trim(), this.talk.attached).length - QUESTION_CHARS_MAX, 0));
  current = $derived<Turn | undefined>(this.talk.current);
  busy = $derived(this.pricing || this.talk.running);
  /** What `auto` is: the realm's word, else the first model that somebody serves. */
  auto = $derived(
    this.models.find((model) => model.id === this.told.auto && model.slots > 0) ??
      this.models.find((model) => model.slots > 0) ??
      this.models[0],
  );
  /** Conversations in which an answer is coming. */
  running = $derived(new Set([...this.#talks.values()].filter((talk) => talk.running).map(({ id }) => id)));
  chosen = $derived(this.models.find((model) => model.id === this.talk.model) ?? this.auto);
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
  #draftTimer: ReturnType<typeof setTimeout> | undefined;
  #guest: Promise<boolean> | undefined;
  #store: Promise<Store>;
  #runner: Runner;
  #shows = 0;
  #sending = new Set<string>();

  constructor(base: string, store: Promise<Store> = Store.open()) {
    this.#realm = new Realm(base, () => this.keys?.api_key);
    this.#store = store;
    this.#runner = new Runner({
      realm: this.#realm,
      store,
      onOver: (talk, key) => this.#over(talk, key),
      onKeyRefused: () => (this.keyRefused = true),
    });
    void store.then((opened) => {
      opened.onTrouble = (trouble) => (this.trouble = trouble);
      opened.onChange = (conversation) => void this.#changedElsewhere(conversation);
      this.trouble = opened.trouble;
    });
  }

  get turns(): Turn[] {
    return this.talk.shown;
  }

  get draft(): string {
    return this.talk.draft;
  }

  set draft(text: string) {
    this.talk.draft = text;
  }

  about(model: string): About | undefined {
    return this.told.about.get(model);
  }

  /** The model that answers the next question, in words as far as there are any. */
  get answering(): About | undefined {
    const { chosen } = this;
    return chosen && (this.about(chosen.id) ?? nameless(chosen.id));
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
    addEventListener("pagehide", () => this.#keepDraft());
    this.reconnect();
    void this.refreshAccount();
    void this.refreshHeads().then(() => this.takeUpOpen());
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
      const [models, told] = await Promise.all([this.#realm.chatModels(), this.#realm.told()]);
      const before = this.chosen?.id;
      this.models = models;
      this.told = told;
      if (this.chosen?.id !== before) this.draftChanged();
      const wasAway = this.link !== "ready";
      this.link = "ready";
      this.linkProblem = undefined;
      this.#retries = 0;
      if (wasAway && this.keys && !this.assets) void this.refreshAccount();
      const arriving = told.arriving.some(({ state }) => state !== "failed");
      const wait = arriving ? POOLS_WHEN_ARRIVING_MS : models.length > 0 ? POOLS_EVERY_MS : POOLS_WHEN_EMPTY_MS;
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
    void this.takeUpOpen();
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
    clearTimeout(this.#draftTimer);
    this.#draftTimer = setTimeout(() => this.#keepDraft(), DRAFT_DELAY_MS);
    this.quoteProblem = undefined;
    if (this.#isBlank() || this.excess > 0 || !this.chosen) return this.#dropQuote();
    this.quoting = true;
    this.#quoteTimer = setTimeout(() => void this.#price(), QUOTE_DELAY_MS);
  }

  #isBlank(): boolean {
    return this.draft.trim() === "" && this.talk.attached.length === 0;
  }

  #keepDraft(): void {
    clearTimeout(this.#draftTimer);
    const { id, kept, draft, attached } = this.talk;
    keepDraft({ id: kept ? id : "", draft, attached });
    const known = this.heads.find((head) => head.id === id);
    if (known && known.draft !== draft) void this.#store.then((store) => store.patch(id, { draft }));
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
    const data = this.#body(this.talk, this.draft, this.talk.attached, this.talk.editing);
    if (data) await this.#priceOf(data);
  }

  /** The quote of exactly these data; an outdated answer is dropped, never aborted. */
  async #priceOf(data: ChatBody): Promise<Quote | undefined> {
    clearTimeout(this.#quoteTimer);
    const wanted = JSON.stringify([data, this.#priceIn(data.model)]);
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

  #priceIn(model: string): unknown {
    return this.models.find((one) => one.id === model)?.price;
  }

  /** `until` is a turn that is being replaced: what came from there on is not sent along. */
  /** What asking the draft would send, for use from code; a question is put in where there is none. */
  asBody(instead: string): ChatBody | undefined {
    return this.#body(this.talk, this.draft.trim() || instead, this.talk.attached, this.talk.editing);
  }

  #body(talk: Talk, question: string, attached: readonly Attached[], until?: string): ChatBody | undefined {
    const model = (this.models.find((one) => one.id === talk.model) ?? this.auto)?.id;
    if (!model) return undefined;
    const all = talk.all();
    const at = until === undefined ? -1 : all.findIndex((turn) => turn.key === until);
    const before = at < 0 ? all : all.slice(0, at);
    const messages = messagesFor(before, contentOf(question.trim(), attached), talk.system);
    const warmth = talk.temperature === null ? {} : { temperature: talk.temperature };
    return { model, messages, stream: true, max_tokens: talk.maxTokens, ...warmth };
  }

  // --- conversations ---

  async refreshHeads(): Promise<void> {
    this.heads = await (await this.#store).heads();
  }

  /** Brings a conversation into view; without a name a new one. False where there is none of that name. */
  async show(id: string): Promise<boolean> {
    if (id === this.talk.id || (id === "" && !this.talk.kept)) {
      if (id === "") this.#restoreDraft("");
      return true;
    }
    this.#keepDraft();
    const serial = (this.#shows += 1);
    const talk = id === "" ? new Talk(randomId()) : (this.#talks.get(id) ?? (await this.#load(id)));
    // Another one was wanted meanwhile.
    if (serial !== this.#shows) return true;
    this.#dropQuote();
    if (talk) this.#view(talk);
    return talk !== undefined;
  }

  #view(talk: Talk): void {
    const before = this.talk;
    if (!before.running && before.queued.length === 0) this.#talks.delete(before.id);
    this.talk = talk;
    if (talk.kept) this.#talks.set(talk.id, talk);
    this.#restoreDraft(talk.kept ? talk.id : "");
  }

  #restoreDraft(id: string): void {
    const draft = loadDraft(id);
    if (draft && this.talk.draft === "") {
      this.talk.draft = draft.draft;
      this.talk.attached = draft.attached;
    }
    this.draftChanged();
  }

  async #load(id: string): Promise<Talk | undefined> {
    const store = await this.#store;
    const head = await store.head(id);
    if (!head) return undefined;
    const talk = Talk.of(head);
    talk.set((await store.turns(id)).map(({ turn }) => turn));
    // Loaded by another call meanwhile: there is one of each.
    const other = this.#talks.get(id);
    if (other) return other;
    this.#talks.set(id, talk);
    this.#takeUp(talk);
    talk.held = !talk.running;
    return talk;
  }

  /** What was being answered when the page went away, in whatever conversation. */
  async takeUpOpen(): Promise<void> {
    const open = await (await this.#store).open();
    for (const id of new Set(open.map(({ conversation }) => conversation))) {
      const talk = this.#talks.get(id) ?? (await this.#load(id));
      if (talk) this.#takeUp(talk);
    }
  }

  #takeUp(talk: Talk): void {
    for (const turn of talk.all()) {
      if (isOver(turn) || this.#runner.runs(turn.key)) continue;
      if (turn.account === this.keys?.account) {
        if (turn.intent) talk.apply(turn.key, { kind: "resuming", on: true });
        void this.#runner.run(talk, turn.key);
      } else talk.apply(turn.key, { kind: "lost", message: "it was asked with another account; use that one to take it up again", now: Date.now() });
    }
  }

  async #changedElsewhere(conversation: string): Promise<void> {
    await this.refreshHeads();
    const store = await this.#store;
    for (const [id, talk] of this.#talks) {
      if (conversation !== "" && conversation !== id) continue;
      const head = this.heads.find((one) => one.id === id);
      if (!head) this.#erased(id);
      else {
        talk.take(head);
        const own = new Map(talk.all().map((turn) => [turn.key, turn]));
        const kept = await store.turns(id);
        const turns = kept.map(({ turn }) => (this.#runner.runs(turn.key) ? (own.get(turn.key) ?? turn) : turn));
        // What this tab has just asked may not be kept yet.
        const missing = [...own.values()].filter(({ key }) => this.#runner.runs(key) && !turns.some((one) => one.key === key));
        talk.set([...turns, ...missing]);
        this.#takeUp(talk);
      }
    }
  }

  async change(id: string, changes: Partial<Head>): Promise<void> {
    const talk = this.#talks.get(id) ?? (this.talk.id === id ? this.talk : undefined);
    if (talk) talk.take({ ...talk.head(), ...changes });
    await (await this.#store).patch(id, changes);
    await this.refreshHeads();
    if (talk === this.talk) this.draftChanged();
  }

  async erase(id: string): Promise<void> {
    const talk = this.#talks.get(id);
    if (talk) this.#runner.stop(talk);
    await (await this.#store).erase(id);
    this.#erased(id);
    await this.refreshHeads();
  }

  async eraseAll(): Promise<void> {
    const talks = [...this.#talks.values()];
    for (const talk of talks) this.#runner.stop(talk);
    await (await this.#store).eraseAll();
    dropDraft();
    for (const talk of talks) this.#erased(talk.id);
    await this.refreshHeads();
  }

  /** Its answers may still come: nobody keeps them. */
  #erased(id: string): void {
    const talk = this.#talks.get(id);
    this.#talks.delete(id);
    talk?.set([]);
    if (this.talk.id === id) {
      this.talk = new Talk(randomId());
      this.onShown("");
    }
  }

  /** Called when the conversation in view has got, or lost, its name. */
  onShown: (id: string) => void = () => undefined;

  async export(id?: string): Promise<Whole[]> {
    const store = await this.#store;
    const heads = (await store.heads()).filter((head) => id === undefined || head.id === id);
    return Promise.all(heads.map(async (head) => ({ head, turns: (await store.turns(head.id)).map(({ turn }) => turn) })));
  }

  /** How many came back. One that is here already comes beside it, and replaces nothing. */
  async import(all: readonly Whole[]): Promise<number> {
    const store = await this.#store;
    const known = new Set((await store.heads()).map((head) => head.id));
    for (const { head, turns } of all) {
      const id = known.has(head.id) ? randomId() : head.id;
      await store.add({ ...head, id });
      for (const turn of turns) await store.put(stored(id, { ...turn, key: randomId() }));
    }
    await this.refreshHeads();
    return all.length;
  }

  async search(words: string): Promise<Set<string>> {
    return (await this.#store).search(words);
  }

  // --- asking ---

  /**
   * Nothing is sent before its price stands on the page, and nothing but what was priced. While an
   * answer comes, the question waits for its turn.
   */
  async ask(): Promise<void> {
    const { talk } = this;
    const question = this.draft.trim();
    const { attached, editing } = talk;
    if (this.#isBlank() || this.excess > 0 || this.pricing) return;
    if (talk.running) return editing === undefined ? this.#wait(talk, question) : undefined;
    const sent = await this.#prepare(this.#body(talk, question, attached, editing));
    if (!sent || this.talk !== talk || talk.draft.trim() !== question) return;
    if (editing !== undefined) await this.#replace(talk, editing);
    this.#clearDraft(talk);
    await this.#send(talk, question, attached, sent);
  }

  #clearDraft(talk: Talk): void {
    talk.draft = "";
    talk.attached = [];
    talk.editing = undefined;
    this.#dropQuote();
    this.#keepDraft();
  }

  async #wait(talk: Talk, question: string): Promise<void> {
    if (talk.queued.length >= QUEUED_MAX) return;
    talk.queued = [...talk.queued, { id: randomId(), question, attached: talk.attached }];
    talk.held = false;
    this.#clearDraft(talk);
    await (await this.#store).patch(talk.id, { queued: talk.queued });
  }

  /** Takes a waiting question back into the box, behind what stands there. */
  async takeBack(id: string): Promise<void> {
    const { talk } = this;
    const one = talk.queued.find((other) => other.id === id);
    talk.queued = talk.queued.filter((other) => other.id !== id);
    if (!one || !(await (await this.#store).takeQueued(talk.id, id))) return;
    talk.draft = talk.draft.trim() === "" ? one.question : `${talk.draft}\n${one.question}`;
    talk.attached = [...talk.attached, ...one.attached];
    this.draftChanged();
  }

  /** Sends what waits, one question after another. */
  async sendQueued(talk: Talk = this.talk): Promise<void> {
    const [one] = talk.queued;
    if (!one || talk.running || this.#sending.has(talk.id)) return;
    this.#sending.add(talk.id);
    talk.held = false;
    try {
      const sent = await this.#prepare(this.#body(talk, one.question, one.attached), talk);
      if (!sent) {
        talk.held = true;
        return;
      }
      talk.queued = talk.queued.filter((other) => other.id !== one.id);
      // Another tab may have sent it.
      if (await (await this.#store).takeQueued(talk.id, one.id)) await this.#send(talk, one.question, one.attached, sent);
    } finally {
      this.#sending.delete(talk.id);
    }
  }

  /** In view the price stands on the page; a question that waits has one of its own. */
  async #prepare(data: ChatBody | undefined, apart?: Talk): Promise<Sent | undefined> {
    if (!data) return undefined;
    if (apart) {
      if (!(await this.ensureAccount())) return undefined;
      const quote = await this.#realm.quote(data).catch(() => undefined);
      return quote && { data, ceiling: quote.ceiling, once: randomId() };
    }
    this.pricing = true;
    const quote = await this.#priceOf(data);
    this.pricing = false;
    return quote && { data, ceiling: quote.ceiling, once: randomId() };
  }

  async #send(talk: Talk, question: string, attached: Attached[], sent: Sent): Promise<void> {
    const { data, ceiling } = sent;
    const key = randomId();
    const account = this.keys?.account;
    const start = { key, question, model: data.model, ceiling, sentAt: Date.now() };
    talk.add(newTurn({ ...start, ...(attached.length > 0 && { attached }), ...(account && { account }) }));
    const store = await this.#keepHead(talk);
    // Before it leaves: a page that goes away now still knows what it has asked.
    const turn = talk.turn(key);
    if (turn) await store.put(stored(talk.id, turn, sent));
    void this.refreshHeads();
    void this.#runner.run(talk, key, sent);
  }

  async #keepHead(talk: Talk): Promise<Store> {
    const store = await this.#store;
    if (talk.kept) await store.patch(talk.id, { changedAt: Date.now(), title: talk.title, draft: talk.draft });
    else {
      talk.kept = true;
      this.#talks.set(talk.id, talk);
      if (talk === this.talk) this.onShown(talk.id);
      await store.add(talk.head());
    }
    return store;
  }

  /** From this turn on another question, or another answer, stands there. */
  async #replace(talk: Talk, from: string): Promise<void> {
    const store = await this.#store;
    const at = talk.all().findIndex((turn) => turn.key === from);
    for (const turn of talk.all().slice(Math.max(at, 0))) {
      const replaced = { ...turn, replaced: true };
      talk.put(replaced);
      await store.put(stored(talk.id, replaced));
    }
  }

  /** Puts a question into the box, to be asked in other words. */
  edit(turn: Turn): void {
    this.talk.draft = turn.question;
    this.talk.attached = turn.attached ?? [];
    this.talk.editing = turn.key;
    this.draftChanged();
  }

  endEdit(): void {
    this.talk.draft = "";
    this.talk.attached = [];
    this.talk.editing = undefined;
    this.draftChanged();
  }

  /**
   * Once more for a turn. One that may still run, or has run, on the realm is taken up where it was
   * lost; only what is over is asked, and paid, anew. An answer that it gave is kept aside.
   */
  async again(turn: Turn): Promise<void> {
    const { talk } = this;
    if (this.busy) return;
    const known = await (await this.#store).turn(turn.key);
    if (turn.phase === "lost" && (turn.intent || known?.sent)) {
      talk.apply(turn.key, { kind: "taken up" });
      void this.#runner.run(talk, turn.key, known?.sent);
      return;
    }
    const sent = await this.#prepare(this.#body(talk, turn.question, turn.attached ?? [], turn.key));
    this.#dropQuote();
    this.draftChanged();
    if (!sent) return;
    await this.#replace(talk, turn.key);
    await this.#send(talk, turn.question, turn.attached ?? [], sent);
  }

  #over(talk: Talk, key: string): void {
    void this.refreshAccount();
    const turn = talk.turn(key);
    if (talk.running || !turn || !isOver(turn)) return;
    // What waits was asked in the hope of an answer before it.
    if (turn.phase === "completed") void this.sendQueued(talk);
    else talk.held = true;
    if (talk !== this.talk && talk.queued.length === 0) this.#talks.delete(talk.id);
  }

  stop(): void {
    this.#runner.stop(this.talk);
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
