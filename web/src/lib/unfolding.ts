// An answer that grows, as blocks. What is complete is read once and kept as the very object it was,
// so that only the last block is read, and drawn, again.
//
// Each step takes a bounded number of characters, whatever the clock says: a slow machine gets there
// later, and no answer stays raw for good. The parser itself comes with the first answer.

import type { Block, Read } from "./markdown";

export interface Parser {
  read(text: string): Read[];
  clean(text: string): string;
}

/** How much of the open block must be new before it is read again, once it is long. */
const AGAIN_PART = 32;
const SHORT_CHARS = 2_000;

export class Unfolding {
  #parser: Parser;
  #pieceMax: number;
  #text = "";
  #done: Block[] = [];
  /** Characters of the text in the blocks of `#done`. */
  #at = 0;
  #open: Block[] = [];
  /** Characters of the text in the blocks of `#open`. */
  #openChars = 0;

  constructor(parser: Parser, pieceMax: number) {
    this.#parser = parser;
    this.#pieceMax = pieceMax;
  }

  get blocks(): readonly Block[] {
    return [...this.#done, ...this.#open];
  }

  /** What has not been read yet. */
  get tail(): string {
    return this.#text.slice(this.#at + this.#openChars);
  }

  /** One step towards this text; true where another one is needed. */
  step(given: string, live: boolean): boolean {
    const text = this.#parser.clean(given);
    if (!text.startsWith(this.#text.slice(0, this.#at))) this.#forget();
    this.#text = text;
    const rest = text.length - this.#at;
    if (rest === 0) return this.#keepOpen([], 0);
    const fresh = rest - this.#openChars;
    if (fresh === 0 && this.#openChars > 0) return false;
    if (live && rest > SHORT_CHARS && fresh < rest / AGAIN_PART) return false;
    const piece = rest > this.#pieceMax ? this.#cut() : text.slice(this.#at);
    return this.#take(this.#parser.read(piece), piece.length < rest);
  }

  #forget(): void {
    this.#done = [];
    this.#at = 0;
    this.#keepOpen([], 0);
  }

  #keepOpen(open: Block[], chars: number): false {
    this.#open = open;
    this.#openChars = chars;
    return false;
  }

  /** At the last line's end in a piece; in code at its end, which takes no more than a look. */
  #cut(): string {
    const rest = this.#text.slice(this.#at);
    const fence = /^ {0,3}(`{3,}|~{3,})/.exec(rest)?.[1];
    if (fence) {
      const end = new RegExp(`\\n {0,3}${fence}[\`~]* *(?:\\n|$)`).exec(rest);
      return end ? rest.slice(0, end.index + end[0].length) : rest;
    }
    const piece = rest.slice(0, this.#pieceMax);
    const line = piece.lastIndexOf("\n");
    return line > 0 ? piece.slice(0, line + 1) : piece;
  }

  #take(reads: Read[], more: boolean): boolean {
    let last = reads.length - 1;
    while (last > 0 && reads[last]?.block === undefined) last -= 1;
    // In a piece that was cut the last block may go on, unless it is the only one.
    const keep = more ? Math.max(last, 1) : last;
    for (const { block, chars } of reads.slice(0, keep)) {
      if (block) this.#done.push(block);
      this.#at += chars;
    }
    const open = reads.slice(keep);
    this.#open = open.flatMap(({ block }) => block ?? []);
    this.#openChars = open.reduce((sum, { chars }) => sum + chars, 0);
    return more;
  }
}
