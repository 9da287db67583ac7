// Conversations as a visitor uses them: kept over a reload also midway, found again, renamed, taken
// along, erased; two tabs at once; questions that wait; a model that is still on its way.
// The cases need answers from a script, so they are the stand-in's.
//   node browser/conversations.test.mjs [--shots FOLDER]

import { mkdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { standIn } from "../tests/stand-in.mjs";
import { need, run } from "./chromium.mjs";

const WAIT_MS = 20_000;
const { values } = parseArgs({ options: { url: { type: "string" }, shots: { type: "string" } } });
if (values.shots) mkdirSync(values.shots, { recursive: true });

/** @typedef {import("playwright-core").Browser} Browser */
/** @typedef {import("playwright-core").Page} Page */

/** @param {Page} page @param {string} question */
async function ask(page, question) {
  const box = page.getByLabel("Your question");
  await box.fill(question);
  await page.locator("[data-price] b").waitFor({ timeout: WAIT_MS });
  await box.press("Enter");
  await page.getByRole("heading", { name: question, level: 2 }).waitFor({ timeout: WAIT_MS });
}

/** @param {Page} page @param {number} [count] */
const answered = (page, count = 1) => page.locator('[data-phase="completed"] [data-cost]').nth(count - 1).waitFor({ timeout: WAIT_MS });
/** @param {Page} page */
const side = (page) => page.getByRole("complementary", { name: "Conversations" });
/** @param {Page} page */
const New = (page) => page.getByRole("button", { name: "New", exact: true }).click();

/** @param {Browser} browser @param {string} url @param {(page: Page) => Promise<unknown>} test @param {import("playwright-core").BrowserContextOptions} [options] */
async function visit(browser, url, test, options = {}) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 820 }, ...options });
  const page = await context.newPage();
  page.setDefaultTimeout(WAIT_MS);
  try {
    await page.goto(url);
    return await test(page);
  } finally {
    await context.close();
  }
}

/** @param {Page} page @param {string} name */
async function shoot(page, name) {
  if (values.shots) await page.screenshot({ path: join(values.shots, `${name}.png`) });
}

