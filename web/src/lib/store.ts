// The conversations that this browser keeps, in IndexedDB. Each turn is a record of its own, and every
// write is one transaction that reads before it writes: two tabs never undo each other's work, and
// what one has erased the other does not bring back.
//
// Where the browser keeps nothing (a private window, a full disk, a storage that it has closed) the
// records live in memory beside what was kept before, and `trouble` says so; with the first write that
// works again they are moved to where they stay, and leave memory when they are there. Of one tab one
// change is made after another, the move with it: none sees a record in neither place. Nothing here
// knows a component or the realm.

import { openDB, type DBSchema, type IDBPDatabase } from "idb";
import { further, type Head, type Queued, type StoredTurn } from "./stored";

interface Shape extends DBSchema {
  heads: { key: string; value: Head };
  turns: {
    key: string;
    value: StoredTurn;
    indexes: { conversation: string; open: number };
  };
}

export type Trouble = "" | "forbidden" | "full";

/** Fields of a conversation. What waits in it is added and taken one by one: two tabs may do so at once. */
export type Changes = Partial<Omit<Head, "id" | "queued">>;
/** `unknown` where the browser's storage does not say: the caller's copy is all there is. */
export type Taking = "taken" | "gone" | "unknown";

/** What a change was about; empty for all of it. */
export type Listener = (conversation: string) => void;

const NAME = "mtor";
const OPEN_MS_MAX = 4_000;
/** Before a storage that the browser has closed is opened anew: at first, and at most. */
const REOPEN_MS = 500;
const REOPEN_MS_MAX = 60_000;
/** Openings in a row after which nothing could be written. */
export const REOPENS_MAX = 12;

export class Store {
  trouble: Trouble = "";
  /** Empty where it is over: what was kept before is here now. */
  onTrouble: (trouble: Trouble) => void = () => undefined;
  /** Another tab has changed something. */
  onChange: Listener = () => undefined;

  #db: IDBPDatabase<Shape> | undefined;
  #heads = new Map<string, Head>();
  #turns = new Map<string, StoredTurn>();
  /** What could not be written of conversations that are kept. */
  #changes = new Map<string, Changes>();
  /** Waiting questions, by conversation, that no storage holds (yet): no other tab knows of them. */
  #waiting = new Map<string, Queued[]>();
  /** Waiting questions that were used here while the storage could not be told so. */
  #used = new Set<string>();
  /** The last of the changes, which are made one after another. */
  #changing: Promise<unknown> = Promise.resolve();
  #name: string;
  #reopens = 0;
  #reopening: ReturnType<typeof setTimeout> | undefined;
  #closed = false;
  #channel: BroadcastChannel | undefined;

  private constructor(name: string) {
    this.#name = name;
  }

  static async open(name = NAME, waitMs = OPEN_MS_MAX): Promise<Store> {
    const store = new Store(name);
    const opening = store.#open();
    try {
      store.#db = await inTime(opening, waitMs);
    } catch {
      store.#say("forbidden");
      // A machine that does much else may be slower than that, and it is kept then.
      store.#whenOpened(opening);
    }
    if (typeof BroadcastChannel === "function") {
      store.#channel = new BroadcastChannel(`${name}.conversations`);
      store.#channel.onmessage = ({ data }) => store.onChange(typeof data === "string" ? data : "");
    }
    return store;
  }

