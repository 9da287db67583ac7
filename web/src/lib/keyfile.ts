// Keys that a visitor brings along, and takes along: what a pasted text is, and the file that holds
// the accounts of this browser. The file is the one that `mtor` keeps (`accounts.json`), so that each
// understands the other's. Nothing here is logged, and nothing stands in an address.

import { list, record, text } from "./conversation";
import type { Keys } from "./realm";

/** What a text is, as far as its form tells. */
export type Understood =
  | { kind: "api key"; api_key: string; doubt?: string }
  | { kind: "file"; accounts: Placed[] }
  /** 32 bytes in base58: a secret key and an account's number look alike. */
  | { kind: "secret or account"; value: string }
  | { kind: "unknown"; why: string };

/** An account and the realm it is said to be of; empty where that is not said. */
export interface Placed {
  realm: string;
  keys: Keys;
}

export const FILE_NAME = "mtor-accounts.json";
/** More than a browser keeps, by far. */
export const FILE_BYTES_MAX = 1_000_000;
const PREFIX = "mtor_";
const ACCOUNTS_MAX = 50;

export function understand(pasted: string): Understood {
  const trimmed = pasted.trim();
  if (trimmed.startsWith("{")) return understandFile(trimmed);
  // As it stands in a shell, or in a header.
  const bare = trimmed.replace(/^(export\s+)?MTOR_API_KEY\s*=\s*/, "").replace(/^(authorization:\s*)?bearer\s+/i, "").replace(/^["']|["']$/g, "");
  if (bare.startsWith(PREFIX)) {
    if (/\s/.test(bare)) return { kind: "unknown", why: "There is a blank in the middle of it: paste one key at a time." };
    const whole = base58Bytes(bare.slice(PREFIX.length))?.length === 32;
    return { kind: "api key", api_key: bare, ...(!whole && { doubt: "Its length is not that of a whole key: was it cut?" }) };
  }
  if (base58Bytes(bare)?.length === 32) return { kind: "secret or account", value: bare };
  return { kind: "unknown", why: `This is no key. An API key begins with ${PREFIX}` };
}

/** This page's export, `mtor`'s accounts.json, or what the realm answered when it opened a guest account. */
function understandFile(written: string): Understood {
  let fields: Record<string, unknown>;
  try {
    fields = record(JSON.parse(written));
  } catch {
    return { kind: "unknown", why: "This file is cut, or no file of keys." };
  }
  const accounts: Placed[] = [];
  const add = (realm: string, given: unknown) => {
    const { account, api_key, secret_key } = record(given);
    if (!text(account) || !text(api_key) || accounts.length >= ACCOUNTS_MAX) return;
    if (accounts.some(({ keys }) => keys.account === account)) return;
    const keys = { account: String(account), api_key: String(api_key) };
    accounts.push({ realm, keys: text(secret_key) ? { ...keys, secret_key: String(secret_key) } : keys });
  };
  add("", fields);
  for (const [realm, entry] of Object.entries(record(fields["realms"]))) add(realm, entry);
  for (const pair of list(fields["former"])) {
    const [realm, entry] = list(pair);
    add(text(realm) ?? "", entry);
  }
  return accounts.length > 0 ? { kind: "file", accounts } : { kind: "unknown", why: "There is no key in this file." };
}

/** Of a file's accounts those of this realm come first; of another realm they are of no use here. */
export function ofRealm(accounts: readonly Placed[], realm: string): { here: Keys[]; elsewhere: number } {
  const same = (other: string) => other === "" || plain(other) === plain(realm);
  const here = accounts.filter(({ realm: other }) => same(other)).map(({ keys }) => keys);
  return { here, elsewhere: accounts.length - here.length };
}

/** `localhost` and `127.0.0.1` are one machine. */
function plain(address: string): string {
  return address.replace(/\/+$/, "").replace("//localhost", "//127.0.0.1").toLowerCase();
}

/** As `mtor` writes it: saved as its accounts.json, `mtor` uses the same accounts. */
export function exported(realm: string, keys: Keys, former: readonly Keys[]): string {
  const address = realm.replace(/\/+$/, "");
  return `${JSON.stringify({ version: 1, realms: { [address]: keys }, former: former.map((other) => [address, other]) }, null, 2)}\n`;
}

/** Whose secret key this is. Nothing where the browser cannot tell: it needs a secure origin, too. */
export async function accountOfSecret(secret: string): Promise<string | undefined> {
  const seed = base58Bytes(secret);
  if (seed?.length !== 32 || !globalThis.crypto?.subtle) return undefined;
  // RFC 8410: an Ed25519 key in PKCS #8 is this head and the 32 bytes.
  const head = [0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];
  try {
    const key = await crypto.subtle.importKey("pkcs8", Uint8Array.from([...head, ...seed]), "Ed25519", true, ["sign"]);
    const { x } = await crypto.subtle.exportKey("jwk", key);
    const binary = atob((x ?? "").replaceAll("-", "+").replaceAll("_", "/"));
    return base58(Uint8Array.from(binary, (unit) => unit.charCodeAt(0)));
  } catch {
    return undefined;
  }
}

const ALPHABET = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz";

export function base58(bytes: Uint8Array): string {
  let number = 0n;
  for (const byte of bytes) number = (number << 8n) | BigInt(byte);
  let digits = "";
  for (; number > 0n; number /= 58n) digits = (ALPHABET[Number(number % 58n)] ?? "") + digits;
  const zeros = bytes.findIndex((byte) => byte !== 0);
  return "1".repeat(zeros < 0 ? bytes.length : zeros) + digits;
}

/** Undefined where it is no base58. */
export function base58Bytes(written: string): Uint8Array | undefined {
  // No key is longer; what is pasted by mistake may be.
  if (written.length === 0 || written.length > 64) return undefined;
  let number = 0n;
  for (const letter of written) {
    const digit = ALPHABET.indexOf(letter);
    if (digit < 0) return undefined;
    number = number * 58n + BigInt(digit);
  }
  const bytes: number[] = [];
  for (; number > 0n; number >>= 8n) bytes.unshift(Number(number & 0xffn));
  const zeros = /^1*/.exec(written)?.[0].length ?? 0;
  return Uint8Array.from([...Array<number>(zeros).fill(0), ...bytes]);
}
