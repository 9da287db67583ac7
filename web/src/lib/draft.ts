// What a visitor has filled into a form, and the data that it makes. A draft is plain values, so that
// it can be kept over a reload; a file is kept as what will be sent of it.

import { check, escape, jsonLike, type Fault, type Field } from "./schema";

export interface Draft {
  /** What stands in the box; of a choice, the place of the chosen one. */
  text: string;
  /** Of `object`: its fields by place; of `list`: its items; of `either`: one draft a type. */
  parts: Draft[];
  /** Of `object`: further fields, as JSON. Of `either`: the place of the chosen type. */
  more: string;
  /** The name of the file that `text` was read from. */
  file: string;
}

export interface Filled {
  /** Absent where nothing is to be sent. */
  value?: unknown;
  faults: Fault[];
}

/** The `text` of an object that may be left out, and is not. */
export const GIVEN = "given";
/** Items that a list is drawn with. */
export const ITEMS_MAX = 200;

export function emptyDraft(field: Field): Draft {
  const draft: Draft = { text: "", parts: [], more: "", file: "" };
  const given = field.schema["default"];
  switch (field.kind) {
    case "object":
      draft.parts = field.parts.map(emptyDraft);
      break;
    case "either":
      draft.parts = field.parts.map(emptyDraft);
      draft.more = "0";
      break;
    case "list": {
      const least = field.schema["minItems"];
      const item = field.parts[0];
      const count = field.required && item ? Math.min(typeof least === "number" ? least : 0, ITEMS_MAX) : 0;
      if (item) draft.parts = Array.from({ length: count }, () => emptyDraft(item));
      break;
    }
    case "choice":
      if (field.required) {
        const found = field.choices.findIndex(({ value }) => value === given);
        draft.text = found >= 0 ? String(found) : field.choices.length === 1 ? "0" : "";
      }
      break;
    case "boolean":
      if (field.required) draft.text = given === true ? "true" : "false";
      break;
    default:
      if (field.required && given !== undefined) {
        draft.text = typeof given === "string" && field.kind !== "json" ? given : JSON.stringify(given);
      }
  }
  return draft;
}

/** The data of a whole form, checked. */
export function fill(field: Field, draft: Draft): Filled {
  const filled = valueOf(field, draft, "");
  // A form without a word is an empty object where one may stand.
  if (!("value" in filled) && filled.faults.length === 0 && field.kind === "object") filled.value = {};
  if (!("value" in filled)) return filled;
  // What could not be read is told once, and not again as what it became.
  const more = check(field.schema, filled.value).filter(({ at }) => !filled.faults.some((known) => known.at === at));
  return { ...filled, faults: [...filled.faults, ...more] };
}

function valueOf(field: Field, draft: Draft, at: string): Filled {
  switch (field.kind) {
    case "object":
      return objectOf(field, draft, at);
    case "either": {
      const chosen = Number(draft.more) || 0;
      const part = field.parts[chosen];
      const kept = draft.parts[chosen];
      return part && kept ? valueOf(part, kept, at) : nothing(field, at);
    }
    case "list": {
      const item = field.parts[0];
      if (!item) return nothing(field, at);
      if (draft.parts.length === 0) return field.required ? { value: [], faults: [] } : nothing(field, at);
      const items = draft.parts.map((part, index) => valueOf(item, part, `${at}/${index}`));
      return { value: items.map(({ value }) => value ?? null), faults: items.flatMap(({ faults }) => faults) };
    }
    case "choice": {
      const chosen = draft.text === "" ? undefined : field.choices[Number(draft.text)];
      return chosen ? { value: chosen.value, faults: [] } : nothing(field, at, "choose one");
    }
    case "boolean":
      return draft.text === "" ? nothing(field, at, "say yes or no") : { value: draft.text === "true", faults: [] };
    case "number":
      return numberOf(field, draft, at);
    case "json":
      return draft.text.trim() === "" ? nothing(field, at) : parseJson(draft.text, at, jsonLike(field.schema));
    default:
      return draft.text === "" ? nothing(field, at) : { value: draft.text, faults: [] };
  }
}

function nothing(field: Field, at: string, why = "is needed"): Filled {
  if (!field.required) return { faults: [] };
  return field.nullable ? { value: null, faults: [] } : { faults: [{ at, why, missing: true }] };
}

