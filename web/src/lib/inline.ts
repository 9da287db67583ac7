// Marks inside a line of markdown: emphasis, code, links, escapes, entities.
//
// One pass and a bounded stack of open marks, so the time is linear in the text whatever a model
// sends. What does not close stays the text it is.

import type { Node, Tag } from "./markdown";

/** Open marks remembered at once; the oldest ones become text. */
const OPEN_MAX = 64;
const HREF_CHARS_MAX = 2_000;

interface Mark {
  char: string;
  count: number;
  opens: boolean;
  image: boolean;
}

type Item = Node | Mark;

export function inline(source: string): Node[] {
  return new Inline(source).run();
}

class Inline {
  #at = 0;
  #items: Item[] = [];
  /** Indices into `#items`, innermost last. */
  #open: number[] = [];
  #noLineClose = new Set<number>();

  constructor(private readonly source: string) {}

  run(): Node[] {
    const plain = /[^\\`*_~[\]!<\nhH&]+/y;
    while (this.#at < this.source.length) {
      plain.lastIndex = this.#at;
      const run = plain.exec(this.source);
      if (run) {
        this.#items.push(run[0]);
        this.#at += run[0].length;
      } else {
        this.#special(this.source[this.#at] as string);
      }
    }
    return this.#flatten(0);
  }

  #special(char: string): void {
    switch (char) {
      case "\\":
        return this.#escape();
      case "`":
        return this.#code();
      case "*":
      case "_":
      case "~":
        return this.#emphasis(char);
      case "!":
        return this.source[this.#at + 1] === "[" ? this.#bracket(true) : this.#text(1);
      case "[":
        return this.#bracket(false);
      case "]":
        return this.#link();
      case "\n":
        this.#items.push({ tag: "br", kids: [] });
        this.#at += 1;
        return;
      case "&":
        return this.#entity();
      default:
        return this.#address();
    }
  }

  #text(length: number): void {
    this.#items.push(this.source.slice(this.#at, this.#at + length));
    this.#at += length;
  }

