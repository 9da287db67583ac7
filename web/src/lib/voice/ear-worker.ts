// The worker in which the device hears: brings the weights, runs Moonshine on onnxruntime's WebAssembly
// (one thread: more would need headers that keep every other page's window out), one utterance at a time.

import * as ort from "onnxruntime-web/wasm";
// Its package does not name these files, so they are named by their place: vite gives them a hash and an
// address. The one is fetched by the other, which is imported when the first model is made.
import mjs from "../../../node_modules/onnxruntime-web/dist/ort-wasm-simd-threaded.mjs?url";
import wasm from "../../../node_modules/onnxruntime-web/dist/ort-wasm-simd-threaded.wasm?url";
import { EarCore, TooSlow } from "./ear-core";
import type { EarProblem, FromEar, ToEar } from "./ear-words";
import { Moonshine } from "./moonshine";
import { bring, shelfOf, WeightError } from "./weights";

ort.env.wasm.numThreads = 1;
ort.env.wasm.wasmPaths = { wasm, mjs };
ort.env.logLevel = "error";

let core: EarCore | undefined;
/** One after another. */
let line: Promise<void> = Promise.resolve();

const say = (words: FromEar) => postMessage(words);

addEventListener("message", ({ data }: MessageEvent<ToEar>) => {
  line = line.then(() => (data.kind === "load" ? load(data) : hear(data)));
});

async function load({ base, model, files }: ToEar & { kind: "load" }): Promise<void> {
  try {
    const onProgress = (received: number, bytes: number) => say({ kind: "progress", received, bytes });
    const found = await bring({ base, model, files, shelf: shelfOf(base), onProgress });
    say({ kind: "starting" });
    const of = (name: string) => found.get(name) ?? new Uint8Array(0);
    const weights = { encoder: of("encoder.ort"), decoder: of("decoder.ort"), tokens: of("tokenizer.bin") };
    const fresh = new EarCore(await Moonshine.load(ort, weights), () => performance.now());
    const factor = await fresh.measure();
    core = fresh;
    say({ kind: "ready", factor });
  } catch (cause) {
    fail(cause);
  }
}

async function hear({ id, samples }: ToEar & { kind: "hear" }): Promise<void> {
  try {
    if (!core) throw new Error("it is not loaded");
    say({ kind: "heard", id, text: await core.hear(samples) });
  } catch (cause) {
    if (cause instanceof TooSlow) fail(cause);
    else say({ kind: "unheard", id, message: wordsOf(cause) });
  }
}

function fail(cause: unknown): void {
  core = undefined;
  const problem: EarProblem =
    cause instanceof TooSlow ? "slow" : cause instanceof WeightError ? cause.problem : cause instanceof WebAssembly.CompileError ? "unsupported" : "failed";
  say({ kind: "failed", problem, message: wordsOf(cause) });
}

function wordsOf(cause: unknown): string {
  return cause instanceof Error ? cause.message : String(cause);
}
