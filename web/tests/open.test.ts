import { beforeEach, expect, it, vi } from "vitest";
import { dropOpen, keepOpen, loadOpen } from "../src/lib/open";

beforeEach(() => {
  const items = new Map<string, string>();
  vi.stubGlobal("sessionStorage", {
    getItem: (name: string) => items.get(name) ?? null,
    setItem: (name: string, value: string) => items.set(name, value),
    removeItem: (name: string) => items.delete(name),
  });
});

it("the late receipt of one question does not forget the next one", () => {
  keepOpen({ intent: "a", account: "me", askedAt: 1 });
  keepOpen({ intent: "b", account: "me", askedAt: 2 });
  dropOpen("a");
  expect(loadOpen()?.intent).toBe("b");
  dropOpen("b");
  expect(loadOpen()).toBeUndefined();
  keepOpen({ intent: "c", account: "me", askedAt: 3 });
  dropOpen();
  expect(loadOpen()).toBeUndefined();
});
