// What must hold for the page as a whole: its weight, who can use it, how narrow a window may be,
// and that no text becomes a script. Every view of `views.mjs` is looked at in both themes.
//   node browser/page.test.mjs [--url URL] [--shots FOLDER]
// The views need answers from a script, so they are the stand-in's; a realm's address is used for
// what the realm itself decides: weight and policy.

import { mkdirSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { standIn } from "../tests/stand-in.mjs";
import { changing, need, run } from "./chromium.mjs";
import { ask, freshly, VIEWS } from "./views.mjs";

/** What a first visit may send over the line before the visitor does anything. */
const FIRST_VIEW_BYTES_MAX = 60_000;
const NARROW_PX = 360;
/** Of the 740 of a small phone, while there is a conversation to read. */
const BOX_PX_MAX = 160;
const WAIT_MS = 30_000;
/** More stops of the Tab key than any view has. */
const STEPS_MAX = 80;
const AXE = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const { values } = parseArgs({ options: { url: { type: "string" }, shots: { type: "string" } } });
if (values.shots) mkdirSync(values.shots, { recursive: true });

/** @typedef {import("playwright-core").Browser} Browser */
/** @typedef {import("playwright-core").Page} Page */

/** Bytes on the line until nothing more is asked for. @param {Browser} browser @param {string} url */
async function firstView(browser, url) {
  const page = await browser.newPage();
  const wire = await page.context().newCDPSession(page);
  await wire.send("Network.enable");
  let bytes = 0;
  wire.on("Network.loadingFinished", (event) => (bytes += event.encodedDataLength));
  await page.goto(url, { waitUntil: "networkidle" });
  await page.close();
  need(bytes <= FIRST_VIEW_BYTES_MAX, `the first view is ${bytes} bytes, at most ${FIRST_VIEW_BYTES_MAX}`);
  return `${bytes} bytes`;
}

/** A second visit sends for no asset, and is told that the index has not changed. @param {Browser} browser @param {string} url */
async function secondVisit(browser, url) {
  const context = await browser.newContext();
  const first = await context.newPage();
  // The icon comes when the browser likes: what did not come is no part of this.
  /** @type {Set<string>} */
  const had = new Set();
  const before = await context.newCDPSession(first);
  await before.send("Network.enable");
  before.on("Network.responseReceived", ({ response }) => had.add(response.url));
  await first.goto(url, { waitUntil: "networkidle" });
  await first.close();
  const page = await context.newPage();
  const wire = await context.newCDPSession(page);
  await wire.send("Network.enable");
  /** @type {string[]} */
  const sent = [];
  wire.on("Network.responseReceived", ({ response }) => {
    if (/\/assets\//.test(response.url) && had.has(response.url) && !response.fromDiskCache) sent.push(response.url);
  });
  await page.goto(url, { waitUntil: "networkidle" });
  await context.close();
  need([...had].filter((asset) => /\/assets\/.*\.(js|css)$/.test(asset)).length >= 2, `the first visit had ${[...had].join(", ")}`);
  need(sent.length === 0, `asked for again: ${sent.join(", ")}`);
}

/** The bar stands there before its stylesheet and its script, and the script puts its own in that place. @param {Browser} browser @param {string} url */
async function bar(browser, url) {
  const place = async (/** @type {Page} */ page) => {
    const bars = page.locator("header.top");
    await bars.first().waitFor({ timeout: WAIT_MS });
    need((await bars.count()) === 1, `${await bars.count()} bars`);
    return { of: await page.locator(".top .brand").boundingBox(), height: (await bars.boundingBox())?.height ?? 0 };
  };
  const page = await browser.newPage();
  await page.route(/\.(js|css)$/, (route) => route.abort());
  await page.goto(url);
  const before = await place(page);
  await page.unrouteAll();
  await page.goto(url);
  await page.locator("[data-balance]").waitFor({ timeout: WAIT_MS });
  const after = await place(page);
  await page.close();
  need(JSON.stringify(before.of) === JSON.stringify(after.of), `the mark jumps from ${JSON.stringify(before)} to ${JSON.stringify(after)}`);
  need(Math.abs(before.height - after.height) < 1, `the bar grows from ${before.height} to ${after.height} px`);
}

/** A page that an update left behind is loaded again when it needs a chunk; a bad line changes nothing. @param {Browser} browser */
async function update(browser) {
  const server = await standIn({ pieceMs: 5 });
  const page = await browser.newPage();
  try {
    await page.goto(server.url);
    const script = (await page.locator("script[src]").first().getAttribute("src")) ?? "";
    await page.route("**/assets/markdown-*.js", (route) => route.abort());
    await VIEWS["answered"]?.(page);
    need((await page.textContent("[data-answer]"))?.includes("**Merkle tree**") === true, "without the chunk the answer is not shown as it was written");
    await changing(page, server.url, (text) => text.replaceAll(script, "./assets/index-NewerOne.js"));
    const again = page.waitForRequest((request) => request.isNavigationRequest() && request.url() === server.url, { timeout: WAIT_MS });
    await freshly(page);
    await ask(page, "What is a Merkle tree?");
    await again;
  } finally {
    await page.close();
    await server.close();
  }
}

/** Where a string would become markup or a script, the browser refuses. @param {Browser} browser @param {string} url */
async function policy(browser, url) {
  const page = await browser.newPage();
  await page.goto(url, { waitUntil: "networkidle" });
  const through = await page.evaluate(async () => {
    // While the debugger evaluates, the browser lets it evaluate text: the policy counts behind it.
    await new Promise((done) => setTimeout(done));
    /** @type {Record<string, () => unknown>} */
    const tries = {
      innerHTML: () => (document.createElement("div").innerHTML = "<b>x</b>"),
      outerHTML: () => (document.body.appendChild(document.createElement("i")).outerHTML = "<b>x</b>"),
      eval: () => Reflect.apply(eval, undefined, ["1"]),
      Function: () => Reflect.construct(Function, ["return 1"]),
      srcdoc: () => (document.createElement("iframe").srcdoc = "<b>x</b>"),
      src: () => (document.createElement("script").src = "data:,"),
      policy: () => Reflect.get(window, "trustedTypes").createPolicy("another", {}),
      "the same policy again": () => Reflect.get(window, "trustedTypes").createPolicy("svelte-trusted-html", {}),
    };
    const passed = [];
    for (const [name, attempt] of Object.entries(tries)) {
      try {
        attempt();
        passed.push(name);
      } catch {
        // As it should be.
      }
    }
    return passed;
  });
  await page.close();
  need(through.length === 0, `the policy lets through: ${through.join(", ")}`);
}

/** @param {Page} page */
async function serious(page) {
  await page.evaluate(AXE);
  return page.evaluate(async () => {
    const { violations } = await Reflect.get(window, "axe").run(document, { resultTypes: ["violations"] });
    return violations
      .filter((/** @type {any} */ found) => ["serious", "critical"].includes(found.impact))
      .map((/** @type {any} */ found) => `${found.id} at ${found.nodes.map((/** @type {any} */ node) => node.target).join(" ")}`);
  });
}

/** @param {Page} page */
async function tooWide(page) {
  await page.setViewportSize({ width: NARROW_PX, height: 740 });
  await page.evaluate(() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done))));
  return page.evaluate(() => {
    const sheet = document.querySelector("dialog[open]");
    return Math.max(document.documentElement.scrollWidth - innerWidth, sheet ? sheet.scrollWidth - sheet.clientWidth : 0);
  });
}

