// How much of a conversation a model can read at once. A realm tells a model's context in tokens; what
// a text has of them only its model knows, so that this is a careful guess: ordinary words have four
// bytes a token, code about three, and letters of three bytes about one token each.

const BYTES_PER_TOKEN = 3;
/** What a model's template puts around each message. */
const TOKENS_PER_MESSAGE = 8;

const encoder = new TextEncoder();

function bytesOf(text: string): number {
  return encoder.encode(text).length;
}

export function tokensOf(message: string): number {
  return Math.ceil(bytesOf(message) / BYTES_PER_TOKEN) + TOKENS_PER_MESSAGE;
}

/** Tokens that all messages together may have. An answer is never given more than half of the context. */
export function roomOf(context: number | undefined, answerTokens: number): number {
  if (context === undefined) return Infinity;
  return context - Math.min(answerTokens, Math.floor(context / 2));
}

/** Characters like those of this text that may be too many; 0 where it should fit. */
export function charsBeyond(text: string, system: string, room: number): number {
  const prompt = system.trim() === "" ? 0 : tokensOf(system.trim());
  const beyond = (tokensOf(text) + prompt - room) * BYTES_PER_TOKEN;
  return beyond > 0 ? Math.min(Math.ceil((beyond * text.length) / bytesOf(text)), text.length) : 0;
}
