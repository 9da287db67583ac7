// The visitor's keys live in this browser and nowhere else. Storage may be forbidden (private
// windows, blocked cookies): the keys then live as long as the page.
//
// Accounts that were used before are kept, too: there may be money in them, and another realm may
// stand at the same address tomorrow and the first one again the day after.

import { list, record, text } from "./conversation";
import type { Keys } from "./realm";

export const KEYS_ITEM = "mtor.keys";
const FORMER_ITEM = "mtor.former";
const FORMER_MAX = 20;

let memory: Keys | undefined;
let memoryFormer: Keys[] = [];

/** What this browser keeps, or, where it keeps nothing, this page. */
export function loadKeys(): Keys | undefined {
  const found = read(KEYS_ITEM);
  return found ? parseKeys(found) : memory;
}

/** What another tab has left: nothing, if it forgot the account. */
export function followKeys(): Keys | undefined {
  const found = read(KEYS_ITEM);
  if (found !== undefined) memory = parseKeys(found);
  return memory;
}

/** False where the keys will not outlive the page. The account before becomes a former one. */
export function saveKeys(keys: Keys): boolean {
  const before = loadKeys();
  const others = [...(before ? [before] : []), ...formerKeys()];
  const former = others.filter((other, at) => {
    const first = others.findIndex((same) => same.account === other.account) === at;
    return first && other.account !== keys.account;
  });
  memory = keys;
  memoryFormer = former.slice(0, FORMER_MAX);
  const written = write(KEYS_ITEM, JSON.stringify(keys));
  return write(FORMER_ITEM, JSON.stringify(memoryFormer)) && written;
}

/** Keeps accounts that were brought along beside those there are; the one in use stays. */
export function keepFormer(more: readonly Keys[]): boolean {
  const used = loadKeys();
  const known = formerKeys();
  const fresh = more.filter(({ account }) => account !== used?.account && !known.some((other) => other.account === account));
  memoryFormer = [...known, ...fresh].slice(0, FORMER_MAX);
  return write(FORMER_ITEM, JSON.stringify(memoryFormer));
}

/** Puts a secret key beside the API key of its account. False where that account is not kept here. */
export function keepSecret(account: string, secret_key: string): boolean {
  const used = loadKeys();
  const former = formerKeys();
  if (used?.account !== account && !former.some((other) => other.account === account)) return false;
  const filled = (keys: Keys) => (keys.account === account ? { ...keys, secret_key } : keys);
  if (used?.account === account) {
    memory = filled(used);
    write(KEYS_ITEM, JSON.stringify(memory));
  }
  memoryFormer = former.map(filled);
  write(FORMER_ITEM, JSON.stringify(memoryFormer));
  return true;
}

/** The newest first. */
export function formerKeys(): Keys[] {
  const found = read(FORMER_ITEM);
  if (!found) return memoryFormer;
  try {
    return list(JSON.parse(found)).flatMap((item) => parseKeys(JSON.stringify(item)) ?? []);
  } catch {
    return [];
  }
}

/** Forgets the account in use; the former ones stay. */
export function forgetKeys(): void {
  memory = undefined;
  try {
    localStorage.removeItem(KEYS_ITEM);
  } catch {
    // Nothing was stored.
  }
}

export function parseKeys(stored: string): Keys | undefined {
  let fields: Record<string, unknown>;
  try {
    fields = record(JSON.parse(stored));
  } catch {
    return undefined;
  }
  const account = text(fields["account"]);
  const api_key = text(fields["api_key"]);
  const secret_key = text(fields["secret_key"]);
  if (!account || !api_key) return undefined;
  return secret_key ? { account, api_key, secret_key } : { account, api_key };
}

/** `undefined` where storage is forbidden, empty where nothing is kept. */
function read(item: string): string | undefined {
  try {
    return localStorage.getItem(item) ?? "";
  } catch {
    return undefined;
  }
}

function write(item: string, value: string): boolean {
  try {
    localStorage.setItem(item, value);
    return true;
  } catch {
    return false;
  }
}
