// Whether the realm answers, and what it has: its chat models, what they are in words, and which are
// on their way. Asked again and again, more often while something moves; a hidden page asks nothing.

import type { Problem } from "./conversation";
import { chatModels, offersOf, Refusal, type Model, type Offer, type Realm } from "./realm";
import { NOTHING_TOLD, type About, type Told } from "./told";

const EVERY_MS = 20_000;
const WHEN_EMPTY_MS = 5_000;
/** While something is on its way; its figures move that often. */
const WHEN_ARRIVING_MS = 1_500;
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
  /** What `auto` is: the realm's word, else the first model that somebody serves. */
  auto = $derived(
    this.models.find((model) => model.id === this.told.auto && model.slots > 0) ??
      this.models.find((model) => model.slots > 0) ??
      this.models[0],
  );

  /** It answers after it did not. */
  onBack: () => void = () => undefined;
  /** The models were read again. */
  onModels: () => void = () => undefined;

  #realm: Realm;
  #retries = 0;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #countdown: ReturnType<typeof setInterval> | undefined;

  constructor(realm: Realm) {
    this.#realm = realm;
  }

  start(): void {
    addEventListener("online", () => this.reconnect());
    document.addEventListener("visibilitychange", () => {
      if (document.visibilityState === "visible") this.reconnect();
    });
    this.reconnect();
  }

  reconnect(): void {
    clearTimeout(this.#timer);
    clearInterval(this.#countdown);
    void this.#refresh();
  }

  serves(intent: string): boolean {
    return (this.offers.get(intent)?.slots ?? 0) > 0;
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
      this.onModels();
      const wasAway = this.state !== "ready";
      this.state = "ready";
      this.problem = undefined;
      this.#retries = 0;
      if (wasAway) this.onBack();
      const arriving = told.arriving.some(({ state }) => state !== "failed");
      const wait = arriving ? WHEN_ARRIVING_MS : models.length > 0 ? EVERY_MS : WHEN_EMPTY_MS;
      // A hidden page asks nothing; it catches up when it is seen again.
      if (document.visibilityState === "visible") {
        clearTimeout(this.#timer);
        this.#timer = setTimeout(() => void this.#refresh(), wait);
      }
    } catch (cause) {
      this.#away(cause instanceof Refusal ? cause.problem : undefined);
    }
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
      if (this.retryIn <= 0) this.reconnect();
    }, 1_000);
  }
}
