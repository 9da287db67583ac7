// Hands-free in Chromium, whose microphone is a file: the wake word and a question, a sentence without
// it, commands, the states. The weights are the real ones, as the realm gives them to pages.
//   node browser/hands-free.test.mjs [--url URL] [--shots FOLDER]
// Without a realm's address the stand-in gives them out of MTOR_MODELS.

import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { standIn } from "../tests/stand-in.mjs";
import { changing, launch, need, run } from "./chromium.mjs";
import { microphone } from "./clips.mjs";

const { values } = parseArgs({ options: { url: { type: "string" }, shots: { type: "string" } } });
const own = values.url ? undefined : await standIn({ pieceMs: 5, weights: process.env["MTOR_MODELS"] ?? "../.models" });
const url = values.url ?? own?.url ?? "";
if (values.shots) mkdirSync(values.shots, { recursive: true });

/** Loading on a busy machine, then hearing. */
const WAIT_MS = 150_000;
const SERVED_MS = 180_000;
/** In which the page hears. */
const WORKER = /ear-worker-[^/]*\.js$/;
/** Silence before a file begins anew. */
const PAUSE_S = 5;
const place = mkdtempSync(join(tmpdir(), "mtor-hands-"));

/** @typedef {import("playwright-core").Browser} Browser */
/** @typedef {import("playwright-core").Page} Page */

/**
 * A browser whose microphone hears these, again and again.
 * @param {Browser} browser @param {(string | number)[]} parts
 * @param {(page: Page) => Promise<unknown>} test
 */
async function hearing(browser, parts, test) {
  const file = await microphone(browser, [...parts, PAUSE_S], join(mkdtempSync(join(place, "ears-")), "heard.wav"));
  const fakes = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream", `--use-file-for-fake-audio-capture=${file}`];
  const ears = await launch([...fakes, "--autoplay-policy=no-user-gesture-required"]);
  try {
    const context = await ears.newContext({ viewport: { width: 900, height: 820 }, reducedMotion: "reduce" });
    await context.grantPermissions(["microphone"], { origin: new URL(url).origin });
    const page = await context.newPage();
    // Two at once on a busy machine may hear slower than people speak, and the page then rightly refuses.
    // Whether it does is shown by `slow` and by the page's own tests; here each device is fast enough.
    await changing(page, WORKER, (script) => `performance.now = () => 0;\n${script}`);
    return await test(page).catch(async (error) => {
      throw new Error(`${error.message}\n  the page: ${await told(page)}`);
    });
  } finally {
    await ears.close();
  }
}

/** What hands-free says of itself, and the alerts. @param {Page} page */
async function told(page) {
  const texts = await page.locator(".hands, [role=alert], [role=status]").allInnerTexts();
  return texts.join(" | ").replace(/\s+/g, " ").slice(0, 600);
}

/** @param {Page} page */
async function open(page) {
  await page.goto(url);
  await page.locator(".price span").first().waitFor({ timeout: WAIT_MS });
  await page.getByRole("button", { name: "Options" }).click();
  await page.getByLabel("Longest answer").selectOption({ label: "short" });
  await page.getByRole("button", { name: "Hands-free" }).click();
  await phase(page, "off");
}

/** @param {Page} page @param {string} name */
const phase = (page, name) => page.locator(`[data-hands="${name}"]`).waitFor({ timeout: WAIT_MS });
/** @param {Page} page */
const turnOn = (page) => page.getByRole("button", { name: "Turn on" }).click();
/** @param {Page} page @param {string} kind */
const entry = (page, kind) => page.locator(`[data-heard] [data-kind="${kind}"]`).first();

/** @param {Page} page @param {string} name */
async function shot(page, name) {
  if (values.shots) await page.screenshot({ path: join(values.shots, `hands-free-${name}.png`) });
}

/** What leaves the page: how many bytes of bodies, and which paths. @param {Page} page */
function watch(page) {
  const sent = { bytes: 0, files: 0, paths: new Set() };
  page.on("request", (request) => {
    const { pathname } = new URL(request.url());
    sent.bytes += request.postDataBuffer()?.length ?? 0;
    if (pathname.includes("/files/")) sent.files += 1;
    if (request.method() !== "GET" || !/^\/(assets\/|v1\/(pools|models|manifests)|$)/.test(pathname)) sent.paths.add(`${request.method()} ${pathname}`);
  });
  page.on("websocket", (socket) => sent.paths.add(`socket ${socket.url()}`));
  return sent;
}

