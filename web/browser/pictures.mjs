// Makes the pictures of docs/page.md again: what a visitor sees, against a realm with the good model;
// models on their way, which no realm shows for long, against the stand-in. They are looked at before
// they are committed.
//   node browser/pictures.mjs --url URL [--out FOLDER]

import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { coming, GOOD, SMALL, standIn } from "../tests/stand-in.mjs";
import { launch, need } from "./chromium.mjs";
import { ask, freshly } from "./views.mjs";

const OUT = fileURLToPath(new URL("../../docs/page/", import.meta.url));
/** A model of this size takes its time on a busy machine. */
const ANSWER_MS_MAX = 240_000;
const WIDE = { width: 1080, height: 660 };
const PHONE = { width: 360, height: 720 };
const { values } = parseArgs({ options: { url: { type: "string" }, out: { type: "string", default: OUT } } });
need(values.url !== undefined, "--url: the address of a realm with a chat model, such as http://127.0.0.1:9000");
const url = values.url ?? "";
mkdirSync(values.out, { recursive: true });

/** @typedef {import("playwright-core").Page} Page */

/** @param {Page} page @param {string} name @param {"light" | "dark"} colorScheme @param {{width: number, height: number}} [size] */
async function shoot(page, name, colorScheme, size = WIDE) {
  await page.emulateMedia({ colorScheme, reducedMotion: "reduce" });
  await page.setViewportSize(size);
  await page.screenshot({ path: join(values.out, `${name}.png`) });
  console.log(name);
}

/** @param {Page} page @param {string} question */
async function answered(page, question) {
  await ask(page, question);
  await page.locator(".bill [data-cost]").first().waitFor({ timeout: ANSWER_MS_MAX });
}

/** @param {import("playwright-core").Browser} browser */
async function ofRealm(browser) {
  const page = await browser.newPage({ viewport: WIDE });
  await page.goto(url);
  await page.locator("[data-about]").waitFor({ timeout: ANSWER_MS_MAX });
  await shoot(page, "start", "light");
  await answered(page, "Name the three primary colours of light, as a list.");
  await freshly(page);
  await answered(page, "Write a Python function that tells whether a number is prime, in a few lines.");
  await page.setViewportSize(PHONE);
  await page.evaluate(() => scrollTo(0, 0));
  await shoot(page, "phone", "dark", PHONE);
  await page.setViewportSize(WIDE);
  await page.getByRole("button", { name: "Options" }).click();
  await page.getByLabel("System prompt").fill("Answer in one sentence.");
  await shoot(page, "conversations", "light");
  await page.locator("[data-balance]").click();
  await page.getByRole("dialog").waitFor();
  await shoot(page, "account", "dark");
  await page.keyboard.press("Escape");
  await page.getByRole("link", { name: "Intents", exact: true }).click();
  await page.locator(".kinds li").first().waitFor();
  // Its six kinds are a little higher than the window of the others.
  await shoot(page, "intents", "light", { width: 1080, height: 720 });
  await page.close();
}

/** @param {import("playwright-core").Browser} browser */
async function onTheirWay(browser) {
  const server = await standIn();
  const fetching = { state: "fetching", received: 320_000_000, rate: 11_400_000, left_ms: 70_000 };
  server.tell([SMALL], [coming(GOOD, fetching)]);
  const page = await browser.newPage({ viewport: WIDE });
  await page.goto(server.url);
  await page.locator("[data-arriving] progress").waitFor();
  await shoot(page, "arriving", "light");
  await page.close();
  await server.close();
}

const browser = await launch();
try {
  await onTheirWay(browser);
  await ofRealm(browser);
} finally {
  await browser.close();
}
