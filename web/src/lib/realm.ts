// The realm's public API as the page uses it. Addresses are relative to the page, the key goes in a
// header only, and every refusal becomes one `Refusal`.

import { isLess, type Money, type Price } from "./amount";
import { list, number, record, text, type Message, type Problem } from "./conversation";
import { NOTHING_TOLD, toldOf, type Told } from "./told";

export interface Keys {
  account: string;
  api_key: string;
  secret_key?: string;
}

export interface Asset {
  asset: string;
  decimals: number;
  balance: string;
  held: string;
}

/** What the realm thinks of the workers that offer something: its own, proven, or anybody's. */
export type Standing = "own" | "proven" | "probation";

export interface Model {
  id: string;
  standing: Standing;
  /** Of the account whose workers these are; empty where nobody says. */
  owner: string;
  price: Price;
  slots: number;
  busy: number;
  depth: number;
  etaMs: number;
  /** Tokens that it reads at once, its answer among them; absent where nobody says. */
  context?: number;
}

export interface Quote {
  model: string;
  ceiling: Money;
  etaMs: number;
}

/** What became of an intent. */
export interface View {
  /** `open`, or how it ended. */
  status: string;
  data: Record<string, unknown>;
}

/** A kind of work, as its manifest has it. */
/** A manifest's file that the realm cannot use; only who sits at its machine is told. */
export interface ManifestProblem {
  file: string;
  /** What is wrong, where, and what to do. */
  problem: string;
  /** The intent that it gave before, and that stays as it was. */
  keeps: string;
}

export interface Manifest {
  name: string;
  version: number;
  summary: string;
  parameters: Record<string, unknown>;
  price: Price;
  /** Most bytes of data. */
  bytesMax: number;
  /** The media type of its results, and their schema, where it says one. */
  media?: string;
  results?: unknown;
}

/** Who serves an intent now, all its models together. */
export interface Offer {
  /** The best there is. */
  standing: Standing;
  /** Accounts of those that are that. */
  owners: string[];
  /** Its workers are anybody's, and have no name to choose: they serve who says that anybody may. */
  any: boolean;
  slots: number;
  busy: number;
  depth: number;
  price: Price;
  models: string[];
}

export interface WorkQuote {
  ceiling: Money;
  units: number;
  etaMs: number;
  /** Stops at the ceiling instead of being refused. */
  cut: boolean;
}

export interface ChatBody {
  model: string;
  messages: Message[];
  stream: true;
  max_tokens: number;
  temperature?: number;
}

/** The realm answered, and said no. */
export class Refusal extends Error {
  constructor(readonly problem: Problem) {
    super(problem.message);
  }
}

/** Why a call failed, where the realm said it and where it did not. */
export function problemOf(cause: unknown): Problem {
  return cause instanceof Refusal ? cause.problem : { code: "", message: "the realm did not answer", status: 0 };
}

/** No answer at all: no network, no realm, or no reply in time. */
export class Unreachable extends Error {}

const ANSWER_MS_MAX = 15_000;
/** For the head of a stream's answer; its body may take as long as it takes. */
const HEAD_MS_MAX = 30_000;

export class Realm {
  /** The caller of `fetch` is a parameter so that tests reach a realm by its full address. */
  constructor(
    readonly base: string,
    private readonly key: () => string | undefined,
  ) {}

  /** The same realm with the key of now, whichever is chosen later. */
  fixed(): Realm {
    const key = this.key();
    return new Realm(this.base, () => key);
  }