  /** Async, because a browser that forbids it says so by an exception. */
  async #open(): Promise<IDBPDatabase<Shape>> {
    const db: IDBPDatabase<Shape> = await openDB<Shape>(this.#name, 1, {
      upgrade(db) {
        db.createObjectStore("heads", { keyPath: "id" });
        const turns = db.createObjectStore("turns", { keyPath: "turn.key" });
        turns.createIndex("conversation", "conversation");
        turns.createIndex("open", "open");
      },
      terminated: () => {
        this.#say("forbidden");
        this.#lost(db);
      },
    });
    return db;
  }

  #whenOpened(opening: Promise<IDBPDatabase<Shape>>): void {
    opening.then((db) => this.#late(db)).catch(() => this.#openAnew());
  }

  /** The connection is dead, whoever noticed it first. */
  #lost(db: IDBPDatabase<Shape>): void {
    if (this.#db !== db) return;
    this.#db = undefined;
    db.close();
    this.#openAnew();
  }

  /** Later and later: what closes again and again costs next to nothing, and in the end nothing. */
  #openAnew(): void {
    if (this.#closed || this.#reopens >= REOPENS_MAX) return;
    const waitMs = Math.min(REOPEN_MS * 2 ** this.#reopens, REOPEN_MS_MAX);
    this.#reopens += 1;
    this.#reopening = setTimeout(() => this.#whenOpened(this.#open()), waitMs);
  }

  close(): void {
    this.#closed = true;
    clearTimeout(this.#reopening);
    this.#channel?.close();
    this.#channel = undefined;
    this.#db?.close();
    this.#db = undefined;
  }

  /** The last changed first. */
  async heads(): Promise<Head[]> {
    const kept = await this.#read((db) => db.getAll("heads"), []);
    const all = new Map([...kept.map((head) => [head.id, head] as const), ...this.#heads]);
    return [...all.values()].map((head) => this.#over(head)).sort((a, b) => b.changedAt - a.changedAt);
  }

  async head(id: string): Promise<Head | undefined> {
    const known = this.#heads.get(id) ?? (await this.#read((db) => db.get("heads", id), undefined));
    return known && this.#over(known);
  }

  /** As it is for this tab: with what could not be written. */
  #over(known: Head): Head {
    const waiting = this.#waiting.get(known.id) ?? [];
    const others = known.queued.filter(({ id }) => !this.#used.has(id) && !waiting.some((one) => one.id === id));
    return { ...known, ...this.#changes.get(known.id), queued: [...others, ...waiting] };
  }

  /** The turns of a conversation in the order in which they were asked. */
  async turns(conversation: string): Promise<StoredTurn[]> {
    return (await this.whole(conversation)) ?? [];
  }

  /** As `turns`, but nothing where some of them may be kept and cannot be read. */
  async whole(conversation: string): Promise<StoredTurn[] | undefined> {
    const kept = await this.#read((db) => db.getAllFromIndex("turns", "conversation", conversation), undefined);
    if (!kept && !this.#heads.has(conversation)) return undefined;
    return this.#with(kept ?? [], (one) => one.conversation === conversation);
  }

  /** What is being answered, of whatever conversation. */
  async open(): Promise<StoredTurn[]> {
    const kept = await this.#read((db) => db.getAllFromIndex("turns", "open", 1), []);
    return this.#with(kept, (one) => one.open === 1);
  }

  async turn(key: string): Promise<StoredTurn | undefined> {
    const kept = await this.#read((db) => db.get("turns", key), undefined);
    const memory = this.#turns.get(key);
    return memory ? further(kept, memory) : kept;
  }

  #with(kept: StoredTurn[], isWanted: (one: StoredTurn) => boolean): StoredTurn[] {
    const all = new Map(kept.map((one) => [one.turn.key, one]));
    for (const [key, one] of this.#turns) if (isWanted(one)) all.set(key, further(all.get(key), one));
    return [...all.values()].sort((a, b) => a.turn.sentAt - b.turn.sentAt);
  }

  /** A conversation that was not there before. */
  async add(head: Head): Promise<void> {
    await this.#inTurn(() =>
      this.#write(
        (db) => db.put("heads", head),
        () => this.#heads.set(head.id, head),
      ),
    );
    this.#tell(head.id);
  }

  /** Changes these fields and no others; what was erased stays erased. */
  async patch(id: string, changes: Changes): Promise<void> {
    await this.#inTurn(async () => {
      const memory = this.#heads.get(id);
      if (memory) this.#heads.set(id, { ...memory, ...changes });
      else {
        await this.#write(
          (db) => changeHead(db, id, (known) => ({ ...known, ...changes })),
          () => this.#changes.set(id, { ...this.#changes.get(id), ...changes }),
        );
      }
    });
    this.#tell(id);
  }

  async put(fresh: StoredTurn): Promise<void> {
    const { conversation, turn } = fresh;
    const remember = () => this.#turns.set(turn.key, further(this.#turns.get(turn.key), fresh));
    await this.#inTurn(async () => {
      if (this.#heads.has(conversation)) remember();
      else await this.#write((db) => changeTurn(db, fresh), remember);
    });
    this.#tell(conversation);
  }

  /** Puts a question behind those that wait. */
  async addQueued(id: string, fresh: Queued): Promise<void> {
    // Known here at once, also to who reads the conversation while it is being written.
    this.#waiting.set(id, [...(this.#waiting.get(id) ?? []), fresh]);
    await this.#inTurn(async () => {
      // Moved already, or erased; or it is moved with its conversation.
      if (!this.#waits(id, fresh.id) || this.#heads.has(id)) return;
      const kept = await this.#write((db) => changeHead(db, id, (known) => ({ ...known, queued: withQueued(known, [fresh]) })));
      if (kept) this.#forgetWaiting(id, fresh.id);
    });
    this.#tell(id);
  }

  /** Takes a waiting question out. `gone` for all but one caller, of whatever tab, as far as that can be told. */
  async takeQueued(id: string, queued: string): Promise<Taking> {
    const taking = await this.#inTurn(() => this.#take(id, queued));
    this.#tell(id);
    return taking;
  }

  async #take(id: string, queued: string): Promise<Taking> {
    if (this.#used.has(queued)) return "gone";
    if (this.#forgetWaiting(id, queued)) return "taken";
    const memory = this.#heads.get(id);
    if (memory) {
      const after = without(memory, queued);
      if (after) this.#heads.set(id, after);
      return after ? "taken" : "gone";
    }
    let taken = false;
    const kept = await this.#write((db) =>
      changeHead(db, id, (known) => {
        const after = without(known, queued);
        taken = after !== undefined;
        return after;
      }),
    );
    if (kept) return taken ? "taken" : "gone";
    this.#used.add(queued);
    return "unknown";
  }

  #waits(id: string, queued: string): boolean {
    return this.#waiting.get(id)?.some((one) => one.id === queued) ?? false;
  }

  #forgetWaiting(id: string, queued: string): boolean {
    const waited = this.#waits(id, queued);
    const rest = (this.#waiting.get(id) ?? []).filter((one) => one.id !== queued);
    if (rest.length > 0) this.#waiting.set(id, rest);
    else this.#waiting.delete(id);
    return waited;
  }

  #inTurn<T>(change: () => Promise<T>): Promise<T> {
    const done = this.#changing.then(change);
    this.#changing = done.catch(() => undefined);
    return done;
  }

  async erase(id: string): Promise<void> {
    await this.#inTurn(async () => {
      for (const memory of [this.#heads, this.#changes, this.#waiting]) memory.delete(id);
      for (const [key, one] of this.#turns) if (one.conversation === id) this.#turns.delete(key);
      await this.#write(async (db) => {
        const change = db.transaction(["heads", "turns"], "readwrite");
        await change.objectStore("heads").delete(id);
        const turns = change.objectStore("turns");
        for (const key of await turns.index("conversation").getAllKeys(id)) await turns.delete(key);
        await change.done;
      });
    });
    this.#tell(id);
  }

  async eraseAll(): Promise<void> {
    await this.#inTurn(async () => {
      for (const memory of [this.#heads, this.#turns, this.#changes, this.#waiting]) memory.clear();
      await this.#write(async (db) => {
        const change = db.transaction(["heads", "turns"], "readwrite");
        await change.objectStore("heads").clear();
        await change.objectStore("turns").clear();
        await change.done;
      });
    });
    this.#tell("");
  }

  /** Conversations with these words in a question or an answer; one record is in memory at a time. */
  async search(words: string): Promise<Set<string>> {
    const wanted = words.toLowerCase();
    const found = new Set<string>();
    const look = ({ conversation, turn }: StoredTurn) => {
      if (found.has(conversation)) return;
      if (`${turn.question}\n${turn.text}`.toLowerCase().includes(wanted)) found.add(conversation);
    };
    for (const one of this.#turns.values()) look(one);
    await this.#read(async (db) => {
      let cursor = await db.transaction("turns").store.openCursor();
      while (cursor) {
        look(cursor.value);
        cursor = await cursor.continue();
      }
    }, undefined);
    return found;
  }

  async #read<T>(ask: (db: IDBPDatabase<Shape>) => Promise<T>, otherwise: T): Promise<T> {
    const db = this.#db;
    if (!db) return otherwise;
    try {
      return await ask(db);
    } catch (cause) {
      this.#failed(db, cause);
      return otherwise;
    }
  }

  /** True where it is kept; otherwise `remember` keeps it as long as the page. */
  async #write(change: (db: IDBPDatabase<Shape>) => Promise<unknown>, remember?: () => void): Promise<boolean> {
    const db = this.#db;
    if (db) {
      try {
        await change(db);
        this.#reopens = 0;
        if (this.trouble !== "") await this.#move(db);
        return true;
      } catch (cause) {
        this.#failed(db, cause);
      }
    }
    remember?.();
    return false;
  }

  #failed(db: IDBPDatabase<Shape>, cause: unknown): void {
    const name = cause instanceof DOMException ? cause.name : "";
    this.#say(name === "QuotaExceededError" ? "full" : "forbidden");
    // Closed, and nobody has said so.
    if (name === "InvalidStateError") this.#lost(db);
  }

  async #late(db: IDBPDatabase<Shape>): Promise<void> {
    if (this.#closed) return db.close();
    this.#db = db;
    await this.#inTurn(() => this.#move(db));
  }

  /** Moves what was said meanwhile to where it stays. A change has its turn when this is over. */
  async #move(db: IDBPDatabase<Shape>): Promise<void> {
    const waiting = new Map(this.#waiting);
    try {
      await moveMemory(db, { heads: this.#heads, turns: this.#turns, changes: this.#changes, waiting, used: this.#used });
    } catch (cause) {
      return this.#failed(db, cause);
    }
    for (const memory of [this.#heads, this.#turns, this.#changes, this.#used]) memory.clear();
    // More may have come to wait.
    for (const [id, list] of waiting) for (const one of list) this.#forgetWaiting(id, one.id);
    this.#say("");
  }

  #say(trouble: Trouble): void {
    this.trouble = trouble;
    this.onTrouble(trouble);
  }

  #tell(conversation: string): void {
    this.#channel?.postMessage(conversation);
  }
}

/** What is in memory alone. */
interface Memory {
  heads: ReadonlyMap<string, Head>;
  turns: ReadonlyMap<string, StoredTurn>;
  changes: ReadonlyMap<string, Changes>;
  waiting: ReadonlyMap<string, Queued[]>;
  used: ReadonlySet<string>;
}

/** All of it, or nothing. What another tab has erased stays so. */
async function moveMemory(db: IDBPDatabase<Shape>, memory: Memory): Promise<void> {
  const change = db.transaction(["heads", "turns"], "readwrite");
  const done = change.done;
  // Awaited below; where a step before fails, that one tells.
  done.catch(() => undefined);
  const [heads, turns] = [change.objectStore("heads"), change.objectStore("turns")];
  for (const head of memory.heads.values()) await heads.put(head);
  for (const id of new Set([...memory.changes.keys(), ...memory.waiting.keys()])) {
    const known = await heads.get(id);
    if (known) await heads.put({ ...known, ...memory.changes.get(id), queued: withQueued(known, memory.waiting.get(id) ?? []) });
  }
  for (const head of memory.used.size > 0 ? await heads.getAll() : []) {
    const queued = head.queued.filter(({ id }) => !memory.used.has(id));
    if (queued.length < head.queued.length) await heads.put({ ...head, queued });
  }
  for (const [key, one] of memory.turns) {
    if ((await heads.getKey(one.conversation)) !== undefined) await turns.put(further(await turns.get(key), one));
  }
  await done;
}

/** One transaction that reads before it writes. Nothing where the conversation was erased, or nothing changes. */
async function changeHead(db: IDBPDatabase<Shape>, id: string, how: (known: Head) => Head | undefined): Promise<void> {
  const change = db.transaction("heads", "readwrite");
  const known = await change.store.get(id);
  const after = known && how(known);
  if (after) await change.store.put(after);
  await change.done;
}

/** As `changeHead`, for a turn. */
async function changeTurn(db: IDBPDatabase<Shape>, fresh: StoredTurn): Promise<void> {
  const change = db.transaction(["heads", "turns"], "readwrite");
  const turns = change.objectStore("turns");
  const head = await change.objectStore("heads").getKey(fresh.conversation);
  if (head !== undefined) await turns.put(further(await turns.get(fresh.turn.key), fresh));
  await change.done;
}

function withQueued(head: Head, fresh: readonly Queued[]): Queued[] {
  return [...head.queued, ...fresh.filter(({ id }) => !head.queued.some((one) => one.id === id))];
}

function without(head: Head, queued: string): Head | undefined {
  const rest = head.queued.filter((one) => one.id !== queued);
  return rest.length < head.queued.length ? { ...head, queued: rest } : undefined;
}

/** A database that another page holds back must not hold this page back. */
function inTime<T>(opening: Promise<T>, waitMs: number): Promise<T> {
  return new Promise((done, fail) => {
    const timer = setTimeout(() => fail(new Error("the browser's storage does not answer")), waitMs);
    opening.then(done, fail).finally(() => clearTimeout(timer));
  });
}
