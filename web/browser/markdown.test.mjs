// Answers that a hostile model might give, streamed to the page one after another: nothing in them
// runs, nothing is asked for, nothing becomes a link that could harm, and the page stays responsive:
// counted in the CPU that its main thread takes, which a machine that does more leaves as it is.
//   node browser/markdown.test.mjs

import { standIn } from "../tests/stand-in.mjs";
import { HOSTILE } from "../tests/hostile.mjs";
import { need, run } from "./chromium.mjs";

const WAIT_MS = 60_000;
/**
 * CPU that all of the page's tasks for one of them may take together: reading it step by step, and
 * drawing it. The dearest took 1.9 s of an EPYC's; work that grows with the square of its size takes far more.
 */
const CPU_MS_MAX = 6_000;

/** @typedef {import("playwright-core").Browser} Browser */

/** @param {import("playwright-core").Page} page @param {string} question */
async function ask(page, question) {
  const box = page.getByLabel("Your question");
  await box.fill(question);
  await page.locator("[data-price] b").waitFor({ timeout: WAIT_MS });
  await box.press("Enter");
  await page.locator(".bill [data-cost]").first().waitFor({ timeout: WAIT_MS });
}

/** What must not have happened. */
function harm() {
  const inside = [...document.querySelectorAll("[data-answer] *")];
  const tags = ["SCRIPT", "IFRAME", "IMG", "SVG", "OBJECT", "EMBED", "STYLE", "LINK", "META", "FORM", "INPUT", "VIDEO", "AUDIO", "BASE", "MATH", "TEMPLATE"];
  const handlers = inside.flatMap((element) => element.getAttributeNames().filter((name) => name.startsWith("on") || name === "style" || name === "srcdoc"));
  const links = inside.flatMap((element) => (element instanceof HTMLAnchorElement ? [element] : []));
  const bad = links.filter((link) => !/^(https?|mailto):$/.test(link.protocol) || !link.rel.includes("noopener") || link.target !== "_blank");
  return [
    ...inside.filter((element) => tags.includes(element.tagName.toUpperCase())).map((element) => element.tagName),
    ...handlers,
    ...bad.map((link) => link.href),
    ...(Reflect.get(window, "pwned") ? ["a script ran"] : []),
  ];
}

/** One after another on one page. @param {Browser} browser @param {[number, string][]} answers */
async function harmless(browser, answers) {
  let text = "";
  const server = await standIn({ pieceMs: 0, answer: () => text });
  const page = await browser.newPage();
  /** @type {string[]} */
  const troubles = [];
  page.on("dialog", (dialog) => {
    troubles.push(`a dialog: ${dialog.message()}`);
    void dialog.dismiss();
  });
  page.on("pageerror", (error) => troubles.push(`page error: ${error.message}`));
  page.on("popup", () => troubles.push("a window opened"));
  page.on("request", (request) => {
    const { origin, pathname } = new URL(request.url());
    if (origin !== new URL(server.url).origin || !/^\/($|v1\/|assets\/)/.test(pathname)) troubles.push(`asked for ${request.url().slice(0, 80)}`);
  });
  const wire = await page.context().newCDPSession(page);
  await wire.send("Performance.enable", { timeDomain: "threadTicks" });
  const cpu = async () => {
    const { metrics } = await wire.send("Performance.getMetrics");
    const task = metrics.find(({ name }) => name === "TaskDuration");
    need(task !== undefined, "the browser does not count the CPU of its tasks");
    return (task?.value ?? 0) * 1_000;
  };
  let most = 0;
  try {
    await page.goto(server.url);
    const path = await page.evaluate(() => location.pathname);
    for (const [at, hostile] of answers) {
      text = hostile;
      const before = await cpu();
      await ask(page, `number ${at}`);
      // Read to its end: nothing stays as it was before the parser came to it.
      await page.waitForFunction(() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => done(true)))));
      const [done, took] = [await page.evaluate(harm), (await cpu()) - before];
      need(done.length === 0, `answer ${at} (${hostile.slice(0, 40)}) brought ${done.slice(0, 3).join(", ")}`);
      need(troubles.length === 0, `answer ${at} (${hostile.slice(0, 40)}): ${troubles[0]}`);
      need(took <= CPU_MS_MAX, `answer ${at} (${hostile.slice(0, 40)}) took ${Math.round(took)} ms of CPU`);
      most = Math.max(most, took);
      need((await page.evaluate(() => location.pathname)) === path, `answer ${at} led away`);
      await page.getByRole("button", { name: "New", exact: true }).click();
      await page.locator("[data-answer]").first().waitFor({ state: "detached", timeout: WAIT_MS });
    }
    return `${answers.length} answers, the most CPU for one ${Math.round(most)} ms`;
  } finally {
    await page.close();
    await server.close();
  }
}

/** The dear ones stand together in the list: by turns both pages have some of them. */
const half = (/** @type {number} */ which) => [...HOSTILE.entries()].filter(([at]) => at % 2 === which);
await run(
  undefined,
  {
    "hostile answers stay harmless, the even ones": (browser) => harmless(browser, half(0)),
    "hostile answers stay harmless, the odd ones": (browser) => harmless(browser, half(1)),
  },
  { atOnce: 2 },
);
