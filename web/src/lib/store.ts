// The conversations that this browser keeps, in IndexedDB. Each turn is a record of its own, and every
// write is one transaction that reads before it writes: two tabs never undo each other's work, and
// what one has erased the other does not bring back.
//
// Where the browser keeps nothing (a private window, a full disk) the records live in memory beside
// what was kept before, and `trouble` says so; with the first write that works again they are moved to
// where they stay. Nothing here knows a component or the realm.

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
  /** One after another: what is taken may just be being added. */
  #queueing: Promise<unknown> = Promise.resolve();
  #moving = false;
  #channel: BroadcastChannel | undefined;

  static async open(name = NAME, waitMs = OPEN_MS_MAX): Promise<Store> {
    const store = new Store();
    const opening = store.#open(name);
    try {
      store.#db = await inTime(opening, waitMs);
    } catch {
      store.#say("forbidden");
      // A machine that does much else may be slower than that, and it is kept then.
      opening.then((db) => store.#late(db)).catch(() => undefined);
    }
    if (typeof BroadcastChannel === "function") {
      store.#channel = new BroadcastChannel(`${name}.conversations`);
      store.#channel.onmessage = ({ data }) => store.onChange(typeof data === "string" ? data : "");
    }
    return store;
  }

  /** Async, because a browser that forbids it says so by an exception. */
  async #open(name: string): Promise<IDBPDatabase<Shape>> {
    return openDB<Shape>(name, 1, {
      upgrade(db) {
        db.createObjectStore("heads", { keyPath: "id" });
        const turns = db.createObjectStore("turns", { keyPath: "turn.key" });
        turns.createIndex("conversation", "conversation");
        turns.createIndex("open", "open");
      },
      terminated: () => this.#say("forbidden"),
    });
  }

  close(): void {
    this.#channel?.close();
    this.#db?.close();
  }

  /** The last changed first. */
  async heads(): Promise<Head[]> {
    const kept = await this.#read((db) => db.getAll("heads"), []);
    const all = new Map([...kept.map((head) => [head.id, this.#over(head)] as const), ...this.#heads]);
    return [...all.values()].sort((a, b) => b.changedAt - a.changedAt);
  }

  async head(id: string): Promise<Head | undefined> {
    const memory = this.#heads.get(id);
    if (memory) return memory;
    const kept = await this.#read((db) => db.get("heads", id), undefined);
    return kept && this.#over(kept);
  }

  /** As it is for this tab: with what could not be written. */
  #over(kept: Head): Head {
    const waiting = this.#waiting.get(kept.id) ?? [];
    const others = kept.queued.filter(({ id }) => !this.#used.has(id) && !waiting.some((one) => one.id === id));
    return { ...kept, ...this.#changes.get(kept.id), queued: [...others, ...waiting] };
  }

  /** The turns of a conversation in the order in which they were asked. */
  async turns(conversation: string): Promise<StoredTurn[]> {
    const kept = await this.#read((db) => db.getAllFromIndex("turns", "conversation", conversation), []);
    return this.#with(kept, (one) => one.conversation === conversation);
  }

  /** What is being answered, of whatever conversation. */
  async open(): Promise<StoredTurn[]> {
    const kept = await this.#read((db) => db.getAllFromIndex("turns", "open", 1), []);
    return this.#with(kept, (one) => one.open === 1);
  }

  async turn(key: string): Promise<StoredTurn | undefined> {
    return this.#turns.get(key) ?? (await this.#read((db) => db.get("turns", key), undefined));
  }

  #with(kept: StoredTurn[], isWanted: (one: StoredTurn) => boolean): StoredTurn[] {
    const all = new Map(kept.map((one) => [one.turn.key, one]));
    for (const [key, one] of this.#turns) if (isWanted(one)) all.set(key, one);
    return [...all.values()].sort((a, b) => a.turn.sentAt - b.turn.sentAt);
  }

  /** A conversation that was not there before. */
  async add(head: Head): Promise<void> {
    await this.#write(
      (db) => db.put("heads", head),
      () => this.#heads.set(head.id, head),
    );
    this.#tell(head.id);
  }

  /** Changes these fields and no others; what was erased stays erased. */
  async patch(id: string, changes: Changes): Promise<void> {
    const memory = this.#heads.get(id);
    if (memory) this.#heads.set(id, { ...memory, ...changes });
    else {
      await this.#write(
        (db) => changeHead(db, id, (known) => ({ ...known, ...changes })),
        () => this.#changes.set(id, { ...this.#changes.get(id), ...changes }),
      );
    }
    this.#tell(id);
  }

  async put(fresh: StoredTurn): Promise<void> {
    const { key } = fresh.turn;
    const remember = () => this.#turns.set(key, further(this.#turns.get(key), fresh));
    if (this.#heads.has(fresh.conversation)) remember();
    else {
      const kept = await this.#write(async (db) => {
        const change = db.transaction(["heads", "turns"], "readwrite");
        const turns = change.objectStore("turns");
        const head = await change.objectStore("heads").getKey(fresh.conversation);
        if (head !== undefined) await turns.put(further(await turns.get(key), fresh));
        await change.done;
      }, remember);
      if (kept) this.#turns.delete(key);
    }
    this.#tell(fresh.conversation);
  }

  /** Puts a question behind those that wait. */
  async addQueued(id: string, fresh: Queued): Promise<void> {
    const memory = this.#heads.get(id);
    if (memory) this.#heads.set(id, { ...memory, queued: [...memory.queued, fresh] });
    else {
      // Known here at once, also to who reads the conversation while it is being written.
      this.#waiting.set(id, [...(this.#waiting.get(id) ?? []), fresh]);
      await this.#inTurn(async () => {
        const kept = await this.#write((db) => changeHead(db, id, (known) => ({ ...known, queued: withQueued(known, [fresh]) })));
        if (kept) this.#forgetWaiting(id, fresh.id);
      });
    }
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
    const memory = this.#heads.get(id);
    if (memory) {
      const after = without(memory, queued);
      if (after) this.#heads.set(id, after);
      return after ? "taken" : "gone";
    }
    if (this.#forgetWaiting(id, queued)) return "taken";
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

  #forgetWaiting(id: string, queued: string): boolean {
    const before = this.#waiting.get(id) ?? [];
    const rest = before.filter((one) => one.id !== queued);
    if (rest.length > 0) this.#waiting.set(id, rest);
    else this.#waiting.delete(id);
    return rest.length < before.length;
  }

  #inTurn<T>(work: () => Promise<T>): Promise<T> {
    const done = this.#queueing.then(work);
    this.#queueing = done.catch(() => undefined);
    return done;
  }

  async erase(id: string): Promise<void> {
    for (const memory of [this.#heads, this.#changes, this.#waiting]) memory.delete(id);
    for (const [key, one] of this.#turns) if (one.conversation === id) this.#turns.delete(key);
    await this.#write(async (db) => {
      const change = db.transaction(["heads", "turns"], "readwrite");
      await change.objectStore("heads").delete(id);
      const turns = change.objectStore("turns");
      for (const key of await turns.index("conversation").getAllKeys(id)) await turns.delete(key);
      await change.done;
    });
    this.#tell(id);
  }

  async eraseAll(): Promise<void> {
    for (const memory of [this.#heads, this.#turns, this.#changes, this.#waiting]) memory.clear();
    await this.#write(async (db) => {
      const change = db.transaction(["heads", "turns"], "readwrite");
      await change.objectStore("heads").clear();
      await change.objectStore("turns").clear();
      await change.done;
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
    if (!this.#db) return otherwise;
    try {
      return await ask(this.#db);
    } catch {
      this.#say("forbidden");
      return otherwise;
    }
  }

  /** True where it is kept; otherwise `remember` keeps it as long as the page. */
  async #write(change: (db: IDBPDatabase<Shape>) => Promise<unknown>, remember?: () => void): Promise<boolean> {
    if (this.#db) {
      try {
        await change(this.#db);
        if (this.trouble !== "") await this.#move(this.#db);
        return true;
      } catch (cause) {
        const full = cause instanceof DOMException && cause.name === "QuotaExceededError";
        this.#say(full ? "full" : "forbidden");
      }
    }
    remember?.();
    return false;
  }

  async #late(db: IDBPDatabase<Shape>): Promise<void> {
    this.#db = db;
    await this.#move(db);
  }

  /** Moves what was said meanwhile to where it stays. Whatever is written from now on comes after it. */
  async #move(db: IDBPDatabase<Shape>): Promise<void> {
    if (this.#moving) return;
    this.#moving = true;
    const maps = [this.#heads, this.#turns, this.#changes, this.#waiting] as const;
    const [heads, turns, changes, waiting] = [new Map(maps[0]), new Map(maps[1]), new Map(maps[2]), new Map(maps[3])];
    const used = new Set(this.#used);
    for (const map of maps) map.clear();
    try {
      const change = db.transaction(["heads", "turns"], "readwrite");
      const done = change.done;
      // Awaited below; where a step before fails, that one tells.
      done.catch(() => undefined);
      const [shelf, store] = [change.objectStore("heads"), change.objectStore("turns")];
      for (const head of heads.values()) await shelf.put(head);
      for (const id of new Set([...changes.keys(), ...waiting.keys()])) {
        const known = await shelf.get(id);
        if (known) await shelf.put({ ...known, ...changes.get(id), queued: withQueued(known, waiting.get(id) ?? []) });
      }
      for (const head of used.size > 0 ? await shelf.getAll() : []) {
        const queued = head.queued.filter(({ id }) => !used.has(id));
        if (queued.length < head.queued.length) await shelf.put({ ...head, queued });
      }
      for (const [key, turn] of turns) {
        // One that another tab has erased stays so.
        if ((await shelf.getKey(turn.conversation)) !== undefined) await store.put(further(await store.get(key), turn));
      }
      await done;
      this.#say("");
    } catch {
      // What came while it was tried is newer.
      for (const [id, head] of heads) if (!this.#heads.has(id)) this.#heads.set(id, head);
      for (const [key, turn] of turns) this.#turns.set(key, further(turn, this.#turns.get(key) ?? turn));
      for (const [id, change] of changes) this.#changes.set(id, { ...change, ...this.#changes.get(id) });
      for (const [id, list] of waiting) this.#waiting.set(id, [...list, ...(this.#waiting.get(id) ?? [])]);
    } finally {
      this.#moving = false;
    }
  }

  #say(trouble: Trouble): void {
    this.trouble = trouble;
    this.onTrouble(trouble);
  }

  #tell(conversation: string): void {
    this.#channel?.postMessage(conversation);
  }
}

/** One transaction that reads before it writes. Nothing where the conversation was erased, or nothing changes. */
async function changeHead(db: IDBPDatabase<Shape>, id: string, how: (known: Head) => Head | undefined): Promise<void> {
  const change = db.transaction("heads", "readwrite");
  const known = await change.store.get(id);
  const after = known && how(known);
  if (after) await change.store.put(after);
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
