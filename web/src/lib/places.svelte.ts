// The places of the page, each at an address of its own behind `#/`: a place can be linked to, and
// the browser's way back leads from one to the other. What stands in a place is drawn by App.svelte.

/** In the order of the bar. A place stands here once there is something in it. */
export const PLACES = [
  { id: "ask", label: "Ask" },
  { id: "intents", label: "Intents" },
] as const;

export type PlaceId = (typeof PLACES)[number]["id"];

export interface Address {
  place: PlaceId;
  /** What follows the place: `#/ask/0f3a…` is one conversation. */
  rest: string;
}

/** An address that nobody knows leads to the first place. */
export function addressOf(hash: string): Address {
  const [, id = "", rest = ""] = /^#\/([a-z]+)(?:\/(.*))?$/.exec(hash) ?? [];
  const known = PLACES.find((place) => place.id === id);
  return known ? { place: known.id, rest: decode(rest) } : { place: PLACES[0].id, rest: "" };
}

export function hashOf(place: PlaceId, rest = ""): string {
  return rest ? `#/${place}/${encodeURIComponent(rest)}` : `#/${place}`;
}

function decode(part: string): string {
  try {
    return decodeURIComponent(part);
  } catch {
    return "";
  }
}

/** The address as it stands in the browser. */
export class Where {
  #address = $state.raw<Address>(addressOf(""));

  constructor() {
    this.#address = addressOf(location.hash);
    for (const event of ["hashchange", "popstate"]) addEventListener(event, () => (this.#address = addressOf(location.hash)));
  }

  get place(): PlaceId {
    return this.#address.place;
  }

  get rest(): string {
    return this.#address.rest;
  }

  /** Leads there at once; `quietly` without a step that the way back would take. */
  go(place: PlaceId, rest = "", quietly = false): void {
    const hash = hashOf(place, rest);
    if (location.hash === hash) return;
    // Not by `location.hash`, which tells of it later: what is typed meanwhile would go elsewhere.
    if (quietly) history.replaceState(null, "", hash);
    else history.pushState(null, "", hash);
    this.#address = addressOf(hash);
  }
}
