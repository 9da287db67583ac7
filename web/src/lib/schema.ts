// From the JSON Schema of a manifest's parameters to the fields of a form, and the check of what was
// filled in. The keywords are those that a manifest may use, and a few beside them that other
// writers of schemas like (`oneOf` of constants, `contentEncoding`); what cannot be drawn becomes a
// box for JSON. The realm decides in the end: a schema that is read wrongly here costs an answer of
// the realm, never a wrong charge.
//
// A schema comes from whoever wrote the manifest: depth and counts are bounded.

import { list, number, record, text } from "./conversation";

export type Kind = "text" | "number" | "boolean" | "choice" | "file" | "list" | "object" | "json" | "either";

export interface Choice {
  value: unknown;
  label: string;
}

export interface Field {
  /** Empty for the whole, and for the items of a list. */
  name: string;
  /** The property's name, or its title. */
  label: string;
  help: string;
  kind: Kind;
  required: boolean;
  /** `null` may stand here. */
  nullable: boolean;
  schema: Record<string, unknown>;
  /** Of `number`. */
  whole: boolean;
  /** Of `text`: more than one line. */
  long: boolean;
  placeholder: string;
  /** Whether the realm takes a file's bytes as base64, or its text. */
  base64: boolean;
  /** Of `file`: a sound, which can be recorded here. */
  sound: boolean;
  choices: Choice[];
  /** Of `object`: its properties; of `list`: the one of its items; of `either`: one for each type. */
  parts: Field[];
  /** Of `object`: fields that are not declared may be added. */
  open: boolean;
}

/** A wrong value and where it stands, as a JSON pointer. */
export interface Fault {
  at: string;
  why: string;
  /** Nothing stands there yet: told when the form is sent, not while it is filled in. */
  missing?: true;
  /** The realm's own words: a sentence by itself, not one about the field's name. */
  said?: true;
}

const LEVELS_MAX = 6;
const EXAMPLE_CHARS_MAX = 400;
const PROPERTIES_MAX = 64;
const CHOICES_MAX = 200;
/** A text of at most so many characters gets one line. */
const LINE_CHARS_MAX = 256;
const LINE_FORMATS = ["email", "uri", "uri-reference", "hostname", "ipv4", "ipv6", "uuid", "date", "time", "date-time", "regex", "color"];
const BASE64 = /\bbase-?64\b/i;

/** The form of a manifest's parameters. */
export function formOf(parameters: unknown): Field {
  return fieldOf("", parameters, true, 0);
}

function fieldOf(name: string, given: unknown, required: boolean, level: number): Field {
  const schema = record(given);
  const types = typesOf(schema);
  const field: Field = {
    name,
    label: text(schema["title"]) || name,
    help: text(schema["description"]) ?? "",
    kind: "json",
    required,
    nullable: types.includes("null"),
    schema,
    whole: false,
    long: false,
    placeholder: placeholderOf(schema, required),
    base64: false,
    sound: false,
    choices: [],
    parts: [],
    open: schema["additionalProperties"] !== false,
  };
  const choices = choicesOf(schema);
  if (choices) return { ...field, ...choices, kind: "choice" };
  // A whole number says nothing new beside a number.
  const drawn = types.filter((type) => type !== "null" && !(type === "integer" && types.includes("number")));
  if (level >= LEVELS_MAX) return field;
  if (drawn.length > 1) {
    const parts = drawn.map((type) => ({ ...fieldOf(name, { ...schema, type }, required, level + 1), label: KIND_WORDS[type] ?? type, help: "" }));
    return { ...field, kind: "either", parts };
  }
  switch (drawn[0]) {
    case "string":
      return { ...field, ...textOf(schema) };
    case "number":
    case "integer":
      return { ...field, kind: "number", whole: drawn[0] === "integer" };
    case "boolean":
      return { ...field, kind: "boolean" };
    case "array": {
      if (schema["items"] === undefined || schema["items"] === true) return field;
      return { ...field, kind: "list", parts: [fieldOf("", schema["items"], true, level + 1)] };
    }
    case "object":
      return objectOf(field, level);
    default:
      // Without a type anything may stand here; what is declared is drawn nevertheless.
      return schema["properties"] === undefined ? field : objectOf(field, level);
  }
}

const KIND_WORDS: Record<string, string> = {
  string: "text",
  number: "number",
  integer: "whole number",
  boolean: "yes or no",
  array: "list",
  object: "object",
};

