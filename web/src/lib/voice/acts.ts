// What hands-free does in this page: commands and questions, carried out by the session as if a hand had
// pressed the buttons, each with its way back as far as there is one.

import type { Turn } from "../conversation";
import type { Desk } from "../desk.svelte";
import { hashOf } from "../places.svelte";
import { reasonOf } from "../problem";
import { problemOf } from "../realm";
import type { Run } from "../run";
import { isDone } from "../run";
import { QUEUED_MAX, type Session } from "../session.svelte";
import type { Talk } from "../talk.svelte";
import { dataOf, textIntents, type Doable } from "./commands";
import type { Acts, Done } from "./hands-free.svelte";

/** What reads aloud. */
export interface Voice {
  readonly speaking: boolean;
  /** Of an answer, as it was written. */
  read(turn: Turn): void;
  stop(): void;
}

export interface ActsNeeds {
  session: Session;
  desk: Desk;
  voice?: Voice | undefined;
  /** What is heard is sent at once; otherwise it stands in the box until "send". */
  atOnce(): boolean;
  /** Brings a conversation into view; without a name a new one. */
  show?: (id: string) => void;
  onRun?: (run: Run) => void;
}

const nothing = (said: string): Done => ({ said });

/** As long as a price may take to come. */
const PRICED_MS_MAX = 20_000;
const PRICED_EVERY_MS = 50;

/** Something stands in the box. */
function isFilled({ draft, attached, editing }: Talk): boolean {
  return draft.trim() !== "" || attached.length > 0 || editing !== undefined;
}

export function actsOf(needs: ActsNeeds): Acts {
  return new SessionActs(needs);
}

class SessionActs implements Acts {
  /** Where a spoken question is being priced. */
  #asking: Talk | undefined;

  constructor(private readonly needs: ActsNeeds) {}

  intents(): readonly string[] {
    const { desk } = this.needs;
    return textIntents(desk.manifests ?? [], desk.offers);
  }

  called(): void {
    this.needs.voice?.stop();
  }

