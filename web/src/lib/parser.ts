// The markdown parser is a chunk of its own: the first view does without it. Until it is there, and
// where it cannot be had, answers are shown as they were written.

import type { Parser } from "./unfolding";

let coming: Promise<(Parser & { PIECE_CHARS_MAX: number }) | undefined> | undefined;

export function loadParser() {
  return (coming ??= fetched());
}

async function fetched() {
  try {
    return await import("./markdown");
  } catch {
    // Asked again with the next answer.
    coming = undefined;
    return undefined;
  }
}
