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

export function actsOf(needs: ActsNeeds): Acts {
  return new SessionActs(needs);
}

class SessionActs implements Acts {
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
    const before = session.draft;
    session.draft = before.trim() === "" ? text : `${before.trimEnd()} ${text}`;
    session.draftChanged();
    const back = () => this.#write(before);
    const written = { undo: () => (back(), "Taken out of the box again."), undoable: () => session.draft.trim().endsWith(text) };
    if (!this.needs.atOnce()) return { said: "In the box. Say “send” to ask it.", ...written };
    const sent = await this.#send();
    return sent ?? { said: "In the box: it could not be sent yet.", ...written };
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
    if (!session.talk.running) return nothing("Silence.");
    session.stop();
    return nothing("The answer is stopped.");
  }

  #repeat(): Done {
    const { session, voice } = this.needs;
    const last = session.turns.findLast((turn) => turn.text.trim() !== "");
    if (!last) return nothing("There is no answer yet.");
    if (!voice) return nothing("This realm reads nothing aloud now.");
    voice.read(last);
    return { said: "Once more.", undo: () => (voice.stop(), "Silence."), undoable: () => voice.speaking };
  }

  /** What stands in the box, else the last question that waits, else the answer that comes. */
  async #cancel(): Promise<Done> {
    const { session } = this.needs;
    const { talk, draft } = session;
    if (draft.trim() !== "") {
      this.#write("");
      return { said: "The box is empty.", undo: () => (this.#write(draft), "It stands in the box again."), undoable: () => session.draft === "" };
    }
    const waits = talk.queued.at(-1);
    if (waits) {
      await session.takeBack(waits.id);
      this.#write("");
      const undo = () => (this.#write(waits.question), "It stands in the box again.");
      return { said: "The last question that waited is taken back.", undo, undoable: () => session.draft === "" };
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
    const known = new Set(talk.queued.map(({ id }) => id));
    await session.ask();
    if (session.talk !== talk || session.draft.trim() !== "") return undefined;
    const waiting = talk.queued.find(({ id }) => !known.has(id));
    if (!waiting) return nothing("Asked.");
    return {
      said: "It waits for the answer before.",
      undo: async () => (await session.takeBack(waiting.id), "It stands in the box again."),
      undoable: () => talk.queued.some(({ id }) => id === waiting.id),
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

  #write(text: string): void {
    const { session } = this.needs;
    session.draft = text;
    session.draftChanged();
  }
}
