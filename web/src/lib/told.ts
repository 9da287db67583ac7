// What the realm tells of its models (`GET /v1/models`): what each is in words, what is on its way,
// and which one `auto` is. A realm that tells nothing of the kind is a realm without words for it.

import { list, number, record, text } from "./conversation";
import { formatWait } from "./problem";

/** A model in words. */
export interface About {
  title: string;
  bytes: number;
  maker: string;
  licence: string;
  /** Such as "a coding model". */
  note: string;
}

/** A model that cannot be asked yet. */
export interface Arriving {
  id: string;
  about: About;
  state: "waiting" | "fetching" | "starting" | "failed";
  received: number;
  bytes: number;
  /** Bytes a second. */
  rate: number;
  leftMs: number | undefined;
  /** With the remedy. */
  problem: string;
}

export interface Told {
  about: Map<string, About>;
  arriving: Arriving[];
  /** Intents of which a model is on its way. */
  coming: ReadonlySet<string>;
  /** What `auto` is now. */
  auto: string;
  /** What `auto` is to be. It may still be on its way, or have no worker. */
  preferred: string;
}

export const NOTHING_TOLD: Told = { about: new Map(), arriving: [], coming: new Set(), auto: "", preferred: "" };

export function toldOf(models: unknown): Told {
  const body = record(models);
  const about = new Map<string, About>();
  for (const item of list(body["data"])) {
    const row = record(item);
    const id = text(row["id"]);
    if (id && row["about"]) about.set(id, aboutOf(row["about"], id));
  }
  const arriving = list(body["arriving"]).flatMap((item) => arrivingOf(record(item)) ?? []);
  const rows = list(body["arriving"]).map(record).filter((row) => row["state"] !== "failed");
  const coming = new Set(rows.flatMap((row) => text(row["intent"]) ?? []));
  const chat = (what: string) => text(record(body[what])["chat"]) ?? "";
  return { about, arriving, coming, auto: chat("default"), preferred: chat("preferred") };
}

function aboutOf(given: unknown, id: string): About {
  const row = record(given);
  return {
    title: text(row["title"]) ?? id,
    bytes: number(row["bytes"]) ?? 0,
    maker: text(row["maker"]) ?? "",
    licence: text(row["licence"]) ?? "",
    note: text(row["note"]) ?? "",
  };
}

/** `4.2 MB/s`: a slow line moves by tenths. */
export function formatRate(bytes: number): string {
  return bytes >= 1e6 && bytes < 1e7 ? `${(bytes / 1e6).toFixed(1)} MB/s` : `${formatBytes(bytes)}/s`;
}

/** One of which the realm was told nothing. */
export function nameless(id: string): About {
  return aboutOf({}, id);
}

const STATES = ["waiting", "fetching", "starting", "failed"] as const;

function arrivingOf(row: Record<string, unknown>): Arriving | undefined {
  const id = text(row["id"]);
  if (!id || row["intent"] !== "chat") return undefined;
  return {
    id,
    about: aboutOf(row["about"], id),
    state: STATES.find((state) => state === row["state"]) ?? "waiting",
    received: number(row["received"]) ?? 0,
    bytes: number(row["bytes"]) ?? 0,
    rate: number(row["rate"]) ?? 0,
    leftMs: number(row["left_ms"]),
    problem: text(row["problem"]) ?? "",
  };
}

/** `1.12 GB`, `986 MB`: units of a thousand, as files and lines are sold. */
export function formatBytes(bytes: number): string {
  const steps: [number, string, number][] = [[1e9, "GB", 2], [1e6, "MB", 0], [1e3, "kB", 0]];
  const [size, unit, digits] = steps.find(([least]) => bytes >= least) ?? [1, "bytes", 0];
  return `${(bytes / size).toFixed(digits)} ${unit}`;
}

/** The one that is here soonest, of those that still come. */
export function nextOf(arriving: readonly Arriving[]): Arriving | undefined {
  const coming = arriving.filter(({ state }) => state !== "failed");
  const left = ({ state, leftMs }: Arriving) => (state === "starting" ? 0 : (leftMs ?? Infinity));
  return coming.sort((one, other) => (left(one) === left(other) ? 0 : left(one) - left(other)))[0];
}

/** Whether this model answers only until the one can that is to. */
export function isStandIn(model: string | undefined, told: Told): boolean {
  const coming = told.arriving.some(({ id, state }) => id === told.preferred && state !== "failed");
  return coming && model !== undefined && model !== told.preferred;
}

/** What it does, behind its title. */
export function arrival(one: Arriving): string {
  switch (one.state) {
    case "failed":
      return "did not arrive";
    case "starting":
      return "is here and starts";
    case "waiting":
      return one.bytes > 0 ? "waits to be fetched" : "is here and waits to be started";
    case "fetching":
      return one.leftMs === undefined ? "is being fetched" : `arrives in about ${formatWait(one.leftMs)}`;
  }
}

/** "1.12 GB · Alibaba Cloud (Qwen) · Apache-2.0 · a coding model" */
export function describe(about: About): string {
  const size = about.bytes > 0 ? formatBytes(about.bytes) : "";
  return [size, about.maker && `by ${about.maker}`, about.licence, about.note].filter((part) => part !== "").join(" · ");
}
