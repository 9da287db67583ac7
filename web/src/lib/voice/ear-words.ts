// What page and worker say to each other.

import type { WeightFile } from "./weights";

/** Why the device's own ear does not hear; each is said with what to do (`EAR_REMEDIES`). */
export type EarProblem = "insecure" | "not served" | "fetch" | "broken" | "unsupported" | "slow" | "late" | "failed";

export type ToEar =
  | { kind: "load"; base: string; model: string; files: WeightFile[] }
  | { kind: "hear"; id: number; samples: Float32Array };

export type FromEar =
  | { kind: "progress"; received: number; bytes: number }
  | { kind: "starting" }
  /** So many times faster than speech. */
  | { kind: "ready"; factor: number }
  | { kind: "heard"; id: number; text: string }
  /** This one utterance alone. */
  | { kind: "unheard"; id: number; message: string }
  /** Nothing comes after it. */
  | { kind: "failed"; problem: EarProblem; message: string };
