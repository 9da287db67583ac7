import { describe, expect, it } from "vitest";
import { MESSAGE_CHARS_MAX, SseParser, type SseMessage } from "../src/lib/sse";

const bytes = (text: string) => new TextEncoder().encode(text);

/** The same messages must come out however the bytes are cut. */
function check(stream: string, expected: Partial<SseMessage>[]) {
  const whole = bytes(stream);
  for (let size = 1; size <= whole.length; size += 1) {
    const parser = new SseParser();
    const messages: SseMessage[] = [];
    for (let at = 0; at < whole.length; at += size) {
      messages.push(...parser.push(whole.slice(at, at + size)));
    }
    expect(messages, `cut every ${size} bytes`).toMatchObject(expected);
    expect(messages).toHaveLength(expected.length);
  }
}

describe("the event-stream parser", () => {
  it("reads id, event and data", () => {
    check('id: 1.0\nevent: a.v1\ndata: {"x":1}\n\n', [{ id: "1.0", event: "a.v1", data: '{"x":1}' }]);
  });

  it("takes CRLF, LF and CR as line ends", () => {
    const expected = [{ data: "one\ntwo" }, { data: "three" }];
    for (const end of ["\r\n", "\n", "\r"]) {
      check(["data: one", "data: two", "", "data: three", "", ""].join(end), expected);
    }
  });

  it("keeps characters whole that are cut inside their UTF-8", () => {
    check("data: größe 漢字 🦉\n\n", [{ data: "größe 漢字 🦉" }]);
  });

  it("passes over comments, unknown fields and events without data", () => {
    check(": ping\n\nevent: empty\n\nfoo: bar\nretry: 10\ndata: x\n\n: ping\n", [
      { event: "message", data: "x" },
    ]);
  });

  it("strips one space only, and takes a field without a colon as empty", () => {
    check("data:  two\ndata\ndata:none\n\n", [{ data: " two\n\nnone" }]);
  });

  it("keeps the last id until another comes, and none that holds NUL", () => {
    check("id: 1.4\ndata: a\n\ndata: b\n\nid: 9\0\ndata: c\n\nid\ndata: d\n\n", [
      { id: "1.4" },
      { id: "1.4" },
      { id: "1.4" },
      { id: "" },
    ]);
  });

  it("drops a message that the stream's end cuts off, and a mark at its start", () => {
    check("\ufeffdata: a\n\ndata: never\n", [{ data: "a" }]);
  });

  it("refuses a message without end", () => {
    const parser = new SseParser();
    expect(() => parser.push(bytes("data: " + "x".repeat(MESSAGE_CHARS_MAX)))).toThrow("too long");
  });
});
