// The place "Intents": any kind of work, from its manifest to its result and its bill.
//   node browser/intents.test.mjs [--url URL]
// Against the stand-in, whose kinds of work the page has never heard of; with a realm's address,
// with what every realm can do.

import { Buffer } from "node:buffer";
import { readFile } from "node:fs/promises";
import { parseArgs } from "node:util";
import { standIn } from "../tests/stand-in.mjs";
import { POOLS } from "../tests/works.mjs";
import { changingJson, need, run } from "./chromium.mjs";
import { form, runIt } from "./views.mjs";

const { values } = parseArgs({ options: { url: { type: "string" } } });
const WAIT = { timeout: 30_000 };

/** @typedef {import("playwright-core").Browser} Browser */
/** @typedef {import("playwright-core").Page} Page */

/** A new visitor, who must see no error. @param {Browser} browser @param {string} url @param {(page: Page) => Promise<unknown>} test */
async function visit(browser, url, test) {
  const context = await browser.newContext({ viewport: { width: 1000, height: 900 } });
  const page = await context.newPage();
  /** @type {string[]} */
  const troubles = [];
  page.on("pageerror", (error) => troubles.push(error.message));
  page.on("dialog", (dialog) => (troubles.push(`a dialog: ${dialog.message()}`), dialog.dismiss()));
  page.on("console", (message) => {
    if (message.type() === "error" && !/status of 4\d\d/.test(message.text())) troubles.push(message.text());
  });
  await page.goto(url);
  const said = await test(page);
  await context.close();
  need(troubles.length === 0, troubles.join("\n"));
  return said;
}

/** Sends the form and waits for its end. @param {Page} page */
async function done(page) {
  await runIt(page);
  await page.locator(".run").first().locator("[data-cost]").waitFor(WAIT);
  return page.locator(".run").first();
}

/** Plays one act of the stand-in's stage. @param {Page} page @param {string} act */
async function play(page, act) {
  await form(page, "stage");
  await page.getByLabel("act").selectOption(act);
  return done(page);
}

/** The tree of a JSON result, opened whole, as its text. @param {import("playwright-core").Locator} card */
const treeOf = async (card) => (await card.locator(".tree").first().textContent())?.replace(/\s+/g, " ") ?? "";

