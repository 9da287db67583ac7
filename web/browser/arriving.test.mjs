// Models on their way: what the page says in each state that a realm can tell, and that the box opens
// by itself. The realm is the stand-in, which says what the test tells it.
//   node browser/arriving.test.mjs [--shots FOLDER]

import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { coming, GOOD, SMALL, standIn } from "../tests/stand-in.mjs";
import { need, run } from "./chromium.mjs";

const { values } = parseArgs({ options: { shots: { type: "string" } } });
if (values.shots) mkdirSync(values.shots, { recursive: true });
const WAIT = { timeout: 30_000 };

/** @typedef {import("playwright-core").Browser} Browser */
/** @typedef {import("playwright-core").Page} Page */

/** @param {Page} page @param {string} name */
async function shoot(page, name) {
  if (!values.shots) return;
  for (const colorScheme of /** @type {const} */ (["light", "dark"])) {
    await page.emulateMedia({ colorScheme, reducedMotion: "reduce" });
    for (const [width, height] of [[1180, 860], [360, 780]]) {
      await page.setViewportSize({ width: width ?? 0, height: height ?? 0 });
      await page.screenshot({ path: join(values.shots, `${name}-${colorScheme}-${width}.png`) });
    }
  }
}

/** The page of a realm that is told something else meanwhile; it is never loaded again. @param {Browser} browser @param {(page: Page, server: Awaited<ReturnType<typeof standIn>>) => Promise<unknown>} test */
async function visit(browser, test) {
  const server = await standIn({ pieceMs: 5 });
  server.tell([], [coming(GOOD)]);
  const context = await browser.newContext();
  try {
    const page = await context.newPage();
    let loads = 0;
    page.on("load", () => (loads += 1));
    await page.goto(server.url);
    await test(page, server);
    need(loads === 1, `the page was loaded ${loads} times`);
    const wide = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
    need(wide <= 0, `${wide} px wider than the window`);
  } finally {
    await context.close();
    await server.close();
  }
}

/** Waits until the page says all of these where it tells of models. @param {import("playwright-core").Locator} place @param {RegExp[]} words */
async function says(place, ...words) {
  for (const word of words) await place.filter({ hasText: word }).waitFor(WAIT);
}

const box = (/** @type {Page} */ page) => page.getByLabel("Your question");
const notice = (/** @type {Page} */ page) => page.locator("[data-arriving]");
const about = (/** @type {Page} */ page) => page.locator("[data-about]");

