// The visitor's microphone as frames of sound, or one reason out of a closed list why there are none,
// each with what to do about it. Nothing is kept, nothing leaves the page from here.

import { RATE } from "./frames";
import worklet from "./capture.worklet.ts?worker&url";

export type MicProblem = "insecure" | "denied" | "none" | "busy" | "unsupported" | "fetch" | "lost";

export interface Mic {
  readonly rate: typeof RATE;
  /** Each 32 ms: 512 samples between -1 and 1. */
  onframe: (frame: Float32Array) => void;
  /** The device went away by itself; nothing comes after it. */
  onlost: () => void;
  /** Gives the device back: the browser's own sign goes off. */
  close(): void;
}

export class MicError extends Error {
  constructor(
    readonly problem: MicProblem,
    options?: ErrorOptions,
  ) {
    super(`microphone: ${problem}`, options);
  }
}

/** What is wrong, and what to do. */
export const REMEDIES: Record<MicProblem, { what: string; then: string }> = {
  insecure: {
    what: "Browsers give a microphone only to pages that came encrypted.",
    then: "Open this page by https, or on the realm's own machine by http://localhost.",
  },
  denied: {
    what: "This page may not use the microphone.",
    then: "Allow it at the left of the address bar (on a phone: in the browser's settings for this page), then try again.",
  },
  none: {
    what: "There is no microphone.",
    then: "Plug one in, or switch on the one of a headset, then try again.",
  },
  busy: {
    what: "The microphone cannot be read now: another program may be using it.",
    then: "End that program's call or recording, then try again.",
  },
  unsupported: {
    what: "This browser cannot hand sound to a page.",
    then: "Use a newer Firefox, Chrome, Edge or Safari; typing works here as ever.",
  },
  fetch: {
    what: "What takes up the sound could not be fetched from the realm.",
    then: "The realm is away: try again when it is back. What stands in the box stays.",
  },
  lost: {
    what: "The microphone went away while it was listening.",
    then: "Plug it in again or choose another one, then try again. What was heard before is not lost.",
  },
};

/** Of what the browser throws. */
export function problemOfMic(cause: unknown): MicProblem {
  if (cause instanceof MicError) return cause.problem;
  const name = typeof cause === "object" && cause !== null && "name" in cause ? String(cause.name) : "";
  switch (name) {
    case "NotAllowedError":
    case "SecurityError":
      return "denied";
    case "NotFoundError":
    case "OverconstrainedError":
      return "none";
    case "NotReadableError":
    case "AbortError":
      return "busy";
    default:
      return "unsupported";
  }
}

/** Why there can be none, before anybody is asked for leave. */
export function missing(scope: { isSecureContext: boolean; navigator: { mediaDevices?: unknown } } = globalThis): MicProblem | undefined {
  if (!scope.isSecureContext) return "insecure";
  return scope.navigator.mediaDevices && typeof AudioWorkletNode === "function" ? undefined : "unsupported";
}

/** Rejects with `MicError`, or with the signal's own reason once that is given. */
export async function openMic(signal?: AbortSignal): Promise<Mic> {
  const without = missing();
  if (without) throw new MicError(without);
  let stream: MediaStream;
  try {
    // What the browser does to the sound it does itself, on this machine.
    const audio = { channelCount: 1, echoCancellation: true, noiseSuppression: true, autoGainControl: true };
    stream = await navigator.mediaDevices.getUserMedia({ audio, video: false });
  } catch (cause) {
    signal?.throwIfAborted();
    throw new MicError(problemOfMic(cause), { cause });
  }
  return listen(stream, signal);
}

async function listen(stream: MediaStream, signal?: AbortSignal): Promise<Mic> {
  const release = () => stream.getTracks().forEach((track) => track.stop());
  let context: AudioContext | undefined;
  // At once, whatever is still waited for.
  signal?.addEventListener("abort", release, { once: true });
  try {
    signal?.throwIfAborted();
    context = new AudioContext({ latencyHint: "interactive" });
    await context.audioWorklet.addModule(worklet).catch((cause: unknown) => {
      throw new MicError("fetch", { cause });
    });
    await context.resume();
    signal?.throwIfAborted();
    return wire(stream, context);
  } catch (cause) {
    release();
    void context?.close().catch(() => undefined);
    signal?.throwIfAborted();
    throw cause instanceof MicError ? cause : new MicError("unsupported", { cause });
  } finally {
    signal?.removeEventListener("abort", release);
  }
}

function wire(stream: MediaStream, context: AudioContext): Mic {
  const source = context.createMediaStreamSource(stream);
  const capture = new AudioWorkletNode(context, "mtor-capture", { numberOfInputs: 1, numberOfOutputs: 1 });
  let open = true;
  const close = () => {
    if (!open) return;
    open = false;
    capture.port.onmessage = null;
    source.disconnect();
    capture.disconnect();
    for (const track of stream.getTracks()) track.stop();
    void context.close().catch(() => undefined);
  };
  const mic: Mic = { rate: RATE, onframe: () => undefined, onlost: () => undefined, close };
  const lost = () => {
    if (!open) return;
    close();
    mic.onlost();
  };
  capture.port.onmessage = (event: MessageEvent<Float32Array>) => {
    if (open) mic.onframe(event.data);
  };
  capture.onprocessorerror = lost;
  // Not told for `stop()`: only where the device, or the leave to use it, went away.
  for (const track of stream.getTracks()) track.addEventListener("ended", lost);
  // Its output is silence; a node that leads nowhere is not run by every browser.
  source.connect(capture).connect(context.destination);
  return mic;
}
