// Measures the page in Chromium, beside the machine and the version, and prints a table for
// bench/results. The stand-in answers, so that the page alone is measured and every run sees the
// same text. Nothing here is red for a slow machine unless `--assert` says that this one is idle.
//   node browser/measure.mjs [--out FILE.md] [--assert] [--answers 300] [--runs 5]

import { execFileSync } from "node:child_process";
import { writeFileSync } from "node:fs";
import { cpus, loadavg, release } from "node:os";
import { parseArgs } from "node:util";
import { standIn } from "../tests/stand-in.mjs";
import { launch, need } from "./chromium.mjs";
import { ask, freshly } from "./views.mjs";

/** A phone on a slow line: 1.6 Mbit/s down, 0.75 up, 150 ms there and back, a quarter of this CPU. */
const LINE = { offline: false, downloadThroughput: 1_600_000 / 8, uploadThroughput: 750_000 / 8, latency: 150 };
const CPU_SLOWER = 4;
const FCP_MS_AIM = 1_000;
const TASK_MS_MAX = 50;
const HEAP_GROWTH_MAX = 0.1;
const WAIT_MS = 120_000;
const { values } = parseArgs({
  options: {
    out: { type: "string" },
    assert: { type: "boolean", default: false },
    answers: { type: "string", default: "300" },
    runs: { type: "string", default: "5" },
  },
});

/** @typedef {import("playwright-core").Browser} Browser */

/** @param {number[]} list */
const median = (list) => [...list].sort((one, other) => one - other)[Math.floor(list.length / 2)] ?? 0;
/** @param {number} value */
const ms = (value) => `${Math.round(value)} ms`;

/** When something is first seen, and when the box takes a question. */
function watchBox() {
  new MutationObserver((_, observer) => {
    if (!document.querySelector("textarea:not(:disabled)")) return;
    observer.disconnect();
    performance.mark("box");
  }).observe(document, { childList: true, subtree: true, attributes: true });
}

/** A first visit with nothing kept. @param {Browser} browser @param {string} url @param {boolean} slow */
async function visit(browser, url, slow) {
  const context = await browser.newContext();
  const page = await context.newPage();
  const wire = await context.newCDPSession(page);
  await wire.send("Network.enable");
  let bytes = 0;
  wire.on("Network.loadingFinished", (event) => (bytes += event.encodedDataLength));
  if (slow) {
    await wire.send("Network.emulateNetworkConditions", LINE);
    await wire.send("Emulation.setCPUThrottlingRate", { rate: CPU_SLOWER });
  }
  await page.addInitScript(watchBox);
  await page.goto(url, { waitUntil: "networkidle" });
  const [paint, box] = await page.evaluate(() =>
    ["first-contentful-paint", "box"].map((name) => performance.getEntriesByName(name)[0]?.startTime ?? Infinity),
  );
  await context.close();
  return { paint: paint ?? Infinity, box: box ?? Infinity, bytes };
}

/** What the main thread is busy with for long while 200 pieces a second come. @param {Browser} browser @param {string} url */
async function torrent(browser, url) {
  const page = await browser.newPage();
  await page.goto(url);
  await page.locator(".price span").first().waitFor({ timeout: WAIT_MS });
  await page.evaluate(() => {
    const seen = { tasks: /** @type {number[]} */ ([]), frames: /** @type {number[]} */ ([]), last: performance.now() };
    Object.assign(window, { seen });
    new PerformanceObserver((list) => seen.tasks.push(...list.getEntries().map((entry) => entry.duration))).observe({ type: "longtask" });
    const frame = (/** @type {number} */ now) => {
      seen.frames.push(now - seen.last);
      seen.last = now;
      requestAnimationFrame(frame);
    };
    requestAnimationFrame(frame);
  });
  const began = Date.now();
  await ask(page, "torrent");
  await page.locator(".bill [data-cost]").first().waitFor({ timeout: WAIT_MS });
  const took = Date.now() - began;
  const seen = await page.evaluate(() => Reflect.get(window, "seen"));
  const pieces = (await page.textContent("[data-answer]"))?.split(/\s+/).length ?? 0;
  await page.close();
  const frames = /** @type {number[]} */ (seen.frames).slice(2).sort((one, other) => one - other);
  return { tasks: /** @type {number[]} */ (seen.tasks), took, pieces, frame: median(frames), slowest: frames[Math.floor(frames.length * 0.99)] ?? 0 };
}

