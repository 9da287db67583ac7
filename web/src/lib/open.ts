// Which question of this tab is still being answered, so that a page that is loaded again finds its
// answer and its bill. The intent's name only: no question and no answer is ever stored.

import { number, record, text } from "./conversation";

const OPEN_ITEM = "mtor.open";

export interface Open {
  intent: string;
  /** Who asked: nobody else may follow it. */
  account: string;
  /** Milliseconds since 1970. */
  askedAt: number;
}

export function keepOpen(open: Open): void {
  try {
    sessionStorage.setItem(OPEN_ITEM, JSON.stringify(open));
  } catch {
    // Without storage the answer is lost with the page.
  }
}

/** Forgets that question, or any: another may have been asked before the receipt of the first. */
export function dropOpen(intent?: string): void {
  if (intent && loadOpen()?.intent !== intent) return;
  try {
    sessionStorage.removeItem(OPEN_ITEM);
  } catch {
    // Nothing was stored.
  }
}

export function loadOpen(): Open | undefined {
  try {
    const fields = record(JSON.parse(sessionStorage.getItem(OPEN_ITEM) ?? "null"));
    const intent = text(fields["intent"]);
    const account = text(fields["account"]);
    const askedAt = number(fields["askedAt"]);
    return intent && account && askedAt ? { intent, account, askedAt } : undefined;
  } catch {
    return undefined;
  }
}
