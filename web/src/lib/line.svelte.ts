// Whether the realm answers, and what it has: its chat models, what they are in words, and which are
// on their way. Asked again and again, more often while something moves; a hidden page asks nothing.

import type { Problem } from "./conversation";
import { chatModels, isTrusted, offersOf, Refusal, type Model, type Offer, type Realm } from "./realm";
import { NOTHING_TOLD, type About, type Told } from "./told";

const EVERY_MS = 20_000;
const WHEN_EMPTY_MS = 5_000;
/** While something is on its way; its figures move that often. */
const WHEN_ARRIVING_MS = 1_500;
/** What the page has buttons for beside the question. */
const VOICE = ["speak", "transcribe"];
/** One that was here is looked for so long after it went. */
const BACK_MS_MAX = 60_000;
const RETRY_MS_MAX = 30_000;

export class Line {
  state = $state<"connecting" | "ready" | "unreachable">("connecting");
  /** What the realm said where it answered, but not with its pools. */
  problem = $state.raw<Problem | undefined>(undefined);
  /** Seconds until the page tries the realm again. */
  retryIn = $state(0);
  models = $state.raw<Model[]>([]);
  /** By intent, whatever it is. */
  offers = $state.raw<Map<string, Offer>>(new Map());
  told = $state.raw<Told>(NOTHING_TOLD);
  /** What was here and may be back in a moment: its programs start anew after the realm itself. */
  returning = $state.raw<ReadonlySet<string>>(new Set());
  /** What `auto` is: the realm's word, else the first model that somebody serves; never a stranger's. */
  auto = $derived.by(() => {
    const models = this.models.filter(isTrusted);
    return models.find(({ id, slots }) => id === this.told.auto && slots > 0) ?? models.find(({ slots }) => slots > 0) ?? models[0];
  });

  /** It answers after it did not. */
  onBack: () => void = () => undefined;
  /** The models were read again. */
  onModels: () => void = () => undefined;

  #realm: Realm;
  #retries = 0;
  #had = new Set<string>();
  /** Since when. */
  #missed = new Map<string, number>();
  #looks: (() => void)[] = [];
  #timer: ReturnType<typeof setTimeout> | undefined;
  #countdown: ReturnType<typeof setInterval> | undefined;

  constructor(realm: Realm) {
    this.#realm = realm;
  }

  start(): void {
    addEventListener("online", () => void this.reconnect());
    document.addEventListener("visibilitychange", () => {
      if (document.visibilityState === "visible") void this.reconnect();
    });
    void this.reconnect();
  }

  /** Resolves when the realm has answered, or has not. */
  reconnect(): Promise<void> {
    clearTimeout(this.#timer);
    clearInterval(this.#countdown);
    return this.#refresh();
  }

  /** Somebody else than a stranger does: what has a button asks nobody whom it may come to. */
  serves(intent: string): boolean {
    const offer = this.offers.get(intent);
    return offer !== undefined && isTrusted(offer) && offer.slots > 0;
  }

  /** It is here, or was and may be back in a moment. */
  has(intent: string): boolean {
    return this.serves(intent) || this.returning.has(intent);
  }

  /** Of what is here, or is back in a moment: that is waited for. */
  async offer(intent: string): Promise<Offer | undefined> {
    if (!this.offers.has(intent) && !this.returning.has(intent)) await this.reconnect();
    while (!this.offers.has(intent) && this.returning.has(intent)) await new Promise<void>((look) => this.#looks.push(look));
    return this.offers.get(intent);
  }

  about(model: string): About | undefined {
    return this.told.about.get(model);
  }

  async #refresh(): Promise<void> {
    try {
      const [pools, told] = await Promise.all([this.#realm.pools(), this.#realm.told()]);
      const models = chatModels(pools);
      this.models = models;
      this.offers = offersOf(pools);
      this.told = told;
      const wasAway = this.state !== "ready";
      if (wasAway) this.#missed.clear();
      this.returning = new Set(VOICE.filter((intent) => this.#returns(intent)));
      for (const look of this.#looks.splice(0)) look();
      this.onModels();
      this.state = "ready";
      this.problem = undefined;
      this.#retries = 0;
      if (wasAway) this.onBack();
      const wait = this.#wait();
      // A hidden page asks nothing; it catches up when it is seen again.
      if (document.visibilityState === "visible") {
        clearTimeout(this.#timer);
        this.#timer = setTimeout(() => void this.#refresh(), wait);
      }
    } catch (cause) {
      this.#away(cause instanceof Refusal ? cause.problem : undefined);
    }
  }

  #returns(intent: string): boolean {
    if (this.serves(intent)) {
      this.#had.add(intent);
      this.#missed.delete(intent);
      return false;
    }
    if (!this.#had.has(intent)) return false;
    const since = this.#missed.get(intent) ?? Date.now();
    this.#missed.set(intent, since);
    return this.told.coming.has(intent) || Date.now() - since < BACK_MS_MAX;
  }

  #wait(): number {
    if (this.told.coming.has("chat") || this.returning.size > 0) return WHEN_ARRIVING_MS;
    const comes = VOICE.some((intent) => this.told.coming.has(intent));
    return comes || this.models.length === 0 ? WHEN_EMPTY_MS : EVERY_MS;
  }

  #away(problem: Problem | undefined): void {
    this.state = "unreachable";
    this.problem = problem;
    const wished = problem?.retryAfterMs ?? 0;
    const wait = Math.min(Math.max(1_000 * 2 ** this.#retries, wished), RETRY_MS_MAX);
    this.#retries = Math.min(this.#retries + 1, 10);
    this.retryIn = Math.ceil(wait / 1_000);
    clearInterval(this.#countdown);
    this.#countdown = setInterval(() => {
      this.retryIn -= 1;
      if (this.retryIn <= 0) void this.reconnect();
    }, 1_000);
  }
}
