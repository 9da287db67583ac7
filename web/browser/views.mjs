// Every view of the page, and how a visitor gets there from the address of the realm. The tests of
// `page.test.mjs` hold for each: a new view needs a line here, and no test of its own for them.

import { coming, GOOD, SMALL } from "../tests/stand-in.mjs";
import { PROBLEMS, strange } from "../tests/works.mjs";
import { changingJson } from "./chromium.mjs";

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

/** Goes to the form of one intent. @param {import("playwright-core").Page} page @param {string} name */
export async function form(page, name) {
  await page.getByRole("link", { name: "Intents", exact: true }).click({ timeout: WAIT_MS });
  await page.locator(".kinds").getByRole("link", { name: new RegExp(`^${name}\\b`) }).click({ timeout: WAIT_MS });
  await page.locator("form.work").waitFor({ timeout: WAIT_MS });
}

/** @param {import("playwright-core").Page} page */
export async function runIt(page) {
  await page.locator(".work [data-price] b").waitFor({ timeout: WAIT_MS });
  await page.getByRole("button", { name: "Run", exact: true }).click({ timeout: WAIT_MS });
}

/** A realm that tells of models on their way; `serving` has its models, or none. @param {import("playwright-core").Page} page @param {boolean} serving @param {object[]} arriving */
async function arriving(page, serving, arriving) {
  await changingJson(page, "**/v1/models", (models) => ({ ...models, arriving, preferred: { chat: GOOD } }));
  if (!serving) await page.route("**/v1/pools", (route) => route.fulfill({ json: { items: [], next: null } }));
  await page.reload();
  await page.locator("[data-arriving]").waitFor({ timeout: WAIT_MS });
}

/** A realm where all workers are strangers'. @param {import("playwright-core").Page} page */
async function strangers(page) {
  await changingJson(page, "**/v1/pools", ({ items }) => ({ items: items.map(strange), next: null }));
  await page.reload();
  await page.locator("[data-stranger]").waitFor({ timeout: WAIT_MS });
}

/** @param {import("playwright-core").Page} page */
async function handsFree(page) {
  await page.locator(".price span").first().waitFor({ timeout: WAIT_MS });
  await page.getByRole("button", { name: "Options" }).click();
  await page.getByRole("button", { name: "Hands-free" }).click();
  await page.getByRole("button", { name: "Settings" }).click();
  await page.getByLabel("The word that calls").waitFor({ timeout: WAIT_MS });
}
const FETCHING = { state: "fetching", received: 320_000_000, rate: 4_200_000, left_ms: 190_000 };
const FAILED = { state: "failed", problem: "no source has its bytes: set MTOR_MODEL_SOURCE to a folder that holds the file, or run `mtor models pull good`" };

/**
 * Presses the button to speak, with a microphone of the test's own: `voice` hums in syllables, `quiet` gives
 * silence, `asking` is never allowed, and any other word is what the browser throws.
 * @param {import("playwright-core").Page} page @param {string} kind
 */
async function speak(page, kind) {
  await microphone(page, kind);
  await page.getByRole("button", { name: "Speak", exact: true }).click({ timeout: WAIT_MS });
}

/** @param {import("playwright-core").Page} page @param {string} kind */
async function microphone(page, kind) {
  await page.evaluate((kind) => {
    navigator.mediaDevices.getUserMedia = async () => {
      if (kind === "asking") return new Promise(() => undefined);
      if (kind !== "voice" && kind !== "quiet") throw new DOMException("", kind);
      const context = new AudioContext();
      const out = context.createMediaStreamDestination();
      const [tone, gain, beat, depth] = [context.createOscillator(), context.createGain(), context.createOscillator(), context.createGain()];
      tone.frequency.value = 300;
      [gain.gain.value, depth.gain.value, beat.frequency.value] = kind === "voice" ? [0.15, 0.15, 3] : [0, 0, 3];
      beat.connect(depth).connect(gain.gain);
      tone.connect(gain).connect(out);
      tone.start(), beat.start();
      return out.stream;
    };
  }, kind);
}

