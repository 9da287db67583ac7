import { describe, expect, it } from "vitest";
import { docsOf, formatWait, reasonOf } from "../src/lib/problem";

const problem = (code: string, message = "") => ({ code, message, status: 0 });

describe("what the page says", () => {
  it("is the realm's word, as a sentence", () => {
    expect(reasonOf(problem("MT0018", "today's grants are given out"))).toBe("Today's grants are given out.");
    expect(reasonOf(problem("MT0026", "one reason!"))).toBe("One reason!");
  });

  it("is the page's own of a key, for the visitor writes no headers", () => {
    expect(reasonOf(problem("MT0008", "send `Authorization: Bearer <api key>`"))).toMatch(/^This realm does not know that key/);
  });

  it("says so where the realm gives no reason", () => {
    expect(reasonOf(problem("MT9999"))).toBe("The realm gave no reason.");
  });

  it("links every code that has a page, and nothing else", () => {
    expect(docsOf("MT0026")).toBe("errors/MT0026");
    for (const code of ["", "HTTP 502", "MT1/../x", "javascript:0"]) expect(docsOf(code)).toBeUndefined();
  });

  it.each([
    [0, "0 s"],
    [1, "1 s"],
    [90_000, "90 s"],
    [90_001, "2 min"],
    [3_600_000, "1 h"],
    [3_600_001, "1 h 1 min"],
    [23_435_000, "6 h 31 min"],
  ])("writes a wait of %i ms as %s", (ms, expected) => expect(formatWait(ms)).toBe(expected));
});
