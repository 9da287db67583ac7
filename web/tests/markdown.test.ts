import { expect, it } from "vitest";
import { clean, PIECE_CHARS_MAX, read, safeHref, type Block } from "../src/lib/markdown";
import * as parser from "../src/lib/markdown";
import { Unfolding } from "../src/lib/unfolding";

const blocks = (text: string) => read(clean(text)).flatMap(({ block }) => block ?? []);

it("reads what models write", () => {
  expect(blocks("# A\n\nHello **bold** and `code`.")).toEqual([
    { tag: "h3", kids: ["A"] },
    { tag: "p", kids: ["Hello ", { tag: "strong", kids: ["bold"] }, " and ", { tag: "code", text: "code" }, "."] },
  ]);
  expect(blocks("```python\nx = 1\n```")).toEqual([{ tag: "pre", lang: "python", text: "x = 1" }]);
  expect(blocks("3. a\n4. b")).toMatchObject([{ tag: "ol", start: 3, items: [{}, {}] }]);
  expect(blocks("- [x] done")).toMatchObject([{ tag: "ul", items: [{ check: true }] }]);
  expect(blocks("a &lt;b&gt; &amp; &#65; &nonsense;")).toEqual([{ tag: "p", kids: ["a <b> & A &nonsense;"] }]);
});

it("aligns the columns of a table", () => {
  const table = "|a|b|c|\n|:-|:-:|-:|\n|1|2|3|";
  expect(blocks(table)).toMatchObject([{ tag: "table", align: ["left", "center", "right"], head: [["a"], ["b"], ["c"]] }]);
});

it.each([
  ["javascript:alert(1)", undefined],
  ["JaVaScRiPt:alert(1)", undefined],
  ["data:text/html,<script>", undefined],
  ["vbscript:x", undefined],
  ["file:///etc/passwd", undefined],
  ["//elsewhere.example", undefined],
  ["/v1/account", undefined],
  ["https://a.example/b c", "https://a.example/b%20c"],
  ["mailto:a@b.example", "mailto:a@b.example"],
  ["HTTP://A.example", "http://a.example/"],
])("links lead to whole addresses only: %s", (address, href) => {
  expect(safeHref(address)).toBe(href);
});

it("shows markup and pictures as text, and hides nothing", () => {
  expect(blocks("<script>alert(1)</script>")).toEqual([{ tag: "raw", text: "<script>alert(1)</script>" }]);
  expect(blocks("![x](javascript:1)")).toEqual([{ tag: "p", kids: ["![x](javascript:1)"] }]);
  expect(blocks("![x](https://a.example/i.png)")).toMatchObject([{ tag: "p", kids: [{ tag: "a", kids: ["x"] }] }]);
  expect(clean("a\u001b[31m\u202eb\r\nc")).toBe("a\ufffd[31m\ufffdb\nc");
});

const fill = (unit: string, chars: number) => unit.repeat(Math.ceil(chars / unit.length)).slice(0, chars);
const HARD = ["*", "_a ", "[", "[a](", "`a", "<", "> ", ">\n", "![", "~a", "- a\n", "- ", "1. ", "***a** ", "a@", "|a|b|\n|-|-|\n",
  "[a]: b\n", "a\n===\n", "**a*", "**_", "\\", "&", "http://a.", "<!--", "(", "  - a\n"];

it.each(HARD)("reads all of a piece of nothing but %j, and in bounded time", (unit) => {
  const text = fill(unit, PIECE_CHARS_MAX);
  const begun = performance.now();
  const reads = read(text);
  // Quadratic work would take seconds; the bound leaves room for a busy machine.
  expect(performance.now() - begun).toBeLessThan(400);
  expect(reads.reduce((sum, { chars }) => sum + chars, 0)).toBe(text.length);
});

function unfold(text: string, grow: number) {
  const unfolding = new Unfolding(parser, PIECE_CHARS_MAX);
  for (let at = grow; at < text.length; at += grow) unfolding.step(text.slice(0, at), true);
  let steps = 0;
  while (unfolding.step(text, false)) steps += 1;
  return { unfolding, steps };
}

const LONG = Array.from({ length: 60 }, (_, at) => `## Part ${at}\n\nWords *and* words.\n\n- a\n- b\n\n\`\`\`js\nlet a = ${at};\n\n# no heading\n\`\`\`\n\n|a|b|\n|-|-:|\n|1|2|\n`).join("\n");

it.each([1, 7, 64, 5_000])("an answer that came in pieces of %i reads as one that came at once", (grow) => {
  const text = LONG.slice(0, 3_000);
  const { unfolding } = unfold(text, grow);
  expect(unfolding.blocks).toEqual(blocks(text));
  expect(unfolding.tail).toBe("");
});

it("reads a long answer in bounded steps, and all of it", () => {
  const { unfolding, steps } = unfold(LONG, LONG.length);
  expect(steps).toBeGreaterThanOrEqual(Math.floor(LONG.length / PIECE_CHARS_MAX));
  expect(unfolding.blocks).toEqual(blocks(LONG));
});

it("keeps what is complete as the very same object", () => {
  const unfolding = new Unfolding(parser, PIECE_CHARS_MAX);
  unfolding.step("first\n\nsecond", true);
  const [first] = unfolding.blocks;
  unfolding.step("first\n\nsecond and more", true);
  expect(unfolding.blocks[0]).toBe(first);
  expect(unfolding.blocks).toHaveLength(2);
  unfolding.step("another attempt", true);
  expect(unfolding.blocks).toEqual([{ tag: "p", kids: ["another attempt"] }]);
});

it("keeps code whole however long, also while it comes", () => {
  const code = `\`\`\`\n${fill("some code\n\n", 40_000)}`;
  const { unfolding } = unfold(code, 9_000);
  expect(unfolding.blocks.filter((block: Block) => block.tag === "pre")).toHaveLength(1);
  const closed = unfold(`${code}\n\`\`\`\nafter`, 9_000).unfolding.blocks;
  expect(closed.map((block) => block.tag)).toEqual(["pre", "p"]);
});

it("cuts a line of a megabyte instead of reading it at once", () => {
  const { unfolding } = unfold(fill("word ", 400_000), 400_000);
  expect(unfolding.tail).toBe("");
  expect(unfolding.blocks.length).toBeGreaterThan(10);
});