function objectOf(field: Field, level: number): Field {
  const required = list(field.schema["required"]);
  const names = Object.keys(record(field.schema["properties"])).slice(0, PROPERTIES_MAX);
  const own = (name: string) => Object.getOwnPropertyDescriptor(record(field.schema["properties"]), name)?.value as unknown;
  const parts = names.map((name) => fieldOf(name, own(name), required.includes(name), level + 1));
  // Nothing to say at all is a form, too; what is said freely inside another one is JSON.
  if (parts.length === 0 && level > 0) return field;
  // What must be said comes first; the API sorts by name.
  parts.sort((a, b) => Number(b.required) - Number(a.required));
  return { ...field, kind: "object", parts };
}

function textOf(schema: Record<string, unknown>): Partial<Field> {
  const format = text(schema["format"]) ?? "";
  const says = [schema["contentEncoding"], format].some((word) => typeof word === "string" && /^(base64|byte|binary)$/i.test(word));
  // A built-in manifest says it in words: its schema has no keyword for it.
  const base64 = says || BASE64.test(text(schema["description"]) ?? "");
  if (base64) return { kind: "file", base64, sound: isSound(schema) };
  if (format === "file" || text(schema["contentMediaType"])) return { kind: "file", base64: false };
  const most = number(schema["maxLength"]) ?? Infinity;
  return { kind: "text", long: most > LINE_CHARS_MAX && !LINE_FORMATS.includes(format) };
}

/** `contentMediaType` of a sound, whichever. */
export function isSound(schema: Record<string, unknown>): boolean {
  return /^audio\//i.test(text(schema["contentMediaType"]) ?? "");
}

/** The closed choice that a schema leaves, if it is one. */
function choicesOf(schema: Record<string, unknown>): { choices: Choice[]; nullable: boolean } | undefined {
  let choices: Choice[] | undefined;
  if (Array.isArray(schema["enum"])) choices = schema["enum"].map((value: unknown) => ({ value, label: labelOf(value) }));
  else if ("const" in schema) choices = [{ value: schema["const"], label: labelOf(schema["const"]) }];
  else {
    const each = list(schema["oneOf"] ?? schema["anyOf"]).map(record);
    if (each.length > 0 && each.every((one) => "const" in one)) {
      choices = each.map((one) => ({ value: one["const"], label: text(one["title"]) ?? text(one["description"]) ?? labelOf(one["const"]) }));
    }
  }
  if (!choices || choices.length > CHOICES_MAX) return undefined;
  const scalars = choices.every(({ value }) => value === null || typeof value !== "object");
  return scalars ? { choices, nullable: choices.some(({ value }) => value === null) } : undefined;
}

function labelOf(value: unknown): string {
  return typeof value === "string" ? value : JSON.stringify(value);
}

function typesOf(schema: Record<string, unknown>): string[] {
  const { type } = schema;
  return (Array.isArray(type) ? type : [type]).filter((name): name is string => typeof name === "string");
}

/** What happens without a word: shown, but not sent. */
function placeholderOf(schema: Record<string, unknown>, required: boolean): string {
  if (schema["default"] !== undefined && !required) return `${labelOf(schema["default"])} if left empty`;
  const example = exampleOf(schema);
  return example === undefined ? "" : `for example ${labelOf(example)}`;
}

/** A good value, where the manifest has one for this type. */
export function exampleOf(schema: Record<string, unknown>): unknown {
  const types = typesOf(schema);
  return list(schema["examples"]).find((one) => types.length === 0 || types.some((type) => isA(type, one)));
}

/** What may be written into a box for JSON: the manifest's example, or what such a value looks like. */
export function jsonLike(schema: Record<string, unknown>): string {
  const example = exampleOf(schema) ?? (typesOf(schema)[0] === "array" ? [1, "two"] : { name: "value" });
  return JSON.stringify(example).slice(0, EXAMPLE_CHARS_MAX);
}

/** The limits of a field in words, to stand below it. */
export function limitsOf(field: Field): string {
  const { schema } = field;
  const say = (least: unknown, most: unknown, unit: string): string => {
    const [low, high] = [number(least), number(most)];
    if (low !== undefined && high !== undefined) return low === high ? `${low}${unit}` : `${low} to ${high}${unit}`;
    if (low !== undefined) return `at least ${low}${unit}`;
    return high === undefined ? "" : `at most ${high}${unit}`;
  };
  switch (field.kind) {
    case "number":
      return say(schema["minimum"], schema["maximum"], "");
    case "text":
      return say(schema["minLength"] === 0 || schema["minLength"] === 1 ? undefined : schema["minLength"], schema["maxLength"], " characters");
    case "list":
      return say(schema["minItems"], schema["maxItems"], schema["maxItems"] === 1 ? " item" : " items");
    default:
      return "";
  }
}