/** @type {Record<string, (page: import("playwright-core").Page) => Promise<unknown>>} */
export const VIEWS = {
  start: (page) => page.locator(".price span").first().waitFor({ timeout: WAIT_MS }),
  arriving: (page) => arriving(page, false, [coming(GOOD, FETCHING), coming(SMALL, { state: "starting" })]),
  strangers: async (page) => {
    await strangers(page);
    await page.locator(".pick select").selectOption({ index: 1 });
    await page.locator("[data-stranger] b").waitFor({ timeout: WAIT_MS });
  },
  "a stranger's work": async (page) => {
    await strangers(page);
    await form(page, "stage");
    await page.locator("[data-strangers]").waitFor({ timeout: WAIT_MS });
  },
  "one failed": (page) => arriving(page, false, [coming(GOOD, FAILED), coming(SMALL)]),
  meanwhile: (page) => arriving(page, true, [coming(GOOD, FETCHING)]),
  "hands-free": handsFree,
  "hands-free without a microphone": async (page) => {
    await handsFree(page);
    await page.getByRole("button", { name: "Turn on" }).click();
    await page.locator('[data-hands="failed"]').waitFor({ timeout: WAIT_MS });
  },
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
  intents: async (page) => {
    await page.getByRole("link", { name: "Intents", exact: true }).click({ timeout: WAIT_MS });
    await page.locator(".kinds li").first().waitFor({ timeout: WAIT_MS });
  },
  "broken manifests": async (page) => {
    await changingJson(page, "**/v1/manifests", (manifests) => ({ ...manifests, problems: PROBLEMS }));
    await page.getByRole("link", { name: "Intents", exact: true }).click({ timeout: WAIT_MS });
    await page.locator("[data-manifest-problems]").waitFor({ timeout: WAIT_MS });
  },
  meaning: async (page) => {
    await ask(page, "refuse");
    await page.getByRole("link", { name: "What this means" }).click({ timeout: WAIT_MS });
    await page.locator("[data-meaning] .answer h3").first().waitFor({ timeout: WAIT_MS });
  },
  unserved: async (page) => {
    await form(page, "idle");
    await page.locator(".work [data-price] b").waitFor({ timeout: WAIT_MS });
  },
  form: async (page) => {
    await form(page, "survey");
    await page.getByText("Fill it in").first().click();
    await page.getByRole("button", { name: "Add to tags" }).click();
    await page.getByLabel("count", { exact: true }).fill("99");
    await page.getByRole("button", { name: "Run", exact: true }).click();
    await page.getByText("must be at most 9").waitFor({ timeout: WAIT_MS });
    await page.getByText("Use from code").click();
  },
  table: async (page) => {
    await form(page, "stage");
    await page.getByLabel("act").selectOption("rows");
    await page.getByText("Use from code").click();
    await runIt(page);
    await page.locator("[data-result='table'] td").first().waitFor({ timeout: WAIT_MS });
  },
  tree: async (page) => {
    await form(page, "stage");
    await page.getByLabel("act").selectOption("tree");
    await runIt(page);
    await page.locator("[data-result='json'] .tree").first().waitFor({ timeout: WAIT_MS });
  },
  "microphone asked for": async (page) => {
    await speak(page, "asking");
    await page.locator(".voice[data-voice='asking']").waitFor({ timeout: WAIT_MS });
  },
  "microphone listening": async (page) => {
    await speak(page, "quiet");
    await page.getByText("Listening: speak now.").waitFor({ timeout: WAIT_MS });
  },
  "microphone hears": async (page) => {
    await page.getByLabel("Your question").fill("Please tell me:");
    await page.locator("[data-price] b").first().waitFor({ timeout: WAIT_MS });
    await speak(page, "voice");
    await page.getByText("Hearing you").waitFor({ timeout: WAIT_MS });
  },
  "writing down": async (page) => {
    await page.route("**/v1/intents", (route) => (route.request().method() === "POST" ? undefined : route.continue()));
    await speak(page, "voice");
    await page.getByText("Hearing you").waitFor({ timeout: WAIT_MS });
    await page.getByRole("button", { name: "Done", exact: true }).click();
    await page.getByText("Writing down").waitFor({ timeout: WAIT_MS });
  },
  "microphone denied": async (page) => {
    await speak(page, "NotAllowedError");
    await page.getByText("This page may not use the microphone.").waitFor({ timeout: WAIT_MS });
  },
  "no microphone": async (page) => {
    await speak(page, "NotFoundError");
    await page.getByText("There is no microphone.").waitFor({ timeout: WAIT_MS });
  },
  "not written down": async (page) => {
    await page.route("**/v1/intents", (route) => route.fulfill({ status: 429, json: { error: { code: "MT0018", message: "too many questions at once", retry_after_ms: 4_000 } } }));
    await speak(page, "voice");
    await page.getByText("Hearing you").waitFor({ timeout: WAIT_MS });
    await page.getByRole("button", { name: "Done", exact: true }).click();
    await page.getByRole("button", { name: "Try again" }).waitFor({ timeout: WAIT_MS });
  },
  recording: async (page) => {
    await form(page, "transcribe");
    await microphone(page, "voice");
    await page.getByRole("button", { name: "Record audio" }).click();
    await page.locator(".record[data-record='recording']").waitFor({ timeout: WAIT_MS });
  },
  recorded: async (page) => {
    await form(page, "transcribe");
    await microphone(page, "voice");
    await page.getByRole("button", { name: "Record audio" }).click();
    await page.getByText("0:01").waitFor({ timeout: WAIT_MS });
    await page.getByRole("button", { name: "Stop", exact: true }).click();
    await page.locator(".work audio").waitFor({ timeout: WAIT_MS });
    await page.locator(".work [data-price] b").waitFor({ timeout: WAIT_MS });
  },
  spoken: async (page) => {
    await form(page, "speak");
    await page.getByLabel("input", { exact: true }).fill("One sentence.");
    await runIt(page);
    await page.locator(".run audio").waitFor({ timeout: WAIT_MS });
  },
  "read aloud": async (page) => {
    await ask(page, "What is a Merkle tree?");
    await page.locator(".bill [data-cost]").first().waitFor({ timeout: WAIT_MS });
    await page.getByRole("button", { name: "Read aloud" }).click({ timeout: WAIT_MS });
    await page.locator("[data-aloud-cost]").waitFor({ timeout: WAIT_MS });
  },
  options: async (page) => {
    await page.waitForSelector(".price span", { timeout: WAIT_MS });
    await page.getByRole("button", { name: "Options" }).click();
    await page.getByText("Read every answer aloud").waitFor({ timeout: WAIT_MS });
  },
  "from code": async (page) => {
    await page.waitForSelector(".price span", { timeout: WAIT_MS });
    await page.getByRole("button", { name: "Options" }).click();
    await page.getByText("Use from code").click();
    await page.locator("[data-snippet]").waitFor({ timeout: WAIT_MS });
  },
};