function numberOf(field: Field, draft: Draft, at: string): Filled {
  const written = draft.text.trim();
  if (written === "") return nothing(field, at);
  const value = Number(written);
  // `Number` reads more than JSON has: 0x10, Infinity.
  if (!/^[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?$/i.test(written) || !Number.isFinite(value)) {
    return { faults: [{ at, why: field.whole ? "must be a whole number" : "must be a number" }] };
  }
  if (field.whole && !Number.isSafeInteger(value)) {
    return { faults: [{ at, why: Number.isInteger(value) ? "has too many digits for this page" : "must be a whole number" }] };
  }
  return { value, faults: [] };
}

function objectOf(field: Field, draft: Draft, at: string): Filled {
  if (!field.required && draft.text !== GIVEN) return { faults: [] };
  const faults: Fault[] = [];
  const entries: [string, unknown][] = [];
  field.parts.forEach((part, index) => {
    const kept = draft.parts[index];
    if (!kept) return;
    const filled = valueOf(part, kept, `${at}/${escape(part.name)}`);
    faults.push(...filled.faults);
    if ("value" in filled) entries.push([part.name, filled.value]);
  });
  if (draft.more.trim() !== "") {
    const more = parseJson(draft.more, at, jsonLike({}));
    faults.push(...more.faults);
    if (typeof more.value === "object" && more.value !== null && !Array.isArray(more.value)) {
      entries.push(...Object.entries(more.value));
    } else if (more.faults.length === 0) faults.push({ at, why: "must have a JSON object as its further fields" });
  }
  // `fromEntries` defines: a field called `__proto__` stays a field.
  return { value: Object.fromEntries(entries), faults };
}

/**
 * A JSON text as a value. Whole numbers beyond what this page can hold exactly are refused, because
 * they would be sent rounded. `like` is what might stand there.
 */
export function parseJson(written: string, at: string, like = ""): Filled {
  let value: unknown;
  try {
    value = JSON.parse(written);
  } catch (cause) {
    const why = cause instanceof Error ? cause.message.replace(/^JSON\.parse: /, "") : "";
    return { faults: [{ at, why: `is no JSON: ${why.slice(0, 120)}${like && `. Write it like \`${like}\``}` }] };
  }
  const numbers = written.replace(/"(?:[^"\\]|\\.)*"/g, '""').match(/(?<![\d.])-?\d{16,}(?![\d.eE])/g) ?? [];
  if (!numbers.every((digits) => Number.isSafeInteger(Number(digits)))) {
    return { faults: [{ at, why: "has a number of more digits than this page can send unrounded" }] };
  }
  return { value, faults: [] };
}

/** A draft that makes these data, for editing what was written as JSON, or sent before. */
export function draftOf(field: Field, value: unknown): Draft {
  const draft = emptyDraft({ ...field, required: false });
  draft.parts = [];
  if (value === undefined) return emptyDraft(field);
  switch (field.kind) {
    case "object": {
      draft.text = GIVEN;
      const given = typeof value === "object" && value !== null && !Array.isArray(value) ? (value as Record<string, unknown>) : {};
      draft.parts = field.parts.map((part) => draftOf(part, Object.hasOwn(given, part.name) ? given[part.name] : undefined));
      const known = new Set(field.parts.map(({ name }) => name));
      const more = Object.entries(given).filter(([name]) => !known.has(name));
      draft.more = more.length > 0 ? JSON.stringify(Object.fromEntries(more), null, 2) : "";
      return draft;
    }
    case "either": {
      const found = field.parts.findIndex((part) => check({ type: part.schema["type"] }, value).length === 0);
      draft.more = String(Math.max(found, 0));
      draft.parts = field.parts.map((part, index) => (index === found ? draftOf(part, value) : emptyDraft(part)));
      return draft;
    }
    case "list": {
      const item = field.parts[0];
      if (item && Array.isArray(value)) draft.parts = value.slice(0, ITEMS_MAX).map((one: unknown) => draftOf(item, one));
      return draft;
    }
    case "choice": {
      const found = field.choices.findIndex((choice) => choice.value === value);
      draft.text = found >= 0 ? String(found) : "";
      return draft;
    }
    case "json":
      draft.text = JSON.stringify(value, null, 2);
      return draft;
    default:
      draft.text = value === null ? "" : typeof value === "string" ? value : JSON.stringify(value);
      return draft;
  }
}
