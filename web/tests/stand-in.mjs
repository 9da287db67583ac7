// A TEST TOOL, not a realm: it speaks just enough of the public API for the page's tests, answers
// from a script, and keeps no ledger. Words in a question choose what happens:
// "fail", "refuse", "drop" (breaks the connection midway), "gone" (so, and its events are not kept),
// "vanish" (so, and nothing is known of it), "restart", "slow", "expire", "dear" (its price rises),
// "torrent" (a thousand words, 200 of them a second).
// Scenarios for the whole server: ok, nomodels, onemodel, arriving, noguest, broken (own manifests), strangers (whose
// workers alone are there).

import { createHash } from "node:crypto";
import { createServer } from "node:http";
import { readFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { faultOf, MANIFESTS, played, POOLS, PROBLEMS, strange, STRANGER } from "./works.mjs";

const ERRORS = join(dirname(fileURLToPath(import.meta.url)), "../../docs/errors/");
const DIST = join(dirname(fileURLToPath(import.meta.url)), "../dist/");
const KINDS = { html: "text/html; charset=utf-8", js: "text/javascript", mjs: "text/javascript", css: "text/css", svg: "image/svg+xml", wasm: "application/wasm" };
/** As a realm sends it (`crates/server/src/http/page.rs`). */
const POLICY = "default-src 'self'; style-src 'self' HASH; connect-src 'self'; img-src 'self' blob:; media-src 'self' blob:; base-uri 'none'; " +
  "form-action 'none'; frame-ancestors 'none'; object-src 'none'; require-trusted-types-for 'script'; trusted-types svelte-trusted-html mtor-worker";
const SCRIPTS = "; script-src 'self' 'wasm-unsafe-eval'";
/** What hears speech, as `mtor models` keeps it. */
const EAR = "moonshine-tiny-en";
const VOICE = ["speak", "transcribe"];
const ACCOUNT = "7Np41oeYqPefeNQEHSv1UDhYrehxin3NStELsSKCT4K2";
const MODELS = ["smollm2-135m-instruct", "qwen2.5-0.5b-instruct"];

export const GOOD = "qwen2.5-coder-1.5b-instruct";
export const SMALL = "qwen2.5-coder-0.5b-instruct";
/** @type {Record<string, any>} */
const ABOUT = {
  "smollm2-135m-instruct": { title: "SmolLM2 135M Instruct", bytes: 97_000_000, maker: "Hugging Face", licence: "Apache-2.0" },
  "qwen2.5-0.5b-instruct": { title: "Qwen2.5 0.5B Instruct", bytes: 398_000_000, maker: "Alibaba Cloud (Qwen)", licence: "Apache-2.0" },
  [SMALL]: { title: "Qwen2.5-Coder 0.5B Instruct", bytes: 491_400_064, maker: "Alibaba Cloud (Qwen)", licence: "Apache-2.0", note: "a small coding model, weak on facts" },
  [GOOD]: { title: "Qwen2.5-Coder 1.5B Instruct", bytes: 1_117_320_768, maker: "Alibaba Cloud (Qwen)", licence: "Apache-2.0", note: "a coding model" },
};
/** A row of `arriving`. @param {string} id @param {object} [more] */
export function coming(id, more = {}) {
  return { id, intent: "chat", about: ABOUT[id], state: "waiting", received: 0, bytes: ABOUT[id].bytes, rate: 0, left_ms: null, ...more };
}

/** How often a model that is on its way is asked about before it is here. */
const COMING_TIMES = 4;

const TEXT = `A **Merkle tree** lets you check one entry of a big list *without holding the list*.

Every leaf is hashed, neighbours are hashed together, and so on up to one **root**:

| you have | you can prove |
|---|---|
| the root and a path of \`log2(n)\` hashes | that an entry is in the list |
| two roots and a short path | that nothing was taken out |

\`\`\`python
def parent(left: bytes, right: bytes) -> bytes:
    return sha256(b"\\x01" + left + right).digest()
\`\`\`

1. Anyone may keep the root.
2. The list may live anywhere.
3. A forged entry changes the root, so it is noticed.

<img src=x onerror=alert(1)> stays text, and so does [this](javascript:alert(1)). See the [transparency log design](https://c2sp.org/tlog-tiles).`;

/** What a realm says of them. @param {string} folder */
async function weightsIn(folder) {
  return Promise.all(
    ["encoder.ort", "decoder.ort", "tokenizer.bin"].map(async (name) => {
      const bytes = await readFile(join(folder, `${EAR}.${name}`));
      return { name, bytes: bytes.length, sha256: createHash("sha256").update(bytes).digest("hex") };
    }),
  );
}

/** Of the style that stands in the index itself. */
async function styleHash() {
  const [, style = ""] = /<style>([^]*?)<\/style>/.exec(await readFile(`${DIST}index.html`, "utf8")) ?? [];
  return `'sha256-${createHash("sha256").update(style).digest("base64")}'`;
}

/**
 * @param {{scenario?: string, pieceMs?: number, port?: number, answer?: () => string, context?: number, weights?: string, words?: string}} [options]
 * `context` of its models, in tokens; `weights`: the folder of what pages may fetch; `words` are what it hears
 */
export async function standIn(options = {}) {
  const scenario = options.scenario ?? "ok";
  const pieceMs = options.pieceMs ?? 40;
  let endless = false;
  const { context, words = "What is a Merkle tree, please?" } = options;
  /** @type {Map<string, any>} */
  const intents = new Map();
  /** @type {string[]} */
  const calls = [];
  /** Bodies of work that is no chat. @type {any[]} */
  const works = [];
  let spent = 0n;
  let accounts = 0;
  /** Keys that are good here. @type {Map<string, string>} */
  const keys = new Map();
  let down = false;
  /** Its programs of the voice have begun. */
  let voiced = true;

  /** @param {import("node:http").ServerResponse} response @param {number} status @param {unknown} body */
  const json = (response, status, body) => {
    response.writeHead(status, { "content-type": "application/json" });
    response.end(JSON.stringify(body));
  };
  /** @param {import("node:http").ServerResponse} response @param {number} status @param {string} code @param {string} message @param {object} [more] */
  const refuse = (response, status, code, message, more = {}) =>
    json(response, status, { error: { code, type: "refused", message, docs: `/errors/${code}`, ...more } });

  const whose = scenario === "strangers" ? { owner: STRANGER, standing: "probation" } : { owner: ACCOUNT, standing: "own" };
  let toldTimes = 0;
  /** For the first times that it is asked, where a model is on its way. */
  const isComing = () => scenario === "arriving" && toldTimes < COMING_TIMES;
  /** Said by a test. @type {{serving: string[], arriving: object[], preferred: string | undefined} | undefined} */
  let said;
  const told = () => {
    toldTimes += 1;
    if (said) {
      const data = said.serving.map((id) => ({ id, object: "model", created: 0, owned_by: "stand-in", about: ABOUT[id] }));
      return { object: "list", data, default: data[0] ? { chat: data[0].id } : {}, arriving: said.arriving,
        ...(said.preferred && { preferred: { chat: said.preferred } }) };
    }
    const list = { object: "list", data: MODELS.map((id) => ({ id, object: "model", created: 0, owned_by: "stand-in", about: ABOUT[id] })) };
    if (scenario === "nomodels" || scenario === "strangers") return { ...list, data: [], default: {}, arriving: [] };
    const received = Math.round((ABOUT[GOOD].bytes * toldTimes) / COMING_TIMES);
    const one = { id: GOOD, intent: "chat", about: ABOUT[GOOD], state: "fetching", received, bytes: ABOUT[GOOD].bytes, rate: 11_400_000, left_ms: 74_000 };
    const broken = { ...one, id: "other", about: ABOUT[MODELS[0] ?? ""], state: "failed", problem: "its source does not answer: set MTOR_MODEL_SOURCE to a folder that holds the file" };
    return isComing() ? { ...list, data: [], default: {}, arriving: [one, broken] } : { ...list, default: { chat: MODELS[0] }, arriving: [] };
  };

  const server = createServer(async (request, response) => {
    const path = new URL(request.url ?? "/", "http://stand-in").pathname;
    if (down) return request.destroy();
    calls.push(`${request.method} ${path}`);
    response.setHeader("content-security-policy", POLICY.replace(" HASH", ""));
    const name = path === "/" ? "index.html" : /^\/(assets\/[\w.-]+)$/.exec(path)?.[1];
    if (name) {
      const kind = /** @type {keyof KINDS} */ (name.split(".").at(-1));
      const br = /\bbr\b/.test(request.headers["accept-encoding"] ?? "") && (await readFile(`${DIST}${name}.br`).catch(() => null));
      const bytes = br || (await readFile(DIST + name).catch(() => null));
      if (!bytes) return refuse(response, 404, "MT0010", "run `npm run build` first");
      response.setHeader("content-type", KINDS[kind]);
      if (name === "index.html") response.setHeader("content-security-policy", POLICY.replace("HASH", await styleHash()));
      if (kind === "js" || kind === "mjs") response.setHeader("content-security-policy", POLICY.replace(" HASH", "") + SCRIPTS);
      response.setHeader("cache-control", name === "index.html" ? "no-cache" : "max-age=31536000, immutable");
      if (br) response.setHeader("content-encoding", "br");
      return response.end(bytes);
    }
    const error = /^\/errors\/(MT\d{4})$/.exec(path)?.[1];
    if (error) {
      response.setHeader("content-type", "text/markdown; charset=utf-8");
      return response.end(await readFile(`${ERRORS}${error}.md`));
    }
    let text = "";
    request.setEncoding("utf8");
    for await (const part of request) text += part;
    const body = text ? JSON.parse(text) : {};
    const bearer = request.headers.authorization?.replace("Bearer ", "");
    const account = keys.get(bearer ?? "");
    const unknown = () => refuse(response, 401, "MT0008", "send `Authorization: Bearer <api key>` with a valid key");
    // A key that is sent must be good, also where none is needed.
    if (bearer !== undefined && !account) return unknown();
    if (path === "/v1/pools") {
      const models = said ? said.serving : scenario === "nomodels" || isComing() ? [] : scenario === "onemodel" ? MODELS.slice(0, 1) : MODELS;
      const items = models.map((model, at) => ({ intent: "chat", model, standing: "own", slots: 4 - at, busy: at, depth: at * 3,
        price: { amount: String(100 * (1 + at * 4)), per: 1_000_000, unit: "token" }, eta_ms: at * 900,
        ...(context && { context }) }));
      const all = [...items, ...POOLS.filter(({ intent }) => voiced || !VOICE.includes(intent))];
      return json(response, 200, { items: scenario === "strangers" ? all.map(strange) : all, next: null });
    }
    if (path === "/v1/manifests") return json(response, 200, { items: MANIFESTS, next: null, ...(scenario === "broken" && { problems: PROBLEMS }) });
    if (path === "/v1/models") {
      const list = told();
      return json(response, 200, options.weights ? { ...list, data: [...list.data, { id: EAR, object: "model", files: await weightsIn(options.weights) }] } : list);
    }
    const weight = options.weights && new RegExp(`^/v1/models/${EAR}/files/(encoder\\.ort|decoder\\.ort|tokenizer\\.bin)$`).exec(path)?.[1];
    if (options.weights && weight) return response.end(await readFile(join(options.weights, `${EAR}.${weight}`)));
    if (path === "/v1/accounts/guest") {
      if (scenario === "noguest") return refuse(response, 429, "MT0019", "too many guest accounts from this network", { retry_after_ms: 9_000 });
      accounts += 1;
      const opened = accounts === 1 ? ACCOUNT : `${accounts}${ACCOUNT.slice(1)}`;
      const api_key = `mtor_guest_${accounts}`;
      keys.set(api_key, opened);
      return json(response, 201, { account: opened, api_key, secret_key: "5JpQs", balance: "250000" });
    }
    if (!account) return unknown();
    if (path === "/v1/account") {
      const balance = String(250_000n - spent);
      return json(response, 200, { account, assets: [{ asset: "grant", decimals: 6, balance, held: "0" }, { asset: "9000", decimals: 6, balance: "0", held: "0" }] });
    }
    if (path === "/v1/chat/completions") {
      // Says what was asked, in two pieces or in one.
      const said = String(body.messages.at(-1)?.content ?? "");
      if (!body.stream) return json(response, 200, { choices: [{ index: 0, message: { role: "assistant", content: said }, finish_reason: "stop" }] });
      response.writeHead(200, { "content-type": "text/event-stream" });
      const points = [...said];
      const middle = points.length >> 1;
      for (const content of [points.slice(0, middle).join(""), points.slice(middle).join("")]) response.write(`data: ${JSON.stringify({ choices: [{ index: 0, delta: { content } }] })}\n\n`);
      return response.end("data: [DONE]\n\n");
    }
    const fault = body.intent && faultOf(body.intent, body.data);
    if (fault) return refuse(response, 400, "MT0002", fault.message, { field: fault.field });
    const work = body.intent && body.intent !== "chat";
    const named = String(body.data?.model ?? "").includes("@");
    if (scenario === "strangers" && body.intent && !named && body.trust !== "any") {
      return refuse(response, 503, "MT0042", "only workers that are not yet proven offer this: say `trust`: `any` to be served by anybody's", { field: "trust" });
    }
    if (path === "/v1/quote" && work) {
      return json(response, 200, { intent: body.intent, model: null, asset: "grant", price: { amount: "40", per: 1, unit: "intent" }, units: 1, ceiling: "40", may_be_cut: false, eta_ms: 0 });
    }
    if (path === "/v1/quote") {
      const bytes = JSON.stringify(body.data.messages).length;
      const ceiling = String(Math.ceil((bytes + body.data.max_tokens) / 4));
      return json(response, 200, { intent: "chat", model: body.data.model, asset: "grant", price: { amount: "100", per: 1_000_000, unit: "token" }, units: 900, ceiling, eta_ms: 0 });
    }
    if (path === "/v1/intents" && request.method === "POST") {
      const asked = work ? "" : String(body.data.messages.at(-1)?.content ?? "");
      if (/dear/i.test(asked)) return refuse(response, 402, "MT0013", "the ceiling is below the price: the work costs up to 999 base units", { field: "ceiling" });
      if (/refuse/i.test(asked)) return refuse(response, 429, "MT0018", "too many questions at once", { retry_after_ms: 4_000 });
      const once = String(request.headers["idempotency-key"] ?? "");
      const known = [...intents.values()].find((other) => other.once === once && once);
      if (known && known.body !== text) return refuse(response, 409, "MT0011", "this idempotency key was used with another body; use a new key or the same body");
      const id = `0198a7c2-${intents.size}`;
      const intent = known ?? (work ? play(body, id, once) : script(asked, id, once));
      intent.body = text;
      intents.set(intent.id, intent);
      return stream(response, intent, -1);
    }
    const found = /^\/v1\/intents\/([^/]+)(\/events)?$/.exec(path);
    const intent = found && intents.get(found[1] ?? "");
    const hidden = intent?.dropped && /vanish/i.test(intent.asked);
    if (!intent || hidden) return refuse(response, 404, "MT0010", "there is no intent of that id, or it is not yours");
    if (request.method === "DELETE") {
      intent.cancelled = true;
      return json(response, 202, {});
    }
    const end = intent.events.at(-2);
    const status = end.type.split(".")[2];
    if (!found?.[2]) return json(response, 200, { ...end.data, status, hold: { asset: "grant", amount: "180" } });
    if (/gone/i.test(intent.asked)) return refuse(response, 410, "MT0034", "the events asked for are no longer kept; read the state with GET /v1/intents/{id}");
    const last = String(request.headers["last-event-id"] ?? "none");
    return stream(response, intent, intent.events.findIndex((/** @type {any} */ event) => event.id === last));
  });

  /** @param {string} asked @param {string} id @param {string} once */
  function script(asked, id, once) {
    /** @type {{id: string, type: string, data: any}[]} */
    const events = [];
    let attempt = 0;
    let seq = 0;
    /** @param {string} type @param {object} data */
    const add = (type, data) => {
      // Only pieces have an id of the stream: behind it goes on who comes back.
      const piece = type === "chunk" ? `${attempt}.${seq}` : "";
      if (piece) seq += 1;
      events.push({ id: piece, type: `mtor.intent.${type}.v1`, data: { intent: id, ...data } });
    };
    const hold = { asset: "grant", amount: "180" };
    add("accepted", { hold, durable: false });
    add("queued", { position: 2, eta_ms: 1_200 });
    /** @param {string} text @param {string} worker @param {number | ""} [chars] */
    const run = (text, worker, chars) => {
      attempt += 1;
      seq = 0;
      add("started", { attempt, worker: { id: `w-${worker}`, name: worker, ...whose }, realm: "home" });
      const pieces = chars ? Array.from({ length: 40 }, (_, at) => text.slice(at * chars, (at + 1) * chars)) : (text.match(/\s*\S+/g) ?? []);
      for (const piece of pieces) {
        add("chunk", { attempt, seq, piece: { object: "chat.completion.chunk", choices: [{ index: 0, delta: { content: piece }, finish_reason: null }] } });
      }
    };
    if (/restart/i.test(asked)) {
      run("This attempt is thrown away", "merlin");
      add("restarted", { attempt });
    }
    const fails = /fail/i.test(asked);
    const torrent = /torrent/i.test(asked);
    const given = options.answer?.();
    run(given ?? (fails ? TEXT.slice(0, 150) : torrent ? Array(10).fill(TEXT).join("\n\n") : TEXT), "kestrel", given && Math.ceil(given.length / 40));
    if (fails) add("failed", { code: "MT0025", reason: "the worker was lost or could not do it; nothing was charged", refunded: hold });
    else if (/expire/i.test(asked)) add("expired", { usage: { units: 40 }, cost: { asset: "grant", amount: "4" }, refunded: { asset: "grant", amount: "176" } });
    else add("completed", { reason: "done", result: null, usage: { units: 231, input: 34, output: 197 }, cost: { asset: "grant", amount: "42" } });
    add("settled", { receipt: { intent: id, amount: "42", signature: "…" } });
    const dropped = !/drop|gone|vanish/i.test(asked);
    return { id, once, asked, events, cancelled: false, dropped, pieceMs: torrent ? 5 : /slow/i.test(asked) ? 200 : pieceMs };
  }

  /** Any other work. @param {any} body @param {string} id @param {string} once */
  function play(body, id, once) {
    /** @type {{id: string, type: string, data: any}[]} */
    const events = [];
    /** @param {string} type @param {object} data @param {string} [mark] */
    const add = (type, data, mark = "") => events.push({ id: mark, type: `mtor.intent.${type}.v1`, data: { intent: id, ...data } });
    const { pieces = [], result, fails, slow } = played(body.intent, body.data, words, body.stream !== false);
    works.push(body);
    const money = (/** @type {string} */ amount) => ({ asset: "grant", amount });
    add("accepted", { hold: money(body.ceiling ?? "40") });
    add("queued", { position: 0, eta_ms: 0 });
    add("started", { attempt: 1, worker: { id: "w-merlin", name: "merlin", ...whose }, realm: "home" });
    pieces.forEach((piece, seq) => add("chunk", { attempt: 1, seq, piece }, `1.${seq}`));
    if (fails) add("failed", { code: "MT0025", reason: "the worker was lost or could not do it; nothing was charged", refunded: money("40") });
    else add("completed", { reason: "done", result, usage: { units: 1, input: 0, output: 0 }, cost: money("37"), refunded: money("3") });
    add("settled", { receipt: { intent: id, amount: "37", signature: "…" } });
    return { id, once, asked: "", events, cancelled: false, dropped: true, pieceMs: slow ? 120 : pieceMs, durable: body.durable === true };
  }

  /** @param {import("node:http").ServerResponse} response @param {any} intent @param {number} after */
  async function stream(response, intent, after) {
    response.writeHead(200, { "content-type": "text/event-stream", "cache-control": "no-store" });
    response.write(": ping\n\n");
    const began = performance.now();
    for (let at = after + 1; at < intent.events.length; at += 1) {
      let event = intent.events[at];
      const waits = () => endless && event.type.includes("completed") && !intent.cancelled && !response.destroyed;
      while (waits()) await new Promise((done) => setTimeout(done, 10));
      if (intent.cancelled && /chunk|completed/.test(event.type)) {
        const rest = { usage: { units: 50 }, cost: { asset: "grant", amount: "9" }, refunded: { asset: "grant", amount: "171" } };
        event = { id: "", type: "mtor.intent.cancelled.v1", data: { intent: intent.id, ...rest } };
        at = intent.events.length - 2;
      }
      if (event.data.cost) spent += BigInt(event.data.cost.amount);
      const cloud = { specversion: "1.0", id: `${intent.id}/${at}`, source: "mtor://stand-in", type: event.type, data: event.data };
      const mark = event.id ? `id: ${event.id}\n` : "";
      response.write(`${mark}event: ${event.type}\ndata: ${JSON.stringify(cloud)}\n\n`);
      if (!intent.dropped && at === 12) {
        intent.dropped = true;
        // What was written before the cut has left, also on a machine that does more than this.
        await new Promise((done) => response.write(": cut\n\n", () => done(undefined)));
        return response.destroy();
      }
      // By the clock: a timer of 5 ms that is always a little late would not give 200 pieces a second.
      const due = began + (at - after) * intent.pieceMs - performance.now();
      if (due > 0 || intent.pieceMs === 0) await new Promise((done) => setTimeout(done, due));
    }
    return response.end();
  }

  await new Promise((done) => server.listen(options.port ?? 0, "127.0.0.1", () => done(undefined)));
  const address = /** @type {import("node:net").AddressInfo} */ (server.address());
  return {
    url: `http://127.0.0.1:${address.port}/`,
    calls,
    works,
    /** How many there were; a repeat under the same key is none. */
    intents: () => intents.size,
    /** What models it has, the default first, and which are on their way. @param {string[]} serving @param {object[]} arriving @param {string} [preferred] */
    tell: (serving, arriving, preferred = GOOD) => void (said = { serving, arriving, preferred }),
    /** Nothing is done any more before it is cancelled. */
    endless: () => (endless = true),
    /** No key that was given out so far is good any more. */
    revoke: () => keys.clear(),
    /** It was started anew: what was asked before is known no more. */
    forget: () => intents.clear(),
    /** What speaks and hears is there, or not yet. @param {boolean} there */
    voice: (there) => (voiced = there),
    /** The network is cut, or whole again. @param {boolean} cut */
    cut: (cut) => {
      down = cut;
      if (cut) server.closeAllConnections();
    },
    close: () => {
      server.closeAllConnections();
      return new Promise((done) => server.close(done));
    },
  };
}

if (process.argv[1] && import.meta.url === pathToFileURL(process.argv[1]).href) {
  const [scenario = "ok", port = "7461"] = process.argv.slice(2);
  console.log((await standIn({ scenario, port: Number(port) })).url);
}
