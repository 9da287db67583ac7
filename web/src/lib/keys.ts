// The visitor's keys live in this browser and nowhere else. Storage may be forbidden (private
// windows, blocked cookies): the keys then live as long as the page.

import { record, text } from "./conversation";
import type { Keys } from "./realm";

export const KEYS_ITEM = "mtor.keys";
let memory: Keys | undefined;

export function loadKeys(): Keys | undefined {
  try {
    const found = localStorage.getItem(KEYS_ITEM);
    if (found !== null) return parseKeys(found);
  } catch {
    // Storage is forbidden: what this page holds is all there is.
  }
  return memory;
}

/** False where the keys will not outlive the page. */
export function saveKeys(keys: Keys): boolean {
  memory = keys;
  try {
    localStorage.setItem(KEYS_ITEM, JSON.stringify(keys));
    return true;
  } catch {
    return false;
  }
}

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
