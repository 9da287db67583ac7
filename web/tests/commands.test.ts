import { expect, it } from "vitest";
import { commandOf, dataOf, PHRASES, textIntents } from "../src/lib/voice/commands";
import type { Manifest, Offer } from "../src/lib/realm";

const INTENTS = ["chat", "echo", "embed", "speak", "analyze-signal"];

it("knows a command by all of its words", () => {
  for (const [kind, phrases] of Object.entries(PHRASES)) {
    for (const phrase of phrases) {
      for (const said of [phrase, `${phrase}.`, `${phrase.toUpperCase()}!`, `Please ${phrase}`, `${phrase}, please.`, `\u201c${phrase}\u201d`]) {
        expect([said, commandOf(said, INTENTS)]).toEqual([said, { kind }]);
      }
    }
  }
  for (const said of ["", "Stop the clock", "What is help?", "Send a letter to Bob", "How do I cancel a subscription?", "a new conversation about cats", "please", "now"]) {
    expect([said, commandOf(said, INTENTS)]).toEqual([said, undefined]);
  }
});

it("asks an intent by its name, or nearly", () => {
  for (const [said, intent, text] of [
    ["Ask echo hello there.", "echo", "hello there."],
    ["ask, echo: Hello!", "echo", "Hello!"],
    ["asks Echo Hello there.", "echo", "Hello there."],
    ["Ask embed a text, and another.", "embed", "a text, and another."],
    ["Ask imbed a text.", "embed", "a text."],
    ["Ask analyze signal forty two", "analyze-signal", "forty two"],
    ["Ask chat what is a ring?", "chat", "what is a ring?"],
    ["Please, ask echo hello.", "echo", "hello."],
    ["Ask analyse signals forty two", "analyze-signal", "forty two"],
  ] as const) {
    expect([said, commandOf(said, INTENTS)]).toEqual([said, { kind: "ask", intent, text }]);
  }
  for (const said of ["Ask echo", "Ask", "Ask nobody anything", "I ask echo hello", "Asking echo hello", "Ask Spock about logic", "Ask peak season prices", "Ask ambit about it", "Ask my mother who she is"]) {
    expect([said, commandOf(said, INTENTS)]).toEqual([said, undefined]);
  }
  expect(commandOf("Ask echo hello", [])).toBeUndefined();
});

const manifest = (name: string, parameters: Record<string, unknown>) =>
  ({ name, version: 1, summary: "", parameters, price: { amount: "1", per: 1, unit: "x" }, bytesMax: 1 }) satisfies Manifest;

it("makes data of a text where the manifest takes one", () => {
  const echo = manifest("echo", { properties: { chunks: { type: "integer" } } });
  const embed = manifest("embed", { type: "object", required: ["input"], properties: { input: { type: ["string", "array"] } } });
  const hear = manifest("transcribe", { type: "object", required: ["audio"], properties: { audio: { type: "string", format: "base64" } } });
  const fft = manifest("fft", { type: "object", required: ["dtype", "data"], properties: { data: { type: "string" } } });
  const chat = manifest("chat", { type: "object", required: ["messages"], properties: { messages: { type: "array" } } });
  expect([echo, embed, hear, fft, chat].map((one) => dataOf(one, "hi"))).toEqual([{ text: "hi" }, { input: "hi" }, undefined, undefined, undefined]);
  const offer = (slots: number): Offer => ({ standing: "own", owners: [], any: false, slots, busy: 0, depth: 0, price: echo.price, models: [] });
  const offers = new Map([["echo", offer(1)], ["embed", offer(0)], ["transcribe", offer(1)], ["chat", offer(2)]]);
  expect(textIntents([echo, embed, hear, fft, chat], offers)).toEqual(["echo", "chat"]);
});