/** Nothing of a sentence without the word leaves the page; the weights come once; nobody calls, and it ends. @param {Browser} browser */
async function other(browser) {
  return hearing(browser, [1, "other"], async (page) => {
    await page.clock.install();
    const sent = watch(page);
    await open(page);
    await shot(page, "off");
    await turnOn(page);
    await phase(page, "loading");
    await shot(page, "loading");
    await phase(page, "hearing");
    await shot(page, "hearing");
    await page.getByText("2 heard and dropped").waitFor({ timeout: WAIT_MS });
    await phase(page, "waiting");
    await shot(page, "waiting");
    need(sent.bytes === 0, `${sent.bytes} bytes left the page`);
    need(sent.paths.size === 0, `the page asked for ${[...sent.paths].join(", ")}`);
    need((await page.locator("[data-heard]").count()) === 0, "something of it is shown");
    need((await page.inputValue("textarea")) === "", "something of it stands in the box");
    need(sent.files === 3, `${sent.files} files were fetched instead of 3`);
    await page.clock.fastForward("11:00");
    await page.getByText("Nobody called for 10 minutes").first().waitFor({ timeout: WAIT_MS });
    await phase(page, "off");
    // What was kept is used again, and nothing is fetched.
    await turnOn(page);
    await phase(page, "hearing");
    need(sent.files === 3, `${sent.files - 3} files were fetched again`);
    return `${sent.bytes} bytes sent`;
  });
}

/** @param {Browser} browser */
async function question(browser) {
  return hearing(browser, [1, "question"], async (page) => {
    await open(page);
    await turnOn(page);
    await entry(page, "question").waitFor({ timeout: WAIT_MS });
    await page.getByRole("button", { name: "Turn off" }).click();
    await page.locator(".bill [data-cost]").first().waitFor({ timeout: WAIT_MS });
    const heard = (await page.locator("[data-heard] q").first().textContent()) ?? "";
    need(/tree/i.test(heard) && !/computer/i.test(heard), `heard: ${heard}`);
    need((await page.locator("[role=log]").textContent())?.includes(heard) === true, "the question does not stand in the conversation");
    await shot(page, "question");
    return heard;
  });
}

/** The word alone opens the ear. @param {Browser} browser */
async function word(browser) {
  return hearing(browser, [1, "word", 2.5, "plain"], async (page) => {
    await open(page);
    await turnOn(page);
    await phase(page, "listening");
    await shot(page, "listening");
    await entry(page, "question").waitFor({ timeout: WAIT_MS });
    const heard = (await page.locator("[data-heard] q").first().textContent()) ?? "";
    need(/story about the sea/i.test(heard) && !/computer/i.test(heard), `heard: ${heard}`);
  });
}

/** @param {Browser} browser */
async function ask(browser) {
  return hearing(browser, [1, "echo"], async (page) => {
    await open(page);
    await turnOn(page);
    await entry(page, "ask").waitFor({ timeout: WAIT_MS });
    await page.getByRole("button", { name: "Turn off" }).click();
    await page.locator(".hands").getByText(/there/i).nth(1).waitFor({ timeout: WAIT_MS });
    await shot(page, "ask");
  });
}

/** A command, and its way back. @param {Browser} browser */
async function fresh(browser) {
  return hearing(browser, [1, "fresh"], async (page) => {
    await open(page);
    await page.locator("textarea").first().fill("Say hello.");
    await page.keyboard.press("Enter");
    await page.locator(".bill [data-cost]").first().waitFor({ timeout: WAIT_MS });
    const before = new URL(page.url()).hash;
    await turnOn(page);
    await entry(page, "new conversation").waitFor({ timeout: WAIT_MS });
    await page.getByRole("button", { name: "Turn off" }).click();
    await page.getByRole("heading", { name: "Ask the grid." }).waitFor({ timeout: WAIT_MS });
    await page.locator("[data-heard]").getByRole("button", { name: "Undo" }).first().click();
    await page.locator(".bill [data-cost]").first().waitFor({ timeout: WAIT_MS });
    need(new URL(page.url()).hash === before, `${page.url()} instead of ${before}`);
    await shot(page, "undone");
  });
}

