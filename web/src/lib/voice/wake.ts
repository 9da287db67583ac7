// Is this utterance addressed to the page, and what is left of it? Pure.
//
// The rule. An utterance counts if it begins with the wake word, or with a near one; one word of
// greeting may stand before it. Its first words are run together (one, two … as many as the wake word
// has) and compared by their sound: a key of their letters, in which every run of vowels is one sound and
// letters that sound alike are one (`soundOf`). Between two keys there is a distance: a sound more or less
// costs one, a sound instead of one like it (`ALIKE`) one, instead of any other two.
//   - At a distance of none it is the word.
//   - A near word is one within a seventh of the wake word's sounds, rounded down: one for "computer", none
//     for short words. It counts only where the speaker paused: a comma, a full stop or the end follows it.
//     "Computers, go on" calls; "Computers are slow" is a sentence.
//   - "com puter" is heard as two: one word more than the wake word has is the word letter for letter, and
//     near where it only sounds so and none of its parts is a word that sentences are made of. "Compute our
//     taxes" and "Camp outer space" call nobody.

/** As heard, what the wake word may be made of. */
const WORDS_MAX = 3;
const LETTERS_MAX = 20;
/** Sounds of its key: what is shorter is heard in everything. */
const SOUNDS_MIN = 4;
/** So many sounds of the wake word allow a distance of one. */
const SOUNDS_A_POINT = 7;

export const DEFAULT_WAKE = "computer";
export const WAKE_FORM = `1 to ${WORDS_MAX} English words of letters alone, together at least ${SOUNDS_MIN} sounds long`;

const GREETINGS = new Set(["hey", "hi", "hello", "ok", "okay", "oh"]);

export interface Wake {
  /** As it was written, in lower case. */
  words: string;
  count: number;
  key: string;
  /** The largest distance of a near word. */
  near: number;
}

/** The wake word of what somebody wrote; nothing where it does not have the form. */
export function wakeOf(written: string): Wake | undefined {
  const words = written.trim().toLowerCase().split(/\s+/);
  if (words.length > WORDS_MAX || !words.every((word) => /^[a-z]+$/.test(word) && word.length <= LETTERS_MAX)) return undefined;
  // It would be taken for the greeting before it.
  if (GREETINGS.has(words[0] ?? "")) return undefined;
  const key = soundOf(words.join(""));
  if (key.length < SOUNDS_MIN) return undefined;
  return { words: words.join(" "), count: words.length, key, near: Math.floor(key.length / SOUNDS_A_POINT) };
}

/** What was said behind the wake word, empty where that was all; nothing where it was not addressed. */
export function addressed(utterance: string, wake: Wake): string | undefined {
  const words = wordsOf(utterance);
  const from = GREETINGS.has(words[0]?.text ?? "") ? 1 : 0;
  const end = behind(words, from, wake) ?? (from > 0 ? behind(words, 0, wake) : undefined);
  if (end === undefined) return undefined;
  // Called twice, it is called once.
  const again = said(words.slice(end, end + wake.count), wake) === 0 ? end + wake.count : end;
  const rest = words[again];
  return rest ? utterance.slice(rest.at).trim() : "";
}

/** The number of words up to the end of the wake word that begins with word `from`. */
function behind(words: readonly Word[], from: number, wake: Wake): number | undefined {
  let best: { distance: number; end: number } | undefined;
  for (let count = 1; count <= wake.count + 1 && from + count <= words.length; count += 1) {
    const distance = said(words.slice(from, from + count), wake);
    if (distance !== undefined && (!best || distance < best.distance)) best = { distance, end: from + count };
  }
  return best?.end;
}

/** How far these are from the wake word; nothing where they are not taken for it. */
function said(words: readonly Word[], wake: Wake): number | undefined {
  const spoken = words.map(({ text }) => text).join("");
  const isJoined = words.length > wake.count;
  const near = isJoined ? 0 : wake.near;
  const distance = distanceOf(soundOf(spoken), wake.key, near);
  if (distance > near) return undefined;
  if (isJoined && words.some(({ text }) => isOwn(text, wake))) return undefined;
  const isIt = isJoined ? spoken === wake.words.replaceAll(" ", "") : distance === 0;
  return isIt || words.at(-1)?.pause === true ? distance : undefined;
}

/** A word of its own, and no part of one that was heard in two. */
function isOwn(text: string, wake: Wake): boolean {
  return (text.length < 2 || COMMON.has(text)) && !wake.words.split(" ").includes(text);
}

const COMMON = new Set(
  ("an and are as at be but by can do for from had has have he her him his if in is it its me my no not of off on or our out outer " +
    "over she so that the their them they this to too up us was we were what who you your").split(" "),
);

interface Word {
  /** Letters alone, in lower case. */
  text: string;
  /** Where it begins in the utterance. */
  at: number;
  /** The speaker paused behind it, as far as signs tell, or ended. */
  pause: boolean;
}

function wordsOf(utterance: string): Word[] {
  const found = [...utterance.matchAll(/[\p{L}\p{N}][\p{L}\p{N}'’]*/gu)];
  return found.map((match, at) => {
    const behind = utterance.slice(match.index + match[0].length, found[at + 1]?.index);
    return { text: plain(match[0]), at: match.index, pause: at === found.length - 1 || /[,.;:!?…–—]/.test(behind) };
  });
}

function plain(text: string): string {
  return text.normalize("NFD").toLowerCase().replace(/[^\p{L}\p{N}]/gu, "");
}

/** In this order; one sound is one letter afterwards. */
const SOUNDS: [RegExp, string][] = [
  [/ph/g, "f"],
  [/^kn|^gn/g, "n"],
  [/^wr/g, "r"],
  [/wh/g, "w"],
  [/tch|ch/g, "C"],
  [/sh/g, "S"],
  [/th/g, "T"],
  [/ck/g, "k"],
  [/qu/g, "kw"],
  [/x/g, "ks"],
  [/c(?=[eiy])/g, "s"],
  [/[cq]/g, "k"],
  [/z/g, "s"],
  [/v/g, "f"],
  [/j/g, "g"],
  // Silent behind a consonant; the only vowel of "the" is not.
  [/(?<=[aeiouy].*[^aeiouy])e$/g, ""],
  [/y(?=[aeiou])/g, "j"],
  [/[aeiouy]+/g, "a"],
  [/(.)\1+/g, "$1"],
];

/** The key of a word. */
export function soundOf(word: string): string {
  return SOUNDS.reduce((text, [letters, sound]) => text.replace(letters, sound), plain(word));
}

const ALIKE = new Set(["bp", "dt", "gk", "mn", "Ss", "CS", "Tt"]);

function change(one: string, other: string): number {
  if (one === other) return 0;
  return ALIKE.has([one, other].sort().join("")) ? 1 : 2;
}

/** See the rule above. What is beyond `most` is only known to be so. */
export function distanceOf(one: string, other: string, most: number): number {
  if (Math.abs(one.length - other.length) > most) return most + 1;
  let row = Array.from({ length: other.length + 1 }, (_, at) => at);
  for (const sound of one) {
    const next = [(row[0] ?? 0) + 1];
    for (let at = 0; at < other.length; at += 1) {
      const changed = (row[at] ?? 0) + change(sound, other[at] ?? "");
      next.push(Math.min(changed, (row[at + 1] ?? 0) + 1, (next[at] ?? 0) + 1));
    }
    row = next;
  }
  return row[other.length] ?? most + 1;
}
