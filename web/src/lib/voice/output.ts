// The page's way to the loudspeaker. Browsers let it sound only after a press of the visitor's, some only
// where it is opened in that press: where every answer is read aloud, each press makes it ready.

import { record } from "../conversation";

/** Where `Settings` are kept. */
export const VOICE_ITEM = "mtor.voice";

/** In which a browser takes a page to be used. */
const PRESSES = ["click", "keydown", "touchend"] as const;

export class Output {
  #context: AudioContext | undefined;

  /** Silent, where a browser wants a press first. */
  open(): AudioContext {
    if (!this.#context || this.#context.state === "closed") this.#context = new AudioContext({ latencyHint: "interactive" });
    if (this.#context.state !== "running") void this.#context.resume().catch(() => undefined);
    return this.#context;
  }

  /** No part of the rooms of voice: the first press may come before they are fetched. */
  readyOnPress(page: EventTarget = globalThis): void {
    const ready = () => {
      if (this.#context?.state !== "running" && readsAlways()) this.open();
    };
    for (const kind of PRESSES) page.addEventListener(kind, ready, { capture: true });
  }
}

/** The page's one. */
export const output = new Output();

export function keptVoice(): Record<string, unknown> {
  try {
    return record(JSON.parse(localStorage.getItem(VOICE_ITEM) ?? "{}"));
  } catch {
    return {};
  }
}

function readsAlways(): boolean {
  return keptVoice()["readAlways"] === true && typeof AudioContext === "function";
}
