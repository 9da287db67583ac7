// Why there is no microphone: what browsers throw, as one of a closed list, each with what to do.

import { expect, test, vi } from "vitest";
import { MicError, missing, openMic, problemOfMic, REMEDIES } from "../src/lib/voice/mic";

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

test("what takes up the sound is not there: that is no fault of the browser, and the device is free again", async () => {
  const tracks = [{ stop: vi.fn(), addEventListener() {} }];
  let fetched: () => void = () => undefined;
  vi.stubGlobal("isSecureContext", true);
  vi.stubGlobal("AudioWorkletNode", class {});
  vi.stubGlobal("navigator", { mediaDevices: { getUserMedia: async () => ({ getTracks: () => tracks }) } });
  vi.stubGlobal("AudioContext", class {
    audioWorklet = { addModule: () => new Promise((_, fail) => (fetched = () => fail(new DOMException("", "AbortError")))) };
    close = async () => undefined;
  });
  const opening = expect(openMic()).rejects.toMatchObject({ problem: "fetch" });
  await new Promise(setImmediate);
  fetched();
  await opening;
  expect(tracks[0]?.stop).toHaveBeenCalledOnce();
  // Given up, it is free at once, whatever is still waited for.
  const abort = new AbortController();
  const given = expect(openMic(abort.signal)).rejects.toMatchObject({ name: "AbortError" });
  await new Promise(setImmediate);
  abort.abort();
  expect(tracks[0]?.stop).toHaveBeenCalledTimes(2);
  fetched();
  await given;
  vi.unstubAllGlobals();
});
