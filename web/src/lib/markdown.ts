// An answer as a tree of tokens. `marked` reads the markdown; only its lexer is used, so nothing here
// makes, or takes, HTML. What it gives is turned into the few kinds of node that the page draws.
//
// A stranger's model wrote the text, so the work is bounded by size: a piece of text that is read at
// once, the marks in one paragraph, the depth. What is beyond a bound is shown as it was written.

import { Lexer, type MarkedToken, type Token, type Tokens } from "marked";

export type Align = "left" | "center" | "right" | null;

export type Inline =
  | string
  | { tag: "strong" | "em" | "del"; kids: Inline[] }
  | { tag: "code"; text: string }
  | { tag: "a"; href: string; kids: Inline[] }
  | { tag: "br" };

export type Block =
  | { tag: "p" | "h3" | "h4" | "h5" | "h6"; kids: Inline[] }
  | { tag: "text"; kids: Inline[] }
  | { tag: "raw"; text: string }
  | { tag: "hr" }
  | { tag: "pre"; lang: string; text: string }
  | { tag: "blockquote"; kids: Block[] }
  | ListOf<"ul">
  | ListOf<"ol">
  | { tag: "table"; align: Align[]; head: Inline[][]; rows: Inline[][][] };

interface ListOf<T> {
  tag: T;
  start: number;
  items: { check?: boolean; kids: Block[] }[];
}

/** Characters that are read at once. Beyond them a block is cut, but for code. */
export const PIECE_CHARS_MAX = 8_000;
/** Marks of one paragraph or cell: reading them takes time by their square. */
const MARKS_MAX = 300;
/** Quotes in quotes, lists in lists. */
const DEPTH_MAX = 20;
const ADDRESS_CHARS_MAX = 2_000;
const MARKS = /[*_`[\]<~!@\\&]|https?:|www\./g;
const NESTED = new RegExp(`^(?:[ \\t]*(?:>|[-*+]|\\d{1,9}[.)])){${DEPTH_MAX + 1},}`, "m");
/** Controls but for tab and line feed, and what turns the direction of writing around. */
const UNSEEN = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u202a-\u202e\u2066-\u2069]/g;

/** The text as it is read and shown: one kind of line end, nothing that hides. */
export function clean(text: string): string {
  return text.replace(/\r\n?/g, "\n").replace(UNSEEN, "\ufffd");
}

/** A block, and how many characters of the text it takes. */
export interface Read {
  block: Block | undefined;
  chars: number;
  /** Code whose end has not been seen. */
  openCode: boolean;
}

/** The blocks of a piece of cleaned text, in order; together they take all of it. */
export function read(text: string): Read[] {
  if (NESTED.test(text)) return [raw(text)];
  try {
    const tokens = lex(text);
    const reads = tokens.map((token) => ({
      block: blockOf(token, 0),
      chars: token.raw.length,
      openCode: token.type === "code" && !/\n {0,3}(?:`{3,}|~{3,})\s*$/.test(token.raw),
    }));
    const chars = reads.reduce((sum, one) => sum + one.chars, 0);
    return chars === text.length ? reads : [raw(text)];
  } catch {
    // Too deep for the parser.
    return [raw(text)];
  }
}

function raw(text: string): Read {
  return { block: { tag: "raw", text }, chars: text.length, openCode: false };
}

function lex(text: string): MarkedToken[] {
  const lexer = new Lexer({ gfm: true });
  const tokens = lexer.blockTokens(text, []) as MarkedToken[];
  for (const { src, tokens: into } of lexer.inlineQueue) {
    if (marksOf(src) <= MARKS_MAX) lexer.inlineTokens(src, into);
    else into.push({ type: "escape", raw: src, text: src });
  }
  return tokens;
}

function marksOf(text: string): number {
  return text.match(MARKS)?.length ?? 0;
}