  async guest(invite?: string | null): Promise<Keys> {
    // Without a key: it is asked for where the realm refuses the one there is.
    const body = record(await this.#json("POST", "v1/accounts/guest", invite ? { invite } : {}, null));
    const account = text(body["account"]);
    const api_key = text(body["api_key"]);
    if (!account || !api_key) throw malformed("guest account");
    const secret_key = text(body["secret_key"]);
    return secret_key ? { account, api_key, secret_key } : { account, api_key };
  }

  /** What the account has, and why it was given nothing today. */
  async account(): Promise<{ assets: Asset[]; noGrant: Problem | undefined }> {
    const body = record(await this.#json("GET", "v1/account"));
    const noGrant = body["no_grant"] ? problemIn(record(body["no_grant"]), 429) : undefined;
    const assets = list(body["assets"]).flatMap((item) => {
      const row = record(item);
      const asset = text(row["asset"]);
      const balance = text(row["balance"]);
      if (!asset || !balance) return [];
      const decimals = Math.min(Math.max(number(row["decimals"]) ?? 0, 0), 30);
      return [{ asset, balance, decimals, held: text(row["held"]) ?? "0" }];
    });
    return { assets, noGrant };
  }

  pools(): Promise<unknown> {
    // Without a key: one that the realm refuses must not make the realm look down.
    return this.#json("GET", "v1/pools", undefined, null);
  }

  /** What the models are in words; a realm that has none is no reason to fail. */
  async told(): Promise<Told> {
    try {
      return toldOf(await this.#json("GET", "v1/models", undefined, null));
    } catch (cause) {
      if (cause instanceof Refusal) return NOTHING_TOLD;
      throw cause;
    }
  }

  /** Whose key this is. */
  async accountOf(api_key: string): Promise<Keys> {
    const account = text(record(await this.#json("GET", "v1/account", undefined, api_key))["account"]);
    if (!account) throw malformed("account");
    return { account, api_key };
  }

  async manifests(): Promise<{ manifests: Manifest[]; problems: ManifestProblem[] }> {
    const page = await this.#json("GET", "v1/manifests", undefined, null);
    return { manifests: manifestsOf(page), problems: problemsOf(page) };
  }

  /** By intent. */
  async offers(): Promise<Map<string, Offer>> {
    return offersOf(await this.pools());
  }

  /** What any intent with these data may cost. */
  async quoteWork(intent: string, data: unknown, any = false): Promise<WorkQuote> {
    const body = record(await this.#json("POST", "v1/quote", { intent, data, ...(any && { trust: "any" }) }));
    const asset = text(body["asset"]);
    const amount = text(body["ceiling"]);
    if (!asset || !amount) throw malformed("quote");
    const [units, etaMs] = [number(body["units"]) ?? 0, number(body["eta_ms"]) ?? 0];
    return { ceiling: { asset, amount }, units, etaMs, cut: body["may_be_cut"] === true };
  }

  /** As `submit`, for any intent. */
  submitWork(body: Record<string, unknown>, once: string, signal: AbortSignal): Promise<Response> {
    const headers = { accept: "text/event-stream", "idempotency-key": once };
    return this.#stream("POST", "v1/intents", body, headers, signal);
  }

  async view(intent: string): Promise<View> {
    const data = record(await this.#json("GET", `v1/intents/${encodeURIComponent(intent)}`));
    return { status: text(data["status"]) ?? "open", data };
  }

  async quote(data: ChatBody): Promise<Quote> {
    const body = record(await this.#json("POST", "v1/quote", { intent: "chat", data }));
    const asset = text(body["asset"]);
    const amount = text(body["ceiling"]);
    if (!asset || !amount) throw malformed("quote");
    const etaMs = number(body["eta_ms"]) ?? 0;
    return { model: text(body["model"]) ?? data.model, ceiling: { asset, amount }, etaMs };
  }

  /**
   * `once` is the idempotency key: a repeat after a lost connection joins the same intent. `ceiling`
   * is the price that was shown: the realm takes no more.
   */
  submit(data: ChatBody, ceiling: Money, once: string, signal: AbortSignal): Promise<Response> {
    const headers = { accept: "text/event-stream", "idempotency-key": once };
    const body = { intent: "chat", ceiling: ceiling.amount, data };
    return this.#stream("POST", "v1/intents", body, headers, signal);
  }

  resume(intent: string, lastId: string, signal: AbortSignal): Promise<Response> {
    const headers: Record<string, string> = { accept: "text/event-stream" };
    if (lastId) headers["last-event-id"] = lastId;
    const path = `v1/intents/${encodeURIComponent(intent)}/events`;
    return this.#stream("GET", path, undefined, headers, signal);
  }

  async cancel(intent: string): Promise<void> {
    const path = `v1/intents/${encodeURIComponent(intent)}`;
    const response = await this.#call("DELETE", path, undefined, {}, AbortSignal.timeout(ANSWER_MS_MAX));
    // Read to its end: a body that is thrown away counts as an aborted request.
    await response.text();
  }

  async #stream(
    method: string,
    path: string,
    body: unknown,
    headers: Record<string, string>,
    signal: AbortSignal,
  ): Promise<Response> {
    const late = new AbortController();
    const timer = setTimeout(() => late.abort(), HEAD_MS_MAX);
    try {
      return await this.#call(method, path, body, headers, AbortSignal.any([signal, late.signal]));
    } finally {
      clearTimeout(timer);
    }
  }

  async #json(method: string, path: string, body?: unknown, key?: string | null): Promise<unknown> {
    const signal = AbortSignal.timeout(ANSWER_MS_MAX);
    const headers = { accept: "application/json" };
    const response = await this.#call(method, path, body, headers, signal, key);
    try {
      return (await response.json()) as unknown;
    } catch (cause) {
      throw signal.aborted ? new Unreachable("no answer in time", { cause }) : malformed(path);
    }
  }

  async #call(
    method: string,
    path: string,
    body?: unknown,
    more: Record<string, string> = {},
    signal?: AbortSignal,
    other?: string | null,
  ): Promise<Response> {
    const headers: Record<string, string> = { ...more };
    const key = other === undefined ? this.key() : other;
    if (key) headers["authorization"] = `Bearer ${key}`;
    const init: RequestInit = { method, headers, cache: "no-store", credentials: "omit" };
    if (signal) init.signal = signal;
    // A page that goes away still gives up what it has asked.
    if (method === "DELETE") init.keepalive = true;
    if (body !== undefined) {
      headers["content-type"] = "application/json";
      init.body = JSON.stringify(body);
    }
    let response: Response;
    try {
      response = await fetch(new URL(path, this.base), init);
    } catch (cause) {
      throw new Unreachable("the realm did not answer", { cause });
    }
    if (!response.ok) throw await refusalOf(response);
    return response;
  }
}

function malformed(what: string): Refusal {
  return new Refusal({ code: "", message: `the realm sent an unreadable ${what}`, status: 0 });
}

function problemIn(error: Record<string, unknown>, status: number, words = "", after?: number): Problem {
  const retryAfterMs = number(error["retry_after_ms"]) ?? after;
  const field = text(error["field"]);
  return {
    code: text(error["code"]) ?? `HTTP ${status}`,
    message: text(error["message"]) ?? (words || "the realm refused"),
    status,
    ...(retryAfterMs !== undefined && { retryAfterMs }),
    ...(field && { field }),
  };
}

async function refusalOf(response: Response): Promise<Refusal> {
  const body: unknown = await response.json().catch(() => undefined);
  const error = record(record(body)["error"]);
  return new Refusal(problemIn(error, response.status, response.statusText, retryAfterHeader(response)));
}

function retryAfterHeader(response: Response): number | undefined {
  const seconds = Number(response.headers.get("retry-after") ?? NaN);
  return Number.isFinite(seconds) && seconds >= 0 ? seconds * 1000 : undefined;
}

/** Pools of one model differ by trust and price; the page shows one line a model, with the lowest. */
export function chatModels(pools: unknown): Model[] {
  const models = new Map<string, Model>();
  for (const item of list(record(pools)["items"])) {
    const row = record(item);
    const id = text(row["model"]);
    const price = record(row["price"]);
    const amount = text(price["amount"]);
    if (row["intent"] !== "chat" || !id || !amount) continue;
    const known = models.get(id);
    const asked = { amount, per: number(price["per"]) ?? 1, unit: text(price["unit"]) ?? "unit" };
    const model: Model = known ?? {
      id,
      standing: standingOf(row),
      owner: ownersOf(row)[0] ?? "",
      price: asked,
      slots: 0,
      busy: 0,
      depth: 0,
      etaMs: number(row["eta_ms"]) ?? 0,
    };
    // All prices of one intent have the manifest's `per`.
    if (isLess(asked.amount, model.price.amount)) model.price = asked;
    model.slots += number(row["slots"]) ?? 0;
    model.busy += number(row["busy"]) ?? 0;
    model.depth += number(row["depth"]) ?? 0;
    model.etaMs = Math.min(model.etaMs, number(row["eta_ms"]) ?? 0);
    // Any of its pools may answer.
    const context = number(row["context"]);
    if (context !== undefined && context > 0) model.context = Math.min(model.context ?? context, context);
    models.set(id, model);
  }
  return [...models.values()];
}

/** A realm that says nothing of it has no strangers' models in its list. */
function standingOf(row: Record<string, unknown>): Standing {
  return (text(row["standing"]) as Standing | undefined) ?? "own";
}

function ownersOf(row: Record<string, unknown>): string[] {
  return list(row["owners"]).flatMap((owner) => text(record(owner)["account"]) ?? []);
}

/** Nobody is served by a stranger who did not choose one. */
export function isTrusted({ standing }: { standing: Standing }): boolean {
  return standing !== "probation";
}

/** What says no price is not for nothing. */
function priceOf(given: unknown, unit: string): Price | undefined {
  const price = record(given);
  const amount = text(price["amount"]);
  return amount === undefined ? undefined : { amount, per: number(price["per"]) ?? 1, unit: text(price["unit"]) ?? unit };
}

function manifestsOf(page: unknown): Manifest[] {
  return list(record(page)["items"]).flatMap((item) => {
    const row = record(item);
    const name = text(row["name"]);
    const unit = text(record(row["meter"])["unit"]) ?? "unit";
    const price = priceOf(row["price"], unit);
    if (!name || !price) return [];
    const result = record(row["result"]);
    const media = text(result["media"]);
    return [
      {
        name,
        version: number(row["version"]) ?? 1,
        summary: text(row["summary"]) ?? "",
        parameters: record(row["parameters"]),
        price,
        bytesMax: number(row["bytes_max"]) ?? 0,
        ...(media && { media }),
        results: result["schema"],
      },
    ];
  });
}

function problemsOf(page: unknown): ManifestProblem[] {
  return list(record(page)["problems"]).map((item) => {
    const row = record(item);
    return { file: text(row["file"]) ?? "", problem: text(row["problem"]) ?? "", keeps: text(row["keeps"]) ?? "" };
  });
}

/** Strangers' workers count where there are no others: nobody comes to them unless he says so. */
export function offersOf(page: unknown): Map<string, Offer> {
  const offers = new Map<string, Offer>();
  for (const item of list(record(page)["items"])) {
    const row = record(item);
    const intent = text(row["intent"]);
    const price = priceOf(row["price"], "unit");
    if (!intent || !price) continue;
    const standing = standingOf(row);
    const strange = standing === "probation";
    let offer = offers.get(intent);
    if (!offer || (!strange && !isTrusted(offer))) {
      offer = { standing, owners: [], any: false, slots: 0, busy: 0, depth: 0, price, models: offer?.models ?? [] };
      offers.set(intent, offer);
    }
    const model = text(row["model"]);
    if (model && !offer.models.includes(model)) offer.models.push(model);
    if (strange && isTrusted(offer)) continue;
    if (standing === "own") offer.standing = standing;
    if (isLess(price.amount, offer.price.amount)) offer.price = price;
    offer.any ||= strange && row["trust"] === "any";
    offer.owners.push(...ownersOf(row));
    offer.slots += number(row["slots"]) ?? 0;
    offer.busy += number(row["busy"]) ?? 0;
    offer.depth += number(row["depth"]) ?? 0;
  }
  return offers;
}
