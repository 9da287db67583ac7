// Turns an answer into a small tree of known elements, which a component renders as elements and
// text nodes. Model output is hostile input: there is no HTML sink on this page at all, so there is
// nothing to sanitise. HTML in an answer is shown as the text it is; images are never loaded; a link
// is kept only with a scheme that opens no code.
//
// It knows the markdown that models write: headings, lists, fences, tables, quotes, rules. Not here:
// link definitions, indented code, underlined headings.

import { inline } from "./inline";

export type Tag =
  | ("p" | "h3" | "h4" | "h5" | "blockquote" | "ul" | "ol" | "li" | "pre" | "hr" | "br")
  | ("strong" | "em" | "del" | "code" | "a" | "table" | "thead" | "tbody" | "tr" | "th" | "td");

export interface Element {
  tag: Tag;
  kids: Node[];
  /** Only on `a`, and only http, https or mailto. */
  href?: string;
  /** Only on `ol`. */
  start?: number;
  /** Only on `pre`: the language named at the fence. */
  lang?: string;
}

export type Node = string | Element;

/** Longer answers are shown as plain text, deeper quotes and lists as the text they are. */
export const MARKDOWN_CHARS_MAX = 60_000;
export const DEPTH_MAX = 8;
const CELLS_MAX = 32;

export function parse(source: string): Node[] {
  if (source.length > MARKDOWN_CHARS_MAX) return plain(source);
  return blocks(source.replace(/\r\n?/g, "\n").replaceAll("\t", "    ").split("\n"), 0);
}

export function plain(source: string): Node[] {
  const lines = (text: string) =>
    text.split("\n").flatMap((line, at): Node[] => (at ? [{ tag: "br", kids: [] }, line] : [line]));
  return source.split(/\n{2,}/).map((text) => ({ tag: "p", kids: lines(text) }));
}

const FENCE = /^ {0,3}(`{3,}|~{3,}) *([^`\n]{0,80})$/;
const HEADING = /^ {0,3}(#{1,6})(?: |$)/;
const RULE = /^ {0,3}(?:(?:- *){3,}|(?:\* *){3,}|(?:_ *){3,})$/;
const QUOTE = /^ {0,3}> ?/;
const ITEM = /^( {0,12})([-*+]|\d{1,9}[.)])(?: {1,4}|$)/;
const TABLE_RULE = /^ {0,3}\|?(?: *:?-+:? *\|)+ *(?::?-+:? *)?$/;

function blocks(lines: readonly string[], depth: number): Node[] {
  if (depth > DEPTH_MAX) return plain(lines.join("\n"));
  const nodes: Node[] = [];
  let at = 0;
  while (at < lines.length) {
    const line = lines[at] as string;
    if (line.trim() === "") {
      at += 1;
      continue;
    }
    const [node, next] =
      fence(lines, at) ??
      single(line, at) ??
      quote(lines, at, depth) ??
      items(lines, at, depth) ??
      table(lines, at) ??
      paragraph(lines, at);
    nodes.push(node);
    at = next;
  }
  return nodes;
}

type Step = [Node, number];