/** @type {Record<string, (page: Page) => Promise<unknown>>} */
const ALONE = {
  "what is served comes first, and what is not says so": async (page) => {
    const dear = (/** @type {any} */ one) => (one.name === "idle" ? { ...one, meter: { unit: "residue" }, price: { amount: "123456789", per: 1_000_000 } } : one);
    await changingJson(page, "**/v1/manifests", ({ items, ...rest }) => ({ items: items.map(dear), ...rest }));
    await page.getByRole("link", { name: "Intents", exact: true }).click();
    await page.locator(".kinds li").first().waitFor(WAIT);
    const lines = await page.locator(".kinds li").allTextContents();
    need(/no worker now/.test(lines.at(-1) ?? "") && /idle/.test(lines.at(-1) ?? ""), `the last line is: ${lines.at(-1)}`);
    need(lines.length === 8 && !/no worker/.test(lines[0] ?? ""), `the lines are: ${lines.join(" | ")}`);
    // Also where it is long a price stands beside its intent, not below it.
    const below = await page.locator(".kinds li").evaluateAll((rows) => rows.filter((row) => {
      const [name, price] = [row.querySelector("a"), row.querySelector(".figures")].map((part) => part?.getBoundingClientRect());
      return !name || !price || price.left < name.right;
    }).length);
    need(below === 0, `${below} prices stand below their intents`);
  },
  "an own manifest that cannot be used is told with its file, the reason and the remedy": async (page) => {
    const notice = page.locator("[data-manifest-problems]");
    await page.getByRole("link", { name: "Intents", exact: true }).click();
    await page.locator(".kinds li").first().waitFor(WAIT);
    need((await notice.count()) === 0, "a realm without problems shows some");
    const server = await standIn({ scenario: "broken" });
    try {
      await page.goto(`${server.url}#/intents`);
      await notice.waitFor(WAIT);
      const said = (await notice.textContent())?.replace(/\s+/g, " ") ?? "";
      for (const word of ["stage.toml", "line 11: unknown variant apples", "stage stays as it was", "<b>words</b>.toml", "choose another", "mtor manifest check"]) {
        need(said.includes(word), `"${word}" is not said: ${said}`);
      }
      // The form of what an older file gave says so, too; that of another intent does not.
      await form(page, "stage");
      need((await notice.textContent())?.includes("stage.toml") === true, "the form of stage says nothing of it");
      need(!(await notice.textContent())?.includes("words"), "the form of stage tells of another file");
      await form(page, "survey");
      need((await notice.count()) === 0, "the form of survey tells of what is not its own");
    } finally {
      await server.close();
    }
  },
  "what only strangers serve says whose they are before it is sent, and is sent as that": async (page) => {
    const server = await standIn({ scenario: "strangers" });
    try {
      await page.goto(`${server.url}#/intents`);
      await page.locator(".kinds li").first().waitFor(WAIT);
      const lines = (await page.locator(".kinds li").allTextContents()).filter((line) => !/no worker now/.test(line));
      need(lines.length > 0 && lines.every((line) => line.includes("strangers', not yet proven")), `the lines are: ${lines.join(" | ")}`);
      await form(page, "stage");
      await page.locator("[data-strangers]", { hasText: /Only strangers serve this, not yet proven: the workers of 5DJS6QuB\..*To run it is to let them/s }).waitFor(WAIT);
      await page.getByLabel("act").selectOption({ index: 1 });
      const card = await done(page);
      await card.getByText("of 5DJS6QuB, not yet proven").waitFor(WAIT);
      need(server.works.at(-1)?.trust === "any", `it was sent as ${JSON.stringify(server.works.at(-1))}`);
      await page.getByText("Use from code").click();
      need((await page.locator("[data-snippet]").textContent())?.includes('"trust":"any"') === true, "the program says nothing of trust");
    } finally {
      await server.close();
    }
  },
  "a manifest never seen before becomes a form, and its data reach the worker": async (page) => {
    await form(page, "survey");
    await page.getByLabel("Your essay", { exact: true }).fill("two\nlines");
    await page.getByLabel("count", { exact: true }).fill("3");
    await page.getByLabel("agree").check();
    await page.getByLabel("mood").selectOption("7");
    await page.getByLabel("share").fill("0.5");
    await page.getByLabel("kind").selectOption({ label: "The second" });
    await page.getByRole("button", { name: "Add to tags" }).click();
    await page.getByLabel("tags 1", { exact: true }).fill("x");
    await page.getByText("Fill it in").first().click();
    await page.getByLabel("town").fill("Ulm");
    await page.getByLabel("blob from a file").setInputFiles({ name: "a.bin", mimeType: "", buffer: Buffer.from([0, 255, 1]) });
    await page.getByLabel("notes from a file").setInputFiles({ name: "a.txt", mimeType: "", buffer: Buffer.from("grüße") });
    await page.getByRole("radio", { name: "list" }).check();
    await page.locator("[data-field='/either'] textarea").fill('["a"]');
    await page.getByLabel("free").fill('{"deep":[1]}');
    const card = await done(page);
    await card.getByRole("button", { name: "Copy result" }).waitFor(WAIT);
    const [download] = await Promise.all([page.waitForEvent("download"), card.getByRole("button", { name: "Download" }).click()]);
    const { received } = JSON.parse(await readFile(await download.path(), "utf8"));
    const wanted = { essay: "two\nlines", count: 3, agree: true, mood: 7, share: 0.5, kind: "b", tags: ["x"], place: { town: "Ulm" }, blob: "AP8B", notes: "grüße", either: ["a"], free: { deep: [1] } };
    const sorted = (/** @type {object} */ value) => JSON.stringify(Object.entries(value).sort());
    need(sorted(received) === sorted(wanted), `the worker got ${JSON.stringify(received)}`);
  },
  "what is wrong is said where it is, by the page and by the realm": async (page) => {
    await form(page, "survey");
    need((await page.locator(".wrong:visible").count()) === 0, "an untouched form is called wrong");
    await page.getByRole("button", { name: "Run", exact: true }).click();
    const essay = page.locator("[data-field='/essay']");
    await essay.getByText("is needed").waitFor(WAIT);
    need(await essay.locator("textarea").evaluate((box) => box === document.activeElement), "the first wrong field has no focus");
    await page.getByLabel("Your essay", { exact: true }).fill("ab");
    await essay.getByText("must be at least 3 characters").waitFor(WAIT);
    await page.getByLabel("Your essay", { exact: true }).fill("abc");
    await page.getByLabel("mood").selectOption("calm");
    await page.getByText("Fill it in").first().click();
    await page.getByLabel("town").fill("forbidden");
    await page.locator("[data-field='/place/town']").getByText("a town that is allowed").waitFor(WAIT);
    need((await page.locator("[data-price] b").count()) === 0, "refused data have a price");
    need(await page.getByLabel("town").getAttribute("aria-invalid") === "true", "the refused field is not marked");
  },
  "the realm's own words are a sentence beside the field's name, and what they quote is code": async (page) => {
    await form(page, "scribe");
    await page.getByLabel("messages").fill("hello");
    const said = page.locator("[data-field='/messages'] .wrong");
    await said.getByText("is no JSON").waitFor(WAIT);
    need((await said.locator("code").textContent())?.includes('[{"role":"user"') === true, "what to write is not said");
    await page.getByLabel("messages").fill("");
    await page.getByRole("button", { name: "Fill in the example" }).click();
    await page.getByLabel("shape 1", { exact: true }).fill("2");
    need((await page.getByRole("button", { name: "Remove shape 1" }).count()) === 0, "an item that is needed can be removed");
    const model = page.locator("[data-field='/model']");
    need((await model.locator("input[list]").count()) === 1, "the model is not one line with the models on offer");
    await model.getByText("On offer: quill-1").waitFor(WAIT);
    await model.locator("input").fill("nope");
    await model.getByText("model: no worker here offers that model; on offer: quill-1").waitFor(WAIT);
    await model.locator("input").fill("quill-1");
    await page.locator("[data-field='/data'] textarea").fill("AAAA");
    const data = page.locator("[data-field='/data'] .wrong");
    await data.getByText("data: 16 bytes, but").waitFor(WAIT);
    need((await data.locator("code").textContent()) === "shape" && !(await data.textContent())?.includes("`"), "backticks are shown raw");
  },
  "what nobody serves cannot be run, says so, and can be as soon as somebody does": async (page) => {
    await form(page, "idle");
    await page.locator(".work .notice").getByText("would refuse it at once").waitFor(WAIT);
    const go = page.getByRole("button", { name: "Run", exact: true });
    need(await go.isDisabled(), "what would be refused can be run");
    await page.getByLabel("as a JSON object").fill("{");
    await page.getByText('Write it like').waitFor(WAIT);
    await page.getByLabel("as a JSON object").fill('{"a":1}');
    await page.route("**/v1/pools", (route) => route.fulfill({ json: { items: [...POOLS, { ...POOLS[0], intent: "idle" }], next: null } }));
    await page.locator(".work .notice").waitFor({ state: "detached", ...WAIT });
    await done(page);
  },
  "what an error means is told over the form, and closing it leads back": async (page) => {
    await page.route("**/v1/quote", (route) => route.fulfill({ status: 409, json: { error: { code: "MT0017", message: "no worker `x` here", docs: "/errors/MT0017" } } }));
    await form(page, "stage");
    await page.getByLabel("act").selectOption("rows");
    await page.getByRole("link", { name: "What this means" }).click();
    const sheet = page.locator("[data-meaning]");
    await sheet.getByRole("heading", { name: /MT0017/ }).waitFor(WAIT);
    need(!(await sheet.textContent())?.includes("## When"), "the Markdown is shown raw");
    await sheet.getByRole("button", { name: "Close" }).click();
    await sheet.waitFor({ state: "detached", ...WAIT });
    need((await page.getByLabel("act").inputValue()) === "0", "the form has lost what was filled in");
    need(/#\/intents\/stage$/.test(page.url()), "it leads elsewhere");
  },
  "a table is cut in what is drawn, and downloaded whole": async (page) => {
    const card = await play(page, "rows");
    need((await card.locator("tbody tr").count()) === 100, "the table is not bounded");
    await card.getByText("The first 100 of 250 rows").waitFor(WAIT);
    const [download] = await Promise.all([page.waitForEvent("download"), card.getByRole("button", { name: "Download" }).click()]);
    need(JSON.parse(await readFile(await download.path(), "utf8")).length === 250, "the download is not the whole");
  },
  "a long text is cut in what is drawn": async (page) => {
    const card = await play(page, "flood");
    await card.getByText("The first 20,000 of 240,000 characters").waitFor(WAIT);
    need(((await card.locator("pre.said").textContent()) ?? "").length === 20_000, "the text is not bounded");
  },
  "a large tree is drawn level by level, and as text": async (page) => {
    const card = await play(page, "tree");
    need(/<img src=x onerror=alert\(1\)>/.test(await treeOf(card)), "the text of a result is not shown as it is");
    await card.getByText("list of 5,000").click();
    await card.getByText("and 4,900 more").waitFor(WAIT);
    need((await card.locator("*").count()) < 2_000, "the tree is not bounded");
  },
  "a picture by the media type of the manifest, from an object URL": async (page) => {
    await form(page, "portrait");
    const card = await done(page);
    const picture = card.locator("img");
    await picture.waitFor(WAIT);
    need(/^blob:/.test((await picture.getAttribute("src")) ?? ""), "the picture has another address than an object URL");
    await page.waitForFunction(() => [...document.images].some((image) => image.complete && image.naturalWidth === 1), undefined, WAIT);
  },
  "a sound from a data URL": async (page) => {
    const card = await play(page, "tone");
    await page.waitForFunction(() => [...document.querySelectorAll("audio")].some((audio) => audio.duration > 0.05), undefined, WAIT);
    need(/^blob:/.test((await card.locator("audio").getAttribute("src")) ?? ""), "the sound has another address than an object URL");
  },
  "markup that calls itself a picture is shown as what it is": async (page) => {
    for (const act of ["vector", "page"]) {
      const card = await play(page, act);
      need((await card.locator("img, iframe, object, embed, svg").count()) === 0, `${act} was drawn`);
    }
    const card = await play(page, "fake");
    await card.getByText("not what they claim to be").waitFor(WAIT);
  },
  "a failure is told, and what was held is given back": async (page) => {
    await form(page, "stage");
    await page.getByLabel("act").selectOption("fail");
    await runIt(page);
    const card = page.locator(".run").first();
    await card.getByText("Failed, and refunded").waitFor(WAIT);
    await card.locator("[data-refunded]").getByText("0.000040").waitFor(WAIT);
    need((await card.locator("[data-cost]").count()) === 0, "a failure has a cost");
  },
  "pieces are seen as they come; a reload finds the run, and it can be cancelled": async (page) => {
    await form(page, "stage");
    await page.getByLabel("act").selectOption("slow");
    let asked = 0;
    page.on("request", (request) => (asked += Number(new URL(request.url()).pathname === "/v1/manifests")));
    await runIt(page);
    await page.getByText("word3").waitFor(WAIT);
    // One that was due may fall into it; one a piece may not.
    need(asked <= 1, `the manifests were read ${asked} times while four pieces came`);
    await page.reload();
    const card = page.locator(".run").first();
    await card.getByText("word5").waitFor(WAIT);
    const shown = (await card.locator("[data-streamed]").textContent()) ?? "";
    need(shown.startsWith("word0 word1 word2 "), `a piece is lost: ${shown.slice(0, 60)}`);
    await card.getByRole("button", { name: "Cancel" }).click();
    await card.locator("[data-cost]").waitFor(WAIT);
    need((await card.getAttribute("data-phase")) === "cancelled", "it did not end cancelled");
  },
  "what was run is there again after a reload, can be edited and run again": async (page) => {
    await play(page, "rows");
    await page.reload();
    const card = page.locator(".run").first();
    await card.locator("tbody tr").first().waitFor(WAIT);
    await card.getByRole("button", { name: "Edit" }).click();
    need((await page.getByLabel("act").inputValue()) === "0", "the form does not hold what was sent");
    await card.getByRole("button", { name: "Run again" }).click();
    await page.locator(".run").nth(1).waitFor(WAIT);
    await page.locator(".run").first().locator("tbody tr").first().waitFor(WAIT);
    await page.locator(".run").first().getByRole("button", { name: "Clear" }).click();
    need((await page.locator(".run").count()) === 1, "a cleared run is still there");
  },
  "with the keyboard alone": async (page) => {
    const reach = async (/** @type {string} */ what) => {
      for (let step = 0; step < 60; step += 1) {
        await page.keyboard.press("Tab");
        const name = await page.evaluate(() => {
          const at = document.activeElement;
          // Past its last stop the page as a whole has the focus.
          return at instanceof HTMLElement && at !== document.body ? `${at.getAttribute("aria-label") ?? ""} ${at.innerText} ${at.id && document.querySelector(`label[for="${at.id}"]`)?.textContent}` : "";
        });
        if (name.includes(what)) return;
      }
      throw new Error(`Tab does not lead to "${what}"`);
    };
    await page.locator("[data-balance]").waitFor(WAIT);
    await reach("Intents");
    await page.keyboard.press("Enter");
    await page.locator(".kinds li").first().waitFor(WAIT);
    await reach("stage");
    await page.keyboard.press("Enter");
    await page.locator("form.work").waitFor(WAIT);
    await reach("act");
    await page.keyboard.press("ArrowDown");
    await page.locator(".work [data-price] b").waitFor(WAIT);
    await reach("Run");
    await page.keyboard.press("Enter");
    await page.locator(".run [data-cost]").waitFor(WAIT);
  },
};

/** @type {Record<string, (page: Page) => Promise<unknown>>} */
const REALM = {
  "echo: a price before, pieces, the result, and what it cost": async (page) => {
    await form(page, "echo");
    await page.getByLabel("chunks").fill("3");
    await page.getByLabel("As a JSON object").fill('{"text":"grüße"}');
    const card = await done(page);
    need(/grüße/.test(await treeOf(card)), "the result is not what was sent");
    await card.getByText("3 pieces").waitFor(WAIT);
    await card.getByText("settled").waitFor(WAIT);
    return `cost ${await card.locator("[data-cost]").textContent()}`;
  },
  "fft: a file of samples, and the realm's own words at the field": async (page) => {
    await form(page, "fft");
    await page.getByLabel("dtype").selectOption("f32");
    await page.getByLabel("shape 1", { exact: true }).fill("4");
    await page.getByLabel("output").selectOption("power");
    const samples = Buffer.from(new Float32Array([1, 0, -1, 0]).buffer);
    await page.getByLabel("data from a file").setInputFiles({ name: "samples.f32", mimeType: "", buffer: samples });
    const card = await done(page);
    need(/AAAAAAAAgEAAAAAA/.test(await treeOf(card)), "the transform is not the one of docs/intents.md");
  },
  "durable: kept by the realm": async (page) => {
    await form(page, "echo");
    await page.getByText("Options").click();
    await page.getByText("Durable").click();
    const card = await done(page);
    await card.getByText("durable").waitFor(WAIT);
  },
};

const cases = Object.entries(values.url ? REALM : ALONE);
await run(values.url, Object.fromEntries(cases.map(([name, test]) => [name, (browser, url) => visit(browser, url, test)])), { atOnce: 2 });
