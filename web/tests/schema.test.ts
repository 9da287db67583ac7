import { expect, it } from "vitest";
import { draftOf, emptyDraft, fill, GIVEN, parseJson, type Draft } from "../src/lib/draft";
import { check, exampleOf, faultOf, formOf, isAt, jsonLike, limitsOf, told, type Field } from "../src/lib/schema";
import { MANIFESTS } from "./works.mjs";

const survey = formOf(MANIFESTS.find(({ name }) => name === "survey")?.parameters);
const part = (form: Field, name: string) => form.parts.find((field) => field.name === name)!;
const put = (form: Field, draft: Draft, name: string) => draft.parts[form.parts.findIndex((field) => field.name === name)]!;

/** The fields of a form of these properties, by name. */
function fields(properties: Record<string, unknown>, required: string[] = []) {
  const form = formOf({ type: "object", properties, required });
  return (name: string) => part(form, name);
}

it("draws each kind of a manifest that it never saw", () => {
  const kinds = Object.fromEntries(survey.parts.map((field) => [field.name, field.kind + (field.long ? " long" : "")]));
  expect(kinds).toEqual({
    essay: "text long", count: "number", agree: "boolean", mood: "choice", nick: "text", share: "number", loud: "boolean", kind: "choice",
    tags: "list", place: "object", blob: "file", notes: "file", either: "either", free: "json", odd: "json",
  });
  expect(survey.parts.slice(0, 4).every((field) => field.required)).toBe(true);
  expect(part(survey, "blob").base64).toBe(true);
  expect(part(survey, "notes").base64).toBe(false);
  expect(part(survey, "kind").choices.map(({ label }) => label)).toEqual(["The first", "The second"]);
  expect(part(survey, "either").parts.map(({ kind, label }) => `${label}: ${kind}`)).toEqual(["text: text", "list: json"]);
  expect(part(survey, "share").nullable).toBe(true);
});

it("takes base64 from what a built-in manifest says in words", () => {
  const field = fields({ data: { type: "string", description: "the samples: base64, little-endian, C order" } });
  expect(field("data")).toMatchObject({ kind: "file", base64: true });
});

it("sends what is said, and leaves out what is not", () => {
  const draft = emptyDraft(survey);
  expect(fill(survey, draft).faults.map(({ at, missing }) => [at, missing])).toEqual([["/essay", true], ["/mood", true]]);
  put(survey, draft, "essay").text = "long\nand “true”";
  put(survey, draft, "mood").text = "2";
  expect(fill(survey, draft)).toEqual({ value: { essay: "long\nand “true”", count: 2, agree: false, mood: 7 }, faults: [] });
  put(survey, draft, "place").text = GIVEN;
  expect(fill(survey, draft).faults).toEqual([{ at: "/place/town", why: "is needed", missing: true }]);
  put(part(survey, "place"), put(survey, draft, "place"), "town").text = "Ulm";
  put(survey, draft, "tags").parts = [{ text: "a", parts: [], more: "", file: "" }];
  put(survey, draft, "share").text = "0.25";
  put(survey, draft, "either").more = "1";
  put(survey, draft, "either").parts[1]!.text = '["x"]';
  put(survey, draft, "free").text = "null";
  expect(fill(survey, draft)).toMatchObject({
    value: { tags: ["a"], share: 0.25, either: ["x"], free: null, place: { town: "Ulm" } },
    faults: [],
  });
});

it("says what is wrong where it is", () => {
  const draft = emptyDraft(survey);
  put(survey, draft, "essay").text = "ab";
  put(survey, draft, "mood").text = "0";
  const fault = (name: string, text: string) => {
    const kept = put(survey, draft, name);
    const before = kept.text;
    kept.text = text;
    const found = fill(survey, draft).faults.filter(({ at }) => at === `/${name}`);
    kept.text = before;
    return found[0]?.why;
  };
  expect(fault("essay", "ab")).toBe("must be at least 3 characters");
  put(survey, draft, "essay").text = "abc";
  expect(fault("count", "10")).toBe("must be at most 9");
  expect(fault("count", "1.5")).toBe("must be a whole number");
  expect(fault("count", "0x4")).toBe("must be a whole number");
  expect(fault("count", "12345678901234567890")).toBe("has too many digits for this page");
  expect(fault("share", "-1")).toBe("must be at least 0");
  expect(fault("free", "{")).toContain("is no JSON");
  expect(fault("free", '{"id":12345678901234567890}')).toContain("digits");
  expect(fault("free", '{"id":"12345678901234567890"}')).toBeUndefined();
});

it("says a fault in one sentence: its own words about the field, the realm's beside it", () => {
  const own = { at: "/count", why: "must be at most 9" };
  expect(told("count", own, "/count")).toBe("count must be at most 9");
  expect(told("", { ...own, at: "/a/b" }, "")).toBe("this (/a/b) must be at most 9");
  const say = (field: string | undefined, message: string) => {
    const fault = faultOf({ ...(field !== undefined && { field }), message });
    return fault && told("it", fault, fault.at);
  };
  expect(say("model", "no worker here offers that model; on offer: a")).toBe("it: no worker here offers that model; on offer: a");
  expect(say("/data", "field `/data`: 16 bytes, but `shape` asks for 4")).toBe("it: 16 bytes, but `shape` asks for 4");
  expect(say("/act", "field `act` is missing: the acts")).toBe("it is missing: the acts");
  expect(say("/act", "field `act` is missing")).toBe("it is missing");
  expect(say(undefined, "too many")).toBeUndefined();
});

