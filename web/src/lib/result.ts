// What a result is, so that it can be drawn: text, a table, a picture, a sound, or JSON. A worker is
// a stranger: only media types of a short list become an object URL, and what is drawn is bounded,
// whatever the size of the result; the whole can always be downloaded.

import { list, number, record, text } from "./conversation";
import { isSound } from "./schema";
import { typeOfSound, whole } from "./sound";

export type Shown =
  | { kind: "nothing" }
  | { kind: "text"; text: string }
  | { kind: "table"; columns: string[]; rows: Record<string, unknown>[]; total: number }
  | { kind: "picture" | "sound"; type: string; bytes: Uint8Array<ArrayBuffer> }
  | { kind: "json" };

export const TEXT_CHARS_MAX = 20_000;
export const ROWS_MAX = 100;
const COLUMNS_MAX = 16;
/** Members that one level of a JSON tree is drawn with. */
export const MEMBERS_MAX = 100;
export const CELL_CHARS_MAX = 200;

const PICTURES = ["image/png", "image/jpeg", "image/webp", "image/gif"];
const MEDIA = /^audio\/[a-z0-9][a-z0-9.+-]{0,60}$/;

/** `media` and `schema` are what the manifest says its results are, if it does. */
export function shownOf(result: unknown, media?: string, schema?: unknown): Shown {
  if (result === null || result === undefined) return { kind: "nothing" };
  const heard = soundOf(result, soundIn(schema));
  if (heard) return heard;
  const found = mediaOf(result, media);
  if (found) return found;
  if (typeof result === "string") return { kind: "text", text: result };
  const said = chatText(result) ?? soleText(result);
  if (said !== undefined) return { kind: "text", text: said };
  return tableOf(result) ?? { kind: "json" };
}

/** The member of a result that is a sound in base64, as its schema says. */
export function soundIn(schema: unknown): string | undefined {
  const properties = Object.entries(record(record(schema)["properties"]));
  return properties.find(([, part]) => isSound(record(part)) && record(part)["contentEncoding"] === "base64")?.[0];
}

/** By its bytes: a result may be of another form than the usual one. Samples alone say what they are in words. */
function soundOf(result: unknown, name: string | undefined): Shown | undefined {
  const fields = record(result);
  const bytes = name === undefined ? undefined : bytesOf(text(fields[name]) ?? "");
  if (!bytes || bytes.length === 0) return undefined;
  const raw = fields["response_format"] === "pcm" ? number(fields["rate"]) : undefined;
  const sound = whole(bytes, raw);
  return { kind: "sound", type: typeOfSound(sound) ?? "audio/wav", bytes: sound };
}

function mediaOf(result: unknown, media: string | undefined): Shown | undefined {
  if (typeof result === "string") {
    const found = /^data:([a-z]+\/[a-z0-9.+-]+)(?:;[a-z0-9-]+=[^;,]{0,60})*;base64,/i.exec(result);
    if (found) return drawable(found[1] ?? "", result.slice(found[0].length));
    return media ? drawable(media, result) : undefined;
  }
  const fields = record(result);
  const type = text(fields["media_type"]) ?? text(fields["mime_type"]) ?? media;
  const data = text(fields["data"]) ?? text(fields["b64_json"]);
  if (type && data) return data.startsWith("data:") ? mediaOf(data, undefined) : drawable(type, data);
  // OpenAI's images: `{"data":[{"b64_json":…}]}`.
  const first = record(list(fields["data"])[0]);
  const image = text(first["b64_json"]);
  return image ? drawable(media ?? sniff(image), image) : undefined;
}

function drawable(media: string, base64: string): Shown | undefined {
  const type = media.toLowerCase().split(";")[0]?.trim() ?? "";
  const kind = PICTURES.includes(type) ? "picture" : MEDIA.test(type) ? "sound" : undefined;
  const bytes = kind && bytesOf(base64);
  return kind && bytes ? { kind, type, bytes } : undefined;
}

function sniff(base64: string): string {
  if (base64.startsWith("/9j/")) return "image/jpeg";
  return base64.startsWith("UklGR") ? "image/webp" : "image/png";
}

