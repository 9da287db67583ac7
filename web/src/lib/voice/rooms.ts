// Speaking and being read to, joined with the page: one of each for a session, made when first needed.

import type { Price } from "../amount";
import type { Line } from "../line.svelte";
import { Realm, Refusal } from "../realm";
import type { Session } from "../session.svelte";
import type { Talk } from "../talk.svelte";
import { formatBytes } from "../told";
import { deviceEar } from "./device";
import { RealmEar, type Ear } from "./ear";
import type { EarState } from "./ear-device";
import { hearsHere, isHandsFree } from "./here.svelte";
import { openMic } from "./mic";
import { Loudspeaker } from "./player";
import { Reader } from "./reader.svelte";
import { onAnother, until } from "./watch.svelte";
import { Settings, USUAL_VOICE } from "./settings.svelte";
import { Voice } from "./voice.svelte";

export interface Rooms {
  settings: Settings;
  voice: Voice;
  reader: Reader;
  player: Loudspeaker;
  /** The realm, also where this device listens otherwise. */
  ear: Ear;
}

const rooms = new WeakMap<Session, Rooms>();

export function roomsOf(session: Session): Rooms {
  const known = rooms.get(session);
  if (known) return known;
  const made = join(session);
  rooms.set(session, made);
  return made;
}

function join(session: Session): Rooms {
  const { wallet, line } = session;
  const realm = new Realm(document.baseURI, () => wallet.keys?.api_key);
  const pay = async () => {
    if (!(await wallet.ensure())) throw new Refusal(wallet.guestProblem ?? NO_ACCOUNT);
    return wallet.purse ?? { asset: "grant" };
  };
  const settings = new Settings();
  const player = new Loudspeaker();
  const onPaid = () => void wallet.refresh();
  const reader: Reader = new Reader({
    realm, player, pay, onPaid,
    price: () => priceOf(line, "speak"),
    // The usual one is named by nobody: another model has its own.
    voice: () => ({ speed: settings.speed, ...(settings.voice === USUAL_VOICE ? {} : { voice: settings.voice }) }),
    onBegin: () => {
      if (settings.interrupts && !isHandsFree() && line.serves("transcribe")) voice.listen();
    },
  });
  const ear = new RealmEar({
    realm, pay,
    price: async () => {
      voice.note = line.returning.has("transcribe") ? "What hears you is coming back: it is waited for." : "";
      return priceOf(line, "transcribe").finally(() => (voice.note = ""));
    },
    onWords: (words) => (voice.words = words),
    onCost: (cost) => {
      voice.cost = cost;
      onPaid();
    },
  });
  /** In which it was spoken. */
  let talk = session.talk;
  const voice: Voice = new Voice({
    openMic: (signal) => {
      session.hears = true;
      talk = session.talk;
      return openMic(signal);
    },
    ear: () => (hearsHere() ? here(voice) : ear),
    onSpeech: () => {
      // In the visitor's gesture, which browsers ask for before anything is played.
      if (settings.readAlways) player.ready();
      reader.stop();
    },
    isReading: () => reader.reading !== "",
    onWords: (words) => void take(session, talk, settings, words),
  });
  // What was spoken in one conversation is no word of another, and nobody pays for what another asked.
  onAnother(() => session.talk.id, () => {
    voice.cancel();
    voice.cost = undefined;
  });
  onAnother(() => wallet.keys?.account, () => {
    voice.cancel();
    reader.stop();
  });
  return { settings, reader, player, voice, ear };
}

/** This device's ear, which may have to be fetched first. */
function here(voice: Voice): Ear {
  const ear = deviceEar(document.baseURI);
  return {
    async hear(samples, signal) {
      const tell = (state: EarState) => void (voice.note = noteOf(state));
      const unwatch = ear.watch(tell);
      tell(ear.state);
      try {
        return await ear.hear(samples, signal);
      } finally {
        unwatch();
      }
    },
  };
}

function noteOf(state: EarState): string {
  if (state.kind === "loading") return `First what hears speech is fetched${state.bytes > 0 ? `: ${formatBytes(state.received)} of ${formatBytes(state.bytes)}` : ""}.`;
  return state.kind === "starting" ? "First it is measured how fast this device hears." : "";
}

/** Into the box, behind what stands there. */
async function take(session: Session, talk: Talk, settings: Settings, words: string): Promise<void> {
  // A question that is being priced is sent as it stands, or not at all.
  if (session.pricing) await until(() => !session.pricing);
  if (session.talk !== talk) return;
  const before = session.draft.trimEnd();
  session.draft = before === "" ? words : `${before} ${words}`;
  session.draftChanged();
  if (settings.sendAtOnce) await session.ask();
}

/** As it stands in an offer. What has none yet, as after a restart, is waited for: no price is not for nothing. */
async function priceOf(line: Line, intent: "speak" | "transcribe"): Promise<Price> {
  const offer = await line.offer(intent);
  if (!offer) throw new Refusal(GONE[intent]);
  return offer.price;
}

const GONE = {
  speak: { code: "MT0017", message: "what reads aloud is not here now: try again later", status: 503 },
  transcribe: { code: "MT0017", message: "what hears speech is not here now: try again later", status: 503 },
};
const NO_ACCOUNT = { code: "", message: "no account to pay with", status: 0 };
