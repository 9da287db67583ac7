// The conversations that this browser keeps, in IndexedDB. Each turn is a record of its own, and every
// write is one transaction that reads before it writes: two tabs never undo each other's work, and
// what one has erased the other does not bring back.
//
// Where the browser keeps nothing (a private window, a full disk) the records live in memory beside
// what was kept before, and `trouble` says so. Nothing here knows a component or the realm.

import { openDB, type DBSchema, type IDBPDatabase } from "idb";
import { further, type Head, type StoredTurn } from "./stored";

interface Shape extends DBSchema {
  heads: { key: string; value: Head };
  turns: {
    key: string;
    value: StoredTurn;
    indexes: { conversation: string; open: number };
  };
}

export type Trouble = "" | "forbidden" | "full";

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
    const all = new Map([...kept.map((head) => [head.id, head] as const), ...this.#heads]);
    return [...all.values()].sort((a, b) => b.changedAt - a.changedAt);
  }

  async head(id: string): Promise<Head | undefined> {
    return this.#heads.get(id) ?? (await this.#read((db) => db.get("heads", id), undefined));
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
  async patch(id: string, changes: Partial<Head>): Promise<void> {
    const memory = this.#heads.get(id);
    if (memory) this.#heads.set(id, { ...memory, ...changes });
    else {
      await this.#write(async (db) => {
        const change = db.transaction("heads", "readwrite");
        const known = await change.store.get(id);
        if (known) await change.store.put({ ...known, ...changes });
        await change.done;
      });
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

  /** Takes a waiting question out. True for one caller only, of whatever tab. */
  async takeQueued(id: string, queued: string): Promise<boolean> {
    let taken = false;
    const without = (head: Head | undefined) => {
      const rest = head?.queued.filter((one) => one.id !== queued);
      taken = rest !== undefined && rest.length < (head?.queued.length ?? 0);
      return taken && head && rest ? { ...head, queued: rest } : undefined;
    };
    const memory = this.#heads.get(id);
    if (memory) {
      const after = without(memory);
      if (after) this.#heads.set(id, after);
    } else {
      await this.#write(async (db) => {
        const change = db.transaction("heads", "readwrite");
        const after = without(await change.store.get(id));
        if (after) await change.store.put(after);
        await change.done;
      });
    }
    this.#tell(id);
    return taken;
  }

  async erase(id: string): Promise<void> {
    this.#heads.delete(id);
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
    this.#heads.clear();
    this.#turns.clear();
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
        return true;
      } catch (cause) {
        const full = cause instanceof DOMException && cause.name === "QuotaExceededError";
        this.#say(full ? "full" : "forbidden");
      }
    }
    remember?.();
    return false;
  }

  /** Moves what was said meanwhile to where it stays. Whatever is written from now on comes after it. */
  async #late(db: IDBPDatabase<Shape>): Promise<void> {
    const change = db.transaction(["heads", "turns"], "readwrite");
    const [heads, turns] = [[...this.#heads.values()], [...this.#turns.values()]];
    this.#db = db;
    this.#heads.clear();
    this.#turns.clear();
    for (const head of heads) void change.objectStore("heads").put(head);
    for (const turn of turns) void change.objectStore("turns").put(turn);
    try {
      await change.done;
      this.#say("");
    } catch {
      for (const head of heads) this.#heads.set(head.id, head);
      for (const turn of turns) this.#turns.set(turn.turn.key, turn);
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

/** A database that another page holds back must not hold this page back. */
function inTime<T>(opening: Promise<T>, waitMs: number): Promise<T> {
  return new Promise((done, fail) => {
    const timer = setTimeout(() => fail(new Error("the browser's storage does not answer")), waitMs);
    opening.then(done, fail).finally(() => clearTimeout(timer));
  });
}
