// What the page says of a refusal or a failure, in a visitor's words. The realm's own words come
// first, but for what speaks of headers: the page writes those, not the visitor.

import type { Problem } from "./conversation";

const INSTEAD: Record<string, string> = {
  MT0008: "this realm does not know that key: it belongs to another realm, or was revoked",
  MT0011: "another tab of this browser has sent this question already, and has its answer",
};

/** A sentence. The realm writes in lower case without a full stop. */
export function reasonOf(problem: Problem): string {
  const words = problem.message || "the realm gave no reason";
  return sentence(INSTEAD[problem.code] ?? words);
}

export function sentence(message: string): string {
  return message.charAt(0).toUpperCase() + message.slice(1) + (/[.!?]$/.test(message) ? "" : ".");
}

/** The page of an error on this realm, beside the page itself, and nowhere else. */
export function docsOf(code: string): string | undefined {
  return /^MT\d{4}$/.test(code) ? `errors/${code}` : undefined;
}

/** `45 s`, `12 min`, `6 h 31 min`: never shorter than it is. */
export function formatWait(ms: number): string {
  const seconds = Math.ceil(ms / 1_000);
  if (seconds <= 90) return `${seconds} s`;
  const minutes = Math.ceil(seconds / 60);
  const hours = Math.floor(minutes / 60);
  const rest = minutes % 60 > 0 ? `${minutes % 60} min` : "";
  return hours > 0 ? `${hours} h ${rest}`.trim() : rest;
}