/** What the microphone's button hears becomes words here as well, where that is wished. @param {Browser} browser */
async function button(browser) {
  return hearing(browser, [1, "plain"], async (page) => {
    const sent = watch(page);
    await page.goto(url);
    await page.locator(".price span").first().waitFor({ timeout: WAIT_MS });
    await page.getByRole("button", { name: "Options" }).click();
    await page.getByLabel("Listen on my device").check();
    await page.getByRole("button", { name: "Speak", exact: true }).click();
    await page.waitForFunction(() => /story about the sea/i.test(document.querySelector("textarea")?.value ?? ""), undefined, { timeout: WAIT_MS });
    need(sent.files === 3, `${sent.files} files were fetched instead of 3`);
    need(![...sent.paths].some((path) => path.includes("/v1/intents")), `the page asked for ${[...sent.paths].join(", ")}`);
    // An account and a price at most; two seconds of sound are 64,000 bytes.
    need(sent.bytes < 5_000, `${sent.bytes} bytes left the page`);
  });
}

/** Two would ask each question twice. @param {Browser} browser */
async function twice(browser) {
  return hearing(browser, [1], async (page) => {
    await open(page);
    await turnOn(page);
    need((await page.evaluate(() => document.activeElement?.textContent)) === "Turn off", "the focus went from the button that was pressed");
    await phase(page, "waiting");
    const other = await page.context().newPage();
    await open(other);
    await turnOn(other);
    await other.getByText("Another tab of this browser listens already").first().waitFor({ timeout: WAIT_MS });
    await phase(other, "off");
    await page.bringToFront();
    await page.getByRole("button", { name: "Close hands-free" }).click();
    need((await page.evaluate(() => document.activeElement?.tagName)) === "TEXTAREA", "the focus is lost");
    await other.bringToFront();
    await turnOn(other);
    await phase(other, "waiting");
  });
}

/** @param {Browser} browser */
async function slow(browser) {
  return hearing(browser, [1], async (page) => {
    await page.route(WORKER, (route) =>
      route.fulfill({ contentType: "text/javascript", body: 'onmessage = () => postMessage({ kind: "failed", problem: "slow", message: "slow" });' }),
    );
    await open(page);
    await turnOn(page);
    await phase(page, "failed");
    await page.getByText("Too slow").waitFor({ timeout: WAIT_MS });
    need((await page.locator(".hands [role=status]").textContent())?.includes("slower than people speak") === true, "it is not said");
    await shot(page, "slow");
  });
}

/** @param {Browser} browser */
async function refused(browser) {
  const context = await browser.newContext();
  const page = await context.newPage();
  const sent = watch(page);
  await open(page);
  await turnOn(page);
  await phase(page, "failed");
  await shot(page, "refused");
  need(sent.files === 0, "weights were fetched without a microphone");
  await context.close();
}

/** The realm's voice comes after its first answer. */
async function served() {
  for (const ends = Date.now() + SERVED_MS; ; await new Promise((done) => setTimeout(done, 500))) {
    const list = await (await fetch(new URL("v1/models", url))).json();
    if (list.data.some((/** @type {{files?: object[]}} */ { files }) => files?.length === 3)) return;
    need(Date.now() < ends, `the realm gives no page what hears speech: ${JSON.stringify(list.arriving).slice(0, 600)}`);
  }
}

try {
  await served();
  // Each has a browser of its own and waits for what its microphone plays.
  const cases = {
    // The stand-in has no intent of that name.
    ...(values.url && { "a command asks an intent": ask }),
    "a sentence without the word: nothing leaves the page, and a timer ends it": other,
    "the word and a question: it is asked": question,
    "the word alone: the next sentence is the question": word,
    "a command is undone": fresh,
    "the microphone's button hears on this device": button,
    "one tab of a browser listens, and the focus stays": twice,
    "a device that is too slow says so": slow,
    "without a microphone nothing is fetched": refused,
  };
  await run(url, cases, { atOnce: 2 });
} finally {
  await own?.close();
  rmSync(place, { recursive: true, force: true });
}
