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
/**
 * What one answer may leave behind when another conversation is in view, once 100 have come: its row in
 * the list of conversations (its title, its ids, when it was). An answer itself has a kilobyte of text
 * and 200 events; one that stayed would be seen.
 */
const KEPT_BYTES_MAX = 512;
/** Two are the browser's own memory of what was typed into the box, for its Undo, at most 1,000 steps. */
const KEPT_NODES_MAX = 3;
/**
 * What one more answer of one long conversation may take: its words (a kilobyte), its bill and its
 * receipt. As many are drawn as before, so that no nodes come but those of Undo.
 */
const LONG_BYTES_MAX = 6_000;
/**
 * Before the first hundred the engine still compiles what runs, and keeps notes on it: from 12 answers
 * it seems that each keeps kilobytes. Only what is counted behind them says anything of the page.
 */
const ANSWERS_MIN = 300;
const WAIT_MS = 120_000;
const { values } = parseArgs({
  options: {
    out: { type: "string" },
    assert: { type: "boolean", default: false },
    answers: { type: "string", default: "300" },
    runs: { type: "string", default: "5" },
  },
});

need(!values.assert || Number(values.answers) >= ANSWERS_MIN, `--assert needs at least ${ANSWERS_MIN} --answers: fewer measure the warming up`);

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

/**
 * Tasks of the page's main thread, from a trace: how long each took by the clock, and how much CPU it
 * had of that. A task that waits for a core is the machine's, one that uses it the page's.
 * @param {Buffer} trace
 */
function tasksOf(trace) {
  /** @type {any[]} */
  const events = JSON.parse(trace.toString()).traceEvents;
  const of = (/** @type {any} */ event) => `${event.pid} ${event.tid}`;
  const mains = new Set(events.filter(({ name, args }) => name === "thread_name" && args.name === "CrRendererMain").map(of));
  const tasks = events.filter((event) => event.ph === "X" && event.name.endsWith("RunTask") && mains.has(of(event)));
  return tasks.map(({ dur = 0, tdur = dur }) => ({ clock: dur / 1_000, cpu: tdur / 1_000 }));
}

/** What the main thread is busy with for long while 200 pieces a second come. @param {Browser} browser @param {string} url */
async function torrent(browser, url) {
  const page = await browser.newPage();
  await page.goto(url);
  await page.locator(".price span").first().waitFor({ timeout: WAIT_MS });
  await page.evaluate(() => {
    const seen = { frames: /** @type {number[]} */ ([]), last: performance.now() };
    Object.assign(window, { seen });
    const frame = (/** @type {number} */ now) => {
      seen.frames.push(now - seen.last);
      seen.last = now;
      requestAnimationFrame(frame);
    };
    requestAnimationFrame(frame);
  });
  await browser.startTracing(page, { categories: ["toplevel", "disabled-by-default-devtools.timeline"] });
  const began = Date.now();
  await ask(page, "torrent");
  await page.locator(".bill [data-cost]").first().waitFor({ timeout: WAIT_MS });
  const took = Date.now() - began;
  const tasks = tasksOf(await browser.stopTracing());
  need(tasks.length > 100, `the trace has ${tasks.length} tasks of the page: it says nothing`);
  const seen = await page.evaluate(() => Reflect.get(window, "seen"));
  const pieces = (await page.textContent("[data-answer]"))?.split(/\s+/).length ?? 0;
  await page.close();
  const frames = /** @type {number[]} */ (seen.frames).slice(2).sort((one, other) => one - other);
  const most = (/** @type {"clock" | "cpu"} */ by) => Math.max(...tasks.map((task) => task[by]));
  const over = (/** @type {"clock" | "cpu"} */ by) => tasks.filter((task) => task[by] > TASK_MS_MAX).length;
  return { most, over, tasks: tasks.length, took, pieces, frame: median(frames), slowest: frames[Math.floor(frames.length * 0.99)] ?? 0 };
}

/**
 * A heap snapshot in figures. `page`: objects, strings, arrays and functions, by their own sizes;
 * `engine`: compiled code, which grows as the browser compiles what runs often; `browser`: its own
 * (styles, the network's log that this measure asks for, steps of Undo). `detached`: nodes that are in
 * no document and that a script holds.
 * @param {import("playwright-core").CDPSession} wire
 */
async function snapshot(wire) {
  /** @type {string[]} */
  const parts = [];
  const add = (/** @type {{chunk: string}} */ { chunk }) => parts.push(chunk);
  wire.on("HeapProfiler.addHeapSnapshotChunk", add);
  await wire.send("HeapProfiler.takeHeapSnapshot", { reportProgress: false });
  wire.off("HeapProfiler.addHeapSnapshotChunk", add);
  const { nodes, snapshot: { meta } } = JSON.parse(parts.join(""));
  const fields = /** @type {string[]} */ (meta.node_fields);
  const [type, size, detachedness] = ["type", "self_size", "detachedness"].map((name) => fields.indexOf(name));
  const sum = { page: 0, engine: 0, browser: 0, detached: 0 };
  for (let at = 0; at < nodes.length; at += fields.length) {
    const kind = meta.node_types[0][nodes[at + (type ?? 0)]];
    sum[kind === "code" || kind === "hidden" ? "engine" : kind === "native" ? "browser" : "page"] += nodes[at + (size ?? 0)];
    if (nodes[at + (detachedness ?? 0)] === 2) sum.detached += 1;
  }
  return sum;
}