function blockOf(token: MarkedToken, depth: number): Block | undefined {
  if (depth > DEPTH_MAX) return { tag: "raw", text: token.raw };
  switch (token.type) {
    case "space":
    case "def":
      return token.type === "def" ? { tag: "raw", text: token.raw.trimEnd() } : undefined;
    case "hr":
      return { tag: "hr" };
    case "code":
      return { tag: "pre", lang: (token.lang ?? "").trim().split(/\s/)[0]?.slice(0, 40) ?? "", text: token.text };
    case "heading":
      return { tag: HEADINGS[Math.min(token.depth, 4) - 1] ?? "h6", kids: inlines(token.tokens, depth) };
    case "paragraph":
      return { tag: "p", kids: inlines(token.tokens, depth) };
    case "blockquote":
      return { tag: "blockquote", kids: blocks(token.tokens, depth + 1) };
    case "list":
      return listOf(token, depth);
    case "table":
      return {
        tag: "table",
        align: token.align,
        head: token.header.map((cell) => inlines(cell.tokens, depth)),
        rows: token.rows.map((row) => row.map((cell) => inlines(cell.tokens, depth))),
      };
    case "text":
      return { tag: "text", kids: token.tokens ? inlines(token.tokens, depth) : [plain(token.text)] };
    case "html":
      return { tag: "raw", text: token.raw.trimEnd() };
    default:
      return { tag: "raw", text: token.raw };
  }
}

/** The question is the page's second heading, so an answer's first is a third. */
const HEADINGS = ["h3", "h4", "h5", "h6"] as const;

function listOf(token: Tokens.List, depth: number): Block {
  return {
    tag: token.ordered ? "ol" : "ul",
    start: typeof token.start === "number" ? token.start : 1,
    items: token.items.map((item) => ({
      ...(item.task && { check: item.checked === true }),
      kids: blocks(item.tokens.filter((kid) => kid.type !== "checkbox"), depth + 1),
    })),
  };
}

function blocks(tokens: Token[], depth: number): Block[] {
  return tokens.flatMap((token) => blockOf(token as MarkedToken, depth) ?? []);
}

function inlines(tokens: Token[] | undefined, depth: number): Inline[] {
  return (tokens ?? []).map((token) => inlineOf(token as MarkedToken, depth + 1));
}

function inlineOf(token: MarkedToken, depth: number): Inline {
  if (depth > DEPTH_MAX) return token.raw;
  switch (token.type) {
    case "strong":
    case "em":
    case "del":
      return { tag: token.type, kids: inlines(token.tokens, depth) };
    case "codespan":
      return { tag: "code", text: token.text };
    case "br":
      return { tag: "br" };
    case "link": {
      const href = safeHref(token.href);
      return href ? { tag: "a", href, kids: inlines(token.tokens, depth) } : token.raw;
    }
    case "image": {
      // Never fetched: an address that a stranger chose would learn who reads the answer.
      const href = safeHref(token.href);
      return href ? { tag: "a", href, kids: [token.text || "image"] } : token.raw;
    }
    case "escape":
      return token.text;
    case "text":
      return token.tokens ? { tag: "em", kids: inlines(token.tokens, depth) } : plain(token.text);
    default:
      return token.raw;
  }
}

/** Whole addresses of the web and of mail; anything else stays text. */
export function safeHref(address: string): string | undefined {
  if (address.length > ADDRESS_CHARS_MAX || !/^(?:https?:\/\/|mailto:)/i.test(address)) return undefined;
  try {
    return new URL(address).href;
  } catch {
    return undefined;
  }
}

const NAMED: Record<string, string> = { amp: "&", lt: "<", gt: ">", quot: '"', apos: "'", nbsp: "\u00a0" };

/** Text with its character references read; those that nobody knows stay as they are. */
function plain(text: string): string {
  return text.replace(/&(?:(amp|lt|gt|quot|apos|nbsp)|#(\d{1,7})|#x([0-9a-f]{1,6}));/gi, (all, name, ten, hex) => {
    if (name) return NAMED[String(name).toLowerCase()] ?? all;
    const point = ten ? Number(ten) : parseInt(String(hex), 16);
    return point > 0 && point <= 0x10ffff ? clean(String.fromCodePoint(point)) : all;
  });
}
