// Where sound becomes words: on the realm, or on this device (kept in this browser); and whether hands-free
// listens now.

const ITEM = "mtor.voice.here";

let here = $state(kept() === "1");

/** Whoever transcribes asks each time. */
export function hearsHere(): boolean {
  return here;
}

let handsFree = $state(false);

/** Hands-free listens: nothing of the room goes to the realm without its word. */
export function isHandsFree(): boolean {
  return handsFree;
}

export function nowHandsFree(on: boolean): void {
  handsFree = on;
}

export function hearHere(on: boolean): void {
  here = on;
  try {
    localStorage.setItem(ITEM, on ? "1" : "0");
  } catch {
    // Without storage it holds as long as the page.
  }
}

function kept(): string | null {
  try {
    return localStorage.getItem(ITEM);
  } catch {
    return null;
  }
}
