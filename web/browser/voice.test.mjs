// Speaking and being read to, in a browser whose microphone is a file.
//   node browser/voice.test.mjs [--url URL]
// Against the stand-in, which hears what a test says it hears, and says everything as a tone. With a
// realm's address: a spoken question and its spoken answer, by real models; key words decide.

import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { standIn } from "../tests/stand-in.mjs";
import { changingJson, launch, need, run } from "./chromium.mjs";
import { microphone, wav } from "./clips.mjs";
import { ask, form, runIt } from "./views.mjs";

const { values } = parseArgs({ options: { url: { type: "string" } } });
/** Real models on a machine that does much else. */
const REAL = { timeout: 180_000 };
const WAIT = { timeout: 30_000 };
const WORDS = "What is a Merkle tree, please?";
const folder = mkdtempSync(join(tmpdir(), "mtor-voice-"));
const FAKE = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream", "--autoplay-policy=no-user-gesture-required"];

/** @typedef {import("playwright-core").Page} Page */
/** @typedef {Awaited<ReturnType<typeof standIn>>} Server */

/** 16 bit samples, 8,000 a second, of the spoken sentence of the unit tests. */
function sentence() {
  const bytes = readFileSync(new URL("../tests/fixtures/france.ulaw.wav", import.meta.url));
  const law = bytes.subarray(bytes.indexOf("data") + 8);
  return Array.from(law, (byte) => {
    const bits = ~byte & 0xff;
    const size = ((((bits & 0x0f) << 3) + 0x84) << ((bits >> 4) & 7)) - 0x84;
    return bits & 0x80 ? -size : size;
  });
}

/** A file for the browser's microphone: so long a silence, then what is said, then silence. @param {string} name @param {number} beforeMs @param {number[]} said */
function fileOf(name, beforeMs, said) {
  const silence = (/** @type {number} */ ms) => new Array(ms * 8).fill(0);
  const path = join(folder, `${name}.wav`);
  writeFileSync(path, wav([...silence(beforeMs), ...said, ...silence(4_000)], 8_000));
  return `--use-file-for-fake-audio-capture=${path}%noloop`;
}
const SPOKEN = fileOf("spoken", 700, sentence());
const LATE = fileOf("late", 2_500, sentence());
const NOTHING = fileOf("nothing", 0, []);

/** What the page opens of the microphone, and what it plays: looked at from outside. */
function watch() {
  const seen = { tracks: /** @type {MediaStreamTrack[]} */ ([]), quietAt: 0, loudAt: 0 };
  Object.assign(window, { seen });
  const devices = navigator.mediaDevices;
  const open = devices?.getUserMedia.bind(devices);
  if (open) {
    devices.getUserMedia = async (wanted) => {
      const stream = await open(wanted);
      seen.tracks.push(...stream.getTracks());
      return stream;
    };
  }
  const connect = AudioNode.prototype.connect;
  const ears = new WeakMap();
  // Everything that reaches the loudspeaker passes an analyser, too.
  AudioNode.prototype.connect = /** @type {any} */ (function (/** @type {AudioNode} */ to, /** @type {number[]} */ ...rest) {
    const from = /** @type {AudioNode} */ (/** @type {unknown} */ (this));
    if (to instanceof AudioDestinationNode && from instanceof AudioBufferSourceNode) {
      let ear = ears.get(to.context);
      if (!ear) {
        ear = to.context.createAnalyser();
        ear.fftSize = 128;
        ears.set(to.context, ear);
        const samples = new Float32Array(128);
        setInterval(() => {
          ear.getFloatTimeDomainData(samples);
          if (samples.some((/** @type {number} */ sample) => sample !== 0)) seen.loudAt = performance.now();
          else seen.quietAt = performance.now();
        }, 2);
      }
      Reflect.apply(connect, from, [ear]);
    }
    return Reflect.apply(connect, from, [to, ...rest]);
  });
}

/**
 * A new visitor with a microphone of this kind, who must see no error.
 * @param {{args?: string[], words?: string, address?: (url: string) => string, pieceMs?: number, may?: RegExp}} how `may` be told on the console
 * @param {(page: Page, server: Server) => Promise<unknown>} test
 */
const visit = (how, test) => async () => {
  const server = await standIn({ pieceMs: how.pieceMs ?? 5, words: how.words ?? WORDS });
  const browser = await launch(how.args ?? [...FAKE, SPOKEN]);
  try {
    const context = await browser.newContext({ viewport: { width: 1000, height: 900 } });
    const page = await context.newPage();
    /** @type {string[]} */
    const troubles = [];
    page.on("pageerror", (error) => troubles.push(error.message));
    page.on("console", (message) => {
      if (message.type() === "error" && !how.may?.test(message.text())) troubles.push(message.text());
    });
    await page.addInitScript(watch);
    await page.goto(how.address?.(server.url) ?? server.url);
    await page.locator(".price span").first().waitFor(WAIT);
    const said = await test(page, server);
    need(troubles.length === 0, troubles.join("\n"));
    return said;
  } finally {
    await browser.close();
    await server.close();
  }
};

