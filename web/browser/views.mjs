// Every view of the page, and how a visitor gets there from the address of the realm. The tests of
// `page.test.mjs` hold for each: a new view needs a line here, and no test of its own for them.

const WAIT_MS = 30_000;

/** @param {import("playwright-core").Page} page @param {string} question */
export async function ask(page, question) {
  await page.waitForSelector(".price span", { timeout: WAIT_MS });
  const box = page.getByLabel("Your question");
  await box.fill(question);
  await page.waitForSelector("[data-price] b", { timeout: WAIT_MS });
  await box.press("Enter");
}

/** @type {Record<string, (page: import("playwright-core").Page) => Promise<unknown>>} */
export const VIEWS = {
  start: (page) => page.waitForSelector(".price span", { timeout: WAIT_MS }),
  streaming: async (page) => {
    await ask(page, "slow");
    await page.waitForSelector("[data-answer] *", { timeout: WAIT_MS });
  },
  answered: async (page) => {
    await ask(page, "What is a Merkle tree?");
    await page.waitForSelector(".bill [data-cost]", { timeout: WAIT_MS });
  },
  refused: async (page) => {
    await ask(page, "refuse");
    await page.waitForSelector("[data-problem]", { timeout: WAIT_MS });
  },
  account: async (page) => {
    await ask(page, "What is a Merkle tree?");
    await page.waitForSelector(".bill [data-cost]", { timeout: WAIT_MS });
    await page.locator("[data-balance]").click();
    await page.getByRole("dialog").waitFor({ timeout: WAIT_MS });
  },
};
