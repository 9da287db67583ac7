// Keys on the page: what a visitor takes along, brings along, and pastes by mistake.
//   node browser/account.test.mjs [--url URL]

import { Buffer } from "node:buffer";
import { readFile } from "node:fs/promises";
import { parseArgs } from "node:util";
import { need, run } from "./chromium.mjs";

const { values } = parseArgs({ options: { url: { type: "string" } } });
const WAIT = { timeout: 30_000 };

/** @typedef {import("playwright-core").Browser} Browser */
/** @typedef {import("playwright-core").Page} Page */

/** A device of its own. What it says aloud and asks for is kept. @param {Browser} browser @param {string} url */
async function device(browser, url) {
  const context = await browser.newContext();
  const page = await context.newPage();
  /** @type {string[]} */
  const heard = [];
  page.on("console", (message) => heard.push(message.text()));
  page.on("pageerror", (error) => heard.push(error.message));
  page.on("request", (request) => heard.push(request.url()));
  await page.goto(url);
  return { page, heard };
}

/** Opens a guest account by asking what something costs, and the sheet. @param {Page} page */
async function guest(page) {
  await page.getByLabel("Your question").or(page.locator(".work")).first().waitFor(WAIT);
  const { keys, balance } = await page.evaluate(async () => {
    const answer = await fetch("v1/accounts/guest", { method: "POST", headers: { "content-type": "application/json" }, body: "{}" });
    const given = await answer.json();
    const kept = { account: given.account, api_key: given.api_key, secret_key: given.secret_key };
    localStorage.setItem("mtor.keys", JSON.stringify(kept));
    return { keys: kept, balance: given.balance };
  });
  await page.reload();
  await page.locator("[data-balance] b").waitFor(WAIT);
  return { keys, balance };
}

/** @param {Page} page */
async function sheetOf(page) {
  await page.locator("[data-balance]").click();
  const sheet = page.getByRole("dialog", { name: "Your account" });
  await sheet.waitFor(WAIT);
  const details = sheet.locator("details");
  if ((await details.getAttribute("open")) === null) await details.locator("summary").click();
  return sheet;
}

/** @param {Page} page @param {string} account */
const inUse = (page, account) =>
  page.waitForFunction((wanted) => JSON.parse(localStorage.getItem("mtor.keys") ?? "{}").account === wanted, account, WAIT);

/** No key is said aloud or stands in an address. @param {string[]} heard @param {Record<string, string>} keys */
function secretive(heard, keys) {
  for (const key of [keys["api_key"] ?? "", keys["secret_key"] ?? ""]) {
    const loud = heard.find((line) => key !== "" && line.includes(key));
    need(loud === undefined, `a key was said aloud: ${loud}`);
  }
}

/** @type {Record<string, (browser: Browser, url: string) => Promise<unknown>>} */
const CASES = {
  "an account goes to another device as a file, with its balance": async (browser, url) => {
    const one = await device(browser, url);
    const { keys } = await guest(one.page);
    const balance = await one.page.locator("[data-balance]").textContent();
    // What writes the file may be out of reach at the first press.
    await one.page.route("**/assets/keyfile-*", (route) => route.abort());
    await one.page.locator("[data-balance]").click();
    const sheet = one.page.getByRole("dialog", { name: "Your account" });
    await sheet.getByRole("button", { name: "Save the keys as a file" }).click();
    await sheet.getByRole("alert").filter({ hasText: "The realm is away" }).waitFor(WAIT);
    await one.page.unroute("**/assets/keyfile-*");
    const [download] = await Promise.all([one.page.waitForEvent("download"), sheet.getByRole("button", { name: "Save the keys as a file" }).click()]);
    const file = await readFile(await download.path());
    need(download.suggestedFilename() === "mtor-accounts.json" && file.includes(keys.secret_key), "the file does not hold the keys");

    const two = await device(browser, url);
    await two.page.locator("[data-balance]").waitFor(WAIT);
    const other = await sheetOf(two.page);
    await other.getByLabel("Keys from a file").setInputFiles({ name: "mtor-accounts.json", mimeType: "application/json", buffer: file });
    await other.getByText("is in use now").waitFor(WAIT);
    await inUse(two.page, keys.account);
    need((await two.page.evaluate(() => JSON.parse(localStorage.getItem("mtor.keys") ?? "{}").secret_key)) === keys.secret_key, "the secret key is lost on the way");
    await two.page.keyboard.press("Escape");
    need((await two.page.locator("[data-balance]").textContent()) === balance, "the balance is another one there");
    for (const { heard } of [one, two]) secretive(heard, keys);
    for (const { page } of [one, two]) await page.context().close();
  },
  "what is pasted is understood, whatever it is": async (browser, url) => {
    const { page, heard } = await device(browser, url);
    const { keys } = await guest(page);
    const sheet = await sheetOf(page);
    const box = sheet.getByPlaceholder("mtor_…");
    /** @param {string} text @param {string | RegExp} hint */
    const hinted = async (text, hint) => {
      await box.fill(text);
      await sheet.locator("#f-what").getByText(hint).waitFor(WAIT);
    };
    await hinted("hello", "This is no key");
    await hinted("mtor_2short", "was it cut");
    await hinted(`export MTOR_API_KEY=mtor_${"2".repeat(43)}`, /An API key|was it cut/);
    await hinted(JSON.stringify(keys), "The keys of one account");
    await box.fill(keys.account);
    await sheet.getByRole("button", { name: "Use it" }).click();
    await sheet.getByText(/number of an account|begins with mtor_/).last().waitFor(WAIT);
    secretive(heard, keys);
    await page.context().close();
  },
  "keys of another realm are told from keys of this one": async (browser, url) => {
    const { page } = await device(browser, url);
    await guest(page);
    const sheet = await sheetOf(page);
    const file = { version: 1, realms: { "http://elsewhere.example:9000": { account: "a", api_key: "mtor_a" } }, former: [] };
    await sheet.getByLabel("Keys from a file").setInputFiles({ name: "f.json", mimeType: "application/json", buffer: Buffer.from(JSON.stringify(file)) });
    await sheet.getByText("These keys are of another realm: http://elsewhere.example:9000").waitFor(WAIT);
    await page.context().close();
  },
};

if (values.url) {
  CASES["a secret key finds its account"] = async (browser, url) => {
    const { page } = await device(browser, url);
    const { keys } = await guest(page);
    await page.evaluate(({ account, api_key }) => localStorage.setItem("mtor.keys", JSON.stringify({ account, api_key })), keys);
    await page.reload();
    await page.locator("[data-balance] b").waitFor(WAIT);
    const sheet = await sheetOf(page);
    need((await sheet.getByLabel(/^Secret key/).count()) === 0, "the secret key is there already");
    await sheet.getByPlaceholder("mtor_…").fill(keys.secret_key);
    await sheet.getByRole("button", { name: "Use it" }).click();
    await sheet.getByText("kept beside its API key").waitFor(WAIT);
    await sheet.getByLabel(/^Secret key/).waitFor(WAIT);
    await page.context().close();
  };
}
await run(values.url, CASES);