const mic = (/** @type {Page} */ page) => page.locator("button.mic");
const box = (/** @type {Page} */ page) => page.getByLabel("Your question");
const state = (/** @type {Page} */ page, /** @type {string} */ name) => page.locator(`button.mic[data-mic='${name}']`).waitFor(WAIT);
const heard = (/** @type {Server} */ server) => server.works.filter(({ intent }) => intent === "transcribe");
const chats = (/** @type {Server} */ server) => server.intents() - server.works.length;
/** Milliseconds of sound that the realm was given. @param {any} body */
const soundMs = (body) => Buffer.from(body.data.audio, "base64").length / 32;
/** The browser's own sign is off. @param {Page} page */
const isClosed = (page) => page.waitForFunction(() => Reflect.get(window, "seen").tracks.every((/** @type {MediaStreamTrack} */ track) => track.readyState === "ended"), undefined, WAIT);
/** @param {Page} page @param {string} words */
const boxHas = (page, words) => page.waitForFunction((wanted) => document.querySelector("textarea")?.value === wanted, words, WAIT);

/** All that a page can keep, as text; what is no text is told apart. */
async function everything() {
  const told = (/** @type {unknown} */ _key, /** @type {unknown} */ value) => (value instanceof Blob || value instanceof ArrayBuffer || ArrayBuffer.isView(value) ? "<bytes>" : value);
  const request = (/** @type {IDBRequest} */ one) => new Promise((done, fail) => Object.assign(one, { onsuccess: () => done(one.result), onerror: () => fail(one.error) }));
  /** @type {unknown[]} */
  const found = [{ ...localStorage }, { ...sessionStorage }];
  for (const name of await caches.keys()) for (const one of await (await caches.open(name)).keys()) found.push(one.url, "<bytes>");
  for (const { name } of await indexedDB.databases()) {
    const base = await request(indexedDB.open(name ?? ""));
    for (const store of base.objectStoreNames) found.push(await request(base.transaction(store).objectStore(store).getAll()));
    base.close();
  }
  return JSON.stringify(found, told);
}

/** Asks in writing and waits for the whole answer. @param {Page} page */
async function answered(page) {
  await ask(page, "What is a Merkle tree?");
  await page.locator(".bill [data-cost]").first().waitFor(WAIT);
}

/** Sound has come out of the page. @param {Page} page */
const isLoud = (page) => page.waitForFunction(() => Reflect.get(window, "seen").loudAt > performance.now() - 100, undefined, WAIT);

/** Nothing came out of the page since a moment ago, and nothing will. @param {Page} page */
async function isSilent(page) {
  await page.waitForTimeout(400);
  const since = await page.evaluate(() => performance.now() - Reflect.get(window, "seen").loudAt);
  need(since > 250, `there was sound ${Math.round(since)} ms ago`);
}

/** Seconds of the first sound there, which the browser takes for one. @param {Page} page @param {string} selector */
async function playable(page, selector) {
  const sound = page.locator(selector).first();
  await sound.waitFor(WAIT);
  await page.waitForFunction((wanted) => (/** @type {HTMLAudioElement} */ (document.querySelector(wanted))).readyState >= 1, selector, WAIT);
  return sound.evaluate((/** @type {HTMLAudioElement} */ element) => element.duration);
}

