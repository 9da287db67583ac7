// "Use from code", run: every snippet that the page can show is made by the page's own code and given
// to a shell, Python, Node and `mtor`, with data that break what is quoted badly.
//
// Without `--url` against the stand-in. `--mtor BINARY` also runs those for `mtor`.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { runnerImport } from "vite";
import { standIn } from "../tests/stand-in.mjs";

const { values } = parseArgs({ options: { url: { type: "string" }, mtor: { type: "string" } } });
const source = join(dirname(fileURLToPath(import.meta.url)), "../src/lib/snippets.ts");
const { module: page } = await runnerImport(source, { configFile: false, logLevel: "error" });
const { snippetsOf } = /** @type {typeof import("../src/lib/snippets")} */ (page);

const HOSTILE = [
  "it's a \"test\" of $HOME, `id`, $(id), !! and !x, 100%, \\n and \\",
  "two\nlines\r\nand\ta tab, ünïcödé, 日本語, 😀, \u2028, \u0007 and '''triple''' \"\"\"quotes\"\"\"",
  "'; echo broken; '\\''{{}}${a}#{b}<b>&amp;",
];
/** Data of an intent: whatever JSON may be. @type {[string, unknown][]} */
const DATA = [
  ...HOSTILE.map((text, at) => /** @type {[string, unknown]} */ ([`text ${at + 1}`, { text }])),
  ["names", JSON.parse('{"__proto__":{"it\'s":true},"a b":null,"class":[false,-0.5,1e21,[],{}]}')],
  ["a number below zero", -5],
  ["a text that looks like a file", "@data.json"],
  ["nothing", null],
  ["long data", { text: "long “text” it's ".repeat(12_000) }],
];

const own = values.url ? undefined : await standIn({ pieceMs: 0 });
const base = values.url ?? own?.url ?? "";
const api = (/** @type {string} */ path) => new URL(path, base).href;
const { api_key } = await (await fetch(api("v1/accounts/guest"), { method: "POST", body: "{}", headers: { "content-type": "application/json" } })).json();
const place = await mkdtemp(join(tmpdir(), "snippets-"));
const AT_ONCE = 2;
let passed = 0;
let failed = 0;

/** @param {import("../src/lib/snippets").Snippet} snippet @returns {Promise<string>} */
async function run(snippet) {
  const folder = await mkdtemp(join(place, "one-"));
  await writeFile(join(folder, snippet.file), snippet.code);
  if (snippet.beside) await writeFile(join(folder, snippet.beside.name), snippet.beside.text);
  const [program, ...args] = { curl: ["bash"], mtor: ["bash"], Python: ["python3", snippet.file], JavaScript: ["node", snippet.file] }[snippet.language];
  const binary = values.mtor ? dirname(resolve(values.mtor)) : "";
  const env = { ...process.env, PATH: `${binary}:${process.env["PATH"]}`, MTOR_API_KEY: api_key, HOME: folder, LC_ALL: "C.UTF-8" };
  const child = spawn(program ?? "", args, { cwd: folder, env, stdio: ["pipe", "pipe", "pipe"] });
  // As it is typed: with `!` for what was typed before.
  // One answer of `mtor` for people holds the result and a line on its cost; a program asks for JSON.
  const more = snippet.language === "mtor" ? " --json" : "";
  child.stdin.end(program === "bash" ? `set -o history -o histexpand\n${snippet.code}${more}\n` : "");
  let [out, err] = ["", ""];
  child.stdout.setEncoding("utf8").on("data", (text) => (out += text));
  child.stderr.setEncoding("utf8").on("data", (text) => (err += text));
  const code = await new Promise((done) => child.on("close", done));
  assert.equal(code, 0, `${snippet.language} ended with ${code}: ${err.slice(0, 800)}${out.slice(0, 400)}\n${snippet.code.slice(0, 800)}`);
  return out;
}

/** What came back at the end. @param {string} language @param {string} out */
function resultOf(language, out) {
  const json = (/** @type {string} */ line) => JSON.parse(line);
  if (language === "mtor") return out.trim().split("\n").map(json).find(({ event }) => event === "completed")?.result;
  if (language === "curl") {
    const data = (/** @type {string} */ event) => event.split("\n").filter((line) => line.startsWith("data: "));
    const events = out.split("\n\n").map((event) => data(event).map((line) => line.slice(6)).join("\n")).filter(Boolean).map(json);
    return events.find(({ type }) => type === "mtor.intent.completed.v1")?.data.result;
  }
  const line = out.split("\n").find((one) => one.startsWith("completed "));
  return line && JSON.parse(line.slice("completed ".length)).result;
}

/** @type {[string, () => Promise<void>][]} */
const checks = [];

/** Programs that start, each in a folder of its own: as many at once as there are cores to start them. */
async function lane() {
  for (let next = checks.shift(); next; next = checks.shift()) {
    const [name, test] = next;
    try {
      await test();
      passed += 1;
    } catch (error) {
      console.error(`${name}: ${String(error instanceof Error ? error.message : error).slice(0, 2_000)}`);
      failed += 1;
      process.exitCode = 1;
    }
  }
}

const languages = (/** @type {{language: string}} */ { language }) => language !== "mtor" || values.mtor !== undefined;
try {
  const intent = own ? "play" : "echo";
  for (const [name, data] of DATA) {
    for (const snippet of snippetsOf({ kind: "intent", intent, data }, base).filter(languages)) {
      assert.ok(!snippet.code.includes(api_key));
      const test = async () => {
        const result = resultOf(snippet.language, await run(snippet));
        assert.deepEqual(own ? result?.received : result, data);
      };
      checks.push([`${snippet.language}, ${name}`, test]);
    }
  }
  // The stand-in lists models without saying which is the default; a realm's first may be no chat model.
  const listed = await (await fetch(api("v1/models"))).json().catch(() => ({}));
  const model = listed.default?.chat ?? (own ? (listed.data?.[0]?.id ?? "model") : undefined);
  if (!model) console.error("no chat model here: the snippets for chat are run against the stand-in only");
  for (const content of model ? HOSTILE : []) {
    for (const stream of [true, false]) {
      const body = { model, messages: [{ role: "user", content }], max_tokens: 8, stream };
      for (const snippet of snippetsOf({ kind: "chat", body }, base).filter(languages)) {
        if (snippet.language === "mtor" && own) continue;
        const test = async () => {
          const out = await run(snippet);
          if (own && snippet.language !== "curl") assert.equal(out.replace(/\n$/, ""), content);
          else assert.ok(out.trim().length > 0);
        };
        checks.push([`${snippet.language}, chat${stream ? ", streamed" : ""}`, test]);
      }
    }
  }
  await Promise.all(Array.from({ length: AT_ONCE }, lane));
} finally {
  await rm(place, { recursive: true, force: true });
  await own?.close();
}
console.log(`${passed} passed, ${failed} failed`);
