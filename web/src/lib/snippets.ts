// "Use from code": what stands on the screen as a command or a program, with this realm's address.
// The key is never part of it: it comes from the environment variable that `mtor` reads, too.
//
// Every text must survive: shell words are single-quoted, literals of Python and JavaScript are
// printed from the value and not pasted together. Data that would not fit on a command line are read
// from a file instead.

export type Use =
  | { kind: "chat"; body: Record<string, unknown> }
  | { kind: "intent"; intent: string; data: unknown; /** Its workers are strangers'. */ any?: boolean };

export interface Snippet {
  language: "curl" | "Python" | "JavaScript" | "mtor";
  /** What to call it when it is saved. */
  file: string;
  code: string;
  /** Where the data are too long to stand in it: a file to put beside it. */
  beside?: { name: string; text: string };
}

/** Linux takes at most 128 KiB in one argument; long before that nobody reads it. */
const INLINE_CHARS_MAX = 12_000;
const DATA_FILE = "data.json";

export function snippetsOf(use: Use, base: string): Snippet[] {
  const realm = base.replace(/\/+$/, "");
  const body = use.kind === "chat" ? use.body : { intent: use.intent, ...(use.any && { trust: "any" }), data: use.data };
  const data = use.kind === "chat" ? use.body : use.data;
  const long = JSON.stringify(body).length > INLINE_CHARS_MAX;
  const of = (text: unknown) => (long ? { beside: { name: DATA_FILE, text: JSON.stringify(text, null, 2) } } : {});
  const path = use.kind === "chat" ? "/v1/chat/completions" : "/v1/intents";
  return [
    { language: "curl", file: "ask.sh", code: curl(realm + path, body, use, long), ...of(body) },
    { language: "Python", file: "ask.py", code: python(realm + path, body, use, long), ...of(body) },
    { language: "JavaScript", file: "ask.mjs", code: javascript(realm + path, body, use, long), ...of(body) },
    { language: "mtor", file: "ask.sh", code: mtor(realm, data, use, long), ...of(data) },
  ];
}

