// Why something was not read, or not written down, in the words of who listens or speaks.

import type { Problem } from "../conversation";
import { reasonOf } from "../problem";

export function reasonOfVoice(problem: Problem, doing: "read" | "hear"): string {
  switch (problem.code) {
    // What was under way is nobody's after a restart; nothing of it was paid.
    case "MT0010":
    case "MT0034":
      return doing === "read" ? "The realm restarted while it read. Press Read aloud again." : "The realm restarted while it listened.";
    // The realm starts the program of its voice anew.
    case "MT0025":
      return `${reasonOf(problem)} What ${doing === "read" ? "speaks" : "hears"} comes back in some seconds: try again then.`;
    default:
      return reasonOf(problem);
  }
}
