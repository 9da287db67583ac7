// A server-sent-events parser for fetch streams. EventSource is not used: it cannot send an
// Authorization header, and a key must never stand in a URL.
//
// Bytes may be cut anywhere, inside a UTF-8 sequence or between CR and LF included.

export interface SseMessage {
  /** The last id seen, as the standard has it: it stays until another replaces it. */
  id: string;
  event: string;
  data: string;
}

/**
 * Characters one message may take before the stream counts as broken. A result stands in one message,
 * and may be as large as the largest data, in base64.
 */
export const MESSAGE_CHARS_MAX = 32 * 1024 * 1024;

export class SseParser {
  #decoder = new TextDecoder();
  #line = "";
  #skipLineFeed = false;
  #id = "";
  #event = "";
  #data: string[] = [];
  #chars = 0;

  push(bytes: Uint8Array): SseMessage[] {
    const text = this.#decoder.decode(bytes, { stream: true });
    const messages: SseMessage[] = [];
    let from = 0;
    for (let at = 0; at < text.length; at += 1) {
      const unit = text.charCodeAt(at);
      if (unit === 10 && this.#skipLineFeed && at === from) {
        from = at + 1;
        this.#skipLineFeed = false;
        continue;
      }
      this.#skipLineFeed = false;
      if (unit !== 10 && unit !== 13) continue;
      const line = this.#line + text.slice(from, at);
      this.#line = "";
      from = at + 1;
      this.#skipLineFeed = unit === 13;
      const message = this.#take(line);
      if (message) messages.push(message);
    }
    this.#line += text.slice(from);
    if (this.#line.length + this.#chars > MESSAGE_CHARS_MAX) throw new Error("message too long");
    return messages;
  }

  #take(line: string): SseMessage | undefined {
    if (line === "") return this.#dispatch();
    const colon = line.indexOf(":");
    if (colon === 0) return undefined;
    const field = colon < 0 ? line : line.slice(0, colon);
    const rest = colon < 0 ? "" : line.slice(colon + 1);
    const value = rest.startsWith(" ") ? rest.slice(1) : rest;
    if (field === "data") {
      this.#data.push(value);
      this.#chars += value.length + 1;
    } else if (field === "event") {
      this.#event = value;
    } else if (field === "id" && !value.includes("\0")) {
      this.#id = value;
    }
    return undefined;
  }

  #dispatch(): SseMessage | undefined {
    const message =
      this.#data.length > 0
        ? { id: this.#id, event: this.#event || "message", data: this.#data.join("\n") }
        : undefined;
    this.#event = "";
    this.#data = [];
    this.#chars = 0;
    return message;
  }
}
