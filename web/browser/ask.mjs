// Opens the page as a new visitor, asks, and watches the answer stream in; loads the page again, stops
// an answer midway, and comes back with a key that the realm does not know. Exits 0 only if all of it
// held, on a desk and on a phone. `--url URL` names a realm; without it the tests' stand-in is started (needs `npm run build`).
//   node browser/ask.mjs [--url URL] [--shot FILE.png] [--question TEXT] [--limit-s N]

import { existsSync } from "node:fs";
import { parseArgs } from "node:util";
import { chromium } from "playwright-core";
import { standIn } from "../tests/stand-in.mjs";

const PIECES_MIN = 3;
/** Long enough that it can be stopped midway. */
const LONG = "Write a long story about a ring of machines, with many names in it.";
const STRANGER = { account: "StrangerStrangerStrangerStranger", api_key: "mtor_StrangerStrangerStranger", secret_key: "kept" };
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
  // A key that is to be refused is refused aloud.
  const expected = { refusals: false, aborts: 0 };
  const isExpected = (/** @type {string} */ text) => expected.refusals && /\b401\b/.test(text);
  page.on("console", (message) => {
    if (message.type() === "error" && !isExpected(message.text())) troubles.push(`console: ${message.text()}`);
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
    const { pathname } = new URL(response.url());
    const ofAccount = pathname === "/v1/account" && isExpected(String(response.status()));
    if (response.status() >= 400 && !ofAccount) troubles.push(`${response.status()} ${response.request().method()} ${response.url()}`);
  });
  return { troubles, aborted, expected, streams: 0 };
}

