// What the page is, joined from its rooms: the line to the realm, the wallet, the price before, the
// conversations of this browser; and the asking itself. Components read fields and call methods; what events
// mean is decided in `conversation.ts`, how a question is run in `runner.ts`.

import { fromPrice } from "./amount";
import { charsBeyond, roomOf } from "./context";
import { contentOf, isOver, messagesFor, newTurn, type Attached, type Turn } from "./conversation";
import { randomId } from "./ids";
import { Line } from "./line.svelte";
import { Price } from "./price.svelte";
import { Realm, type ChatBody, type Model } from "./realm";
import { Runner } from "./runner";
import { stored, type Sent } from "./stored";
import { Store } from "./store";
import type { Talk } from "./talk.svelte";
import { Talks } from "./talks.svelte";
import { isStandIn, nameless, type About } from "./told";
import { Wallet } from "./wallet.svelte";

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

export class Session {
  readonly line: Line;
  readonly wallet: Wallet;
  readonly price: Price;
  readonly talks: Talks;
  /** True from the press of the button until the turn stands in the conversation. */
  pricing = $state(false);
  /** The microphone is, or was, on in this visit: how it stands with it is shown. */
  hears = $state(false);

  /** Characters of the draft beyond what a question may have. */
  excess = $derived.by(() => Math.max(contentOf(this.draft.trim(), this.talk.attached).length - QUESTION_CHARS_MAX, 0));
  current = $derived.by<Turn | undefined>(() => this.talk.current);
  busy = $derived.by(() => this.pricing || this.talk.running);
  chosen = $derived.by(() => this.#modelOf(this.talk));
  /** Characters of the draft that its model may have no room for. It is a guess, and forbids nothing: the realm refuses for nothing. */
  tight = $derived.by(() => {
    const { talk } = this;
    const text = contentOf(this.draft.trim(), talk.attached);
    return charsBeyond(text, talk.system, roomOf(this.chosen?.context, talk.maxTokens));
  });

  /** Keys of what this tab has asked. */
  readonly asked = new Set<string>();

  #realm: Realm;
  #store: Promise<Store>;
  #runner: Runner;
  #sending = new Set<string>();
  #chosen: string | undefined;

  constructor(base: string, store: Promise<Store> = Store.open()) {
    this.#realm = new Realm(base, () => this.wallet.keys?.api_key);
    this.#store = store;
    this.line = new Line(this.#realm);
    this.wallet = new Wallet(this.#realm);
    this.price = new Price(this.#realm, this.wallet, (model) => this.line.models.find((one) => one.id === model)?.price);
    this.#runner = new Runner({
      realm: this.#realm,
      store,
      onOver: (talk, key) => this.#over(talk, key),
      onKeyRefused: () => (this.wallet.keyRefused = true),
    });
    this.talks = new Talks({ store, runner: this.#runner, account: () => this.wallet.keys?.account });
    this.#join();
  }

  #join(): void {
    this.line.onBack = () => {
      if (this.wallet.keys && !this.wallet.assets) void this.wallet.refresh();
    };
    this.line.onModels = () => {
      if (this.chosen?.id !== this.#chosen) this.draftChanged();
      this.#chosen = this.chosen?.id;
    };
    this.wallet.onVoid = () => this.price.drop();
    this.wallet.onUsed = () => {
      this.draftChanged();
      void this.talks.takeUpOpen();
    };
    this.talks.onLeave = () => this.price.drop();
    this.talks.onView = () => this.draftChanged();
  }

  get talk(): Talk {
    return this.talks.talk;
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

  /** The model that answers the next question, in words as far as there are any. */
  get answering(): About | undefined {
    const { chosen } = this;
    return chosen && (this.line.about(chosen.id) ?? nameless(chosen.id));
  }

  /** It answers until the realm's default can; a model that its asker has chosen just answers. */
  get meanwhile(): boolean {
    return this.chosen === this.line.auto && isStandIn(this.chosen?.id, this.line.told);
  }

  start(): void {
    addEventListener("pagehide", () => this.talks.keepDraft());
    this.line.start();
    this.wallet.start();
    void this.talks.start();
  }

  fromPrice(model: Model): string {
    const { asset, decimals } = this.wallet.purse ?? NEW_PURSE;
    return fromPrice(model.price, asset, decimals);
  }

  // --- the draft ---

  /** Call after each change of the draft, the model or the length. */
  draftChanged(): void {
    this.talks.keepDraftSoon();
    if (this.#isBlank() || this.excess > 0 || !this.chosen) return this.price.drop();
    this.price.soon(() => this.#body(this.talk, this.draft, this.talk.attached, this.talk.editing));
  }

  #isBlank(): boolean {
    return this.draft.trim() === "" && this.talk.attached.length === 0;
  }

  /** What asking the draft would send, for use from code; a question is put in where there is none. */
  asBody(instead: string): ChatBody | undefined {
    return this.#body(this.talk, this.draft.trim() || instead, this.talk.attached, this.talk.editing);
  }

  #modelOf(talk: Talk): Model | undefined {
    return this.line.models.find((model) => model.id === talk.model) ?? this.line.auto;
  }

  /** `until` is a turn that is being replaced: what came from there on is not sent along. */
  #body(talk: Talk, question: string, attached: readonly Attached[], until?: string): ChatBody | undefined {
    const model = this.#modelOf(talk);
    if (!model) return undefined;
    const all = talk.all();
    const at = until === undefined ? -1 : all.findIndex((turn) => turn.key === until);
    const before = at < 0 ? all : all.slice(0, at);
    const messages = messagesFor(before, contentOf(question.trim(), attached), talk.system, roomOf(model.context, talk.maxTokens));
    const warmth = talk.temperature === null ? {} : { temperature: talk.temperature };
    return { model: model.id, messages, stream: true, max_tokens: talk.maxTokens, ...warmth };
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
    this.price.drop();
    this.talks.keepDraft();
  }

  async #wait(talk: Talk, question: string): Promise<void> {
    if (talk.queued.length >= QUEUED_MAX) return;
    const one = { id: randomId(), question, attached: talk.attached };
    talk.queued = [...talk.queued, one];
    talk.held = false;
    this.#clearDraft(talk);
    await talk.changing(async () => (await this.#store).addQueued(talk.id, one));
  }

  /** Takes a waiting question back into the box, behind what stands there. */
  async takeBack(id: string): Promise<void> {
    const { talk } = this;
    const one = talk.queued.find((other) => other.id === id);
    if (!one || !(await this.#take(talk, id))) return;
    talk.draft = talk.draft.trim() === "" ? one.question : `${talk.draft}\n${one.question}`;
    talk.attached = [...talk.attached, ...one.attached];
    this.draftChanged();
  }

  /**
   * False where another tab has sent it, or it was taken back. Where the browser's storage cannot tell,
   * the copy in view is all there is, and is used: a question never vanishes. Should two tabs send it,
   * the realm knows it by its id, answers it once and is paid once.
   */
  async #take(talk: Talk, id: string): Promise<boolean> {
    talk.queued = talk.queued.filter((other) => other.id !== id);
    const taking = await talk.changing(async () => (await this.#store).takeQueued(talk.id, id));
    return taking !== "gone";
  }

  /** Sends what waits, one question after another. */
  async sendQueued(talk: Talk = this.talk): Promise<void> {
    const [one] = talk.queued;
    if (!one || talk.running || this.#sending.has(talk.id)) return;
    this.#sending.add(talk.id);
    talk.held = false;
    try {
      const sent = await this.#prepare(this.#body(talk, one.question, one.attached), one.id);
      if (!sent) {
        talk.held = true;
        return;
      }
      // Where the storage could not be told, its turn may have come from another tab all the same.
      if ((await this.#take(talk, one.id)) && !talk.turn(one.id)) await this.#send(talk, one.question, one.attached, sent);
    } finally {
      this.#sending.delete(talk.id);
    }
  }

  /** In view the price stands on the page; a question that waits has one of its own. */
  async #prepare(data: ChatBody | undefined, waited?: string): Promise<Sent | undefined> {
    if (!data) return undefined;
    if (waited !== undefined) {
      if (!(await this.wallet.ensure())) return undefined;
      const quote = await this.#realm.quote(data).catch(() => undefined);
      return quote && { data, ceiling: quote.ceiling, once: waited };
    }
    this.pricing = true;
    const quote = await this.price.of(data);
    this.pricing = false;
    return quote && { data, ceiling: quote.ceiling, once: randomId() };
  }

  async #send(talk: Talk, question: string, attached: Attached[], sent: Sent): Promise<void> {
    // One of each: two tabs that send the same have the same turn.
    const { data, ceiling, once: key } = sent;
    const account = this.wallet.keys?.account;
    this.asked.add(key);
    this.#runner.expect(key);
    const start = { key, question, model: data.model, ceiling, sentAt: Date.now() };
    talk.add(newTurn({ ...start, ...(attached.length > 0 && { attached }), ...(account && { account }) }));
    const store = await this.talks.keepHead(talk);
    // Before it leaves: a page that goes away now still knows what it has asked.
    const turn = talk.turn(key);
    if (turn) await store.put(stored(talk.id, turn, sent));
    void this.talks.refreshHeads();
    void this.#runner.run(talk, key, sent);
  }

  /** From this turn on another question, or another answer, stands there. */
  async #replace(talk: Talk, from: string): Promise<void> {
    await talk.changing(async () => {
      const store = await this.#store;
      const at = talk.all().findIndex((turn) => turn.key === from);
      for (const turn of talk.all().slice(Math.max(at, 0))) {
        const replaced = { ...turn, replaced: true };
        talk.put(replaced);
        await store.put(stored(talk.id, replaced));
      }
    });
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
    this.price.drop();
    this.draftChanged();
    if (!sent) return;
    await this.#replace(talk, turn.key);
    await this.#send(talk, turn.question, turn.attached ?? [], sent);
  }

  #over(talk: Talk, key: string): void {
    void this.wallet.refresh();
    const turn = talk.turn(key);
    if (talk.running || !turn || !isOver(turn)) return;
    // What waits was asked in the hope of an answer before it.
    if (turn.phase === "completed") void this.sendQueued(talk);
    else talk.held = true;
    this.talks.rest(talk);
  }

  stop(): void {
    this.#runner.stop(this.talk);
  }
}
