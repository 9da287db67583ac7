// The state of the place "Intents": what this realm can do, the form that is open, and the runs of
// this visit. Whose account it is, and how a guest gets one, is the wallet's affair.

import { untrack } from "svelte";
import { isLess, parseShown, type Money } from "./amount";
import type { Problem } from "./conversation";
import { emptyDraft, fill, type Draft } from "./draft";
import { follow } from "./follow";
import { randomId } from "./ids";
import { Quoting } from "./quoting.svelte";
import { problemOf, Realm, Refusal, type Manifest, type ManifestProblem, type Offer, type WorkQuote } from "./realm";
import { isDone, keepRuns, loadRuns, onEvent, onLearned, RUNS_MAX, type Run } from "./run";
import { soundIn } from "./result";
import { formOf, type Field } from "./schema";
import type { Wallet } from "./wallet.svelte";

const QUOTE_DELAY_MS = 350;
const OFFERS_EVERY_MS = 15_000;
/** How long a run that the realm has not even named yet may take to stop. */
const STOP_MS_MAX = 8_000;

export class Desk {
  manifests = $state.raw<Manifest[] | undefined>(undefined);
  /** Files of own manifests that the realm cannot use. */
  problems = $state.raw<ManifestProblem[]>([]);
  offers = $state.raw<Map<string, Offer>>(new Map());
  /** Why nothing could be read. */
  problem = $state.raw<Problem | undefined>(undefined);
  runs = $state.raw<Run[]>(loadRuns());

  #realm: Realm;
  #aborts = new Map<string, AbortController>();

  constructor(
    base: string,
    readonly wallet: Wallet,
  ) {
    this.#realm = new Realm(base, () => wallet.keys?.api_key);
  }

  /** What is served now comes first, then by name. */
  listed = $derived.by(() => {
    const served = (manifest: Manifest) => Number((this.offers.get(manifest.name)?.slots ?? 0) > 0);
    return [...(this.manifests ?? [])].sort((a, b) => served(b) - served(a) || a.name.localeCompare(b.name));
  });