// --- the check ---

/** What is wrong with `value`, by the keywords that a manifest may use; at most a few findings. */
export function check(given: unknown, value: unknown, at = "", faults: Fault[] = []): Fault[] {
  const schema = record(given);
  if (faults.length >= 20) return faults;
  const wrong = (why: string) => void faults.push({ at, why });
  const types = typesOf(schema);
  if (types.length > 0 && !types.some((type) => isA(type, value))) {
    wrong(`must be ${types.map((type) => TYPE_WORDS[type] ?? type).join(" or ")}`);
    return faults;
  }
  const choices = choicesOf(schema);
  if (choices && !choices.choices.some((choice) => choice.value === value)) {
    wrong(`must be one of ${choices.choices.map(({ value: one }) => labelOf(one)).join(", ")}`);
  }
  if (typeof value === "number") bounds(value, schema["minimum"], schema["maximum"], "", wrong);
  // The realm counts characters, not units of UTF-16.
  if (typeof value === "string" && (schema["minLength"] !== undefined || schema["maxLength"] !== undefined)) {
    bounds([...value].length, schema["minLength"], schema["maxLength"], " characters", wrong);
  }
  if (Array.isArray(value)) {
    bounds(value.length, schema["minItems"], schema["maxItems"], " items", wrong);
    if (schema["items"] !== undefined) value.forEach((item, index) => check(schema["items"], item, `${at}/${index}`, faults));
  } else if (typeof value === "object" && value !== null) {
    members(schema, value as Record<string, unknown>, at, faults);
  }
  return faults;
}

function members(schema: Record<string, unknown>, value: Record<string, unknown>, at: string, faults: Fault[]): void {
  const declared = record(schema["properties"]);
  for (const name of list(schema["required"])) {
    if (typeof name === "string" && !Object.hasOwn(value, name)) faults.push({ at: `${at}/${escape(name)}`, why: "is needed", missing: true });
  }
  for (const [name, part] of Object.entries(value)) {
    const place = `${at}/${escape(name)}`;
    if (Object.hasOwn(declared, name)) check(declared[name], part, place, faults);
    else if (schema["additionalProperties"] === false) faults.push({ at: place, why: "is not known to this intent" });
    else check(schema["additionalProperties"], part, place, faults);
  }
}

function bounds(value: number, least: unknown, most: unknown, unit: string, wrong: (why: string) => void): void {
  const [low, high] = [number(least), number(most)];
  if (low !== undefined && value < low) wrong(`must be at least ${low}${unit}`);
  else if (high !== undefined && value > high) wrong(`must be at most ${high}${unit}`);
}

const TYPE_WORDS: Record<string, string> = {
  string: "a text",
  number: "a number",
  integer: "a whole number",
  boolean: "true or false",
  array: "a list",
  object: "an object",
  null: "null",
};

function isA(type: string, value: unknown): boolean {
  switch (type) {
    case "null":
      return value === null;
    case "integer":
      return Number.isInteger(value);
    case "array":
      return Array.isArray(value);
    case "object":
      return typeof value === "object" && value !== null && !Array.isArray(value);
    default:
      return typeof value === type;
  }
}

/** What the realm says of a field, to stand at that field. */
export function faultOf(problem: { field?: string; message: string }): Fault | undefined {
  const { field, message } = problem;
  if (!field) return undefined;
  const at = field.startsWith("/") ? field : `/${field}`;
  const missing = /^field `[^`]*` is missing:? ?/;
  if (missing.test(message)) return { at, why: message.replace(missing, "is missing: ").replace(/: $/, "") };
  return { at, why: message.replace(/^field `[^`]*`:? ?/, "") || "this is refused", said: true };
}

/** A fault in one sentence, at the field of that label and place. */
export function told(label: string, fault: Fault, at: string): string {
  const inside = fault.at !== "" && fault.at !== at ? ` (${fault.at})` : "";
  return `${label || "this"}${inside}${fault.said ? ":" : ""} ${fault.why}`;
}

/** RFC 6901. */
export function escape(name: string): string {
  return name.replaceAll("~", "~0").replaceAll("/", "~1");
}

/** Whether a fault that the realm names belongs to this place; it writes top-level names bare. */
export function isAt(field: string | undefined, at: string): boolean {
  if (field === undefined) return false;
  const pointer = field === "" || field.startsWith("/") ? field : `/${escape(field)}`;
  return pointer === at || pointer.startsWith(`${at}/`);
}