/** @type {Record<string, (browser: Browser, url: string) => Promise<unknown>>} */
const CASES = {
  "a reload midway loses neither question nor answer, and asks nothing twice": (browser, url) =>
    visit(browser, url, async (page) => {
      let posts = 0;
      page.on("request", (request) => void (posts += Number(request.method() === "POST" && request.url().endsWith("/v1/intents"))));
      await ask(page, "slow one");
      await page.locator("[data-answer]").waitFor();
      await New(page);
      await ask(page, "slow two");
      await page.locator("[data-answer]").waitFor();
      await page.reload();
      await page.getByRole("heading", { name: "slow two", level: 2 }).waitFor();
      // Both are taken up again, the one that is not in view too.
      await side(page).getByRole("img", { name: "answering" }).nth(1).waitFor();
      await page.getByRole("button", { name: "Stop" }).click();
      await page.locator('[data-phase="cancelled"] [data-cost]').waitFor();
      await side(page).getByText("slow one").click();
      await page.getByRole("heading", { name: "slow one", level: 2 }).waitFor();
      need(((await page.textContent("[data-answer]")) ?? "") !== "", "the answer of the other one is gone");
      await page.getByRole("button", { name: "Stop" }).click();
      await page.locator('[data-phase="cancelled"] [data-cost]').waitFor();
      need(posts === 2, `${posts} questions were sent instead of 2`);
    }),

  "a draft is there again after a reload": (browser, url) =>
    visit(browser, url, async (page) => {
      await page.getByLabel("Your question").fill("half a thought");
      await page.reload();
      await page.waitForFunction(() => document.querySelector("textarea")?.value === "half a thought");
      need(await page.evaluate(() => document.activeElement instanceof HTMLTextAreaElement), "the box has not the focus");
    }),

  "Enter during an answer lets a question wait, and it can be taken back": (browser, url) =>
    visit(browser, url, async (page) => {
      await ask(page, "slow");
      await page.locator("[data-answer]").waitFor();
      const box = page.getByLabel("Your question");
      for (const question of ["the next", "the one after"]) {
        await box.fill(question);
        await box.press("Enter");
        await page.locator("[data-queue]").getByText(question, { exact: true }).waitFor();
      }
      await shoot(page, "queue");
      await page.locator("[data-queue] li", { hasText: "the one after" }).getByRole("button", { name: "Take back" }).click();
      await page.waitForFunction(() => document.querySelector("textarea")?.value === "the one after");
      await page.getByRole("button", { name: "Stop" }).click();
      await page.getByRole("button", { name: "Send now" }).click();
      await page.getByRole("heading", { name: "the next", level: 2 }).waitFor();
      await answered(page);
    }),

  "edit and ask again, and another answer, keep what stood there aside": (browser, url) =>
    visit(browser, url, async (page) => {
      await ask(page, "first words");
      await answered(page);
      await page.getByRole("button", { name: "Edit" }).click();
      await ask(page, "better words");
      await answered(page);
      need((await page.getByRole("heading", { name: "first words", level: 2 }).count()) === 0, "what was replaced is still in view");
      await page.getByRole("button", { name: "Another answer" }).click();
      await page.getByRole("button", { name: "Show what was kept aside (2)" }).click();
      await page.getByRole("heading", { name: "first words", level: 2 }).waitFor();
    }),

  "search, rename, export, erase, import": (browser, url) =>
    visit(browser, url, async (page) => {
      await ask(page, "about owls");
      await answered(page);
      await New(page);
      await ask(page, "about bees");
      await answered(page);
      const list = side(page);
      await shoot(page, "conversations");
      await list.getByRole("button", { name: "Rename" }).click();
      await list.getByLabel("Title").fill("Bees & co");
      await list.getByLabel("Title").press("Enter");
      await list.getByText("Bees & co").waitFor();
      await list.getByLabel("Search conversations").fill("OWLS");
      await list.getByText("Bees & co").waitFor({ state: "detached" });
      await list.getByLabel("Search conversations").fill("merkle");
      await list.getByText("about owls").waitFor();
      await list.getByLabel("Search conversations").fill("");
      const markdown = page.waitForEvent("download");
      await list.getByRole("button", { name: "Markdown" }).click();
      const text = readFileSync(await (await markdown).path(), "utf8");
      need(text.startsWith("# Bees & co\n\n## about bees\n\nA **Merkle tree**"), `exported: ${text.slice(0, 80)}`);
      const file = page.waitForEvent("download");
      await list.getByRole("button", { name: "Export all" }).click();
      const path = await (await file).path();
      await list.getByRole("button", { name: "Erase all" }).click();
      await list.getByRole("button", { name: "Erase all" }).click();
      await page.getByRole("heading", { name: "Ask the grid." }).waitFor();
      need((await page.evaluate(() => location.hash)) === "#/ask", "the address names what was erased");
      // The list is there as long as there is something in it.
      await ask(page, "a third");
      await answered(page);
      await list.locator('input[type="file"]').setInputFiles({ name: "back.json", mimeType: "application/json", buffer: readFileSync(path) });
      await list.getByText("2 conversations came back.").waitFor();
      await page.reload();
      await list.getByText("about owls").click();
      await answered(page);
    }),

  "two tabs at once keep each other's work": (browser, url) =>
    visit(browser, url, async (one) => {
      await ask(one, "of the first tab");
      await answered(one);
      const two = await one.context().newPage();
      await two.goto(one.url());
      await two.getByRole("heading", { name: "of the first tab", level: 2 }).waitFor();
      await ask(two, "of the second tab");
      await answered(two, 2);
      await answered(one, 2);
      await New(one);
      await ask(one, "apart from it");
      await answered(one);
      await side(two).getByText("apart from it").waitFor();
      await side(two).getByRole("button", { name: "Erase", exact: true }).click();
      await side(two).getByRole("button", { name: "Erase", exact: true }).click();
      await side(one).getByText("of the first tab").waitFor({ state: "detached" });
      need((await one.locator("[data-cost]").count()) === 1, "the other conversation is gone, too");
    }),

  "files go along by name, what is no text is refused by name, the prompt is sent": (browser, url) =>
    visit(browser, url, async (page) => {
      const files = page.getByLabel("Text files", { exact: true });
      await files.setInputFiles([
        { name: "notes.txt", mimeType: "text/plain", buffer: Buffer.from("three words here") },
        { name: "cat.png", mimeType: "image/png", buffer: Buffer.from([0x89, 0x50, 0x4e, 0x47, 0, 0xff]) },
      ]);
      await page.getByText("cat.png: not a text file").waitFor();
      await page.getByRole("button", { name: "Options" }).click();
      await page.getByLabel("System prompt").fill("Be brief.");
      await page.getByLabel("Temperature").fill("0.3");
      await shoot(page, "options");
      const sent = page.waitForRequest((request) => request.method() === "POST" && request.url().endsWith("/v1/intents"));
      await ask(page, "count them");
      const { data } = (await sent).postDataJSON();
      need(data.messages[0].content === "Be brief." && data.temperature === 0.3, "prompt or temperature were not sent");
      need(data.messages[1].content.includes("File `notes.txt`:\n```\nthree words here\n```"), "the file is not in the question");
      await page.locator(".question .file", { hasText: "notes.txt" }).waitFor();
    }),

  "a question that its model has no room for is told to be, before it is sent": async (browser) => {
    const server = await standIn({ pieceMs: 5, context: 1_024 });
    try {
      await visit(browser, server.url, async (page) => {
        const box = page.getByLabel("Your question");
        await box.fill("x".repeat(3_000));
        await page.getByText(/About 1\D?488 characters more than .+ can read\.\s+What does not fit is refused, and costs nothing/).waitFor();
        await shoot(page, "too-long");
        await box.fill("short");
        await page.getByText(/characters more than/).waitFor({ state: "detached" });
      });
    } finally {
      await server.close();
    }
  },

  "a model on its way: progress, the problem with its remedy, and the box opens by itself": async (browser) => {
    const server = await standIn({ scenario: "arriving" });
    try {
      await visit(browser, server.url, async (page) => {
        const coming = page.locator("[data-arriving]");
        await coming.getByText(/MB of 1\.12 GB · 11 MB\/s · 74 s left/).waitFor();
        await coming.getByText("set MTOR_MODEL_SOURCE").waitFor();
        const box = page.getByLabel("Your question");
        await box.fill("typed early");
        await box.press("Enter");
        await page.getByText("No model can answer yet. Your question stays here.").waitFor();
        await shoot(page, "arriving");
        await page.locator("[data-price] b").waitFor();
        need((await box.inputValue()) === "typed early", "what was typed is gone");
        await page.locator("[data-about]", { hasText: "SmolLM2 135M Instruct" }).waitFor();
        await box.press("Enter");
        await answered(page);
      });
    } finally {
      await server.close();
    }
  },

  "a stranger's model is nobody's choice but the visitor's, who reads whose it is before and after": async (browser) => {
    const server = await standIn({ scenario: "strangers" });
    try {
      await visit(browser, server.url, async (page) => {
        const said = page.locator("[data-stranger]");
        await said.getByText(/Only strangers' models are here, not yet proven: choose one/).waitFor();
        const box = page.getByLabel("Your question");
        await box.fill("What is a Merkle tree?");
        await box.press("Enter");
        await page.locator("#why", { hasText: "Choose a model first." }).waitFor();
        need(!(await page.getByRole("button", { name: "Ask", exact: true }).isEnabled()), "it can be asked without a choice");
        need(!server.calls.some((call) => /quote|intents/.test(call)), `asked by itself: ${server.calls.join(", ")}`);
        await shoot(page, "strangers");
        const model = page.locator(".pick select");
        need((await model.locator("option").allTextContents()).join("|").startsWith("choose a model|smollm2-135m-instruct@5DJS6QuB, not yet proven|"), `the list says: ${await model.locator("option").allTextContents()}`);
        await model.selectOption("smollm2-135m-instruct@5DJS6QuB");
        await said.getByText(/smollm2-135m-instruct@5DJS6QuB is a stranger's, not yet proven: 5DJS6QuB can read what you ask/).waitFor();
        await page.locator("[data-price] b").waitFor();
        await box.press("Enter");
        await answered(page);
        await page.locator(".bill").getByText("of 5DJS6QuB, not yet proven").waitFor();
        await shoot(page, "stranger-answered");
      });
    } finally {
      await server.close();
    }
  },

  "on a phone the list lies over the page, and Escape closes it": (browser, url) =>
    visit(browser, url, async (page) => {
      await ask(page, "from a phone");
      await answered(page);
      await page.getByRole("button", { name: "Conversations" }).click();
      await side(page).getByText("from a phone").waitFor();
      await shoot(page, "phone-list");
      await page.keyboard.press("Escape");
      await side(page).waitFor({ state: "hidden" });
    }, { viewport: { width: 360, height: 740 }, colorScheme: "dark" }),
};

// Each is a visitor of its own and waits for words that come one by one.
await run(undefined, CASES, { atOnce: 3 });
