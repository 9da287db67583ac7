// Every view of the page, and how a visitor gets there from the address of the realm. The tests of
// `page.test.mjs` hold for each: a new view needs a line here, and no test of its own for them.

const WAIT_MS = 30_000;

/** @param {import("playwright-core").Page} page @param {string} question */
export async function ask(page, question) {
  await page.locator(".price span").first().waitFor({ timeout: WAIT_MS });
  const box = page.getByLabel("Your question");
  await box.fill(question);
  await page.locator("[data-price] b").first().waitFor({ timeout: WAIT_MS });
  await box.press("Enter");
}

/** Leaves the conversation for a new one. @param {import("playwright-core").Page} page */
export async function freshly(page) {
  await page.getByRole("button", { name: "New", exact: true }).click();
  await page.locator("[data-answer]").first().waitFor({ state: "detached", timeout: WAIT_MS });
}

/** @type {Record<string, (page: import("playwright-core").Page) => Promise<unknown>>} */
export const VIEWS = {
  start: (page) => page.locator(".price span").first().waitFor({ timeout: WAIT_MS }),
  streaming: async (page) => {
    await ask(page, "slow");
    await page.locator("[data-answer] *").first().waitFor({ timeout: WAIT_MS });
  },
  answered: async (page) => {
    await ask(page, "What is a Merkle tree?");
    await page.locator(".bill [data-cost]").first().waitFor({ timeout: WAIT_MS });
  },
  refused: async (page) => {
    await ask(page, "refuse");
    await page.locator("[data-problem]").first().waitFor({ timeout: WAIT_MS });
  },
  account: async (page) => {
    await ask(page, "What is a Merkle tree?");
    await page.locator(".bill [data-cost]").first().waitFor({ timeout: WAIT_MS });
    await page.locator("[data-balance]").click();
    await page.getByRole("dialog").waitFor({ timeout: WAIT_MS });
  },
};