/** @type {Parameters<typeof run>[1]} */
const CASES = {
  "waiting, fetching, starting: what, how far and how long, until it answers": (browser) =>
    visit(browser, async (page, server) => {
      const whose = /1\.12 GB · by Alibaba Cloud \(Qwen\) · Apache-2\.0 · a coding model/;
      await says(notice(page), /Qwen2\.5-Coder 1\.5B Instruct waits to be fetched\./, whose, /waits for its turn/);
      await shoot(page, "waiting");
      const fetching = { state: "fetching", received: 320_000_000, rate: 4_200_000, left_ms: 190_000 };
      server.tell([], [coming(GOOD, fetching)]);
      await says(notice(page), /1\.5B Instruct arrives in about 4 min\./, whose, /320 MB of 1\.12 GB · 4\.2 MB\/s · 4 min left/, /Write your question now/);
      need((await page.getByRole("progressbar").getAttribute("value")) === "320000000", "the bar is not where the bytes are");
      await box(page).fill("What is a prime?");
      await box(page).press("Enter");
      await page.getByText("No model can answer yet. Your question stays here.").waitFor(WAIT);
      await shoot(page, "fetching");
      server.tell([], [coming(GOOD, { state: "starting", received: 1_117_320_768 })]);
      await says(notice(page), /is here and starts\./, /here, and starting/);
      await shoot(page, "starting");
      server.tell([GOOD], []);
      await says(about(page), /^Qwen2\.5-Coder 1\.5B Instruct answers: 1\.12 GB · by Alibaba Cloud \(Qwen\) · Apache-2\.0 · a coding model\./);
      await notice(page).waitFor({ state: "detached", ...WAIT });
      need((await box(page).inputValue()) === "What is a prime?", "what was typed is gone");
      await shoot(page, "here");
      await page.locator("[data-price] b").waitFor(WAIT);
      await box(page).press("Enter");
      await page.locator(".bill [data-cost]").waitFor(WAIT);
    }),

  "the small one answers while the good one comes, also in the middle of a conversation": (browser) =>
    visit(browser, async (page, server) => {
      const fetching = { state: "fetching", received: 500_000_000, rate: 1_500_000, left_ms: 410_000 };
      server.tell([SMALL], [coming(GOOD, fetching)]);
      await says(notice(page), /A smaller model answers meanwhile\. Qwen2\.5-Coder 1\.5B Instruct arrives in about 7 min/);
      await says(about(page), /Qwen2\.5-Coder 0\.5B Instruct answers meanwhile: 491 MB/, /a small coding model, weak on facts\./);
      await shoot(page, "meanwhile");
      await box(page).fill("What is a prime?");
      await page.locator("[data-price] b").waitFor(WAIT);
      await box(page).press("Enter");
      await page.locator(".bill [data-cost]").waitFor(WAIT);
      await says(about(page), /Qwen2\.5-Coder 0\.5B Instruct answers meanwhile/, /Qwen2\.5-Coder 1\.5B Instruct arrives in about 7 min\./);
      await shoot(page, "meanwhile-asked");
      server.tell([GOOD, SMALL], []);
      await says(about(page), /^Qwen2\.5-Coder 1\.5B Instruct answers: 1\.12 GB/);
    }),

  "one that failed says why and what to do; where all failed nothing is said to be coming": (browser) =>
    visit(browser, async (page, server) => {
      const problem = "no source has its bytes: set MTOR_MODEL_SOURCE to a folder that holds the file, or run `mtor models pull good`";
      const failed = coming(GOOD, { state: "failed", received: 12_000_000, problem });
      server.tell([], [failed, coming(SMALL, { state: "fetching", received: 100_000_000, rate: 9_000_000, left_ms: 44_000 })]);
      await says(notice(page), /0\.5B Instruct arrives in about 44 s\./, /did not arrive/, /or run mtor models pull good/);
      need((await notice(page).locator("code").textContent()) === "mtor models pull good", "the command is not set as one");
      await shoot(page, "one-failed");
      server.tell([], [failed]);
      await says(notice(page), /No model can answer yet: what was on its way did not arrive\./, /MTOR_MODEL_SOURCE/);
      need(!/on its way\.|arrives/.test((await notice(page).textContent()) ?? ""), "something is said to be coming");
      await shoot(page, "all-failed");
      // Somebody puts the file there.
      server.tell([SMALL], [failed]);
      await says(about(page), /^Qwen2\.5-Coder 0\.5B Instruct answers: 491 MB/);
      await says(notice(page), /did not arrive/);
      need(!/No model can answer/.test((await notice(page).textContent()) ?? ""), "one answers and the page says that none can");
      await shoot(page, "failed-and-answering");
    }),

  "another model on its way makes none a stand-in: not where the default answers, nor where one was chosen": (browser) =>
    visit(browser, async (page, server) => {
      const fetching = { state: "fetching", received: 500_000_000, rate: 1_500_000, left_ms: 410_000 };
      server.tell([GOOD], [coming(SMALL, fetching)], GOOD);
      await says(about(page), /^Qwen2\.5-Coder 1\.5B Instruct answers: 1\.12 GB/);
      await says(notice(page), /0\.5B Instruct arrives in about 7 min\. It can be asked then/);
      need(!/meanwhile/.test((await page.textContent("main")) ?? ""), "the default is said to be a stand-in");
      server.tell([SMALL, "llama3.2:1b"], [coming(GOOD, fetching)], GOOD);
      await says(about(page), /0\.5B Instruct answers meanwhile: 491 MB/);
      await page.getByRole("combobox", { name: "Model" }).selectOption("llama3.2:1b");
      await says(about(page), /^llama3\.2:1b answers\./);
      need(!/meanwhile/.test((await page.textContent("main")) ?? ""), "a chosen model is said to be a stand-in");
    }),

  "where nobody serves, the page says whom to ask, and which model is to answer": (browser) =>
    visit(browser, async (page, server) => {
      server.tell([], []);
      const none = page.locator(".notice", { hasText: "mtor up" });
      await says(none, / is to answer here, and no worker offers it just now: mtor up on the owner's machine says why/);
      await shoot(page, "nobody");
      server.tell([], [], "");
      await says(none, /No worker here offers chat just now: mtor up on the owner's machine says why/);
    }),

  "a model of which nothing was told is named all the same": (browser) =>
    visit(browser, async (page, server) => {
      server.tell(["llama3.2:1b"], []);
      await says(about(page), /^llama3\.2:1b answers\./);
    }),
};

// Each has a realm of its own, and waits for what that says next.
await run(undefined, CASES, { atOnce: 3 });