/**
 * One view in one theme: axe finds nothing serious, and nothing reaches beyond a narrow window.
 * @param {string} name @param {"light" | "dark"} colorScheme
 */
const view = (name, colorScheme) => async (/** @type {Browser} */ browser) => {
  const server = await standIn({ pieceMs: 5 });
  const context = await browser.newContext({ bypassCSP: true, colorScheme, reducedMotion: "reduce", viewport: { width: 1180, height: 820 } });
  try {
    const page = await context.newPage();
    await page.goto(server.url);
    await VIEWS[name]?.(page);
    const found = await serious(page);
    if (values.shots) await page.screenshot({ path: join(values.shots, `${name}-${colorScheme}.png`) });
    need(found.length === 0, found.join("; "));
    const wide = await tooWide(page);
    if (values.shots) await page.screenshot({ path: join(values.shots, `${name}-${colorScheme}-${NARROW_PX}.png`) });
    need(wide <= 0, `${wide} px wider than a window of ${NARROW_PX} px`);
  } finally {
    await context.close();
    await server.close();
  }
};

/** Tabs until the focus is seen on the element. @param {Page} page @param {string} selector */
async function tabTo(page, selector) {
  for (let step = 0; step < STEPS_MAX; step += 1) {
    if (await page.evaluate((wanted) => document.activeElement?.matches(`${wanted}:focus-visible`) === true, selector)) return;
    await page.keyboard.press("Tab");
  }
  throw new Error(`the keyboard does not reach ${selector}, or does not show that it did`);
}