  /** Reads what there is, again and again until the returned function is called. */
  open(): () => void {
    // Whoever opens it in an effect is not to open it anew at every piece of a run.
    return untrack(() => this.#open());
  }

  #open(): () => void {
    let closed = false;
    let timer: ReturnType<typeof setTimeout> | undefined;
    const turn = async () => {
      await this.refresh();
      if (!closed) timer = setTimeout(() => void turn(), OFFERS_EVERY_MS);
    };
    void turn();
    // What was running when this tab was loaded again.
    for (const run of this.runs) {
      if (isDone(run) || this.#aborts.has(run.key)) continue;
      if (run.intent && run.account === this.wallet.keys?.account) void this.#follow(run.key);
      else this.#lose(run.key, "this page was loaded again before the realm had named it; what it cost stands in the account");
    }
    return () => {
      closed = true;
      clearTimeout(timer);
    };
  }

  async refresh(): Promise<void> {
    try {
      const [{ manifests, problems }, offers] = await Promise.all([this.#realm.manifests(), this.#realm.offers()]);
      // The same again must not draw every form anew.
      if (JSON.stringify(manifests) !== JSON.stringify(this.manifests)) this.manifests = manifests;
      this.problems = problems;
      this.offers = offers;
      this.problem = undefined;
    } catch (cause) {
      this.problem = problemOf(cause);
    }
  }

  async quote(name: string, data: unknown): Promise<WorkQuote> {
    if (!(await this.wallet.ensure())) throw new Refusal(this.wallet.guestProblem ?? NO_ACCOUNT);
    return this.#realm.quoteWork(name, data, this.offers.get(name)?.any);
  }

  /** Sends it, for at most what was shown. `any`: it was said that anybody's worker serves it. */
  run(name: string, data: unknown, quote: WorkQuote, durable: boolean, any = false): Run {
    const sound = soundIn(this.manifests?.find((manifest) => manifest.name === name)?.results);
    const run: Run = {
      key: randomId(),
      name,
      account: this.wallet.keys?.account ?? "",
      data,
      durable,
      ceiling: quote.ceiling,
      phase: "sending",
      sentAt: Date.now(),
      attempt: -1,
      seq: -1,
      restarts: 0,
      pieces: 0,
      streamed: "",
      stopping: false,
      resuming: false,
      ...(sound && { sound }),
      ...(any && { any }),
    };
    this.runs = [run, ...this.runs].slice(0, RUNS_MAX);
    keepRuns(this.runs);
    void this.#follow(run.key);
    return run;
  }

  async #follow(key: string): Promise<void> {
    const run = this.#run(key);
    if (!run) return;
    const abort = new AbortController();
    this.#aborts.set(key, abort);
    const from = run.intent && { intent: run.intent, lastId: run.seq >= 0 ? `${run.attempt}.${run.seq}` : "" };
    // A sound is played when it is whole, and kept so by the realm, unless its data ask for pieces.
    const body = { intent: run.name, data: run.data, ceiling: run.ceiling?.amount, ...(run.durable && { durable: true }), ...(run.any && { trust: "any" }), ...(run.sound && { stream: false }) };
    try {
      await follow({
        ...(from && { from }),
        submit: (signal) => this.#realm.submitWork(body, run.key, signal),
        resume: async (intent, lastId, signal) => {
          if (this.#run(key)?.stopping !== false) await this.#cancel(intent);
          return this.#realm.resume(intent, lastId, signal);
        },
        onResuming: () => this.#change(key, (open) => ({ ...open, resuming: true })),
        onEvent: (event) => {
          const before = this.#run(key);
          this.#change(key, (open) => onEvent(open, event, Date.now()));
          const after = this.#run(key);
          // Stopped before the realm had named it.
          if (after?.intent && !before?.intent && after.stopping) void this.#cancel(after.intent).catch(() => undefined);
          if (after && isDone(after)) void this.wallet.refresh();
          // Pieces alone are not worth a write each.
          if (after?.phase !== before?.phase || after?.intent !== before?.intent) keepRuns(this.runs);
        },
        signal: abort.signal,
      });
    } catch (cause) {
      await this.#ended(key, cause);
    } finally {
      this.#aborts.delete(key);
      keepRuns(this.runs);
    }
  }

  async #ended(key: string, cause: unknown): Promise<void> {
    const problem = cause instanceof Refusal ? cause.problem : undefined;
    const intent = this.#run(key)?.intent;
    if (problem && !intent) {
      this.#change(key, (run) => ({ ...run, phase: "refused", endedAt: Date.now(), problem }));
    } else {
      // Its state is kept longer than its events.
      if (intent) await this.fetchResult(key);
      this.#lose(key, "the connection to the realm was lost; what it cost stands in the account");
    }
    void this.wallet.refresh();
  }

  #lose(key: string, message: string): void {
    const problem = { code: "", message, status: 0 };
    this.#change(key, (run) => (isDone(run) ? run : { ...run, phase: "lost", endedAt: Date.now(), problem }));
  }

  /** Reads from the realm how it ended, with the whole result. */
  async fetchResult(key: string): Promise<Problem | undefined> {
    const intent = this.#run(key)?.intent;
    if (!intent) return NO_RESULT;
    try {
      const { status, data } = await this.#realm.view(intent);
      this.#change(key, (run) => onLearned(run, status, data, Date.now()));
      return undefined;
    } catch (cause) {
      return problemOf(cause);
    }
  }

  stop(key: string): void {
    const run = this.#run(key);
    if (!run || isDone(run) || run.stopping) return;
    this.#change(key, (open) => ({ ...open, stopping: true }));
    if (run.intent) return void this.#cancel(run.intent).catch(() => undefined);
    setTimeout(() => {
      const later = this.#run(key);
      if (later && !later.intent && !isDone(later)) this.#aborts.get(key)?.abort();
    }, STOP_MS_MAX);
  }

  forget(key: string): void {
    this.stop(key);
    this.runs = this.runs.filter((run) => run.key !== key);
    keepRuns(this.runs);
  }

  /** The end comes by the stream; a refused cancel means it was on its way already. */
  async #cancel(intent: string): Promise<void> {
    try {
      await this.#realm.cancel(intent);
    } catch (cause) {
      if (!(cause instanceof Refusal) || cause.problem.status >= 500) throw cause;
    }
  }

