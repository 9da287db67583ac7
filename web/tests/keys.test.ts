import { expect, it, vi } from "vitest";
import { followKeys, forgetKeys, formerKeys, loadKeys, parseKeys, saveKeys } from "../src/lib/keys";

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

it("keeps the accounts before, each once, the newest first", () => {
  const storage = fakeStorage();
  const keys = (name: string) => ({ account: name, api_key: `k-${name}` });
  for (const name of ["a", "b", "c", "b"]) expect(saveKeys(keys(name))).toBe(true);
  expect(loadKeys()).toEqual(keys("b"));
  expect(formerKeys()).toEqual([keys("c"), keys("a")]);
  forgetKeys();
  expect(loadKeys()).toBeUndefined();
  expect(formerKeys()).toHaveLength(2);
  storage.set("mtor.former", "nonsense");
  expect(formerKeys()).toEqual([]);
});

it("follows another tab, also when that one forgot the account", () => {
  const storage = fakeStorage();
  saveKeys({ account: "a", api_key: "k" });
  storage.delete("mtor.keys");
  expect(followKeys()).toBeUndefined();
  expect(loadKeys()).toBeUndefined();
});

function fakeStorage(): Map<string, string> {
  const kept = new Map<string, string>();
  vi.stubGlobal("localStorage", {
    getItem: (name: string) => kept.get(name) ?? null,
    setItem: (name: string, value: string) => void kept.set(name, value),
    removeItem: (name: string) => void kept.delete(name),
  });
  return kept;
}