/** One word of a POSIX shell, whatever stands in it. */
function shellWord(text: string): string {
  return `'${text.replaceAll("'", `'\\''`)}'`;
}

function curl(url: string, body: unknown, use: Use, long: boolean): string {
  const stream = use.kind === "intent" ? ["  -H 'accept: text/event-stream'"] : [];
  const streams = use.kind === "intent" || use.body["stream"] === true;
  return [
    `curl -sS${streams ? "N" : ""} ${shellWord(url)}`,
    `  -H "authorization: Bearer $MTOR_API_KEY"`,
    `  -H 'content-type: application/json'`,
    ...stream,
    long ? `  --data-binary @${DATA_FILE}` : `  --data-binary ${shellWord(JSON.stringify(body))}`,
  ].join(" \\\n");
}

function mtor(realm: string, data: unknown, use: Use, long: boolean): string {
  const name = use.kind === "chat" ? "chat" : use.intent;
  // `=`: a number below zero is no option.
  const given = long ? `--data=@${DATA_FILE}` : `--data=${shellWord(JSON.stringify(data))}`;
  const any = use.kind === "intent" && use.any ? " --trust any" : "";
  return [`mtor submit ${shellName(name)} --realm ${shellWord(realm)}${any}`, `  ${given}`].join(" \\\n");
}

/** Names of intents need no quotes, as far as manifests go; this asks nobody. */
function shellName(name: string): string {
  return /^[a-z0-9][a-z0-9._-]*$/i.test(name) ? name : shellWord(name);
}

function python(url: string, body: unknown, use: Use, long: boolean): string {
  const given = long ? `json.load(open(${JSON.stringify(DATA_FILE)}, encoding="utf-8"))` : pythonOf(body);
  const streams = use.kind === "intent" || use.body["stream"] === true;
  const accept = use.kind === "intent" ? `\n        "accept": "text/event-stream",` : "";
  return `import json, os, urllib.request

body = ${given}
request = urllib.request.Request(
    ${JSON.stringify(url)},
    data=json.dumps(body).encode(),
    headers={
        "authorization": "Bearer " + os.environ["MTOR_API_KEY"],
        "content-type": "application/json",${accept}
    },
)
with urllib.request.urlopen(request) as answer:
${streams ? PYTHON_STREAM[use.kind] : PYTHON_WHOLE}
`;
}

const PYTHON_WHOLE = `    print(json.load(answer)["choices"][0]["message"]["content"])`;
const PYTHON_STREAM = {
  chat: `    for line in answer:
        if line.startswith(b"data: {"):
            piece = json.loads(line[6:])
            if "error" in piece:
                raise SystemExit(piece["error"]["message"])
            for choice in piece["choices"]:
                print(choice["delta"].get("content") or "", end="", flush=True)
    print()`,
  // An event may take several `data:` lines: a result keeps the line breaks that its worker wrote.
  intent: `    data = b""
    for line in answer:
        if line.startswith(b"data: "):
            data += line[6:]
        elif data and not line.strip():
            event = json.loads(data)
            kind = event["type"].split(".")[2]  # queued, started, chunk, completed, …
            print(kind, json.dumps(event["data"], ensure_ascii=False))
            data = b""`,
};

function javascript(url: string, body: unknown, use: Use, long: boolean): string {
  const streams = use.kind === "intent" || use.body["stream"] === true;
  const accept = use.kind === "intent" ? `\n    accept: "text/event-stream",` : "";
  const given = long ? `JSON.parse(await readFile(${JSON.stringify(DATA_FILE)}, "utf8"))` : javascriptOf(body);
  return `${long ? `import { readFile } from "node:fs/promises";\n\n` : ""}const answer = await fetch(${JSON.stringify(url)}, {
  method: "POST",
  headers: {
    authorization: \`Bearer \${process.env.MTOR_API_KEY}\`,
    "content-type": "application/json",${accept}
  },
  body: JSON.stringify(${long ? given : given.replaceAll("\n", "\n  ")}),
});
if (!answer.ok) throw new Error(await answer.text());
${streams ? JAVASCRIPT_STREAM[use.kind] : JAVASCRIPT_WHOLE}
`;
}

const JAVASCRIPT_WHOLE = `console.log((await answer.json()).choices[0].message.content);`;
const JAVASCRIPT_LINES = `let rest = "";
for await (const text of answer.body.pipeThrough(new TextDecoderStream())) {
  const lines = (rest + text).split("\\n");
  rest = lines.pop();
  for (const line of lines) {`;
const JAVASCRIPT_STREAM = {
  chat: `${JAVASCRIPT_LINES}
    if (!line.startsWith("data: {")) continue;
    const piece = JSON.parse(line.slice(6));
    if (piece.error) throw new Error(piece.error.message);
    for (const { delta } of piece.choices) process.stdout.write(delta.content ?? "");
  }
}
console.log();`,
  intent: `let data = "";
${JAVASCRIPT_LINES}
    if (line.startsWith("data: ")) data += line.slice(6) + "\\n";
    if (line !== "" || data === "") continue;
    const event = JSON.parse(data);
    console.log(event.type.split(".")[2], JSON.stringify(event.data)); // queued, started, chunk, completed, …
    data = "";
  }
}`,
};

/** A Python literal. A string of JSON is one of Python, too. */
function pythonOf(value: unknown, indent = ""): string {
  if (value === null || value === undefined) return "None";
  if (value === true) return "True";
  if (value === false) return "False";
  return literal(value, indent, pythonOf, (name) => JSON.stringify(name));
}

/** A JavaScript literal. A member `__proto__` in quotes would be no member. */
function javascriptOf(value: unknown, indent = ""): string {
  const name = (of: string) => {
    if (of === "__proto__") return `["__proto__"]`;
    return /^[a-z_][a-z0-9_]*$/i.test(of) ? of : JSON.stringify(of);
  };
  return literal(value, indent, javascriptOf, name);
}

function literal(value: unknown, indent: string, each: (value: unknown, indent: string) => string, name: (name: string) => string): string {
  if (typeof value !== "object" || value === null) return JSON.stringify(value);
  const deeper = `${indent}    `;
  const [open, close, parts] = Array.isArray(value)
    ? (["[", "]", value.map((item: unknown) => each(item, deeper))] as const)
    : (["{", "}", Object.entries(value).map(([of, item]) => `${name(of)}: ${each(item, deeper)}`)] as const);
  if (parts.length === 0) return open + close;
  const line = open + parts.join(", ") + close;
  if (line.length < 60 && !line.includes("\n")) return line;
  return `${open}\n${deeper}${parts.join(`,\n${deeper}`)},\n${indent}${close}`;
}