/** @type {Record<string, ReturnType<typeof visit>>} */
const cases = {
  "tapped: it listens until one has spoken, and the words stand in the box, not sent": visit({}, async (page, server) => {
    const fetched = () => page.evaluate(() => performance.getEntriesByType("resource").map(({ name }) => name).filter((name) => /\/assets\/(Voice|capture|rooms)/.test(name)).join(" "));
    need((await fetched()) === "", `what listens is fetched before it is asked for: ${await fetched()}`);
    await box(page).fill("Please say:");
    await mic(page).click();
    await state(page, "listening");
    need(/Voice/.test(await fetched()), "what listens was not fetched when it was asked for");
    // Once: what was fetched before its import is imported out of the browser's cache.
    need(server.calls.filter((call) => /assets\/Voice/.test(call)).length === 1, `asked for: ${server.calls.filter((call) => /assets/.test(call)).join(", ")}`);
    need((await mic(page).getAttribute("aria-pressed")) === "true", "the button does not say that it is pressed");
    await page.getByText("Hearing you").waitFor(WAIT);
    await boxHas(page, `Please say: ${WORDS}`);
    await isClosed(page);
    await state(page, "off");
    const [sent] = heard(server);
    need(heard(server).length === 1 && sent.data.format === "pcm16" && sent.data.stream === true, `sent: ${JSON.stringify(heard(server).map(({ data }) => ({ ...data, audio: data.audio.length })))}`);
    const ms = soundMs(sent);
    need(ms > 1_900 && ms < 3_600, `${ms} ms of sound were sent`);
    need(BigInt(sent.ceiling) === (BigInt(Math.ceil(ms + 32)) * 20n + 999n) / 1_000n, `for at most ${sent.ceiling}`);
    need(chats(server) === 0, "it was sent without being asked to");
    await page.locator("[data-voice-cost]", { hasText: "heard for" }).waitFor(WAIT);
    need(!server.calls.some((call) => call.startsWith("DELETE")), "what was over was cancelled");
    return `${Math.round(ms)} ms of sound`;
  }),
  "held with the pointer: it listens as long as it is held": visit({}, async (page, server) => {
    const at = await mic(page).boundingBox();
    await page.mouse.move((at?.x ?? 0) + 10, (at?.y ?? 0) + 10);
    await page.mouse.down();
    await page.getByText("Listening while you hold it.").waitFor(WAIT);
    await page.waitForTimeout(4_500);
    need(heard(server).length === 0, "it ended while it was held");
    // Let go elsewhere.
    await page.mouse.move(20, 20);
    await page.mouse.up();
    await boxHas(page, WORDS);
    await isClosed(page);
    need(soundMs(heard(server)[0]) > 3_500, `${soundMs(heard(server)[0])} ms of sound were sent`);
  }),
  "held with a key, too": visit({}, async (page, server) => {
    for (const key of [" ", "Enter"]) {
      await box(page).fill("");
      await mic(page).focus();
      await page.keyboard.down(key);
      await page.getByText("Listening while you hold it.").waitFor(WAIT);
      await page.locator(".voice[data-speaking='true']").waitFor(WAIT);
      // What a key that is held does again and again is no new press.
      await page.keyboard.down(key);
      await page.keyboard.up(key);
      await boxHas(page, WORDS);
      await state(page, "off");
    }
    need(heard(server).length === 2, `${heard(server).length} times was something written down`);
  }),
  "tapped with a key: listens, and a second press ends it": visit({}, async (page, server) => {
    await mic(page).focus();
    await page.keyboard.press("Enter");
    await page.getByText("Hearing you").waitFor(WAIT);
    await page.keyboard.press("Enter");
    await boxHas(page, WORDS);
    need(heard(server).length === 1, `${heard(server).length} times was something written down`);
    need(await mic(page).evaluate((button) => button === document.activeElement), "the focus is lost");
  }),
  "Escape gives it up: nothing is sent, nothing is kept, the microphone is free": visit({}, async (page, server) => {
    await box(page).fill("draft");
    await mic(page).click();
    await page.getByText("Hearing you").waitFor(WAIT);
    await page.keyboard.press("Escape");
    await state(page, "off");
    await isClosed(page);
    await page.waitForTimeout(1_500);
    need(heard(server).length === 0, "something was sent");
    need((await box(page).inputValue()) === "draft", "the draft has changed");
    const kept = await page.evaluate(everything);
    need(/draft/.test(kept) && !/<bytes>|[\w+/]{200,}/.test(kept), `kept: ${kept}`);
  }),
  "send at once: the question is asked as it was heard, and the switch is kept": visit({}, async (page, server) => {
    await mic(page).click();
    await page.getByLabel("Send at once").check();
    await page.locator(".entry .question", { hasText: WORDS }).waitFor(WAIT);
    await page.locator(".bill [data-cost]").first().waitFor(WAIT);
    need((await box(page).inputValue()) === "" && chats(server) === 1, "it was not asked, or not once");
    await page.reload();
    await mic(page).click();
    need(await page.getByLabel("Send at once").isChecked(), "the switch is forgotten");
    await page.keyboard.press("Escape");
  }),
  "leaving the place ends what listens: the microphone is free, nothing is sent": visit({}, async (page, server) => {
    await mic(page).click();
    await page.getByText("Hearing you").waitFor(WAIT);
    await page.getByRole("link", { name: "Intents" }).or(page.getByRole("button", { name: "Intents" })).first().click();
    await isClosed(page);
    await page.waitForTimeout(2_500);
    need(heard(server).length === 0, "it was sent from a place that shows nothing of it");
  }),
  "what was spoken in one conversation is no word of another": visit({}, async (page, server) => {
    await page.evaluate(() => localStorage.setItem("mtor.voice", JSON.stringify({ sendAtOnce: true })));
    await page.reload();
    await answered(page);
    const asked = chats(server);
    /** @type {() => void} */
    let go = () => undefined;
    const held = new Promise((done) => (go = () => done(undefined)));
    await page.route("**/v1/intents", async (route) => (await held, route.continue().catch(() => undefined)));
    await mic(page).click();
    await state(page, "hearing");
    await page.getByRole("button", { name: "New", exact: true }).click();
    await page.locator(".entry").first().waitFor({ ...WAIT, state: "detached" });
    await state(page, "off");
    go();
    await page.waitForTimeout(1_500);
    need((await box(page).inputValue()) === "" && chats(server) === asked, "it stands, or was asked, in another one");
  }),
  "words that come while a question is priced wait behind it": visit({}, async (page, server) => {
    /** @type {() => void} */
    let go = () => undefined;
    const held = new Promise((done) => (go = () => done(undefined)));
    await answered(page);
    await mic(page).click();
    await state(page, "listening");
    await page.route("**/v1/quote", async (route) => (await held, route.continue()));
    await box(page).fill("A question");
    await page.getByRole("button", { name: "Ask", exact: true }).click();
    await state(page, "off");
    go();
    await boxHas(page, WORDS);
    await page.locator(".entry .question", { hasText: "A question" }).waitFor(WAIT);
    await page.locator(".bill [data-cost]").nth(1).waitFor(WAIT);
    need(chats(server) === 2, `${chats(server)} questions were asked`);
  }),
  "held, and the window is left: it listens no longer": visit({}, async (page, server) => {
    await mic(page).focus();
    await page.keyboard.down(" ");
    await page.locator(".voice[data-speaking='true']").waitFor(WAIT);
    await page.evaluate(() => dispatchEvent(new Event("blur")));
    await boxHas(page, WORDS);
    await isClosed(page);
    need(heard(server).length === 1, `${heard(server).length} times was something written down`);
  }),
  "a device that cannot hear hands nothing to the realm unasked, and the switch stays": visit({}, async (page, server) => {
    await page.evaluate(() => localStorage.setItem("mtor.voice.here", "1"));
    await page.reload();
    await mic(page).click();
    for (const name of ["Try again here", /^Let the realm hear it \(/]) {
      const button = page.getByRole("button", { name });
      await button.waitFor(WAIT);
      need(heard(server).length === 0, "the realm was asked");
      await button.click();
    }
    await boxHas(page, WORDS);
    need((await page.evaluate(() => localStorage.getItem("mtor.voice.here"))) === "1", "the switch has moved");
  }),
  "what takes up the sound does not come: said, with what to do": visit({ may: /status of 404/ }, async (page) => {
    // A worklet's request is not seen by the test's routes.
    await page.evaluate(() => {
      const add = AudioWorklet.prototype.addModule;
      AudioWorklet.prototype.addModule = function (/** @type {string | URL} */ address) {
        return Reflect.apply(add, this, [`${address}.gone`]);
      };
    });
    await mic(page).click();
    await page.getByRole("alert").filter({ hasText: "try again when it is back" }).waitFor(WAIT);
    await isClosed(page);
  }),
  "a part of the page that does not come says so": visit({ may: /ERR_FAILED|dynamically imported/ }, async (page) => {
    await page.route("**/assets/Options*.js", (route) => route.abort());
    await page.getByRole("button", { name: "Options" }).click();
    await page.getByRole("alert").filter({ hasText: "could not be fetched" }).waitFor(WAIT);
  }),
  "the realm is away at the first press: the next one fetches what listens, and listens": visit({ may: /ERR_|Failed to load/ }, async (page) => {
    // One file of those that a chunk needs is enough.
    for (const files of ["**/assets/{Voice,rooms,mic}-*", "**/assets/mic-*.js"]) {
      await page.reload();
      await page.route(files, (route) => route.abort());
      await mic(page).click();
      await page.getByText(/The realm is away.*Press again/).waitFor(WAIT);
      await page.unroute(files);
      await mic(page).click();
      await state(page, "listening");
      need((await page.getByText("The realm is away").count()) === 0, "it still says that the realm is away");
      await page.keyboard.press("Escape");
    }
  }),
  "away at the first press, a form's recorder and hands-free come with the next": visit({ may: /ERR_|Failed to load/ }, async (page) => {
    const files = /assets\/(Record|HandsFree|wake|hands)[\w.-]*-[\w-]{8}\.(js|css)/;
    await page.route(files, (route) => route.abort());
    await page.getByRole("button", { name: "Options" }).click();
    await page.getByRole("button", { name: "Hands-free" }).click();
    const alert = page.getByRole("alert").filter({ hasText: "The realm is away" });
    await alert.waitFor(WAIT);
    await page.unroute(files);
    await alert.getByRole("button", { name: "Try again" }).click();
    await page.locator("[data-hands='off']").waitFor(WAIT);
    await page.route(files, (route) => route.abort());
    await form(page, "transcribe");
    await alert.waitFor(WAIT);
    await page.unroute(files);
    await alert.getByRole("button", { name: "Try again" }).click();
    await page.getByRole("button", { name: "Record audio" }).click();
    await page.locator(".record[data-record='recording']").waitFor(WAIT);
  }),
  "what reads aloud is out of reach: said once for all answers, asked for once, and there for all with one press": visit({ may: /ERR_|Failed to load/ }, async (page) => {
    await answered(page);
    await ask(page, "And what is a hash?");
    await page.locator(".bill [data-cost]").nth(1).waitFor(WAIT);
    await page.route("**/assets/ReadAloud*", (route) => route.abort());
    let indexes = 0;
    page.on("request", (request) => (indexes += new URL(request.url()).pathname === "/" && request.resourceType() === "fetch" ? 1 : 0));
    await page.reload();
    const alert = page.getByRole("alert").filter({ hasText: "The realm is away" });
    await alert.first().waitFor(WAIT);
    await page.waitForTimeout(500);
    need((await alert.count()) === 1 && indexes === 1, `said ${await alert.count()} times, the index was asked for ${indexes} times`);
    await page.unroute("**/assets/ReadAloud*");
    await alert.getByRole("button", { name: "Try again" }).click();
    await page.getByRole("button", { name: "Read aloud" }).nth(1).waitFor(WAIT);
    need((await alert.count()) === 0, "it is still said to be away");
  }),
  "a part of the page that does not run offers no press that cannot help": visit({ may: /broken/ }, async (page) => {
    await page.route("**/assets/Options*.js", (route) => route.fulfill({ contentType: "text/javascript", body: "throw new Error('broken')" }));
    await page.getByRole("button", { name: "Options" }).click();
    const alert = page.getByRole("alert").filter({ hasText: "Load the page again" });
    await alert.waitFor(WAIT);
    need((await alert.getByRole("button").count()) === 0, "it may be pressed");
  }),
  "Enter in the options asks nothing": visit({}, async (page, server) => {
    await box(page).fill("A draft");
    await page.getByRole("button", { name: "Options" }).click();
    for (const field of [page.getByLabel("Temperature"), page.getByLabel("Read every answer aloud")]) await field.press("Enter");
    await page.waitForTimeout(700);
    need(chats(server) === 0 && (await box(page).inputValue()) === "A draft", "the draft was asked");
  }),
  "the browser does not allow it: said, with what to do": visit({ args: ["--use-fake-device-for-media-stream"] }, async (page, server) => {
    await mic(page).click();
    const alert = page.getByRole("alert").filter({ hasText: "This page may not use the microphone." });
    await alert.waitFor(WAIT);
    need(/address bar/.test((await alert.textContent()) ?? ""), "it is not said what to do");
    await state(page, "trouble");
    await page.getByRole("button", { name: "Close", exact: true }).click();
    await state(page, "off");
    need(server.works.length === 0, "something was sent");
  }),
  "no microphone: said, with what to do": visit({ args: ["--use-fake-ui-for-media-stream", "--disable-audio-input"] }, async (page) => {
    await mic(page).click();
    await page.getByRole("alert").filter({ hasText: "There is no microphone. Plug one in" }).waitFor(WAIT);
  }),
  "a page that came unencrypted: said, with what to do": visit(
    { args: [...FAKE, "--host-resolver-rules=MAP realm.example 127.0.0.1"], address: (url) => url.replace("127.0.0.1", "realm.example") },
    async (page) => {
      await mic(page).click();
      await page.getByRole("alert").filter({ hasText: "Open this page by https" }).waitFor(WAIT);
    },
  ),
  "the device goes away while it listens: what was heard is written down, and it is said": visit({}, async (page, server) => {
    await mic(page).click();
    await page.getByText("Hearing you").waitFor(WAIT);
    await page.evaluate(() => {
      const [track] = Reflect.get(window, "seen").tracks;
      track.stop();
      track.dispatchEvent(new Event("ended"));
    });
    await page.getByRole("alert").filter({ hasText: "went away" }).waitFor(WAIT);
    await boxHas(page, WORDS);
    need(heard(server).length === 1, "what was heard is lost");
  }),
  "silence: said, nothing is sent": visit({ args: [...FAKE, NOTHING] }, async (page, server) => {
    await mic(page).click();
    await page.getByRole("alert").filter({ hasText: /No words were heard|no sound at all/ }).waitFor(WAIT);
    await isClosed(page);
    need(server.works.length === 0, "silence was sent");
  }),
  "what the realm refuses is told, and the same sound may be tried again": visit({ may: /status of 429/ }, async (page, server) => {
    await page.route("**/v1/intents", (route) => route.fulfill({ status: 429, json: { error: { code: "MT0018", message: "too many questions at once" } } }));
    await mic(page).click();
    await page.getByRole("alert").filter({ hasText: "was not written down. Too many questions at once." }).waitFor(WAIT);
    await isClosed(page);
    await page.unroute("**/v1/intents");
    await page.getByRole("button", { name: "Try again" }).click();
    await boxHas(page, WORDS);
    need(heard(server).length === 1, "it was not tried again");
  }),
  "read aloud: sentence by sentence, at most two ahead, and its cost stands below the answer": visit({}, async (page, server) => {
    await answered(page);
    need((await page.locator("[data-aloud-cost]").count()) === 0, "a cost is told before anything was read");
    need(/at most \d/.test((await page.locator(".aloud").textContent()) ?? ""), "no price is told before");
    await page.getByRole("button", { name: "Read aloud" }).click();
    await isLoud(page);
    const asked = server.works.map(({ data }) => data.input);
    need(asked.length <= 3 && /^A \*\*Merkle tree\*\*.*list\*\.$/.test(asked[0]), `asked: ${JSON.stringify(asked)}`);
    const { voice, speed, response_format: format, stream } = server.works[0].data;
    need(voice === undefined && speed === 1 && format === "pcm" && stream === true, `asked with ${JSON.stringify({ voice, speed, format, stream })}`);
    await page.locator("[data-aloud-cost]").waitFor(WAIT);
  }),
  "stopped it is silent at once, and what was asked is cancelled": visit({ pieceMs: 400 }, async (page, server) => {
    await page.evaluate(() => localStorage.setItem("mtor.voice", JSON.stringify({ voice: "bm_george", speed: 1.5 })));
    await page.reload();
    await ask(page, "fail");
    await page.locator("[data-problem]").first().waitFor(WAIT);
    // It is under way when it is stopped, on whatever machine.
    server.endless();
    await page.getByRole("button", { name: "Read aloud" }).click();
    await isLoud(page);
    const last = await page.evaluate(async () => {
      /** @type {HTMLButtonElement | null} */ (document.querySelector(".aloud button"))?.click();
      const at = performance.now();
      await new Promise((done) => setTimeout(done, 300));
      return Reflect.get(window, "seen").loudAt - at;
    });
    need(last < 30, `there was sound ${last} ms after it was stopped`);
    await isSilent(page);
    need(server.works[0].data.voice === "bm_george" && server.works[0].data.speed === 1.5, "not the chosen voice, or speed");
    const before = server.works.length;
    await page.waitForTimeout(500);
    need(server.works.length === before, "more was asked after it was stopped");
    for (const ends = Date.now() + WAIT.timeout; !server.calls.some((call) => call.startsWith("DELETE")) && Date.now() < ends; ) await page.waitForTimeout(20);
    need(server.calls.some((call) => call.startsWith("DELETE")), "nothing was cancelled");
    return `the last sound ${last.toFixed(1)} ms after the press`;
  }),
  "always: an answer is read while it is still being written": visit({ pieceMs: 120 }, async (page, server) => {
    await page.getByRole("button", { name: "Options" }).click();
    await page.getByLabel("Read every answer aloud").check();
    await ask(page, "What is a Merkle tree?");
    await isLoud(page);
    need((await page.locator(".entry[aria-busy='true']").count()) === 1, "it waited for the whole answer");
    await page.keyboard.press("Escape");
    await isSilent(page);
    need(server.works.every(({ intent }) => intent === "speak"), "something else was asked");
  }),
  "always, in two tabs: only the one that asked reads, and each sentence is paid once": visit({}, async (page, server) => {
    await page.evaluate(() => localStorage.setItem("mtor.voice", JSON.stringify({ readAlways: true })));
    await page.reload();
    await answered(page);
    await page.keyboard.press("Escape");
    const before = server.works.length;
    const other = await page.context().newPage();
    await other.goto(page.url());
    await other.locator(".entry [data-aloud]").first().waitFor(WAIT);
    await ask(page, "What is a Merkle tree?");
    await other.locator(".bill [data-cost]").nth(1).waitFor(WAIT);
    await other.locator(".entry [data-aloud]").nth(1).waitFor(WAIT);
    await page.waitForTimeout(1_000);
    const inputs = server.works.slice(before).map(({ data }) => data.input);
    need(inputs.length > 0 && new Set(inputs).size === inputs.length, `asked: ${JSON.stringify(inputs)}`);
    need((await other.locator("[data-aloud='reading']").count()) === 0, "the other tab reads");
  }),
  "what is read ends with its conversation, and where another account is chosen": visit({ pieceMs: 50 }, async (page, server) => {
    const { api_key } = await (await fetch(`${server.url}/v1/accounts/guest`, { method: "POST", headers: { "content-type": "application/json" }, body: "{}" })).json();
    for (const leave of ["account", "conversation"]) {
      await answered(page);
      await page.getByRole("button", { name: "Read aloud" }).first().click();
      await isLoud(page);
      if (leave === "conversation") await page.getByRole("button", { name: "New", exact: true }).click();
      else {
        await page.evaluate((key) => {
          localStorage.setItem("mtor.keys", JSON.stringify({ account: "another", api_key: key }));
          dispatchEvent(new StorageEvent("storage", { key: "mtor.keys" }));
        }, api_key);
      }
      await isSilent(page);
      const before = server.works.length;
      await page.waitForTimeout(500);
      need(server.works.length === before, `more was asked after the ${leave} was left`);
    }
  }),
  "the realm restarts while it reads: it says what is waited for, and then what to do": visit({ pieceMs: 400, may: /ERR_|Failed to load|status of 404/ }, async (page, server) => {
    await ask(page, "fail");
    await page.locator("[data-problem]").first().waitFor(WAIT);
    need(/only what is spoken is paid/.test((await page.locator(".aloud").textContent()) ?? ""), "it is not said why the price before is so high");
    await page.getByRole("button", { name: "Read aloud" }).click();
    await isLoud(page);
    server.cut(true);
    await page.getByText("The realm is away: reading waits for it.").waitFor(WAIT);
    await page.getByRole("button", { name: "Stop waiting" }).waitFor(WAIT);
    server.forget();
    server.voice(false);
    server.cut(false);
    await page.getByRole("alert").filter({ hasText: "The realm restarted while it read. Press Read aloud again." }).waitFor(WAIT);
    // The realm is back before what speaks: nothing of it goes from the page meanwhile.
    await page.getByText("What reads aloud is coming back.").waitFor(WAIT);
    await page.waitForTimeout(2_500);
    const waits = page.getByRole("button", { name: "Read aloud" });
    need((await waits.getAttribute("aria-disabled")) === "true", "a button that can do nothing yet does not say so");
    await waits.click({ force: true });
    need(await page.getByRole("button", { name: "Speak" }).isVisible(), "the microphone has gone");
    need((await page.getByRole("button", { name: "Stop waiting" }).count()) === 0, "it began to read without a price");
    const begun = Date.now();
    server.voice(true);
    await page.locator('.aloud button[aria-disabled="false"]').waitFor(WAIT);
    need(Date.now() - begun < 4_000, `what speaks was back, and the page saw it after ${Date.now() - begun} ms`);
    await page.getByRole("button", { name: "Read aloud" }).click();
    await isLoud(page);
  }),
  "a press makes sound ready where every answer is read aloud": visit({}, async (page) => {
    await page.evaluate(() => localStorage.setItem("mtor.voice", JSON.stringify({ readAlways: true })));
    await page.reload();
    await page.locator(".price span").first().waitFor(WAIT);
    await page.evaluate(() => {
      const resumed = /** @type {boolean[]} */ ([]);
      Object.assign(window, { resumed });
      const own = window.AudioContext;
      // As Safari has it: each begins suspended.
      window.AudioContext = class extends own {
        /** @override */
        get state() {
          return /** @type {AudioContextState} */ (resumed.length > 0 ? super.state : "suspended");
        }
        /** @override */
        resume() {
          resumed.push(navigator.userActivation.isActive);
          return super.resume();
        }
      };
    });
    await box(page).fill("What is a Merkle tree?");
    await page.getByRole("button", { name: "Ask", exact: true }).click();
    const resumed = await page.evaluate(() => Reflect.get(window, "resumed"));
    need(resumed.length > 0 && resumed[0] === true, `resumed: ${JSON.stringify(resumed)}`);
    await isLoud(page);
  }),
  "pressing the button to speak interrupts what is read": visit({}, async (page) => {
    await answered(page);
    await page.getByRole("button", { name: "Read aloud" }).click();
    await isLoud(page);
    await mic(page).click();
    await state(page, "listening");
    await page.locator("[data-aloud='silent']").waitFor(WAIT);
    await isSilent(page);
    await boxHas(page, WORDS);
  }),
  "speaking interrupts what is read, and asks the next question": visit({ args: [...FAKE, LATE] }, async (page, server) => {
    await page.evaluate(() => localStorage.setItem("mtor.voice", JSON.stringify({ interrupts: true, sendAtOnce: true })));
    await page.reload();
    await answered(page);
    await page.getByRole("button", { name: "Read aloud" }).click();
    await state(page, "listening");
    await isLoud(page);
    need((await page.locator("[data-aloud='reading']").count()) === 1, "it is silent before anybody spoke");
    await page.getByText("Hearing you").waitFor(WAIT);
    await page.locator("[data-aloud='silent']").first().waitFor(WAIT);
    await isSilent(page);
    await page.locator(".entry .question", { hasText: WORDS }).waitFor(WAIT);
    need(chats(server) === 2, `${chats(server)} questions were asked`);
  }),
  "a form: what is recorded can be heard before it is sent, and its words are the result": visit({}, async (page, server) => {
    await form(page, "transcribe");
    await page.getByRole("button", { name: "Record audio" }).click();
    await page.locator(".record[data-record='recording']").waitFor(WAIT);
    await page.waitForTimeout(3_500);
    await page.getByRole("button", { name: "Stop", exact: true }).click();
    await page.getByText(/recording, \d\.\d s, [\d,]+ bytes/).waitFor(WAIT);
    const seconds = await playable(page, ".work audio");
    need(seconds > 2.5 && seconds < 6, `the recording lasts ${seconds} s`);
    await isClosed(page);
    await runIt(page);
    await page.locator(".run").first().getByText(WORDS).first().waitFor(WAIT);
    const [sent] = heard(server);
    need(Buffer.from(sent.data.audio, "base64").subarray(0, 4).toString() === "RIFF", "what was sent is no WAV");
    // Given up, nothing is filled in.
    await page.getByRole("button", { name: "Take another" }).click();
    await page.getByRole("button", { name: "Record audio" }).click();
    await page.locator(".record[data-record='recording']").waitFor(WAIT);
    await page.locator(".record").getByRole("button", { name: "Cancel" }).click();
    await isClosed(page);
    need((await page.locator(".work audio").count()) === 0, "what was given up is filled in");
    return `${seconds.toFixed(1)} s`;
  }),
  "a form without a microphone says what to do, and takes a file": visit({ args: ["--use-fake-device-for-media-stream"] }, async (page) => {
    await form(page, "transcribe");
    await page.getByRole("button", { name: "Record audio" }).click();
    await page.getByRole("alert").filter({ hasText: "This page may not use the microphone." }).waitFor(WAIT);
    await page.getByLabel("audio from a file").setInputFiles({ name: "a.wav", mimeType: "audio/wav", buffer: readFileSync(SPOKEN.replace(/^.*?=|%noloop$/g, "")) });
    need((await playable(page, ".work audio")) > 2, "the file is not played");
  }),
  "a sound in a result is played, whole or in pieces, and can be saved": visit({}, async (page, server) => {
    await form(page, "speak");
    await page.getByLabel("input", { exact: true }).fill("One sentence. And another one.");
    for (const stream of [undefined, "Yes"]) {
      if (stream) await page.getByLabel("stream").selectOption(stream);
      await runIt(page);
      await page.waitForFunction((count) => document.querySelectorAll(".run audio").length === count, stream ? 2 : 1, WAIT);
      const seconds = await playable(page, ".run audio");
      need(seconds > 1 && seconds < 1.4, `the result lasts ${seconds} s`);
    }
    need(server.works[0].stream === false && server.works[1].data.stream === true, "the whole was not asked for");
    const [file] = await Promise.all([page.waitForEvent("download"), page.locator(".run").first().getByRole("button", { name: "Download" }).click()]);
    const saved = readFileSync(await file.path());
    need(file.suggestedFilename() === "speak.wav" && saved.readUInt32LE(40) === saved.length - 44, `saved: ${file.suggestedFilename()}, ${saved.length} bytes`);
  }),
  "where nobody hears or speaks there are no buttons": visit({}, async (page) => {
    const silent = (/** @type {any} */ { intent }) => !["speak", "transcribe"].includes(intent);
    await changingJson(page, "**/v1/pools", ({ items, next }) => ({ items: items.filter(silent), next }));
    await page.reload();
    await answered(page);
    need((await mic(page).count()) === 0 && (await page.getByText("Read aloud").count()) === 0, "there are buttons");
    await page.getByRole("button", { name: "Options" }).click();
    await page.getByText("Use from code").waitFor(WAIT);
    need((await page.locator(".voices").count()) === 0, "there are options");
  }),
};
/** What the page has played, one sentence after another, as 16 bit samples. */
function record() {
  const played = { samples: /** @type {number[]} */ ([]), rate: 0 };
  Object.assign(window, { played });
  const start = AudioBufferSourceNode.prototype.start;
  AudioBufferSourceNode.prototype.start = /** @type {any} */ (function (/** @type {number[]} */ ...when) {
    const { buffer } = /** @type {AudioBufferSourceNode} */ (/** @type {unknown} */ (this));
    for (const sample of buffer?.getChannelData(0) ?? []) played.samples.push(Math.round(sample * 32_767));
    played.rate = buffer?.sampleRate ?? 0;
    return Reflect.apply(start, this, when);
  });
}

/** The words of a sound, by the realm itself. @param {string} url @param {Buffer} sound */
async function understood(url, sound) {
  const guest = await fetch(`${url}/v1/accounts/guest`, { method: "POST", headers: { "content-type": "application/json" }, body: "{}" });
  const { api_key: key } = await guest.json();
  const body = new FormData();
  body.set("file", new Blob([Uint8Array.from(sound)]), "heard.wav");
  body.set("model", "auto");
  const answer = await fetch(`${url}/v1/audio/transcriptions`, { method: "POST", headers: { authorization: `Bearer ${key}` }, body });
  return String((await answer.json()).text);
}

const wordsOf = (/** @type {string} */ text) => new Set(text.toLowerCase().match(/[a-z]{4,}/g) ?? []);

/** @type {Parameters<typeof run>[1]} */
const REALM = {
  "a spoken question is answered aloud": async (browser, url) => {
    const file = await microphone(browser, [1, "capital", 6], join(folder, "capital.wav"));
    const own = await launch([...FAKE, `--use-file-for-fake-audio-capture=${file}%noloop`]);
    try {
      const page = await own.newPage();
      await page.addInitScript(record);
      await page.addInitScript(() => localStorage.setItem("mtor.voice", JSON.stringify({ sendAtOnce: true, readAlways: true })));
      await page.goto(url);
      await mic(page).waitFor(REAL);
      await page.getByRole("button", { name: "Options" }).click();
      await page.getByLabel("Temperature").fill("0");
      await page.getByLabel("Longest answer").selectOption("short");
      await mic(page).click();
      const question = page.locator(".entry .question").first();
      await question.waitFor(REAL);
      const asked = (await question.textContent()) ?? "";
      need(/capital/i.test(asked) && /france/i.test(asked), `what was asked: ${asked}`);
      await page.locator(".bill [data-cost]").first().waitFor(REAL);
      const answer = (await page.locator("[data-answer]").first().textContent()) ?? "";
      await page.locator("[data-aloud='silent']").first().waitFor(REAL);
      await page.locator("[data-aloud-cost]").first().waitFor(REAL);
      const { samples, rate } = await page.evaluate(() => Reflect.get(window, "played"));
      need(samples.length > rate, `${samples.length} samples were played`);
      const heard = await understood(url, wav(samples, rate));
      const [said, back] = [wordsOf(answer), wordsOf(heard)];
      const right = [...said].filter((word) => back.has(word)).length;
      need(/paris/i.test(answer) && /paris/i.test(heard), `answered "${answer}", heard "${heard}"`);
      need(right >= said.size / 2, `of "${answer}" was heard "${heard}"`);
      return `${asked} ${heard}`;
    } finally {
      await own.close();
    }
  },
};

const only = process.env["ONLY"];
const wanted = Object.entries(values.url ? REALM : cases).filter(([name]) => !only || new RegExp(only).test(name));
try {
  // Each case has a browser of its own and waits for what is said to be said.
  await run(values.url, Object.fromEntries(wanted), { atOnce: 3 });
} finally {
  rmSync(folder, { recursive: true });
}
