// Where sound becomes words: on the realm, or on this device. Kept in this browser.

const ITEM = "mtor.voice.here";

let here = $state(kept() === "1");

/** Whoever transcribes asks each time. */
export function hearsHere(): boolean {
  return here;
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
