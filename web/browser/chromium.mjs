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
 * Runs each case by itself, says what failed and why, and closes with the line that
 * `scripts/browser-test.sh` adds up. Without a realm's address the stand-in answers.
 * @param {string | undefined} url
 * @param {Record<string, (browser: import("playwright-core").Browser, url: string) => Promise<unknown>>} cases
 */
export async function run(url, cases) {
  let passed = 0;
  let failed = 0;
  const own = url ? undefined : await standIn();
  const browser = await launch();
  try {
    for (const [name, test] of Object.entries(cases)) {
      try {
        const said = await test(browser, url ?? own?.url ?? "");
        console.log(`ok ${name}${said ? `: ${said}` : ""}`);
        passed += 1;
      } catch (error) {
        console.error(`FAILED ${name}: ${error instanceof Error ? error.message : error}`);
        failed += 1;
      }
    }
  } finally {
    await browser.close();
    await own?.close();
  }
  console.log(`${passed} passed, ${failed} failed`);
  if (failed > 0) process.exitCode = 1;
}
