// How a visitor likes to speak and to be read to. Kept in this browser, for every conversation.

import { number, text } from "../conversation";
import { keptVoice, VOICE_ITEM } from "./output";

export const SPEED_MIN = 0.5;
export const SPEED_MAX = 2;
/** The voice that a realm takes where none is named. */
export const USUAL_VOICE = "af_heart";

/**
 * Of Kokoro, the realm's built-in voice: `a` is American, `b` British; `f` is a woman's, `m` a man's.
 * Another backend may have others, and refuses by name what it has not.
 */
export const VOICES: readonly string[] = [
  "af_heart", "af_alloy", "af_aoede", "af_bella", "af_jessica", "af_kore", "af_nicole", "af_nova", "af_river", "af_sarah", "af_sky",
  "am_adam", "am_echo", "am_eric", "am_fenrir", "am_liam", "am_michael", "am_onyx", "am_puck", "am_santa",
  "bf_alice", "bf_emma", "bf_isabella", "bf_lily", "bm_daniel", "bm_fable", "bm_george", "bm_lewis",
];

/** `Heart, American` */
export function voiceName(voice: string): string {
  const [, from, , name] = /^([ab])([fm])_(\w+)$/.exec(voice) ?? [];
  if (!from || !name) return voice;
  return `${name.charAt(0).toUpperCase()}${name.slice(1)}, ${from === "a" ? "American" : "British"}`;
}

export class Settings {
  /** What was spoken is sent without another look at it. */
  sendAtOnce = $state(false);
  /** Every answer is read aloud as it comes. */
  readAlways = $state(false);
  /** While an answer is read aloud the microphone is open, and speaking interrupts. */
  interrupts = $state(false);
  voice = $state(USUAL_VOICE);
  speed = $state(1);

  constructor() {
    this.#take(keptVoice());
  }

  #take(kept: Record<string, unknown>): void {
    this.sendAtOnce = kept["sendAtOnce"] === true;
    this.readAlways = kept["readAlways"] === true;
    this.interrupts = kept["interrupts"] === true;
    const voice = text(kept["voice"]);
    this.voice = voice && voice.length <= 64 ? voice : USUAL_VOICE;
    this.speed = Math.min(Math.max(number(kept["speed"]) ?? 1, SPEED_MIN), SPEED_MAX);
  }

  change(change: Partial<Pick<Settings, "sendAtOnce" | "readAlways" | "interrupts" | "voice" | "speed">>): void {
    const { sendAtOnce, readAlways, interrupts, voice, speed } = this;
    const all = { sendAtOnce, readAlways, interrupts, voice, speed, ...change };
    this.#take(all);
    try {
      localStorage.setItem(VOICE_ITEM, JSON.stringify(all));
    } catch {
      // Without storage it holds as long as the page.
    }
  }
}
