// An answer that grows, as what can be read aloud by and by: sentences, and whole blocks of code. Each is
// given once it is sure to be whole, so that reading begins while the rest is still being written. The
// realm says markdown, figures and code sensibly; here it is only cut.

/** Of one request: what the intent `speak` takes. */
export const INPUT_CHARS_MAX = 4_096;
/** What is shorter waits for what follows it: a heading alone is not worth a request. */
const SHORT_CHARS = 24;
/** A sentence without an end is cut at a comma or a blank. */
const LONG_CHARS = 600;
/** Ends no sentence, though a full stop stands there. */
const ABBREVIATION = /(?:^|[\s(])(?:Mr|Mrs|Ms|Dr|St|Prof|vs|etc|e\.g|i\.e|cf|approx|No|Fig|[A-Z])\.$/;

export class Sentences {
  /** Characters of the text that were given, or are of no use. */
  #at = 0;
  #waiting = "";

  /** What of `text`, which is the whole answer so far, became whole. `over` where nothing more will come. */
  next(text: string, over: boolean): string[] {
    const whole: string[] = [];
    // An answer that began anew at another worker.
    if (text.length < this.#at) this.#at = text.length;
    for (;;) {
      const length = unit(text.slice(this.#at), over);
      if (length === 0) break;
      this.#take(text.slice(this.#at, this.#at + length), whole);
      this.#at += length;
    }
    if (over && this.#waiting !== "") this.#give("", whole);
    return whole;
  }

  #take(piece: string, whole: string[]): void {
    const joined = `${this.#waiting}${piece}`;
    if (joined.trim().length < SHORT_CHARS || !isSayable(joined)) this.#waiting = joined;
    else this.#give(piece, whole);
  }

  #give(piece: string, whole: string[]): void {
    const joined = `${this.#waiting}${piece}`.trim();
    this.#waiting = "";
    if (!isSayable(joined)) return;
    for (let at = 0; at < joined.length; at += INPUT_CHARS_MAX) whole.push(joined.slice(at, at + INPUT_CHARS_MAX));
  }
}

/** A ruler or a row of dashes has nothing to say. */
function isSayable(text: string): boolean {
  return /[\p{L}\p{N}]/u.test(text);
}

/** Characters of the first sentence or block of code, with the blanks behind it; 0 where it may go on. */
function unit(rest: string, over: boolean): number {
  if (rest === "") return 0;
  const fence = /^\s*(`{3,}|~{3,})/.exec(rest)?.[1];
  if (fence) return codeUnit(rest, fence, over);
  // A fence that begins is no sentence.
  if (!over && /^\s*[`~]{0,2}$/.test(rest)) return 0;
  const line = rest.search(/\S/) < 0 ? -1 : rest.indexOf("\n", rest.search(/\S/));
  const until = line < 0 ? rest : rest.slice(0, line);
  const end = sentenceEnd(until, line >= 0 || over);
  if (end > 0) return end;
  if (line >= 0) return line + 1;
  if (rest.length > LONG_CHARS) return longUnit(rest);
  return over ? rest.length : 0;
}

function codeUnit(rest: string, fence: string, over: boolean): number {
  const begin = rest.indexOf(fence);
  const end = new RegExp(`\\n {0,3}${fence}[\`~]* *(?:\\n|$)`).exec(rest.slice(begin));
  if (end) return begin + end.index + end[0].length;
  return over ? rest.length : 0;
}

/** `closed` where the line is known to end there. */
function sentenceEnd(line: string, closed: boolean): number {
  for (const found of line.matchAll(/[.!?…][*_"'”’)\]]*(?=\s+(\S)|\s*$)/g)) {
    const end = found.index + found[0].length;
    const next = found[1];
    // At the end of what there is it may be a full stop, or a point within a figure.
    if (next === undefined && !closed) return 0;
    if (next !== undefined && /\p{Ll}/u.test(next)) continue;
    if (ABBREVIATION.test(line.slice(0, found.index + 1)) || /^\s*\d+\.$/.test(line.slice(0, end))) continue;
    return end + (/^\s+/.exec(line.slice(end))?.[0].length ?? 0);
  }
  return 0;
}

function longUnit(rest: string): number {
  const part = rest.slice(0, LONG_CHARS);
  const at = Math.max(part.lastIndexOf(", "), part.lastIndexOf("; "), part.lastIndexOf(": "));
  const cut = at > LONG_CHARS / 3 ? at : part.lastIndexOf(" ");
  return cut > 0 ? cut + 1 : LONG_CHARS;
}