/** An unclosed fence runs to the end: so code looks like code while it streams in. */
function fence(lines: readonly string[], from: number): Step | undefined {
  const found = FENCE.exec(lines[from] as string);
  if (!found) return undefined;
  const mark = found[1] as string;
  const indent = (lines[from] as string).search(/\S/);
  const body: string[] = [];
  let at = from + 1;
  for (; at < lines.length; at += 1) {
    const line = lines[at] as string;
    const bare = line.trim();
    if (bare.startsWith(mark) && bare === (mark[0] as string).repeat(bare.length)) break;
    body.push(line.slice(Math.min(indent, Math.max(line.search(/\S|$/), 0))));
  }
  const lang = /^[\w+#.-]{1,24}/.exec(found[2] ?? "")?.[0];
  return [{ tag: "pre", kids: [body.join("\n")], ...(lang && { lang }) }, at + 1];
}

function single(line: string, at: number): Step | undefined {
  const level = HEADING.exec(line)?.[1]?.length;
  if (level) {
    const words = line.trim().slice(level).trim();
    let end = words.length;
    while (words[end - 1] === "#") end -= 1;
    const title = end === words.length || words[end - 1] === " " ? words.slice(0, end) : words;
    const tag = level === 1 ? "h3" : level === 2 ? "h4" : "h5";
    return [{ tag, kids: inline(title.trim()) }, at + 1];
  }
  return isRule(line) ? [{ tag: "hr", kids: [] }, at + 1] : undefined;
}

function quote(lines: readonly string[], from: number, depth: number): Step | undefined {
  if (!QUOTE.test(lines[from] as string)) return undefined;
  const body: string[] = [];
  let at = from;
  for (; at < lines.length; at += 1) {
    const line = lines[at] as string;
    if (!QUOTE.test(line) && (line.trim() === "" || startsBlock(line))) break;
    body.push(line.replace(QUOTE, ""));
  }
  return [{ tag: "blockquote", kids: blocks(body, depth + 1) }, at];
}

function items(lines: readonly string[], from: number, depth: number): Step | undefined {
  const first = ITEM.exec(lines[from] as string);
  if (!first) return undefined;
  const indent = (first[1] as string).length;
  const ordered = isOrdered(first);
  const kids: Node[] = [];
  let at = from;
  while (at < lines.length) {
    const found = ITEM.exec(lines[at] as string);
    if (!found || isOrdered(found) !== ordered || (found[1] as string).length > indent + 1) break;
    if (isRule(lines[at] as string)) break;
    const [item, next] = itemLines(lines, at, found);
    kids.push({ tag: "li", kids: tight(blocks(item, depth + 1)) });
    at = next;
  }
  const start = ordered ? Number.parseInt(first[2] as string, 10) : undefined;
  return [start === undefined ? { tag: "ul", kids } : { tag: "ol", kids, start }, at];
}

/** The lines of one item without its indent, and where the next thing starts. */
function itemLines(
  lines: readonly string[],
  from: number,
  found: RegExpExecArray,
): [string[], number] {
  const indent = (found[1] as string).length;
  const body = [(lines[from] as string).slice(found[0].length)];
  const offset = found[0].length;
  let at = from + 1;
  for (; at < lines.length; at += 1) {
    const line = lines[at] as string;
    const depth = line.search(/\S/);
    if (depth < 0) {
      const next = lines.slice(at, at + 3).find((other) => other.trim() !== "");
      if (next === undefined || next.search(/\S/) < indent + 2) break;
      body.push("");
    } else if (depth >= indent + 2) {
      body.push(line.slice(Math.min(depth, offset)));
    } else if (startsBlock(line) || ITEM.test(line) || body.at(-1) === "") {
      break;
    } else {
      body.push(line);
    }
  }
  // Blank lines between two items belong to neither.
  let next = at;
  while (next < lines.length && (lines[next] as string).trim() === "") next += 1;
  const goesOn = next < lines.length && ITEM.test(lines[next] as string);
  return [body, goesOn ? next : at];
}

function isOrdered(found: RegExpExecArray): boolean {
  return /\d/.test(found[2] as string);
}

/** A lone paragraph in an item needs no element; a task box becomes a character. */
function tight(kids: Node[]): Node[] {
  const [head, ...rest] = kids;
  if (typeof head !== "object" || head.tag !== "p") return kids;
  const [words, ...others] = head.kids;
  const boxed =
    typeof words === "string"
      ? words.replace(/^\[[xX]\] /, "☑ ").replace(/^\[ \] /, "☐ ")
      : undefined;
  const line = boxed === undefined ? head.kids : [boxed, ...others];
  const alone = rest.every((kid) => typeof kid === "object" && kid.tag !== "p");
  return alone ? [...line, ...rest] : [{ tag: "p", kids: line }, ...rest];
}

function table(lines: readonly string[], from: number): Step | undefined {
  const rule = lines[from + 1];
  const head = lines[from] as string;
  if (!rule || !head.includes("|") || rule.length > 1_000 || !TABLE_RULE.test(rule)) return undefined;
  const columns = cells(head).length;
  if (columns !== cells(rule).length) return undefined;
  const row = (line: string, tag: "th" | "td"): Element => ({
    tag: "tr",
    kids: cells(line).slice(0, columns).map((cell) => ({ tag, kids: inline(cell) })),
  });
  const rows: Node[] = [];
  let at = from + 2;
  for (; at < lines.length && (lines[at] as string).includes("|"); at += 1) {
    rows.push(row(lines[at] as string, "td"));
  }
  const kids: Node[] = [
    { tag: "thead", kids: [row(head, "th")] },
    { tag: "tbody", kids: rows },
  ];
  return [{ tag: "table", kids }, at];
}

function cells(line: string): string[] {
  const bare = line.trim().replace(/^\|/, "").replace(/\|$/, "");
  return bare
    .split(/(?<!\\)\|/, CELLS_MAX)
    .map((cell) => cell.trim().replaceAll("\\|", "|"));
}

function paragraph(lines: readonly string[], from: number): Step {
  const body = [(lines[from] as string).trim()];
  let at = from + 1;
  for (; at < lines.length; at += 1) {
    const line = lines[at] as string;
    if (line.trim() === "" || startsBlock(line)) break;
    body.push(line.trim());
  }
  return [{ tag: "p", kids: inline(body.join("\n")) }, at];
}

function startsBlock(line: string): boolean {
  return (
    FENCE.test(line) ||
    HEADING.test(line) ||
    QUOTE.test(line) ||
    /^ {0,12}(?:[-*+]|1[.)]) /.test(line) ||
    isRule(line)
  );
}

function isRule(line: string): boolean {
  return line.length < 200 && RULE.test(line);
}
