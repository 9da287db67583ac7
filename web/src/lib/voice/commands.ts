// Which command is this? Pure: what was heard behind the wake word, and what the realm can do, go in.
// A command is the whole of what was said; "stop the clock" is a question. Nothing here sends anything.

import { isTrusted, type Manifest, type Offer } from "../realm";
import { distanceOf, soundOf } from "./wake";

export type Plain = "stop" | "repeat" | "cancel" | "help" | "send" | "new conversation" | "undo";

export type Command = { kind: "help" } | { kind: "undo" } | Doable;

/** What changes something elsewhere. */
export type Doable = { kind: Exclude<Plain, "help" | "undo"> } | { kind: "ask"; intent: string; text: string };

/** In the words of people; the first of each is the one that help names. */
export const PHRASES: Record<Plain, readonly string[]> = {
  stop: ["stop", "stop it", "stop that", "stop talking", "stop reading", "be quiet", "quiet", "silence"],
  repeat: ["repeat", "repeat that", "repeat it", "say that again", "say it again", "read it again", "read that again"],
  cancel: ["cancel", "cancel that", "cancel it", "never mind", "nevermind", "forget it", "forget that"],
  help: ["help", "what can i say", "what are the commands"],
  send: ["send", "send it", "send that", "send the question"],
  "new conversation": ["new conversation", "start a new conversation", "open a new conversation", "new chat", "start a new chat"],
  undo: ["undo", "undo that", "undo it", "take it back", "take that back"],
};

/** Around a command. */
const POLITE = /^(please|now please)\s+|\s+(please|now|now please|thanks|thank you)$/g;

const BY_WORDS = new Map<string, Plain>();
for (const [kind, phrases] of Object.entries(PHRASES)) {
  for (const phrase of phrases) BY_WORDS.set(phrase, kind as Plain);
}

/** `intents`: those that take a text and are served now. */
export function commandOf(said: string, intents: readonly string[]): Command | undefined {
  const words = spoken(said).replace(POLITE, "");
  const kind = BY_WORDS.get(words);
  return kind ? { kind } : asked(said, intents);
}

function spoken(text: string): string {
  return text.toLowerCase().replace(/[’']/g, "").replace(/[^\p{L}\p{N}]+/gu, " ").trim();
}

/** "ask echo hello there", also heard as "asks": the name by its sound, as many words as it has. */
function asked(said: string, intents: readonly string[]): Command | undefined {
  const [, rest] = /^\W*(?:(?:now\s+)?please[\s,]+)?ask(?:s|ed)?\b[\s,:]*(.*)$/is.exec(said) ?? [];
  if (rest === undefined) return undefined;
  const words = [...rest.matchAll(/[\p{L}\p{N}][\p{L}\p{N}'’]*/gu)];
  let best: { distance: number; command: Command } | undefined;
  for (const intent of intents) {
    const name = spoken(intent);
    const count = name.split(" ").length;
    const behind = words[count];
    const text = behind ? rest.slice(behind.index).trim() : "";
    if (words.length < count || text === "") continue;
    const letters = name.replaceAll(" ", "");
    const heard = spoken(words.slice(0, count).map(([word]) => word).join("")).replaceAll(" ", "");
    const distance = nameDistance(heard, letters);
    if (distance !== undefined && (!best || distance < best.distance)) best = { distance, command: { kind: "ask", intent, text } };
  }
  return best?.command;
}

/** An intent's name is nearly heard as well, if it has so many sounds; one letter of a shorter one may be another that sounds so. */
const NAME_DISTANCE = 1;
const NAME_SOUNDS = 7;

function nameDistance(heard: string, name: string): number | undefined {
  const key = soundOf(name);
  const distance = distanceOf(soundOf(heard), key, NAME_DISTANCE);
  if (key.length >= NAME_SOUNDS) return distance <= NAME_DISTANCE ? distance : undefined;
  const others = [...heard].filter((letter, at) => letter !== name[at]).length;
  return distance === 0 && heard.length === name.length && others <= 1 ? others : undefined;
}

/** How a sentence becomes the data of an intent; nothing for one that takes no text. */
export function dataOf(manifest: Manifest, text: string): Record<string, unknown> | undefined {
  const { parameters } = manifest;
  const properties = record(parameters["properties"]);
  const required = Array.isArray(parameters["required"]) ? parameters["required"] : [];
  // Whatever JSON it is given.
  if (required.length === 0 && parameters["type"] === undefined) return { text };
  const [name] = required;
  if (required.length !== 1 || typeof name !== "string") return undefined;
  const schema = record(properties[name]);
  const types = [schema["type"]].flat();
  const packed = ["format", "contentEncoding", "contentMediaType", "enum", "const", "pattern"].some((key) => key in schema);
  return types.includes("string") && !packed ? { [name]: text } : undefined;
}

/** The names of those that take a text and are served now. */
export function textIntents(manifests: readonly Manifest[], offers: ReadonlyMap<string, Offer>): string[] {
  const served = ({ name }: Manifest) => {
    const offer = offers.get(name);
    // What is said aloud is no consent to strangers.
    return offer !== undefined && isTrusted(offer) && offer.slots > 0;
  };
  return manifests.filter((one) => served(one) && (one.name === "chat" || dataOf(one, ""))).map(({ name }) => name);
}

function record(given: unknown): Record<string, unknown> {
  return typeof given === "object" && given !== null && !Array.isArray(given) ? (given as Record<string, unknown>) : {};
}
