// Files as text. What is no text is refused by name: a model would read noise, and its owner pay for it.

import type { Attached } from "./conversation";

export const ATTACHED_MAX = 8;
/** Bytes of one file that are looked at; how much of it may be sent is the question's bound. */
export const FILE_BYTES_MAX = 200_000;
const NAME_CHARS_MAX = 120;

export interface Picked {
  attached: Attached[];
  /** Sentences. */
  problems: string[];
}

export async function readFiles(files: readonly File[], most: number): Promise<Picked> {
  const picked: Picked = { attached: [], problems: [] };
  for (const file of files) {
    // Backticks and line ends would end the name in the question.
    const name = file.name.replace(/[`\s]+/g, " ").trim().slice(0, NAME_CHARS_MAX) || "file";
    const problem = picked.attached.length >= most ? `at most ${ATTACHED_MAX} files go along` : await put(file, name, picked);
    if (problem) picked.problems.push(`${name}: ${problem}.`);
  }
  return picked;
}

async function put(file: File, name: string, picked: Picked): Promise<string | undefined> {
  if (file.size > FILE_BYTES_MAX) return `larger than ${FILE_BYTES_MAX / 1_000} kB`;
  const bytes = await file.arrayBuffer().catch(() => undefined);
  if (!bytes) return "it cannot be read";
  try {
    const text = new TextDecoder("utf-8", { fatal: true }).decode(bytes);
    if (text.includes("\u0000")) return "not a text file";
    if (text.trim() === "") return "it is empty";
    picked.attached.push({ name, text: text.trimEnd() });
    return undefined;
  } catch {
    return "not a text file, or not in UTF-8";
  }
}
