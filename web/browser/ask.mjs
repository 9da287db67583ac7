// Opens the page as a new visitor, asks, and watches the answer stream in. Exits 0 only if all of it
// held. `--url URL` names a realm; without it the tests' stand-in is started (needs `npm run build`).
//   node browser/ask.mjs [--url URL] [--shot FILE.png] [--question TEXT] [--limit-s N]

import { existsSync } from "node:fs";
import { parseArgs } from "node:util";
import { chromium } from "playwright-core";
import { standIn } from "../tests/stand-in.mjs";

const PIECES_MIN = 3;
const { values } = parseArgs({
  options: {
    url: { type: "string" },
    shot: { type: "string" },
    question: { type: "string", default: "Tell me in a few sentences what a Merkle tree is." },
    "limit-s": { type: "string", default: "120" },
  },
});
const limitMs = Number(values["limit-s"]) * 1_000;

/** @param {boolean} held @param {string} reason */
function need(held, reason) {
  if (!held) throw new Error(reason);
}

/** @param {import("playwright-core").Page} page @param {string} suffix */
async function shoot(page, suffix) {
  if (values.shot) await page.screenshot({ path: values.shot.replace(/(\.png)?$/, `${suffix}.png`) });
}

/** @param {import("playwright-core").Page} page */
function listen(page) {
  /** @type {string[]} */
  const troubles = [];
  const aborted = { streams: 0 };
  page.on("console", (message) => {
    if (message.type() === "error") troubles.push(`console: ${message.text()}`);
  });
  page.on("pageerror", (error) => troubles.push(`page error: ${error.message}`));
  page.on("requestfailed", async (request) => {
    const why = request.failure()?.errorText ?? "";
    const type = (await request.response().catch(() => null))?.headers()["content-type"] ?? "";
    // Chromium reports a `no-store` stream as aborted although the page read it to its end
    // (microsoft/playwright#42742); `watchStreams` knows whether it did.
    if (why === "net::ERR_ABORTED" && type.startsWith("text/event-stream")) aborted.streams += 1;
    else troubles.push(`request failed: ${request.method()} ${request.url()}: ${why}`);
  });
  page.on("response", (response) => {
    if (response.status() >= 400) troubles.push(`${response.status()} ${response.request().method()} ${response.url()}`);
  });
  return { troubles, aborted };
}

/** Counts the streams that the page read to their end. */
function watchStreams() {
  Object.assign(window, { streamsEnded: 0 });
  const { read } = ReadableStreamDefaultReader.prototype;
  ReadableStreamDefaultReader.prototype.read = async function () {
    const result = await read.call(this);
    if (result.done) Reflect.set(window, "streamsEnded", Reflect.get(window, "streamsEnded") + 1);
    return result;
  };
}

/** Counts the mutations in which the answer had grown: each is a piece the visitor saw arrive. */
function watchAnswer() {
  const seen = { pieces: 0, chars: 0 };
  Object.assign(window, { seen });
  new MutationObserver(() => {
    const chars = document.querySelector("[data-answer]")?.textContent?.length ?? 0;
    if (chars > seen.chars) seen.pieces += 1;
    seen.chars = Math.max(chars, seen.chars);
  }).observe(document.body, { childList: true, subtree: true, characterData: true });
}

/** @param {import("playwright-core").Page} page @param {ReturnType<typeof listen>} heard */
async function ask(page, { troubles, aborted }) {
  await page.waitForSelector(".price span", { timeout: limitMs });
  await page.evaluate(watchAnswer);
  await page.getByLabel("Your question").fill(values.question);
  await page.waitForSelector("[data-price] b", { timeout: limitMs });
  const price = (await page.textContent("[data-price]"))?.trim() ?? "";
  need(/\d/.test(price), `no price before the question was sent: ${price}`);
  await page.getByLabel("Your question").press("Enter");
  const streaming = page.waitForFunction(
    (least) => Reflect.get(window, "seen").pieces >= least,
    PIECES_MIN,
    { timeout: limitMs },
  );
  const problem = page.waitForSelector("[data-problem]", { timeout: limitMs }).then((element) => element.textContent());
  const refused = await Promise.race([streaming.then(() => undefined), problem.catch(() => undefined)]);
  need(refused === undefined, `the question ended badly: ${refused?.trim()}`);
  await shoot(page, "-streaming");
  await page.waitForSelector(".bill [data-cost]", { timeout: limitMs });
  const cost = (await page.textContent(".bill [data-cost]"))?.trim() ?? "";
  need(/\d/.test(cost), `no cost after the answer: ${cost}`);
  const pieces = await page.evaluate(() => Reflect.get(window, "seen").pieces);
  need(pieces >= PIECES_MIN, `only ${pieces} pieces were seen to arrive`);
  await page.waitForLoadState("networkidle");
  const ended = await page.evaluate(() => Reflect.get(window, "streamsEnded"));
  need(aborted.streams <= ended, `${aborted.streams} streams were aborted, ${ended} were read to their end`);
  need(troubles.length === 0, troubles.join("\n"));
  return { price, cost, pieces };
}

/** @param {import("playwright-core").Page} page */
async function phone(page) {
  for (const [width, height] of [[390, 844], [320, 640]]) {
    await page.setViewportSize({ width: width ?? 0, height: height ?? 0 });
    await page.evaluate(() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done))));
    const wide = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
    need(wide <= 0, `the page is ${wide} px wider than a window of ${width} px`);
    if (width === 390) await shoot(page, "-phone");
  }
}

/** @type {import("playwright-core").Browser | undefined} */
let browser;
const own = values.url ? undefined : await standIn();
try {
  const executablePath = process.env["CHROMIUM"] ?? "/usr/bin/chromium";
  need(existsSync(executablePath), `no Chromium at ${executablePath}: set CHROMIUM`);
  browser = await chromium.launch({ executablePath, args: ["--no-sandbox"] });
  const page = await browser.newPage({ viewport: { width: 1180, height: 820 } });
  const heard = listen(page);
  await page.addInitScript(watchStreams);
  await page.goto(values.url ?? own?.url ?? "");
  const { price, cost, pieces } = await ask(page, heard);
  await shoot(page, "");
  await phone(page);
  console.log(`price before: ${price} · pieces seen: ${pieces} · cost after: ${cost}`);
  console.log("1 passed, 0 failed");
} catch (error) {
  console.error(error instanceof Error ? error.message : error);
  console.log("0 passed, 1 failed");
  process.exitCode = 1;
} finally {
  await browser?.close();
  await own?.close();
}
