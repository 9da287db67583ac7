import { expect, it, vi } from "vitest";
import { forgetKeys, loadKeys, parseKeys, saveKeys } from "../src/lib/keys";

it("reads what it wrote, and nothing broken", () => {
  const keys = { account: "a", api_key: "k", secret_key: "s" };
  expect(parseKeys(JSON.stringify(keys))).toEqual(keys);
  expect(parseKeys('{"account":"a","api_key":"k"}')).toEqual({ account: "a", api_key: "k" });
  for (const broken of ["", "null", "[]", "{", '{"account":"a"}']) expect(parseKeys(broken)).toBeUndefined();
});

it("keeps keys as long as the page where storage is forbidden", () => {
  // Every access throws, as in a private window.
  vi.stubGlobal("localStorage", undefined);
  expect(saveKeys({ account: "a", api_key: "k" })).toBe(false);
  expect(loadKeys()?.api_key).toBe("k");
  forgetKeys();
  expect(loadKeys()).toBeUndefined();
});