/** A question, its answer, the account and a new question, without a pointer. @param {Browser} browser */
async function keyboard(browser) {
  const server = await standIn({ pieceMs: 5 });
  const context = await browser.newContext();
  try {
    const page = await context.newPage();
    await page.goto(server.url);
    await page.locator(".price span").first().waitFor({ timeout: WAIT_MS });
    await tabTo(page, "textarea");
    await page.keyboard.type("What is a Merkle tree?");
    await page.locator("[data-price] b").first().waitFor({ timeout: WAIT_MS });
    await page.keyboard.press("Enter");
    await page.locator(".bill [data-cost]").first().waitFor({ timeout: WAIT_MS });
    await tabTo(page, "[data-balance]");
    await page.keyboard.press("Enter");
    await page.getByRole("dialog").waitFor({ timeout: WAIT_MS });
    await page.keyboard.press("Escape");
    await page.getByRole("dialog").waitFor({ state: "hidden", timeout: WAIT_MS });
    await tabTo(page, "[data-balance]");
    await tabTo(page, "textarea");
    await page.keyboard.type("and again");
    need((await page.inputValue("textarea")) === "and again", "the box does not take a second question");
  } finally {
    await context.close();
    await server.close();
  }
}

/** From a wide window to a narrow one: the end of the conversation stays in view, and the bar and the box fit. @param {Browser} browser */
async function narrow(browser) {
  const server = await standIn({ pieceMs: 5 });
  const context = await browser.newContext({ viewport: { width: 1180, height: 820 } });
  try {
    const page = await context.newPage();
    await page.goto(server.url);
    await VIEWS["answered"]?.(page);
    await page.setViewportSize({ width: NARROW_PX, height: 740 });
    const measure = () =>
      page.evaluate(() => {
        const box = document.querySelector(".composer")?.getBoundingClientRect();
        const balance = document.querySelector("[data-balance]");
        return {
          hidden: (document.querySelector(".bill")?.getBoundingClientRect().bottom ?? Infinity) - (box?.top ?? 0),
          height: box?.height ?? Infinity,
          cut: (balance?.scrollWidth ?? Infinity) - (balance?.clientWidth ?? 0),
        };
      });
    let seen = await measure();
    // A busy machine lays out later.
    for (const ends = Date.now() + WAIT_MS; seen.hidden > 0 && Date.now() < ends; seen = await measure()) await page.waitForTimeout(50);
    const { hidden, height, cut } = seen;
    need(hidden <= 0, `the box hides ${hidden} px of the bill`);
    need(cut <= 0, `the balance is cut by ${cut} px`);
    need(height <= BOX_PX_MAX, `the box takes ${height} px`);
    await page.getByRole("button", { name: "more", exact: true }).click();
    await page.waitForTimeout(300);
    const more = await measure();
    need(more.height > height, "what is known of the model cannot be read whole");
    need(more.hidden <= 0, `the grown box hides ${more.hidden} px of the bill`);
  } finally {
    await context.close();
    await server.close();
  }
}

/** @type {Parameters<typeof run>[1]} */
const cases = { [`the first view is at most ${FIRST_VIEW_BYTES_MAX} bytes`]: firstView };
cases["a second visit asks for no asset again"] = secondVisit;
cases["the bar is seen before the stylesheet and the script are there"] = bar;
cases["a page that is older than its realm is loaded again"] = update;
cases["no text becomes markup or a script"] = policy;
cases["a window that gets narrow keeps the end in view, the balance whole and the box small"] = narrow;
cases["the main path with the keyboard alone"] = keyboard;
for (const name of Object.keys(VIEWS)) {
  for (const theme of /** @type {const} */ (["light", "dark"])) {
    cases[`${name}, ${theme}: axe has nothing serious to say, ${NARROW_PX} px are enough`] = view(name, theme);
  }
}
// Each view has a realm and a visitor of its own.
await run(values.url, cases, { atOnce: 2 });
