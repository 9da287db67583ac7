// One intent asked from the page without a form: sent for at most a price that was shown, its pieces as
// they come, its result, and what it cost. Given up, it is cancelled on the realm, too.

import type { Money, Price } from "../amount";
import { number, record, text, type Problem, type RealmEvent } from "../conversation";
import { follow } from "../follow";
import { randomId } from "../ids";
import { Refusal, type Realm } from "../realm";

export interface Asked {
  intent: string;
  data: Record<string, unknown>;
  ceiling: Money;
  signal?: AbortSignal | undefined;
  /** Each once, in their order. */
  onPiece?: (piece: unknown) => void;
  /** Another worker begins anew: what pieces there were are void. */
  onAnew?: () => void;
  /** What it cost, however it ended. */
  onCost?: (cost: Money) => void;
}

/** Resolves with the result, rejects with `Refusal`, or with the signal's reason. */
export function askWork(realm: Realm, asked: Asked): Promise<unknown> {
  return new Promise((resolve, reject) => new Asking(realm, asked, resolve, reject));
}

class Asking {
  #intent = "";
  #attempt = -1;
  #seq = -1;
  #abort = new AbortController();

  constructor(
    private readonly realm: Realm,
    private readonly asked: Asked,
    private readonly done: (result: unknown) => void,
    private readonly fail: (why: unknown) => void,
  ) {
    const { signal } = asked;
    const given = () => this.#giveUp();
    signal?.addEventListener("abort", given, { once: true });
    if (signal?.aborted) given();
    else void this.#follow().finally(() => signal?.removeEventListener("abort", given));
  }

  async #follow(): Promise<void> {
    const { realm, asked } = this;
    const once = randomId();
    try {
      await follow({
        submit: (ended) => realm.submitWork({ intent: asked.intent, data: asked.data, ceiling: asked.ceiling.amount }, once, ended),
        resume: (intent, lastId, ended) => realm.resume(intent, lastId, ended),
        onEvent: (event) => this.#on(event),
        onResuming: () => undefined,
        signal: this.#abort.signal,
      });
      this.fail(new Refusal(LOST));
    } catch (cause) {
      this.fail(cause instanceof Refusal ? cause : new Refusal(LOST));
    }
  }

  /** Before the realm has named it, it cannot be cancelled there: then its first event does that. */
  #giveUp(): void {
    this.fail(this.asked.signal?.reason);
    if (!this.#intent) return;
    void this.realm.cancel(this.#intent).catch(() => undefined);
  }

  #on({ type, data }: RealmEvent): void {
    const named = this.#intent !== "";
    this.#intent = text(data["intent"]) ?? this.#intent;
    const cost = record(data["cost"]);
    const [asset, amount] = [text(cost["asset"]), text(cost["amount"])];
    const name = /^mtor\.intent\.([a-z]+)\.v1$/.exec(type)?.[1] ?? "";
    if (asset && amount && name !== "settled") this.asked.onCost?.({ asset, amount });
    if (this.asked.signal?.aborted) return named ? undefined : this.#giveUp();
    if (name === "chunk") this.#piece(data);
    else if (name === "restarted") this.asked.onAnew?.();
    else if (name === "completed") this.done(data["result"] ?? null);
    else if (name in ENDS) this.fail(new Refusal({ code: text(data["code"]) ?? "", message: text(data["reason"]) ?? ENDS[name] ?? "", status: 0 }));
  }

  #piece(data: Record<string, unknown>): void {
    const attempt = number(data["attempt"]) ?? this.#attempt;
    if (attempt < this.#attempt) return;
    if (attempt > this.#attempt) [this.#attempt, this.#seq] = [attempt, -1];
    const seq = number(data["seq"]) ?? this.#seq + 1;
    if (seq <= this.#seq) return;
    this.#seq = seq;
    this.asked.onPiece?.(data["piece"]);
  }
}

const LOST: Problem = { code: "", message: "the connection to the realm was lost", status: 0 };
const ENDS: Record<string, string> = { failed: "it failed", cancelled: "it was cancelled", expired: "nobody had done it in time" };

/** What so many units cost at most, rounded up. */
export function ceilingOf(price: Price, units: number, asset: string): Money {
  const [amount, per] = [BigInt(price.amount), BigInt(Math.max(price.per, 1))];
  const all = amount * BigInt(Math.ceil(units));
  return { asset, amount: ((all + per - 1n) / per).toString() };
}