/** What is kept of answers that are gone. @param {Browser} browser */
async function heap(browser) {
  const server = await standIn({ pieceMs: 0 });
  const page = await browser.newPage();
  const wire = await page.context().newCDPSession(page);
  await wire.send("Performance.enable");
  await page.goto(server.url);
  const used = async () => {
    // Nodes are let go in a second round, once what held them is gone.
    for (let round = 0; round < 3; round += 1) await wire.send("HeapProfiler.collectGarbage");
    const { metrics } = await wire.send("Performance.getMetrics");
    const of = (/** @type {string} */ name) => metrics.find((metric) => metric.name === name)?.value ?? 0;
    return { bytes: of("JSHeapUsedSize"), nodes: of("Nodes") };
  };
  const answers = Number(values.answers);
  const first = Math.max(1, Math.floor(answers / 6));
  let before = { bytes: 0, nodes: 0 };
  for (let at = 1; at <= answers; at += 1) {
    await ask(page, `What is a Merkle tree, number ${at}?`);
    await page.locator(".bill [data-cost]").first().waitFor({ timeout: WAIT_MS });
    await freshly(page);
    if (at === first) before = await used();
  }
  const after = await used();
  await page.close();
  await server.close();
  return { first, answers, before, after };
}

const chromium = (/** @type {Browser} */ browser) => `Chromium ${browser.version()}`;
const commit = () => execFileSync("git", ["rev-parse", "--short", "HEAD"], { encoding: "utf8" }).trim();
const processor = cpus()[0]?.model ?? "unknown processor";
const before = loadavg()[0]?.toFixed(2);

const browser = await launch();
const server = await standIn();
const lines = [];
/** @type {string[]} */
const missed = [];
/** @param {boolean} held @param {string} what */
const aim = (held, what) => void (held || missed.push(what));
try {
  const runs = Number(values.runs);
  const slow = [];
  const fast = [];
  for (let at = 0; at < runs; at += 1) {
    slow.push(await visit(browser, server.url, true));
    fast.push(await visit(browser, server.url, false));
  }
  const paint = median(slow.map((run) => run.paint));
  const rain = await torrent(browser, server.url);
  const kept = await heap(browser);
  const grown = kept.after.bytes / kept.before.bytes - 1;
  aim(paint <= FCP_MS_AIM, `first paint ${ms(paint)}, aim ${ms(FCP_MS_AIM)}`);
  aim(rain.tasks.length === 0, `${rain.tasks.length} tasks above ${TASK_MS_MAX} ms`);
  aim(grown <= HEAP_GROWTH_MAX, `the heap grew by ${Math.round(grown * 100)} %`);
  const mib = (/** @type {number} */ bytes) => `${(bytes / 2 ** 20).toFixed(2)} MiB`;
  lines.push(
    "# The page in Chromium",
    "",
    `${processor}, ${cpus().length} cores, Linux ${release()}; ${chromium(browser)}; node ${process.version}; commit ${commit()}; ` +
      `${new Date().toISOString().slice(0, 16).replace("T", " ")} UTC; load before ${before}`,
    "",
    `A first visit, median of ${runs}; slow is 1.6 Mbit/s with ${LINE.latency} ms there and back and ${CPU_SLOWER} × less CPU.`,
    "",
    "| | slow | as it is |",
    "|---|---|---|",
    `| something is seen (FCP) | ${ms(paint)} | ${ms(median(fast.map((run) => run.paint)))} |`,
    `| the box takes a question | ${ms(median(slow.map((run) => run.box)))} | ${ms(median(fast.map((run) => run.box)))} |`,
    `| bytes on the line | ${median(slow.map((run) => run.bytes))} | ${median(fast.map((run) => run.bytes))} |`,
    "",
    "| while 200 pieces a second come | |",
    "|---|---|",
    `| words of the answer, and how long they came | ${rain.pieces}, ${ms(rain.took)} |`,
    `| tasks above ${TASK_MS_MAX} ms | ${rain.tasks.length}${rain.tasks.length ? `, the longest ${ms(Math.max(...rain.tasks))}` : ""} |`,
    `| from frame to frame: median, 99 of 100 | ${ms(rain.frame)}, ${ms(rain.slowest)} |`,
    "",
    `| kept, after a collection | after ${kept.first} answers | after ${kept.answers} |`,
    "|---|---|---|",
    `| JavaScript's heap | ${mib(kept.before.bytes)} | ${mib(kept.after.bytes)} |`,
    `| nodes | ${kept.before.nodes} | ${kept.after.nodes} |`,
  );
} finally {
  await browser.close();
  await server.close();
}
const text = `${lines.join("\n")}\n`;
console.log(text);
if (values.out) writeFileSync(values.out, text);
for (const what of missed) console.log(`aim missed: ${what}`);
if (values.assert) need(missed.length === 0, missed.join("; "));
