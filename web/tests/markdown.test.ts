import { describe, expect, it } from "vitest";
import { MARKDOWN_CHARS_MAX, parse, type Node } from "../src/lib/markdown";
import { safeHref } from "../src/lib/inline";

/** The tree as a short text: `p(a, strong(b))`. */
function show(nodes: Node[]): string {
  return nodes
    .map((node) => {
      if (typeof node === "string") return JSON.stringify(node).slice(1, -1);
      const more = node.href ?? node.lang ?? (node.start === undefined ? "" : String(node.start));
      return `${node.tag}${more && `<${more}>`}${node.kids.length ? `(${show(node.kids)})` : ""}`;
    })
    .join(" | ");
}

function check(cases: [string, string][]) {
  for (const [source, expected] of cases) expect(show(parse(source)), source).toBe(expected);
}

function text(nodes: Node[]): string {
  return nodes.map((node) => (typeof node === "string" ? node : text(node.kids))).join("");
}

function hrefs(nodes: Node[]): string[] {
  return nodes.flatMap((node) =>
    typeof node === "string" ? [] : [...(node.href === undefined ? [] : [node.href]), ...hrefs(node.kids)],
  );
}

describe("markdown of answers", () => {
  it("knows marks in a line", () => {
    check([
      ["a **b** *c* ~~d~~ `e*f*`", "p(a  | strong(b) |   | em(c) |   | del(d) |   | code(e*f*))"],
      ["***both*** and **a *b* c**", "p(em(strong(both)) |  and  | strong(a  | em(b) |  c))"],
      ["__a__ _b_ snake_case_name 2*3*4", "p(strong(a) |   | em(b) |  snake_case_name 2 | em(3) | 4)"],
      ["2 * 3 * 4 and ** no", "p(2 * 3 * 4 and ** no)"],
      ["open **never closed", "p(open **never closed)"],
      ["\\*not\\* \\a `` a`b ``", "p(*not* \\\\a  | code(a`b))"],
      ["AT&amp;T &lt;b&gt; &#65; &#x1F989; &nope; &#0;", "p(AT&T <b> A 🦉 &nope; &#0;)"],
      ["one\ntwo", "p(one | br | two)"],
      ["*a **b* c**", "p(em(a  | em(em(b) |  c)))"],
    ]);
  });

  it("knows links, and keeps only those that open no code", () => {
    check([
      ["[a *b*](https://x.org/p_(q) \"t\")", "p(a<https://x.org/p_(q)>(a  | em(b)))"],
      ["see https://x.org/a_b_c. And <https://y.org>!", "p(see  | a<https://x.org/a_b_c>(https://x.org/a_b_c) | . And  | a<https://y.org>(https://y.org) | !)"],
      ["(https://x.org/a)", "p(( | a<https://x.org/a>(https://x.org/a) | ))"],
      ["[x](javascript:alert(1)) [y](data:text/html,z)", "p(x y)"],
      ["![cat](https://x.org/c.png)", "p(a<https://x.org/c.png>(cat))"],
      ["[not a link] and a[0](", "p([not a link] and a[0]()"],
    ]);
    for (const href of [" javascript:x", "java\nscript:x", "//x.org", "/v1", "vbscript:x", "https://", "http://a b"]) {
      expect(safeHref(href), href).toBe(false);
    }
  });

  it("shows HTML as the text it is", () => {
    check([
      ["<img src=x onerror=alert(1)>", "p(<img src=x onerror=alert(1)>)"],
      ["a <b>c</b>", "p(a <b>c</b>)"],
      ["<script>\nx\n</script>", "p(<script> | br | x | br | </script>)"],
    ]);
  });

  it("knows blocks", () => {
    check([
      ["# A #\n## B\n#### C#\n#no", "h3(A) | h4(B) | h5(C#) | p(#no)"],
      ["a\n\n---\n\nb", "p(a) | hr | p(b)"],
      ["> a\n> b\n\nc", "blockquote(p(a | br | b)) | p(c)"],
      ["```js\nlet a = \"*b*\";\n\n  c\n```\nafter", 'pre<js>(let a = \\"*b*\\";\\n\\n  c) | p(after)'],
      ["text\n```\nstill open", "p(text) | pre(still open)"],
      ["- a\n- b\n  - c\n  - d\n- e", "ul(li(a) | li(b | ul(li(c) | li(d))) | li(e))"],
      ["3. a\n4. b", "ol<3>(li(a) | li(b))"],
      ["1. a\n\n   more\n\n2. b", "ol<1>(li(p(a) | p(more)) | li(b))"],
      ["1. a\n   ```\n   x\n   ```\n2. b", "ol<1>(li(a | pre(x)) | li(b))"],
      ["1. **A**\n  - x\n2. **B**\n  - y", "ol<1>(li(strong(A) | ul(li(x))) | li(strong(B) | ul(li(y))))"],
      ["- [x] done\n- [ ] open", "ul(li(☑ done) | li(☐ open))"],
      ["intro:\n- a\n- b\n\nend", "p(intro:) | ul(li(a) | li(b)) | p(end)"],
      ["| a | b |\n|---|:-:|\n| 1 | x \\| y |\n\nz", "table(thead(tr(th(a) | th(b))) | tbody(tr(td(1) | td(x | y)))) | p(z)"],
      ["a | b\nno rule", "p(a | b | br | no rule)"],
      ["a\r\n\r\nb", "p(a) | p(b)"],
      ["", ""],
    ]);
  });

  it("shows what is too long as plain text", () => {
    const long = "**a** ".repeat(MARKDOWN_CHARS_MAX / 6 + 1);
    expect(show(parse(long))).not.toContain("strong");
  });

  it("is not slowed down by text made for that", () => {
    const n = 30_000;
    const hostile = [">".repeat(n), "[".repeat(n), "![".repeat(n / 2), "[a](".repeat(n / 4), "*a ".repeat(n / 3), "_a_".repeat(n / 3),
      "**".repeat(n / 2) + "a", "`a``b".repeat(n / 5), "|a".repeat(n / 2) + "\n" + "|-".repeat(n / 2), "<http://".repeat(n / 8), "&#".repeat(n / 2),
      "- ".repeat(n / 2), "* ".repeat(n / 2), "- a\n".repeat(n / 4), "\n \n".repeat(n / 3), "#".repeat(n), "# " + "# ".repeat(n / 2), "-".repeat(n), "1. ".repeat(n / 3),
      Array.from({ length: 240 }, (_, at) => " ".repeat(at) + "- a").join("\n"), "> - ".repeat(n / 4), "~~a".repeat(n / 3), "*_".repeat(n / 2), "h".repeat(n)];
    for (const source of hostile) {
      const start = performance.now();
      const words = text(parse(source));
      expect(performance.now() - start, source.slice(0, 12)).toBeLessThan(500);
      expect(words.length).toBeLessThanOrEqual(source.length * 2);
    }
  });

  it("always ends, loses no letter and makes no unsafe link, whatever comes", () => {
    const parts = ["a", "b ", "*", "**", "_", "~~", "`", "```", "\n", "\n\n", "- ", "1. ", "> ", "# ", "|", "|-|\n", "[", "](", ")", "!", "<", "&amp;",
      "https://x.y/", "javascript:", "\\", "  ", "é", "🦉", "---\n"];
    let seed = 9000;
    const random = (below: number) => {
      seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0;
      return Math.floor((seed / 2 ** 32) * below);
    };
    for (let round = 0; round < 3_000; round += 1) {
      const source = Array.from({ length: random(40) }, () => parts[random(parts.length)]).join("");
      const tree = parse(source);
      for (const href of hrefs(tree)) expect(safeHref(href), source).toBe(true);
      const owls = (words: string) => words.split("🦉").length;
      // An address or a language at a fence may hold one; nothing else may.
      if (!/\]\(|```/.test(source)) expect(owls(text(tree)), JSON.stringify(source)).toBe(owls(source));
    }
  });
});