  #run(key: string): Run | undefined {
    return this.runs.find((run) => run.key === key);
  }

  #change(key: string, change: (run: Run) => Run): void {
    this.runs = this.runs.map((run) => (run.key === key ? change(run) : run));
  }
}

// Longer than its place is looked at: what runs goes on while the visitor is elsewhere.
const desks = new WeakMap<object, Desk>();

/** The one desk of a session. */
export function deskOf(session: { wallet: Wallet }): Desk {
  const desk = desks.get(session) ?? new Desk(document.baseURI, session.wallet);
  desks.set(session, desk);
  return desk;
}

/** One form: what is filled in, and what it would cost. */
export class Form extends Quoting<WorkQuote> {
  readonly field: Field;
  draft = $state<Draft>(emptyDraft(BLANK));
  durable = $state(false);
  /** What the visitor will pay at most, in the asset's own unit; empty for the quoted price. */
  limit = $state("");
  /** Written as JSON instead of drawn. */
  raw = $state(false);
  written = $state("");
  /** What is missing is told once it was to be sent. */
  tried = $state(false);

  constructor(
    readonly manifest: Manifest,
    private readonly desk: Desk,
  ) {
    super();
    this.field = formOf(manifest.parameters);
    this.draft = emptyDraft(this.field);
    this.raw = this.field.kind === "json";
  }

  filled = $derived.by(() => fill(this.raw ? rawField(this.field) : this.field, this.raw ? rawDraft(this.written) : this.draft));
  tooLow = $derived.by(() => {
    const { quote } = this;
    const row = this.desk.wallet.assets?.find(({ asset }) => asset === quote?.ceiling.asset);
    return this.problem?.status === 402 || (quote !== undefined && row !== undefined && isLess(row.balance, quote.ceiling.amount));
  });

  /** Call after each change. An incomplete form has no price. */
  changed(): void {
    if (this.ready) this.later(() => void this.price(), QUOTE_DELAY_MS);
    else this.drop();
  }

  get ready(): boolean {
    return this.filled.faults.length === 0 && "value" in this.filled;
  }

  async price(): Promise<WorkQuote | undefined> {
    if (!this.ready) return undefined;
    const data = this.filled.value;
    return this.asked(JSON.stringify(data), () => this.desk.quote(this.manifest.name, data));
  }

  /** Nothing is sent but what was priced, for at most that price. `any`: as in `Desk.run`. */
  async send(any: boolean): Promise<Run | undefined> {
    this.tried = true;
    if (!this.ready) return undefined;
    const data = this.filled.value;
    const known = this.known(JSON.stringify(data)) ?? (await this.price());
    if (!known) return undefined;
    const ceiling = this.limited(known);
    return ceiling && this.desk.run(this.manifest.name, data, { ...known, ceiling }, this.durable, any);
  }

  /** The price that goes along: the quoted one, or the visitor's own; nothing where that is unreadable. */
  limited(quote: WorkQuote): Money | undefined {
    if (this.limit.trim() === "") return quote.ceiling;
    const { asset } = quote.ceiling;
    const decimals = this.desk.wallet.assets?.find((row) => row.asset === asset)?.decimals ?? 0;
    const amount = parseShown(this.limit, decimals);
    return amount === undefined ? undefined : { asset, amount };
  }
}

const BLANK = formOf({});
const NO_ACCOUNT: Problem = { code: "", message: "no account to pay with", status: 0 };
const NO_RESULT: Problem = { code: "", message: "the realm never named it", status: 0 };

/** The whole as one box for JSON, checked as ever. */
function rawField(field: Field): Field {
  return { ...field, kind: "json", required: true, parts: [] };
}

function rawDraft(written: string): Draft {
  return { text: written, parts: [], more: "", file: "" };
}
