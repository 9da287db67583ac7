// The conversations of this browser: which there are, the one in view, and those with something going
// on. What they hold is kept in the store; what is asked in them is the session's affair.

import { SvelteMap } from "svelte/reactivity";
import { isOver } from "./conversation";
import { dropDraft, keepDraft, loadDraft } from "./drafts";
import { randomId } from "./ids";
import type { Runner } from "./runner";
import { stored, type Head, type StoredTurn, type Whole } from "./stored";
import type { Changes, Store, Trouble } from "./store";
import { Talk } from "./talk.svelte";

const DRAFT_DELAY_MS = 500;

export interface Needs {
  store: Promise<Store>;
  runner: Runner;
  /** Who asks now. */
  account(): string | undefined;
}

export class Talks {
  /** Conversations with something going on, and the one in view. */
  #talks = new SvelteMap<string, Talk>();
  /** Every conversation of this browser, the last changed first. */
  heads = $state.raw<Head[]>([]);
  /** The one in view. */
  talk = $state.raw<Talk>(new Talk(randomId()));
  /** Why what is said here is not kept. */
  trouble = $state<Trouble>("");
  /** Conversations in which an answer is coming. */
  running = $derived(new Set([...this.#talks.values()].filter((talk) => talk.running).map(({ id }) => id)));

  /** Called when the conversation in view has got, or lost, its name. */
  onShown: (id: string) => void = () => undefined;

  /** Called when the conversation in view is about to be another one. */
  onLeave: () => void = () => undefined;
  /** Called when another draft, or another setting, is in view. */
  onView: () => void = () => undefined;

  #needs: Needs;
  #draftTimer: ReturnType<typeof setTimeout> | undefined;
  #shows = 0;

  constructor(needs: Needs) {
    this.#needs = needs;
    void needs.store.then((opened) => {
      opened.onTrouble = (trouble) => {
        this.trouble = trouble;
        if (trouble === "") void this.#back();
      };
      opened.onChange = (conversation) => void this.#changedElsewhere(conversation);
      this.trouble = opened.trouble;
    });
  }

  /** Lists what there is, and takes up what was being answered. */
  async start(): Promise<void> {
    await this.refreshHeads();
    await this.takeUpOpen();
  }

  /** What other tabs did while the storage could not be read was not seen. */
  async #back(): Promise<void> {
    await this.#changedElsewhere("");
    await this.takeUpOpen();
  }

  // --- drafts ---

  keepDraftSoon(): void {
    clearTimeout(this.#draftTimer);
    this.#draftTimer = setTimeout(() => this.keepDraft(), DRAFT_DELAY_MS);
  }

  keepDraft(): void {
    clearTimeout(this.#draftTimer);
    const { id, kept, draft, attached } = this.talk;
    keepDraft({ id: kept ? id : "", draft, attached });
    const known = this.heads.find((head) => head.id === id);
    if (known && known.draft !== draft) void this.#needs.store.then((store) => store.patch(id, { draft }));
  }

  // --- one and all ---

  async refreshHeads(): Promise<void> {
    this.heads = await (await this.#needs.store).heads();
  }

  /** Brings a conversation into view; without a name a new one. False where there is none of that name. */
  async show(id: string): Promise<boolean> {
    if (id === this.talk.id || (id === "" && !this.talk.kept)) {
      if (id === "") this.#restoreDraft("");
      return true;
    }
    this.keepDraft();
    const serial = (this.#shows += 1);
    const talk = id === "" ? new Talk(randomId()) : (this.#talks.get(id) ?? (await this.#load(id)));
    // Another one was wanted meanwhile.
    if (serial !== this.#shows) return true;
    this.onLeave();
    if (talk) this.#view(talk);
    return talk !== undefined;
  }

  #view(talk: Talk): void {
    const before = this.talk;
    this.talk = talk;
    this.rest(before);
    if (talk.kept) this.#talks.set(talk.id, talk);
    this.#restoreDraft(talk.kept ? talk.id : "");
  }

  #restoreDraft(id: string): void {
    const draft = loadDraft(id);
    if (draft && this.talk.draft === "") {
      this.talk.draft = draft.draft;
      this.talk.attached = draft.attached;
    }
    this.onView();
  }

  async #load(id: string): Promise<Talk | undefined> {
    const store = await this.#needs.store;
    const head = await store.head(id);
    if (!head) return undefined;
    const talk = Talk.of(head);
    const turns = await store.whole(id);
    // Shown as empty it would be gone on with without what was said in it.
    if (!turns) return undefined;
    talk.set(turns.map(({ turn }) => turn));
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
    const open = await (await this.#needs.store).open();
    for (const id of new Set(open.map(({ conversation }) => conversation))) {
      const talk = this.#talks.get(id) ?? (await this.#load(id));
      if (talk) this.#takeUp(talk);
    }
  }

  #takeUp(talk: Talk): void {
    for (const turn of talk.all()) {
      if (isOver(turn) || this.#needs.runner.runs(turn.key)) continue;
      if (turn.account === this.#needs.account()) {
        if (turn.intent) talk.apply(turn.key, { kind: "resuming", on: true });
        void this.#needs.runner.run(talk, turn.key);
      } else talk.apply(turn.key, { kind: "lost", message: "it was asked with another account; use that one to take it up again", now: Date.now() });
    }
  }

  async #changedElsewhere(conversation: string): Promise<void> {
    await this.refreshHeads();
    const store = await this.#needs.store;
    for (const [id, talk] of this.#talks) {
      if (conversation !== "" && conversation !== id) continue;
      await talk.atRest(
        async () => [await store.head(id), await store.whole(id)] as const,
        ([head, kept]) => {
          // A storage that cannot be read has erased nothing.
          if (head && kept) this.#join(talk, head, kept);
          else if (!head && store.trouble !== "forbidden") this.#erased(id);
        },
      );
    }
  }

  #join(talk: Talk, head: Head, kept: readonly StoredTurn[]): void {
    const { runner } = this.#needs;
    talk.take(head);
    // Looked at after the wait: what was asked meanwhile stays.
    const own = new Map(talk.all().map((turn) => [turn.key, turn]));
    const turns = kept.map(({ turn }) => (runner.runs(turn.key) ? (own.get(turn.key) ?? turn) : turn));
    // What this tab has just asked may not be kept yet.
    const missing = [...own.values()].filter(({ key }) => runner.runs(key) && !turns.some((one) => one.key === key));
    talk.set([...turns, ...missing]);
    this.#takeUp(talk);
  }

  async change(id: string, changes: Changes): Promise<void> {
    const talk = this.#talks.get(id) ?? (this.talk.id === id ? this.talk : undefined);
    const keep = async () => (await this.#needs.store).patch(id, changes);
    if (talk) talk.take({ ...talk.head(), ...changes });
    await (talk ? talk.changing(keep) : keep());
    await this.refreshHeads();
    if (talk === this.talk) this.onView();
  }

  async erase(id: string): Promise<void> {
    const talk = this.#talks.get(id);
    if (talk) this.#needs.runner.stop(talk);
    await (await this.#needs.store).erase(id);
    this.#erased(id);
    await this.refreshHeads();
  }

  async eraseAll(): Promise<void> {
    const talks = [...this.#talks.values()];
    for (const talk of talks) this.#needs.runner.stop(talk);
    await (await this.#needs.store).eraseAll();
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

  async export(id?: string): Promise<Whole[]> {
    const store = await this.#needs.store;
    const heads = (await store.heads()).filter((head) => id === undefined || head.id === id);
    return Promise.all(heads.map(async (head) => ({ head, turns: (await store.turns(head.id)).map(({ turn }) => turn) })));
  }

  /** How many came back. One that is here already comes beside it, and replaces nothing. */
  async import(all: readonly Whole[]): Promise<number> {
    const store = await this.#needs.store;
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
    return (await this.#needs.store).search(words);
  }

  /** Its head is kept from its first question on. */
  keepHead(talk: Talk): Promise<Store> {
    return talk.changing(() => this.#keepHead(talk));
  }

  async #keepHead(talk: Talk): Promise<Store> {
    const store = await this.#needs.store;
    if (talk.kept) await store.patch(talk.id, { changedAt: Date.now(), title: talk.title, draft: talk.draft });
    else {
      talk.kept = true;
      this.#talks.set(talk.id, talk);
      if (talk === this.talk) this.onShown(talk.id);
      await store.add(talk.head());
    }
    return store;
  }

  /** Nothing goes on in it any more: out of view it is only kept. */
  rest(talk: Talk): void {
    if (talk !== this.talk && !talk.running && talk.queued.length === 0) this.#talks.delete(talk.id);
  }
}