/** Counts the streams that began, and those that the page read to their end. */
function watchStreams() {
  const streams = { begun: 0, ended: 0 };
  Object.assign(window, { streams });
  const plain = window.fetch;
  window.fetch = async (...request) => {
    const response = await plain(...request);
    if (response.headers.get("content-type")?.startsWith("text/event-stream")) streams.begun += 1;
    return response;
  };
  const { read } = ReadableStreamDefaultReader.prototype;
  ReadableStreamDefaultReader.prototype.read = async function () {
    const result = await read.call(this);
    if (result.done) streams.ended += 1;
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

/** Sends a question, once its price stands there. @param {import("playwright-core").Page} page @param {string} question */
async function send(page, question) {
  await page.waitForSelector(".price span", { timeout: limitMs });
  await page.evaluate(watchAnswer);
  await page.getByLabel("Your question").fill(question);
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
  return price;
}

/** Nothing went wrong aloud, and every stream was read to its end. @param {import("playwright-core").Page} page @param {ReturnType<typeof listen>} heard */
async function calm(page, heard) {
  const { troubles, aborted } = heard;
  const settled = () => Reflect.get(window, "streams").ended >= Reflect.get(window, "streams").begun;
  await page.waitForFunction(settled, undefined, { timeout: limitMs });
  await page.waitForLoadState("networkidle");
  heard.streams += await page.evaluate(() => Reflect.get(window, "streams").ended);
  need(aborted.streams <= heard.streams + heard.expected.aborts, `${aborted.streams} streams were aborted, ${heard.streams} were read to their end`);
  need(troubles.length === 0, troubles.join("\n"));
  await page.evaluate(() => Object.assign(Reflect.get(window, "streams"), { begun: 0, ended: 0 }));
}

/** @param {import("playwright-core").Page} page @param {ReturnType<typeof listen>} heard */
async function ask(page, heard) {
  const price = await send(page, values.question);
  await shoot(page, "-streaming");
  await page.waitForSelector(".bill [data-cost]", { timeout: limitMs });
  const cost = (await page.textContent(".bill [data-cost]"))?.trim() ?? "";
  need(/\d/.test(cost), `no cost after the answer: ${cost}`);
  const pieces = await page.evaluate(() => Reflect.get(window, "seen").pieces);
  need(pieces >= PIECES_MIN, `only ${pieces} pieces were seen to arrive`);
  await calm(page, heard);
  return { price, cost, pieces };
}

/** What this browser keeps of the account, and what the realm says of it once nothing is held. */
async function accountOf() {
  const keys = JSON.parse(localStorage.getItem("mtor.keys") ?? "null");
  for (;;) {
    const answer = await fetch("v1/account", { headers: { authorization: `Bearer ${keys.api_key}` } });
    const { account, assets } = await answer.json();
    const grant = assets.find((/** @type {{asset: string}} */ row) => row.asset === "grant");
    if (grant.held === "0") return { kept: keys.account, account, balance: grant.balance, decimals: grant.decimals };
    await new Promise((done) => setTimeout(done, 50));
  }
}

/** The account and its balance are there again when the page is loaded again. @param {import("playwright-core").Page} page @param {ReturnType<typeof listen>} heard */
async function comeBack(page, heard) {
  const before = await page.evaluate(accountOf);
  need(before.kept === before.account, "the page keeps another account than the realm knows");
  await page.reload();
  await page.waitForSelector("[data-balance] b", { timeout: limitMs });
  const shown = (await page.textContent("[data-balance] b")) ?? "";
  const [whole = "", part = ""] = shown.replaceAll(",", "").split(".");
  const units = BigInt(whole + part.padEnd(before.decimals, "0"));
  need(units === BigInt(before.balance), `the balance was ${before.balance}, and is shown as ${shown} on the next visit`);
  const after = await page.evaluate(accountOf);
  need(after.account === before.account, "the next visit has another account");
  await calm(page, heard);
}

/** A page that is loaded again in the middle of an answer finds the answer and its bill. @param {import("playwright-core").Page} page @param {ReturnType<typeof listen>} heard */
async function reloaded(page, heard) {
  await page.getByRole("button", { name: "New", exact: true }).click();
  await send(page, LONG);
  heard.expected.aborts += 1;
  await page.reload();
  await page.getByRole("heading", { name: LONG, level: 2 }).waitFor({ timeout: limitMs });
  await page.waitForFunction(() => (document.querySelector("[data-answer]")?.textContent ?? "") !== "", undefined, { timeout: limitMs });
  await page.waitForSelector(".bill [data-cost]", { timeout: limitMs });
  await shoot(page, "-reloaded");
  await page.getByRole("button", { name: "New", exact: true }).click();
  await calm(page, heard);
}

/** What is longer than a question may be stays whole, and is neither priced nor sent. @param {import("playwright-core").Page} page */
async function tooLong(page) {
  const box = page.getByLabel("Your question");
  await box.fill("word ".repeat(5_000));
  await page.getByText("characters too many").waitFor({ timeout: limitMs });
  need((await box.inputValue()).length === 25_000, "the question was cut");
  need(await page.getByRole("button", { name: "Ask", exact: true }).isDisabled(), "a question that is too long can be sent");
  need((await page.locator("[data-price] b").count()) === 0, "a question that is too long has a price");
  await shoot(page, "-long");
  await box.fill("");
}

/** An answer that is stopped midway shows what was paid for. @param {import("playwright-core").Page} page @param {ReturnType<typeof listen>} heard */
async function stop(page, heard) {
  await page.getByRole("button", { name: "Options" }).click();
  await page.getByLabel("Longest answer").selectOption({ label: "long" });
  await send(page, LONG);
  await page.getByRole("button", { name: "Stop" }).click();
  const paid = page.locator('[data-phase="cancelled"] [data-cost]');
  await paid.waitFor({ timeout: limitMs });
  const cost = (await paid.textContent())?.trim() ?? "";
  const title = await page.textContent('[data-phase="cancelled"] [data-problem] strong');
  need(title === "Stopped" && /[1-9]/.test(cost), `stopped midway, the page says "${title}" and a cost of "${cost}"`);
  need((await page.textContent("[data-answer]")) !== "", "what was paid for is not shown");
  await shoot(page, "-stopped");
  await calm(page, heard);
  return cost;
}

/**
 * A key that the realm does not know is named, kept, and makes room; one that was kept elsewhere is
 * taken back.
 * @param {import("playwright-core").Page} page @param {ReturnType<typeof listen>} heard */
async function refused(page, heard) {
  heard.expected.refusals = true;
  const before = await page.evaluate((keys) => {
    const kept = JSON.parse(localStorage.getItem("mtor.keys") ?? "null");
    localStorage.setItem("mtor.keys", JSON.stringify(keys));
    return kept;
  }, STRANGER);
  await page.reload();
  const notice = page.getByRole("alert").filter({ hasText: "refuses the key" });
  await notice.waitFor({ timeout: limitMs });
  await phone(page, "-refused");
  await notice.getByRole("button", { name: "Use another account" }).click();
  await notice.waitFor({ state: "detached", timeout: limitMs });
  await page.waitForSelector("[data-balance] b", { timeout: limitMs });
  const { account } = await page.evaluate(accountOf);
  need(account !== STRANGER.account, "the refused account is still in use");
  await page.locator("[data-balance]").click();
  const sheet = page.getByRole("dialog", { name: "Your account" });
  for (const label of [/^API key/, /^Secret key/]) {
    const field = sheet.getByLabel(label).locator("..");
    await field.getByRole("button", { name: "Show" }).click();
    need((await field.locator("input").getAttribute("type")) === "text", `${label} is not shown`);
    await field.getByRole("button", { name: "Hide" }).click();
    need(await field.getByRole("button", { name: "Copy" }).isVisible(), `${label} cannot be copied`);
  }
  const former = sheet.locator("details");
  if ((await former.getAttribute("open")) === null) await former.locator("summary").click();
  const listed = (await former.locator("li code").allTextContents()).join();
  need(STRANGER.account.startsWith(listed.replace("…", "")) && listed !== "", `the former account is not listed: ${listed}`);
  const paste = former.getByPlaceholder("mtor_…");
  await paste.pressSequentially(STRANGER.api_key);
  await former.getByRole("button", { name: "Use it" }).click();
  const wrong = former.getByRole("alert").filter({ hasText: "does not know that key" });
  await wrong.waitFor({ timeout: limitMs });
  const docs = await wrong.getByRole("link", { name: "What this means" }).getAttribute("href");
  need(docs === "errors/MT0008", `the refused key's code leads to ${docs}`);
  await phone(page, "-account");
  heard.expected.refusals = false;
  await paste.fill(before.api_key);
  await former.getByRole("button", { name: "Use it" }).click();
  // What a field holds is a property; its attribute is not kept up to date.
  const inUse = await sheet.getByLabel("Account", { exact: true }).elementHandle({ timeout: limitMs });
  await page.waitForFunction(
    ([field, account]) => field instanceof HTMLInputElement && field.value === account,
    /** @type {const} */ ([inUse, before.account]),
    { timeout: limitMs },
  );
  need((await page.evaluate(accountOf)).account === before.account, "the key that was kept is not taken back");
  await page.keyboard.press("Escape");
  await calm(page, heard);
}

/** Nothing reaches beyond the edge of a small window. @param {import("playwright-core").Page} page @param {string} suffix */
async function phone(page, suffix) {
  const desk = page.viewportSize();
  await shoot(page, suffix);
  for (const [width, height] of [[390, 844], [320, 640]]) {
    await page.setViewportSize({ width: width ?? 0, height: height ?? 0 });
    await page.evaluate(() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done))));
    const wide = await page.evaluate(() => {
      const sheet = document.querySelector("dialog[open]");
      const { scrollWidth } = document.documentElement;
      return Math.max(scrollWidth - innerWidth, sheet ? sheet.scrollWidth - sheet.clientWidth : 0);
    });
    need(wide <= 0, `the page is ${wide} px wider than a window of ${width} px`);
    if (width === 390) await shoot(page, `${suffix}-phone`);
  }
  if (desk) await page.setViewportSize(desk);
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
  await phone(page, "");
  await comeBack(page, heard);
  await tooLong(page);
  await reloaded(page, heard);
  const paid = await stop(page, heard);
  await refused(page, heard);
  console.log(`price before: ${price} · pieces seen: ${pieces} · cost after: ${cost} · paid when stopped: ${paid}`);
  console.log("1 passed, 0 failed");
} catch (error) {
  console.error(error instanceof Error ? error.message : error);
  console.log("0 passed, 1 failed");
  process.exitCode = 1;
} finally {
  await browser?.close();
  await own?.close();
}
