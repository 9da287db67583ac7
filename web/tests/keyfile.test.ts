import { afterEach, expect, it, vi } from "vitest";
import { accountOfSecret, base58, base58Bytes, exported, ofRealm, understand } from "../src/lib/keyfile";
import { forgetKeys, formerKeys, keepFormer, keepSecret, loadKeys, saveKeys } from "../src/lib/keys";

const hex = (digits: string) => base58(Uint8Array.from(digits.match(/../g) ?? [], (two) => parseInt(two, 16)));
// The first key pair of RFC 8032's test vectors, in base58 as a realm gives them.
const GUEST = {
  account: hex("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"),
  api_key: `mtor_${hex("07".repeat(32))}`,
  secret_key: hex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60"),
};
const OTHER = { account: "2".repeat(44), api_key: "mtor_x" };

afterEach(() => vi.unstubAllGlobals());

it("tells keys apart by their form", () => {
  expect(understand(`  ${GUEST.api_key}\n`)).toEqual({ kind: "api key", api_key: GUEST.api_key });
  for (const around of [`export MTOR_API_KEY=${GUEST.api_key}`, `MTOR_API_KEY="${GUEST.api_key}"`, `Bearer ${GUEST.api_key}`, `Authorization: Bearer ${GUEST.api_key}`]) {
    expect(understand(around)).toMatchObject({ api_key: GUEST.api_key });
  }
  expect(understand(GUEST.api_key.slice(0, 30))).toMatchObject({ kind: "api key", doubt: expect.stringContaining("cut") as string });
  expect(understand(GUEST.secret_key).kind).toBe("secret or account");
  expect(understand(GUEST.account).kind).toBe("secret or account");
  for (const other of ["hello", "", "0OIl", "mtor_a b", "{", "{}", '{"version":1,"realms":{}}', "x".repeat(100_000)]) expect(understand(other).kind).toBe("unknown");
});

it("finds whose a secret key is, as the realm made it", async () => {
  expect(await accountOfSecret(GUEST.secret_key)).toBe(GUEST.account);
  expect(await accountOfSecret("not base58 0OIl")).toBeUndefined();
  vi.stubGlobal("crypto", {});
  expect(await accountOfSecret(GUEST.secret_key)).toBeUndefined();
});

it("writes a file that it reads again, with what was used before", () => {
  const found = understand(exported("http://127.0.0.1:9000/", GUEST, [OTHER]));
  expect(found).toEqual({ kind: "file", accounts: [{ realm: "http://127.0.0.1:9000", keys: GUEST }, { realm: "http://127.0.0.1:9000", keys: OTHER }] });
});

it("takes what the realm answered a guest, and leaves accounts of other realms out", () => {
  expect(understand(JSON.stringify({ ...GUEST, balance: "1" }))).toEqual({ kind: "file", accounts: [{ realm: "", keys: GUEST }] });
  const file = JSON.stringify({ version: 1, realms: { "http://a:1": GUEST, "http://b:2": OTHER }, former: [["http://b:2", OTHER], ["broken"], 7] });
  const found = understand(file);
  expect(found.kind === "file" && ofRealm(found.accounts, "http://b:2/")).toEqual({ here: [OTHER], elsewhere: 1 });
  expect(ofRealm([{ realm: "http://localhost:9", keys: OTHER }], "http://127.0.0.1:9/").here).toHaveLength(1);
});

it("keeps what was brought along beside what there is", () => {
  const kept = new Map<string, string>();
  vi.stubGlobal("localStorage", {
    getItem: (name: string) => kept.get(name) ?? null,
    setItem: (name: string, value: string) => void kept.set(name, value),
    removeItem: (name: string) => void kept.delete(name),
  });
  forgetKeys();
  saveKeys({ account: GUEST.account, api_key: GUEST.api_key });
  keepFormer([OTHER, GUEST]);
  expect(formerKeys()).toEqual([OTHER]);
  expect(keepSecret("nobody", "s")).toBe(false);
  expect(keepSecret(GUEST.account, GUEST.secret_key)).toBe(true);
  expect(keepSecret(OTHER.account, "s")).toBe(true);
  expect([loadKeys(), formerKeys()]).toEqual([GUEST, [{ ...OTHER, secret_key: "s" }]]);
});

it("carries 32 bytes through base58", () => {
  for (const bytes of [new Uint8Array(32), Uint8Array.from({ length: 32 }, (_, at) => at), new Uint8Array(32).fill(255)]) {
    expect(base58Bytes(base58(bytes))).toEqual(bytes);
  }
});
