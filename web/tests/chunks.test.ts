import { afterEach, beforeEach, expect, it, vi } from "vitest";
import { remedyOf, toPressAgain, Unfetched, whole } from "../src/lib/chunks";

const FROM = "http://realm.test/assets/index-1.js";
let asked: string[];
let away: boolean;
let silent: boolean;
let told: number;
let links: { href: string; rel: string; onload: () => void; onerror: () => void; remove(): void }[];

beforeEach(() => {
  [asked, away, silent, told, links] = [[], false, false, 0, []];
  vi.stubGlobal("fetch", async (address: string) => {
    asked.push(new URL(address).pathname);
    if (away) throw new TypeError("failed to fetch");
    return new Response("export {}", { status: address.includes("gone") ? 404 : 200 });
  });
  vi.stubGlobal("dispatchEvent", () => (told += 1));
  vi.stubGlobal("document", {
    baseURI: "http://realm.test/",
    querySelectorAll: () => links,
    createElement: () => ({ remove() { links = links.filter((one) => one !== this); } }),
    head: {
      append(link: (typeof links)[number]) {
        links.push(link);
        asked.push(new URL(link.href).pathname);
        if (!silent) queueMicrotask(() => (away ? link.onerror() : link.onload()));
      },
    },
  });
});
afterEach(() => {
  vi.useRealTimers();
  vi.unstubAllGlobals();
});

it("imports nothing before all that it needs has come, and asks for what did not come once more", async () => {
  const load = vi.fn(async () => "the part");
  away = true;
  const names = ["./a-chunks1.js", "./b-chunks1.js", "./a-chunks1.css"];
  for (let tries = 1; tries <= 2; tries += 1) {
    await expect(whole(load, names, FROM)).rejects.toThrow(Unfetched);
    expect([load.mock.calls.length, told, links.length]).toEqual([0, tries, 0]);
    await vi.waitFor(() => expect(asked.length).toBe(3 * tries));
  }
  away = false;
  expect(await whole(load, names, FROM)).toBe("the part");
  expect(asked.slice(6).sort()).toEqual(["/assets/a-chunks1.css", "/assets/a-chunks1.js", "/assets/b-chunks1.js"]);
  // What has come is not asked for again.
  await whole(load, names, FROM);
  expect([asked.length, load.mock.calls.length]).toEqual([9, 2]);
});

it("asks for what two parts share once at a time", async () => {
  await Promise.all([whole(async () => 1, ["./one-chunks2.js", "./both-chunks2.js"], FROM), whole(async () => 2, ["./both-chunks2.js"], FROM)]);
  expect(asked.filter((path) => path.includes("both"))).toHaveLength(1);
});

it("takes what the realm refuses for no part, and says what to do", async () => {
  const cause = await whole(async () => 1, ["./gone-chunks3.js"], FROM).catch((why: unknown) => why);
  expect(remedyOf(cause)).toContain("The realm is away");
  expect(toPressAgain(cause)).toBe("The realm is away, and this part of the page could not be fetched. Press again to try again.");
  const broken = await whole(async () => { throw new TypeError("it does not run"); }, [], FROM).catch((why: unknown) => why);
  expect(remedyOf(broken)).toContain("Load the page again");
  // It fails for as long as the page stands: no press helps.
  expect(toPressAgain(broken)).toBe(remedyOf(broken));
});

it("waits for no stylesheet for ever, and asks for it once more", async () => {
  vi.useFakeTimers();
  silent = true;
  const load = vi.fn(async () => "the part");
  const coming = whole(load, ["./a-chunks4.css"], FROM).catch((why: unknown) => why);
  await vi.advanceTimersByTimeAsync(29_000);
  expect(links).toHaveLength(1);
  await vi.advanceTimersByTimeAsync(2_000);
  expect(links).toHaveLength(0);
  expect(await coming).toBeInstanceOf(Unfetched);
  silent = false;
  expect(await whole(load, ["./a-chunks4.css"], FROM)).toBe("the part");
  expect([asked.length, load.mock.calls.length, vi.getTimerCount()]).toEqual([2, 1, 0]);
});
