// What is being written in this tab, so that a page that is loaded again has it still. It lives as
// long as the tab; what belongs to a conversation is kept with that one, too.

import { list, record, text, type Attached } from "./conversation";

const DRAFT_ITEM = "mtor.draft";

export interface Draft {
  /** Of a conversation, or empty before there is one. */
  id: string;
  draft: string;
  attached: Attached[];
}

export function keepDraft(draft: Draft): void {
  if (draft.draft === "" && draft.attached.length === 0) return dropDraft();
  try {
    sessionStorage.setItem(DRAFT_ITEM, JSON.stringify(draft));
  } catch {
    // Without storage it is lost with the page.
  }
}

export function dropDraft(): void {
  try {
    sessionStorage.removeItem(DRAFT_ITEM);
  } catch {
    // Nothing was stored.
  }
}

export function loadDraft(id: string): Draft | undefined {
  try {
    const fields = record(JSON.parse(sessionStorage.getItem(DRAFT_ITEM) ?? "null"));
    if (fields["id"] !== id) return undefined;
    const attached = list(fields["attached"]).flatMap((item) => {
      const [name, body] = [text(record(item)["name"]), text(record(item)["text"])];
      return name && body ? [{ name, text: body }] : [];
    });
    return { id, draft: text(fields["draft"]) ?? "", attached };
  } catch {
    return undefined;
  }
}
