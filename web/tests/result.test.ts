import { expect, it } from "vitest";
import { base64Of, bytesOf, cell, fileOf, pieceText, ROWS_MAX, shownOf } from "../src/lib/result";
import { PNG } from "./works.mjs";

const kind = (result: unknown, media?: string) => shownOf(result, media).kind;

it("shows a result as what it is", () => {
  expect(kind(null)).toBe("nothing");
  expect(kind("hello")).toBe("text");
  expect(shownOf({ choices: [{ message: { content: "hi" } }] })).toEqual({ kind: "text", text: "hi" });
  expect(kind({ text: "hi" })).toBe("text");
  expect(kind({ text: "hi", n: 1 })).toBe("json");
  expect(kind([{ a: 1 }, { a: 2, b: "x" }])).toBe("table");
  expect(kind({ rows: [{ a: 1 }] })).toBe("table");
  expect(kind([{ a: { b: 1 } }])).toBe("json");
  expect(kind([1, 2])).toBe("json");
  expect(kind([])).toBe("json");
});

it("draws pictures and sounds of a short list of types, from wherever the type is told", () => {
  expect(kind(PNG, "image/png")).toBe("picture");
  expect(kind({ data: PNG }, "image/png")).toBe("picture");
  expect(kind({ media_type: "image/webp", data: PNG })).toBe("picture");
  expect(kind(`data:image/png;base64,${PNG}`)).toBe("picture");
  expect(kind(`data:audio/wav;codecs=1;base64,${PNG}`)).toBe("sound");
  expect(kind({ data: [{ b64_json: PNG }] })).toBe("picture");
});

it("makes no object URL of anything else", () => {
  for (const type of ["image/svg+xml", "text/html", "application/pdf", "image/png, text/html", "audio/", "audio/x y", "video/mp4", "", "IMAGE"]) {
    expect(["picture", "sound"]).not.toContain(kind({ media_type: type, data: PNG }));
    expect(["picture", "sound"]).not.toContain(kind(`data:${type};base64,${PNG}`));
    expect(["picture", "sound"]).not.toContain(kind(PNG, type));
  }
  // What is no base64 stays what it is.
  expect(kind("not base64!", "image/png")).toBe("text");
});

it("bounds what is drawn", () => {
  const rows = shownOf(Array.from({ length: 5_000 }, (_, at) => ({ at })));
  expect(rows).toMatchObject({ kind: "table", total: 5_000 });
  expect(rows.kind === "table" && rows.rows.length).toBe(ROWS_MAX);
  expect(cell("x".repeat(5_000)).length).toBeLessThan(300);
  const wide = Object.fromEntries(Array.from({ length: 40 }, (_, at) => [`c${at}`, 1]));
  expect(kind([wide])).toBe("json");
});

it("carries bytes to base64 and back", () => {
  const bytes = Uint8Array.from({ length: 100_000 }, (_, at) => at % 256);
  expect(bytesOf(base64Of(bytes))).toEqual(bytes);
});

it("reads pieces as text where they are text", () => {
  expect(pieceText("a")).toBe("a");
  expect(pieceText({ choices: [{ delta: { content: "b" } }] })).toBe("b");
  expect(pieceText({ object: "chat.completion.chunk", choices: [{ delta: {}, finish_reason: "stop" }] })).toBe("");
  expect(pieceText({ text: "c" })).toBe("c");
  expect(pieceText({ n: 1 })).toBe('{"n":1}\n');
});

it("downloads the whole, under a name that says what it is", async () => {
  const of = (result: unknown) => fileOf(result, shownOf(result), "stage");
  expect(of(`data:image/jpeg;base64,${PNG}`).name).toBe("stage.jpg");
  expect(of(`data:audio/x-wav;base64,${PNG}`).name).toBe("stage.wav");
  const many = Array.from({ length: 300 }, (_, at) => ({ at }));
  expect(JSON.parse(await of(many).blob.text())).toHaveLength(300);
  const long = "x".repeat(100_000);
  expect(await of(long).blob.text()).toBe(long);
});