it("shows what may be written as JSON", () => {
  const examples = ["one", ["one", "two"]];
  expect(exampleOf({ type: "array", examples })).toEqual(["one", "two"]);
  expect(exampleOf({ type: "object", examples })).toBeUndefined();
  expect(exampleOf({ examples })).toBe("one");
  expect(jsonLike({ type: "array" })).toBe('[1,"two"]');
  expect(fill(formOf({ properties: {} }), { ...emptyDraft(formOf({ properties: {} })), more: "{" }).faults[0]?.why).toContain('Write it like `{"name":"value"}`');
});

it("checks every keyword that a manifest may use", () => {
  const wrong = (schema: unknown, value: unknown) => check(schema, value).map(({ at, why }) => `${at} ${why}`);
  expect(wrong({ type: ["string", "null"] }, null)).toEqual([]);
  expect(wrong({ type: ["string", "null"] }, 1)).toEqual([" must be a text or null"]);
  expect(wrong({ const: 3 }, 4)).toEqual([" must be one of 3"]);
  expect(wrong({ type: "integer" }, 1)).toEqual([]);
  expect(wrong({ type: "array", minItems: 2 }, [1])).toEqual([" must be at least 2 items"]);
  expect(wrong({ type: "array", maxItems: 1, items: { minimum: 5 } }, [1, 6])).toEqual([" must be at most 1 items", "/0 must be at least 5"]);
  expect(wrong({ properties: { "a/b": { type: "null" } }, required: ["c"], additionalProperties: false }, { "a/b": 1, d: 1 })).toEqual([
    "/c is needed", "/a~1b must be null", "/d is not known to this intent",
  ]);
  expect(wrong({ additionalProperties: { type: "number" } }, { x: "1" })).toEqual(["/x must be a number"]);
  // Characters as the realm counts them: a face is one.
  expect(wrong({ type: "string", maxLength: 1 }, "😀")).toEqual([]);
  expect(wrong(true, [{ any: 1 }])).toEqual([]);
});

it("puts what the realm names where it belongs", () => {
  expect(isAt("model", "/model")).toBe(true);
  expect(isAt("/shape/0", "/shape")).toBe(true);
  expect(isAt("/shape", "/sha")).toBe(false);
  expect(isAt(undefined, "")).toBe(false);
});

it("puts data back into the fields that make them", () => {
  for (const value of [
    { essay: "abc", count: 3, agree: true, mood: "wild" },
    { essay: "abc", count: 3, agree: false, mood: 7, share: 0.5, loud: false, kind: "b", tags: ["x", "y"], place: { town: "Ulm", deep: { level: 2 }, more: 1 }, either: ["a"], free: { x: [1] } },
  ]) {
    expect(fill(survey, draftOf(survey, value))).toEqual({ value, faults: [] });
  }
});

it("is not led astray by a schema or by names", () => {
  // A field called like something that every object has.
  const form = formOf({ type: "object", properties: JSON.parse('{"__proto__":{"type":"string","maxLength":9},"constructor":{"type":"string","maxLength":9}}') as unknown });
  const draft = emptyDraft(form);
  for (const kept of draft.parts) kept.text = "x";
  expect(JSON.stringify(fill(form, draft).value)).toBe('{"__proto__":"x","constructor":"x"}');
  // Deeper than a form is drawn, a box for JSON takes over.
  let deep: unknown = { type: "string" };
  for (let level = 0; level < 40; level += 1) deep = { type: "object", properties: { deep } };
  let field = formOf(deep);
  let levels = 0;
  while (field.kind === "object" && field.parts[0]) (field = field.parts[0]), (levels += 1);
  expect([field.kind, levels]).toEqual(["json", 6]);
  for (const broken of [null, 7, "x", [], { type: 3 }, { enum: "x" }, { type: "array", items: 4 }, { properties: [] }]) {
    expect(fill(formOf(broken), emptyDraft(formOf(broken)))).toBeDefined();
  }
});

it("says limits in words", () => {
  const field = fields({ n: { type: "integer", minimum: 1, maximum: 9 }, t: { type: "string", maxLength: 5 }, l: { type: "array", items: {}, minItems: 1 } });
  expect([limitsOf(field("n")), limitsOf(field("t")), limitsOf(field("l"))]).toEqual(["1 to 9", "at most 5 characters", "at least 1 items"]);
});

it("refuses to round what it cannot hold", () => {
  expect(parseJson("[9007199254740993]", "").faults).toHaveLength(1);
  expect(parseJson("[1e30, 0.1234567890123456789]", "").faults).toEqual([]);
});
