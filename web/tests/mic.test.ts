// Why there is no microphone: what browsers throw, as one of a closed list, each with what to do.

import { expect, test } from "vitest";
import { MicError, missing, problemOfMic, REMEDIES } from "../src/lib/voice/mic";

test.each([
  ["NotAllowedError", "denied"], ["SecurityError", "denied"], ["NotFoundError", "none"], ["OverconstrainedError", "none"],
  ["NotReadableError", "busy"], ["AbortError", "busy"], ["TypeError", "unsupported"], ["SomethingNew", "unsupported"],
])("%s is %s", (name, problem) => {
  expect(problemOfMic(new DOMException("", name))).toBe(problem);
});

test("its own errors stay what they are, and anything else is told all the same", () => {
  expect(problemOfMic(new MicError("lost"))).toBe("lost");
  for (const odd of [undefined, null, 7, "x", {}]) expect(problemOfMic(odd)).toBe("unsupported");
});

test("a page that came unencrypted is told so before anything is asked for", () => {
  expect(missing({ isSecureContext: false, navigator: {} })).toBe("insecure");
  expect(missing({ isSecureContext: true, navigator: {} })).toBe("unsupported");
});

test("each says what is wrong and what to do, in sentences", () => {
  for (const { what, then } of Object.values(REMEDIES)) for (const words of [what, then]) expect(words).toMatch(/^[A-Z].{10,}\.$/);
});
