// The files of a model that runs in the page: fetched from the realm once, kept in this browser by
// their hash, and checked each time before they are used. Runs in a worker; knows no model.

import { openDB, type IDBPDatabase } from "idb";

export interface WeightFile {
  name: string;
  bytes: number;
  /** In lower-case hex. */
  sha256: string;
}

export type WeightProblem = "fetch" | "broken";

export class WeightError extends Error {
  constructor(
    readonly problem: WeightProblem,
    message: string,
    options?: ErrorOptions,
  ) {
    super(message, options);
  }
}

/** Where they are kept between visits. A failure of either costs another fetch, nothing else. */
export interface Shelf {
  get(key: string): Promise<Uint8Array<ArrayBuffer> | undefined>;
  put(key: string, bytes: Uint8Array<ArrayBuffer>): Promise<void>;
  /** Removes all of a name but one. */
  keepOnly(prefix: string, key: string): Promise<void>;
}

export interface Bringing {
  /** The page's address. */
  base: string;
  model: string;
  files: readonly WeightFile[];
  shelf: Shelf;
  /** Of all of them together, those that were kept already among them. */
  onProgress(received: number, bytes: number): void;
  signal?: AbortSignal;
}

/** A line that gives nothing for so long is taken for dead. */
const SILENCE_MS_MAX = 30_000;

export async function bring(bringing: Bringing): Promise<Map<string, Uint8Array<ArrayBuffer>>> {
  const { files, onProgress } = bringing;
  const all = files.reduce((sum, { bytes }) => sum + bytes, 0);
  let before = 0;
  const found = new Map<string, Uint8Array<ArrayBuffer>>();
  for (const file of files) {
    const begun = before;
    const bytes = await one(bringing, file, (received) => onProgress(begun + received, all));
    before += file.bytes;
    onProgress(before, all);
    found.set(file.name, bytes);
  }
  return found;
}

/** Relative, as the realm serves it. */
export function pathOf(model: string, { name, sha256 }: WeightFile): string {
  return `v1/models/${encodeURIComponent(model)}/files/${encodeURIComponent(name)}?sha256=${sha256}`;
}

async function one({ base, model, shelf, signal }: Bringing, file: WeightFile, onReceived: (bytes: number) => void): Promise<Uint8Array<ArrayBuffer>> {
  const path = pathOf(model, file);
  const kept = await shelf.get(path).catch(() => undefined);
  if (kept && (await isIt(kept, file))) return kept;
  const bytes = await fetched(new URL(path, base), file, onReceived, signal);
  if (!(await isIt(bytes, file))) {
    throw new WeightError("broken", `${file.name} came with other bytes than the realm said: load the page again, or ask the realm's owner`);
  }
  await shelf
    .put(path, bytes)
    .then(() => shelf.keepOnly(path.replace(/\?.*/, ""), path))
    .catch(() => undefined);
  return bytes;
}

async function fetched(url: URL, file: WeightFile, onReceived: (bytes: number) => void, signal?: AbortSignal): Promise<Uint8Array<ArrayBuffer>> {
  const silent = new AbortController();
  let timer = setTimeout(() => silent.abort(), SILENCE_MS_MAX);
  try {
    // Kept by its hash on the shelf: the browser's own cache need not have it as well.
    const either = signal ? AbortSignal.any([signal, silent.signal]) : silent.signal;
    const response = await fetch(url, { cache: "no-store", credentials: "omit", signal: either });
    if (!response.ok || !response.body) throw new WeightError("fetch", `the realm answers ${response.status} for ${file.name}`);
    const bytes = new Uint8Array(file.bytes);
    let at = 0;
    for (const reader = response.body.getReader(); ; ) {
      const { done, value } = await reader.read();
      if (done) break;
      clearTimeout(timer);
      timer = setTimeout(() => silent.abort(), SILENCE_MS_MAX);
      if (at + value.length > bytes.length) {
        await reader.cancel();
        throw new WeightError("broken", `${file.name} is longer than the realm said`);
      }
      bytes.set(value, at);
      at += value.length;
      onReceived(at);
    }
    if (at < bytes.length) throw new WeightError("fetch", `${file.name} broke off after ${at} of ${bytes.length} bytes`);
    return bytes;
  } catch (cause) {
    if (cause instanceof WeightError || signal?.aborted) throw cause;
    throw new WeightError("fetch", `${file.name} does not come: the realm does not answer`, { cause });
  } finally {
    clearTimeout(timer);
  }
}

async function isIt(bytes: Uint8Array<ArrayBuffer>, file: WeightFile): Promise<boolean> {
  if (bytes.length !== file.bytes) return false;
  const hash = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
  return Array.from(hash, (byte) => byte.toString(16).padStart(2, "0")).join("") === file.sha256;
}

const NAME = "mtor-weights";

/** CacheStorage, else IndexedDB; where there is neither nothing is kept. */
export function shelfOf(base: string): Shelf {
  if (typeof caches !== "undefined") return inCaches(base);
  if (typeof indexedDB !== "undefined") return inDatabase();
  return { get: async () => undefined, put: async () => undefined, keepOnly: async () => undefined };
}

function inCaches(base: string): Shelf {
  const full = (key: string) => new URL(key, base).href;
  return {
    get: async (key) => {
      const found = await (await caches.open(NAME)).match(full(key));
      return found && new Uint8Array(await found.arrayBuffer());
    },
    put: async (key, bytes) => (await caches.open(NAME)).put(full(key), new Response(bytes)),
    keepOnly: async (prefix, key) => {
      const cache = await caches.open(NAME);
      const others = (await cache.keys()).filter(({ url }) => url.startsWith(full(prefix)) && url !== full(key));
      await Promise.all(others.map((other) => cache.delete(other)));
    },
  };
}

export function inDatabase(): Shelf {
  let opened: Promise<IDBPDatabase> | undefined;
  const open = () => (opened ??= openDB(NAME, 1, { upgrade: (database) => void database.createObjectStore("files") }));
  return {
    get: async (key) => (await (await open()).get("files", key)) as Uint8Array<ArrayBuffer> | undefined,
    put: async (key, bytes) => void (await (await open()).put("files", bytes, key)),
    keepOnly: async (prefix, key) => {
      const database = await open();
      for (const other of await database.getAllKeys("files")) {
        if (String(other).startsWith(prefix) && other !== key) await database.delete("files", other);
      }
    },
  };
}