  #escape(): void {
    const next = this.source[this.#at + 1] ?? "";
    if (!/[!-/:-@[-`{-~]/.test(next)) return this.#text(1);
    this.#at += 1;
    this.#text(1);
  }

  #code(): void {
    const ticks = this.#runLength("`");
    const from = this.#at + ticks;
    const to = this.#noLineClose.has(ticks) ? -1 : this.#closingTicks(from, ticks);
    if (to < 0) {
      this.#noLineClose.add(ticks);
      return this.#text(ticks);
    }
    const inner = this.source.slice(from, to).replaceAll("\n", " ");
    const padded = inner.startsWith(" ") && inner.endsWith(" ") && inner.trim() !== "";
    this.#items.push({ tag: "code", kids: [padded ? inner.slice(1, -1) : inner] });
    this.#at = to + ticks;
  }

  #closingTicks(from: number, ticks: number): number {
    const runs = /`+/g;
    runs.lastIndex = from;
    for (let run = runs.exec(this.source); run; run = runs.exec(this.source)) {
      if (run[0].length === ticks) return run.index;
    }
    return -1;
  }

  #runLength(char: string): number {
    let end = this.#at;
    while (this.source[end] === char) end += 1;
    return end - this.#at;
  }

  #emphasis(char: string): void {
    const length = this.#runLength(char);
    if (length > 3 || (char === "~" && length !== 2)) return this.#text(length);
    const before = this.source[this.#at - 1] ?? " ";
    const after = this.source[this.#at + length] ?? " ";
    const left = !isSpace(after) && (!isMark(after) || isSpace(before) || isMark(before));
    const right = !isSpace(before) && (!isMark(before) || isSpace(after) || isMark(after));
    const inWord = char === "_" && left && right;
    const opens = left && (!inWord || isMark(before));
    const closes = right && (!inWord || isMark(after));
    this.#at += length;
    const rest = closes ? this.#close(char, length) : length;
    if (rest > 0) this.#push({ char, count: rest, opens, image: false });
  }

  /** Closes what this run can close; returns how many of its characters are left over. */
  #close(char: string, length: number): number {
    let rest = length;
    while (rest > 0) {
      const place = this.#open.findLastIndex((at) => (this.#items[at] as Mark).char === char);
      if (place < 0) return rest;
      const at = this.#open[place] as number;
      const mark = this.#items[at] as Mark;
      const used = Math.min(rest, mark.count, 2);
      const tag: Tag = char === "~" ? "del" : used === 2 ? "strong" : "em";
      if (char === "~" && used < 2) return rest;
      this.#open.length = place;
      const kids = this.#flatten(at + 1);
      mark.count -= used;
      this.#items.length = mark.count > 0 ? at + 1 : at;
      if (mark.count > 0) this.#open.push(at);
      this.#items.push({ tag, kids });
      rest -= used;
    }
    return 0;
  }

  #push(mark: Mark): void {
    if (mark.opens) this.#open.push(this.#items.length);
    if (this.#open.length > OPEN_MAX) this.#open.shift();
    this.#items.push(mark);
  }

  #bracket(image: boolean): void {
    this.#at += image ? 2 : 1;
    this.#push({ char: "[", count: 1, opens: true, image });
  }

  #link(): void {
    const place = this.#open.findLastIndex((at) => (this.#items[at] as Mark).char === "[");
    const target = place < 0 ? undefined : this.#target(this.#at + 1);
    if (!target) {
      if (place >= 0) this.#open.splice(place, 1);
      return this.#text(1);
    }
    const at = this.#open[place] as number;
    const { image } = this.#items[at] as Mark;
    this.#open.length = place;
    const kids = this.#flatten(at + 1);
    this.#items.length = at;
    const label = image && kids.length === 0 ? ["image"] : kids;
    if (safeHref(target.href)) this.#items.push({ tag: "a", kids: label, href: target.href });
    else this.#items.push(...label);
    this.#at = target.end;
  }

  /** `(address "title")` right behind a bracket. */
  #target(from: number): { href: string; end: number } | undefined {
    if (this.source[from] !== "(") return undefined;
    let depth = 0;
    for (let at = from; at < Math.min(this.source.length, from + HREF_CHARS_MAX); at += 1) {
      const char = this.source[at];
      if (char === "\n") return undefined;
      if (char === "(") depth += 1;
      if (char === ")") depth -= 1;
      if (depth > 0) continue;
      const inside = this.source.slice(from + 1, at).trim();
      const href = (inside.split(/\s/, 1)[0] ?? "").replace(/^<(.*)>$/, "$1");
      return { href, end: at + 1 };
    }
    return undefined;
  }

  #entity(): void {
    const entity = /&(?:#(\d{1,7})|#[xX]([\da-fA-F]{1,6})|([a-z]{2,6}));/y;
    entity.lastIndex = this.#at;
    const found = entity.exec(this.source);
    const point = found?.[1] ? Number(found[1]) : parseInt(found?.[2] ?? "", 16);
    const char = found?.[3] ? ENTITIES[found[3]] : isPoint(point) && String.fromCodePoint(point);
    if (!found || !char) return this.#text(1);
    this.#items.push(char);
    this.#at += found[0].length;
  }

  /** `https://…` bare or in angle brackets. */
  #address(): void {
    const address = /<?(https?:\/\/[^\s<>"`\\]{1,2000})>?/iy;
    address.lastIndex = this.#at;
    const found = isWord(this.source[this.#at - 1]) ? null : address.exec(this.source);
    const inLink = this.#open.some((at) => (this.#items[at] as Mark).char === "[");
    if (!found || inLink) return this.#text(1);
    const angled = found[0].startsWith("<") && found[0].endsWith(">");
    const href = angled ? (found[1] as string) : trimAddress(found[1] as string);
    if (!safeHref(href)) return this.#text(1);
    this.#items.push({ tag: "a", kids: [href], href });
    this.#at += angled ? found[0].length : found[0].indexOf(href) + href.length;
  }

  /** Items from `from` on as nodes: marks that never closed become text, texts are joined. */
  #flatten(from: number): Node[] {
    const nodes: Node[] = [];
    for (const item of this.#items.slice(from)) {
      const node = isMarkItem(item)
        ? item.image
          ? "!["
          : item.char.repeat(item.count)
        : item;
      const last = nodes.at(-1);
      if (typeof node === "string" && typeof last === "string") nodes[nodes.length - 1] = last + node;
      else nodes.push(node);
    }
    return nodes;
  }
}

const ENTITIES: Record<string, string | undefined> = {
  amp: "&",
  lt: "<",
  gt: ">",
  quot: '"',
  apos: "'",
  nbsp: "\u00a0",
};

function isMarkItem(item: Item): item is Mark {
  return typeof item === "object" && "char" in item;
}

function isSpace(char: string): boolean {
  return /\s/.test(char);
}

function isMark(char: string): boolean {
  return /[\p{P}\p{S}]/u.test(char);
}

function isWord(char: string | undefined): boolean {
  return char !== undefined && /[\p{L}\p{N}]/u.test(char);
}

function isPoint(point: number): boolean {
  return point > 0 && point <= 0x10ffff;
}

/** Punctuation at the end of a bare address belongs to the sentence. */
function trimAddress(address: string): string {
  let end = address.length;
  while (end > 0 && ".,;:!?*_~'".includes(address[end - 1] as string)) end -= 1;
  if (address[end - 1] === ")" && !address.slice(0, end).includes("(")) end -= 1;
  return address.slice(0, end);
}

/** Absolute http, https or mailto; control characters and white space hide schemes from people. */
export function safeHref(href: string): boolean {
  return /^(https?:\/\/|mailto:)[^\s\p{Cc}]+$/iu.test(href) && URL.canParse(href);
}