  async question(text: string): Promise<Done> {
    const { session } = this.needs;
    await this.#priced();
    const { talk } = session;
    const before = talk.draft;
    const stood = isFilled(talk);
    this.#write(before.trim() === "" ? text : `${before.trimEnd()} ${text}`);
    const isThere = () => session.talk === talk && talk.draft.trim().endsWith(text);
    const written = { undo: () => (this.#write(before), "Taken out of the box again."), undoable: isThere };
    // Whoever calls, from across the room, does not send what the visitor has not sent.
    if (stood) return { said: "In the box: something stood there already. Say “send” to ask it all.", ...written };
    if (!this.needs.atOnce()) return { said: "In the box. Say “send” to ask it.", ...written };
    this.#asking = talk;
    const sent = await this.#send().finally(() => (this.#asking = undefined));
    if (sent) return sent;
    return isThere() ? { said: "In the box: it could not be sent yet.", ...written } : nothing("Not asked.");
  }

  /** A question is lost if the box changes while it is being priced. */
  async #priced(): Promise<void> {
    const { session } = this.needs;
    const until = Date.now() + PRICED_MS_MAX;
    while (session.pricing && Date.now() < until) await new Promise((done) => setTimeout(done, PRICED_EVERY_MS));
  }

  command(command: Doable): Promise<Done> {
    switch (command.kind) {
      case "stop":
        return Promise.resolve(this.#stop());
      case "repeat":
        return Promise.resolve(this.#repeat());
      case "cancel":
        return this.#cancel();
      case "send":
        return this.#send().then((sent) => sent ?? nothing("There is nothing in the box that can be sent."));
      case "new conversation":
        return Promise.resolve(this.#fresh());
      case "ask":
        return command.intent === "chat" ? this.question(command.text) : this.#ask(command.intent, command.text);
    }
  }

  /** An answer that comes; reading aloud has stopped already, with the call. */
  #stop(): Done {
    const { session } = this.needs;
    const { talk } = session;
    if (session.pricing && this.#asking === talk) return this.#empty("Not asked.");
    if (!session.talk.running) return nothing("Silence.");
    session.stop();
    return nothing("The answer is stopped.");
  }

  #repeat(): Done {
    const { session, voice } = this.needs;
    const last = session.turns.findLast((turn) => turn.text.trim() !== "");
    if (!last) return nothing("There is no answer yet.");
    if (!voice || !session.line.serves("speak")) return nothing("This realm reads nothing aloud now.");
    voice.read(last);
    return { said: "Once more.", undo: () => (voice.stop(), "Silence."), undoable: () => voice.speaking };
  }

  /** What stands in the box, else the last question that waits, else the answer that comes. */
  async #cancel(): Promise<Done> {
    const { session } = this.needs;
    const { talk } = session;
    if (isFilled(talk)) return this.#empty("The box is empty.");
    const waits = talk.queued.at(-1);
    if (waits) {
      await session.takeBack(waits.id);
      if (session.talk === talk) return this.#empty("The last question that waited is taken back.");
      return nothing("The last question that waited is taken back: it stands in its box.");
    }
    if (!talk.running) return nothing("There is nothing to cancel.");
    session.stop();
    return nothing("The answer is cancelled.");
  }

  /** Nothing where nothing could be sent. */
  async #send(): Promise<Done | undefined> {
    const { session } = this.needs;
    const { talk, draft } = session;
    if (draft.trim() === "" || talk.queued.length >= QUEUED_MAX) return undefined;
    const known = new Set([...talk.queued.map(({ id }) => id), ...talk.all().map(({ key }) => key)]);
    await session.ask();
    const asked = talk.all().find(({ key }) => !known.has(key));
    if (asked) {
      const open = () => session.talk === talk && talk.running && talk.current?.key === asked.key;
      return { said: "Asked.", undo: () => (session.stop(), "The answer is stopped."), undoable: open };
    }
    const waiting = talk.queued.find(({ id }) => !known.has(id));
    if (!waiting) return undefined;
    return {
      said: "It waits for the answer before.",
      undo: async () => (await session.takeBack(waiting.id), "It stands in the box again."),
      undoable: () => session.talk === talk && talk.queued.some(({ id }) => id === waiting.id),
    };
  }

  #fresh(): Done {
    const { session } = this.needs;
    const show = this.needs.show ?? ((id: string) => (location.hash = hashOf("ask", id)));
    const before = session.talk;
    if (!before.kept) return nothing("This conversation is new.");
    show("");
    return { said: "A new conversation.", undo: () => (show(before.id), "Back in the conversation before.") };
  }

  async #ask(intent: string, text: string): Promise<Done> {
    const { desk, onRun } = this.needs;
    const manifest = desk.manifests?.find(({ name }) => name === intent);
    const data = manifest && dataOf(manifest, text);
    if (!data) return nothing(`${intent} takes no text.`);
    try {
      const run = desk.run(intent, data, await desk.quote(intent, data), false);
      onRun?.(run);
      const open = () => desk.runs.some((one) => one.key === run.key && !isDone(one));
      return { said: `${intent} is asked.`, undo: () => (desk.stop(run.key), `${intent} is stopped.`), undoable: open };
    } catch (cause) {
      return nothing(`${intent} could not be asked: ${reasonOf(problemOf(cause))}`);
    }
  }

  /** Takes everything out of the box: words, files, and what was to be said in other words. */
  #empty(said: string): Done {
    const { session } = this.needs;
    const { talk } = session;
    const { draft, attached, editing } = talk;
    session.endEdit();
    const undo = () => {
      [talk.attached, talk.editing] = [attached, editing];
      this.#write(draft);
      return "It stands in the box again.";
    };
    return { said, undo, undoable: () => session.talk === talk && !isFilled(talk) };
  }

  #write(text: string): void {
    const { session } = this.needs;
    session.draft = text;
    session.draftChanged();
  }
}
