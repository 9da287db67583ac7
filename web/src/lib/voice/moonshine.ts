// Moonshine tiny-en on this device: from the samples of one utterance to its text, as
// `crates/models/src/transcribe/moonshine.rs` does it on a worker.
//
// An encoder reads the whole utterance; a decoder then gives one token a step, greedily. Its first step
// makes the keys of the encoder's output, which all later steps take again, and keys of its own, which
// grow by one a step. Knows no page, no worker and no network.

import type { InferenceSession, Tensor, TypedTensor } from "onnxruntime-web/wasm";

export const RATE = 16_000;
const BEGIN = 1;
const END = 2;
const LAYERS = 6;
const HEADS = 8;
const HEAD_SIZE = 36;
/** Nobody speaks faster; a decoder that repeats itself is cut there. */
const TOKENS_A_SECOND = 6.5;
/** The encoder's first filter is this long; less is no sound to it. */
const SAMPLES_MIN = 1_024;
/** What one utterance may have; the detector cuts earlier. */
const SAMPLES_MAX = 30 * RATE;
const VOCABULARY = 32_768;

/** The part of onnxruntime that is needed. */
export interface Runtime {
  InferenceSession: { create(model: Uint8Array, options?: InferenceSession.SessionOptions): Promise<InferenceSession> };
  Tensor: {
    new (type: "float32", data: Float32Array, dims: readonly number[]): TypedTensor<"float32">;
    new (type: "int64", data: BigInt64Array, dims: readonly number[]): TypedTensor<"int64">;
    new (type: "bool", data: Uint8Array, dims: readonly number[]): TypedTensor<"bool">;
  };
}

export interface Files {
  encoder: Uint8Array;
  decoder: Uint8Array;
  tokens: Uint8Array;
}

/** It took longer than it may. */
export class TooLong extends Error {}

type Keys = Map<string, Tensor>;

function names(of: "decoder" | "encoder"): string[] {
  return Array.from({ length: LAYERS }, (_, layer) => [`${layer}.${of}.key`, `${layer}.${of}.value`]).flat();
}

const OWN = names("decoder");
const THEIRS = names("encoder");

/** The most tokens that so many samples may give. */
export function tokensMax(samples: number): number {
  return Math.ceil((samples / RATE) * TOKENS_A_SECOND) + 2;
}

export class Moonshine {
  #ort: Runtime;
  #encoder: InferenceSession;
  #decoder: InferenceSession;
  #tokens: Tokens;

  private constructor(ort: Runtime, encoder: InferenceSession, decoder: InferenceSession, tokens: Tokens) {
    this.#ort = ort;
    this.#encoder = encoder;
    this.#decoder = decoder;
    this.#tokens = tokens;
  }

  static async load(ort: Runtime, files: Files): Promise<Moonshine> {
    const tokens = Tokens.read(files.tokens);
    const session = (model: Uint8Array) => ort.InferenceSession.create(model, { executionProviders: ["wasm"] });
    return new Moonshine(ort, await session(files.encoder), await session(files.decoder), tokens);
  }

  /**
   * The text of one utterance, without spaces around it. `late` is asked before each step, and ends it
   * with `TooLong`. With `steps` the decoder goes on for so many, whatever it says: for measuring.
   */
  async hear(given: Float32Array, late: () => boolean = () => false, steps?: number): Promise<string> {
    const samples = new Float32Array(Math.min(Math.max(given.length, SAMPLES_MIN), SAMPLES_MAX));
    samples.set(given.subarray(0, SAMPLES_MAX));
    const { Tensor } = this.#ort;
    const mask = new Tensor("int64", new BigInt64Array(samples.length).fill(1n), [1, samples.length]);
    const states = await this.#encoder.run({
      input_values: new Tensor("float32", samples, [1, samples.length]),
      attention_mask: mask,
    });
    const hidden = taken(states, "last_hidden_state");
    const kept = this.#nothing();
    const said: number[] = [];
    let last = BEGIN;
    for (let step = 0; step < (steps ?? tokensMax(samples.length)); step += 1) {
      if (late()) throw new TooLong("hearing takes too long on this device");
      last = await this.#step(step > 0, last, mask, hidden, kept);
      if (last === END && steps === undefined) break;
      said.push(last);
    }
    return this.#tokens.text(said);
  }

  #nothing(): Keys {
    const { Tensor } = this.#ort;
    return new Map([...OWN, ...THEIRS].map((name) => [name, new Tensor("float32", new Float32Array(0), [0, HEADS, 1, HEAD_SIZE])]));
  }

  /** The likeliest next token. */
  async #step(isLater: boolean, last: number, mask: Tensor, hidden: Tensor, kept: Keys): Promise<number> {
    const { Tensor } = this.#ort;
    const feeds: Record<string, Tensor> = {
      input_ids: new Tensor("int64", BigInt64Array.of(BigInt(last)), [1, 1]),
      encoder_attention_mask: mask,
      encoder_hidden_states: hidden,
      use_cache_branch: new Tensor("bool", Uint8Array.of(Number(isLater)), [1]),
    };
    for (const [name, value] of kept) feeds[`past_key_values.${name}`] = value;
    const given = await this.#decoder.run(feeds);
    // A later step's keys of the encoder are empty: the first one's are kept.
    for (const name of isLater ? OWN : [...OWN, ...THEIRS]) kept.set(name, taken(given, `present.${name}`));
    return likeliest(taken(given, "logits").data as Float32Array);
  }

  async close(): Promise<void> {
    await this.#encoder.release();
    await this.#decoder.release();
  }
}

function taken(given: Record<string, Tensor | undefined>, name: string): Tensor {
  const tensor = given[name];
  if (!tensor) throw new Error(`the model gave no ${name}`);
  return tensor;
}

function likeliest(logits: Float32Array): number {
  let best = 0;
  for (let id = 1; id < logits.length; id += 1) {
    if ((logits[id] ?? -Infinity) > (logits[best] ?? -Infinity)) best = id;
  }
  return best;
}

/**
 * Moonshine's vocabulary, `tokenizer.bin`: each entry is its length (one byte, or two if the first is
 * 128 or more: the first less 128, plus 128 times the second) and its bytes. U+2581 stands for a space.
 */
export class Tokens {
  #bytes: Uint8Array[];

  private constructor(bytes: Uint8Array[]) {
    this.#bytes = bytes;
  }

  static read(file: Uint8Array, count = VOCABULARY): Tokens {
    const tokens: Uint8Array[] = [];
    let at = 0;
    while (at < file.length) {
      let length = file[at++] ?? 0;
      if (length >= 128) {
        if (at >= file.length) throw new Error("the vocabulary ends in the middle of a length");
        length = length - 128 + 128 * (file[at++] ?? 0);
      }
      if (at + length > file.length) throw new Error("the vocabulary ends in the middle of a token");
      tokens.push(file.subarray(at, at + length));
      at += length;
    }
    if (tokens.length !== count) throw new Error(`the vocabulary has ${tokens.length} tokens instead of ${count}`);
    return new Tokens(tokens);
  }

  text(ids: readonly number[]): string {
    const parts = ids.map((id) => this.#bytes[id] ?? new Uint8Array(0));
    const all = new Uint8Array(parts.reduce((sum, { length }) => sum + length, 0));
    let at = 0;
    for (const part of parts) {
      all.set(part, at);
      at += part.length;
    }
    return new TextDecoder().decode(all).replaceAll("\u2581", " ").trim();
  }
}
