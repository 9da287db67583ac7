// What the browser tests share: the browser, and how a test begins and ends.

import { existsSync } from "node:fs";
import { chromium } from "playwright-core";
import { standIn } from "../tests/stand-in.mjs";

/** @param {boolean} held @param {string} reason */
export function need(held, reason) {
  if (!held) throw new Error(reason);
}

/** @param {string[]} [args] */
export async function launch(args = []) {
  const executablePath = process.env["CHROMIUM"] ?? "/usr/bin/chromium";
  need(existsSync(executablePath), `no Chromium at ${executablePath}: set CHROMIUM`);
  return chromium.launch({ executablePath, args: ["--no-sandbox", ...args] });
}

/**
 * Changes what the realm answers, on its way to the page. A page that closes or loads again meanwhile
 * has no use for the answer: that is no failure.
 * @param {import("playwright-core").Page} page @param {string | RegExp} pattern
 * @param {(text: string) => string} change
 */
export async function changing(page, pattern, change) {
  await page.route(pattern, async (route) => {
    try {
      const response = await route.fetch();
      await route.fulfill({ response, body: change(await response.text()) });
    } catch (error) {
      if (!(error instanceof Error && /disposed|been closed/.test(error.message))) throw error;
    }
  });
}

/** The same for JSON. @param {import("playwright-core").Page} page @param {string} pattern @param {(json: any) => object} change */
export function changingJson(page, pattern, change) {
  return changing(page, pattern, (text) => JSON.stringify(change(JSON.parse(text))));
}

/**
 * Runs each case by itself, says what failed and why, and closes with the line that
 * `scripts/browser-test.sh` adds up. Without a realm's address the stand-in answers.
 * Cases that mostly wait, for a sound that is played or for a model, may run `atOnce`: each then has a
 * visitor of its own, and nothing that another one changes.
 * @param {string | undefined} url
 * @param {Record<string, (browser: import("playwright-core").Browser, url: string) => Promise<unknown>>} cases
 * @param {{atOnce?: number}} [how]
 */
export async function run(url, cases, { atOnce = 1 } = {}) {
  let passed = 0;
  let failed = 0;
  const own = url ? undefined : await standIn();
  const browser = await launch();
  const waiting = Object.entries(cases);
  const lane = async () => {
    for (let next = waiting.shift(); next; next = waiting.shift()) {
      const [name, test] = next;
      const began = performance.now();
      try {
        const said = await test(browser, url ?? own?.url ?? "");
        const seconds = ((performance.now() - began) / 1_000).toFixed(1);
        console.log(`ok ${name}${said ? `: ${said}` : ""} (${seconds} s)`);
        passed += 1;
      } catch (error) {
        console.error(`FAILED ${name}: ${error instanceof Error ? error.message : error}`);
        failed += 1;
      }
    }
  };
  try {
    await Promise.all(Array.from({ length: atOnce }, lane));
  } finally {
    await browser.close();
    await own?.close();
  }
  console.log(`${passed} passed, ${failed} failed`);
  if (failed > 0) process.exitCode = 1;
}