export function bytesOf(base64: string): Uint8Array<ArrayBuffer> | undefined {
  try {
    const binary = atob(base64.replaceAll("-", "+").replaceAll("_", "/"));
    const bytes = new Uint8Array(binary.length);
    for (let at = 0; at < binary.length; at += 1) bytes[at] = binary.charCodeAt(at);
    return bytes;
  } catch {
    return undefined;
  }
}

/** Base64 of a file's bytes, in parts: the arguments of a call are bounded. */
export function base64Of(bytes: Uint8Array): string {
  let binary = "";
  for (let at = 0; at < bytes.length; at += 0x6000) binary += String.fromCharCode(...bytes.subarray(at, at + 0x6000));
  return btoa(binary);
}

/** What an OpenAI answer says. */
function chatText(result: unknown): string | undefined {
  const choice = record(list(record(result)["choices"])[0]);
  return text(record(choice["message"])["content"]) ?? (record(result)["object"] === "text_completion" ? text(choice["text"]) : undefined);
}

/** `{"text": "…"}` and nothing else. */
function soleText(result: unknown): string | undefined {
  const entries = Object.entries(record(result));
  const [name, value] = entries[0] ?? [];
  return entries.length === 1 && name && /^(text|output|answer|summary|content|transcript)$/.test(name) ? text(value) : undefined;
}

/** A list of flat objects, by itself or as the only list of an object. */
function tableOf(result: unknown): Shown | undefined {
  if (!Array.isArray(result)) {
    const entries = Object.values(record(result));
    return entries.length === 1 && Array.isArray(entries[0]) ? tableOf(entries[0]) : undefined;
  }
  const rows = result.slice(0, ROWS_MAX) as unknown[];
  if (rows.length === 0 || !rows.every(isFlat)) return undefined;
  const columns = new Set<string>();
  for (const row of rows as Record<string, unknown>[]) for (const name of Object.keys(row)) columns.add(name);
  if (columns.size === 0 || columns.size > COLUMNS_MAX) return undefined;
  return { kind: "table", columns: [...columns], rows: rows as Record<string, unknown>[], total: result.length };
}

function isFlat(row: unknown): boolean {
  if (typeof row !== "object" || row === null || Array.isArray(row)) return false;
  return Object.values(row).every((cell) => cell === null || typeof cell !== "object");
}

export function cell(value: unknown): string {
  if (value === undefined || value === null) return "";
  const said = typeof value === "string" ? value : JSON.stringify(value);
  return said.length > CELL_CHARS_MAX ? `${said.slice(0, CELL_CHARS_MAX)}…` : said;
}

/** What streamed pieces say so far: text where they are text, else each as JSON. */
export function pieceText(piece: unknown): string {
  if (typeof piece === "string") return piece;
  const choice = record(list(record(piece)["choices"])[0]);
  const delta = text(record(choice["delta"])["content"]);
  if (delta !== undefined) return delta;
  // The last piece of a chat answer says only why it ends.
  if (record(piece)["object"] === "chat.completion.chunk") return "";
  const sole = soleText(piece);
  return sole ?? `${JSON.stringify(piece)}\n`;
}

/** What to call the file of a whole result, and its bytes. */
export function fileOf(result: unknown, shown: Shown, name: string): { name: string; blob: Blob } {
  switch (shown.kind) {
    case "picture":
    case "sound": {
      const ending = shown.type.split("/")[1]?.replace(/^x-|\+.*$/g, "").replace("jpeg", "jpg") ?? "bin";
      return { name: `${name}.${ending}`, blob: new Blob([shown.bytes], { type: shown.type }) };
    }
    case "text":
      return { name: `${name}.txt`, blob: new Blob([shown.text], { type: "text/plain" }) };
    default:
      return { name: `${name}.json`, blob: new Blob([JSON.stringify(result, null, 2)], { type: "application/json" }) };
  }
}

/** Hands a file to the visitor. */
export function download(file: { name: string; blob: Blob }): void {
  const address = URL.createObjectURL(file.blob);
  const link = document.createElement("a");
  link.href = address;
  link.download = file.name;
  link.click();
  // The browser has begun to read it by then.
  setTimeout(() => URL.revokeObjectURL(address), 60_000);
}