/** What is kept of answers: each in a conversation that is left behind, or all in one. @param {Browser} browser @param {boolean} apart */
async function heap(browser, apart) {
  const server = await standIn({ pieceMs: 0 });
  const page = await browser.newPage();
  const wire = await page.context().newCDPSession(page);
  await wire.send("Performance.enable");
  await page.goto(server.url);
  const used = async () => {
    // Nodes are let go in a second round, once what held them is gone.
    for (let round = 0; round < 4; round += 1) await wire.send("HeapProfiler.collectGarbage");
    const { metrics } = await wire.send("Performance.getMetrics");
    const of = (/** @type {string} */ name) => metrics.find((metric) => metric.name === name)?.value ?? 0;
    return { heap: of("JSHeapUsedSize"), nodes: of("Nodes"), listeners: of("JSEventListeners"), ...(await snapshot(wire)) };
  };
  const answers = Number(values.answers);
  /** From here on everything has been compiled, drawn and filled once. */
  const first = Math.max(1, Math.floor(answers / 3));
  let before = await used();
  for (let at = 1; at <= answers; at += 1) {
    await ask(page, `What is a Merkle tree, number ${at}?`);
    const entry = page.locator(".log > *", { hasText: `number ${at}?` });
    await entry.locator(".bill [data-cost]").waitFor({ timeout: WAIT_MS });
    if (apart) await freshly(page);
    if (at === first) before = await used();
  }
  const after = await used();
  await page.close();
  await server.close();
  const each = (/** @type {keyof typeof before} */ name) => (after[name] - before[name]) / Math.max(answers - first, 1);
  return { first, answers, before, after, each };
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
  const kept = await heap(browser, true);
  const long = await heap(browser, false);
  aim(paint <= FCP_MS_AIM, `first paint ${ms(paint)}, aim ${ms(FCP_MS_AIM)}`);
  aim(rain.over("cpu") === 0, `${rain.over("cpu")} tasks above ${TASK_MS_MAX} ms of CPU, the longest ${ms(rain.most("cpu"))}`);
  aim(kept.each("page") <= KEPT_BYTES_MAX, `${Math.round(kept.each("page"))} bytes of each answer stay, at most ${KEPT_BYTES_MAX}`);
  aim(kept.each("nodes") <= KEPT_NODES_MAX, `${kept.each("nodes").toFixed(1)} nodes of each answer stay, at most ${KEPT_NODES_MAX}`);
  aim(kept.each("detached") <= 0.1, `${kept.after.detached - kept.before.detached} nodes more are held outside the document`);
  aim(kept.each("listeners") <= 0, `${kept.after.listeners - kept.before.listeners} listeners more`);
  aim(long.each("page") <= LONG_BYTES_MAX, `in one conversation ${Math.round(long.each("page"))} bytes for each answer, at most ${LONG_BYTES_MAX}`);
  aim(long.each("nodes") <= KEPT_NODES_MAX, `in one conversation ${long.each("nodes").toFixed(1)} nodes for each answer, at most ${KEPT_NODES_MAX}`);
  aim(long.each("listeners") <= 0.1, `in one conversation ${long.after.listeners - long.before.listeners} listeners more`);
  const counts = ["nodes", "detached", "listeners"];
  const kinds = /** @type {const} */ ([
    ["page", "the page's own objects, text and functions"],
    ["engine", "compiled code and the engine's notes on it"],
    ["browser", "the browser's own"],
    ["heap", "JavaScript's heap as the browser counts it"],
    ["nodes", "nodes"],
    ["detached", "nodes outside the document that a script holds"],
    ["listeners", "listeners"],
  ]);
  const figure = (/** @type {string} */ name, /** @type {number} */ value) =>
    counts.includes(name) ? `${value}` : `${(value / 2 ** 20).toFixed(2)} MiB`;
  const each = (/** @type {typeof kept} */ of, /** @type {(typeof kinds)[number][0]} */ name) =>
    counts.includes(name) ? of.each(name).toFixed(2) : `${Math.round(of.each(name))} bytes`;
  const table = (/** @type {typeof kept} */ of) =>
    kinds.map(([name, said]) => `| ${said} | ${figure(name, of.before[name])} | ${figure(name, of.after[name])} | ${each(of, name)} |`);
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
    `| tasks of the main thread, with more than ${TASK_MS_MAX} ms of CPU, the most | ${rain.tasks}, ${rain.over("cpu")}, ${ms(rain.most("cpu"))} |`,
    `| with more than ${TASK_MS_MAX} ms by the clock (those wait for a core), the longest | ${rain.over("clock")}, ${ms(rain.most("clock"))} |`,
    `| from frame to frame: median, 99 of 100 | ${ms(rain.frame)}, ${ms(rain.slowest)} |`,
    "",
    `| kept, after a collection | after ${kept.first} answers | after ${kept.answers} | of each between |`,
    "|---|---|---|---|",
    ...table(kept),
    "",
    `| the same, all in one conversation | after ${long.first} answers | after ${long.answers} | of each between |`,
    "|---|---|---|---|",
    ...table(long),
    ...(Number(values.answers) < ANSWERS_MIN ? ["", `Fewer than ${ANSWERS_MIN} answers: what is kept of each is the warming up, not the page's.`] : []),
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
