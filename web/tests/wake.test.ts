import { expect, it } from "vitest";
import { addressed, distanceOf, soundOf, wakeOf, type Wake } from "../src/lib/voice/wake";

const wake = (words: string): Wake => {
  const found = wakeOf(words);
  if (!found) throw new Error(`${words} is no wake word`);
  return found;
};
const COMPUTER = wake("computer");

it("takes what follows the wake word, and nothing without it", () => {
  for (const [said, rest] of [
    ["Computer, what is the weather like today?", "what is the weather like today?"],
    ["Computer what's a \u201cring\u201d?", "what's a \u201cring\u201d?"],
    ["COMPUTER! Stop.", "Stop."],
    ["Computer.", ""],
    ["computer", ""],
    ["Hey, computer, who are you?", "who are you?"],
    ["Okay computer. 3 times 4?", "3 times 4?"],
    ["Computer, computer, listen.", "listen."],
    ["Computer... ", ""],
    // Heard as two words, or nearly.
    ["Com puter, go on.", "go on."],
    ["Commuter, go on.", "go on."],
    ["Computers, go on.", "go on."],
    ["Kompjuter, go on.", "go on."],
    ["Compuder, what time is it", "what time is it"],
    ["Hey compuder. What time is it?", "What time is it?"],
    ["Com-puter what time is it", "what time is it"],
    ["Computers.", ""],
    ["Computer, compute our taxes.", "compute our taxes."],
    ["Computer, computer", ""],
  ] as const) {
    expect([said, addressed(said, COMPUTER)]).toEqual([said, rest]);
  }
  for (const said of [
    "",
    "What is a computer?",
    "My computer is slow.",
    "Hello. How are you?",
    "The computer says no.",
    "Compiler errors are long.",
    "Composers write music.",
    "Compare two things.",
    "Company is coming.",
    "Complete it.",
    "Hey",
    "...",
    "\u042d\u0442\u043e computer",
  ]) {
    expect([said, addressed(said, COMPUTER)]).toEqual([said, undefined]);
  }
});

it("takes no sentence for a call that begins with what sounds like it", () => {
  for (const said of [
    "Compute a sum of these.",
    "Compute our taxes",
    "Compute or die",
    "Okay compute a sum",
    "Complete or fail",
    "Compete a lot",
    "Commute or drive",
    "Compute I said",
    "Camp outer space",
    "Compute air resistance.",
    "Compute R squared.",
    "Come, Peter, go on.",
    "Computers are slow",
    "Hey, computers are slow.",
    "Computer's fan is loud",
    "Computer\u2019s fan is loud",
    "Commuter trains are late",
    "Compuder what time is it",
  ]) {
    expect([said, addressed(said, COMPUTER)]).toEqual([said, undefined]);
  }
  expect(addressed("Read a letter, please.", wake("red alert"))).toBeUndefined();
  expect(addressed("Red alerts are rare.", wake("red alert"))).toBeUndefined();
  // Of two parts that only sound so, where a pause follows.
  expect(addressed("Jar viz, hello.", wake("jarvis"))).toBe("hello.");
  expect(addressed("Jar viz hello.", wake("jarvis"))).toBeUndefined();
});

it("may be any words of the stated form", () => {
  for (const [written, said, rest] of [
    ["Jarvis", "Jarvis, hello.", "hello."],
    ["red alert", "Red alert! Shields up.", "Shields up."],
    ["red alert", "Redalert shields up", "shields up"],
    ["open the door", "Open the door, please.", "please."],
  ] as const) {
    expect(addressed(said, wake(written))).toBe(rest);
  }
  // A short one has to be heard as it is.
  expect(addressed("Service, hello.", wake("jarvis"))).toBeUndefined();
  expect(wake("jarvis").near).toBe(0);
  expect(COMPUTER.near).toBe(1);
  for (const written of ["", "a", "bob", "hey you", "hal9000", "one two three four", "caf\u00e9 noir", "x".repeat(21), "aeiou"]) {
    expect([written, wakeOf(written)]).toEqual([written, undefined]);
  }
});

it("compares sounds, not letters", () => {
  expect(soundOf("computer")).toBe("kampatar");
  for (const [one, other] of [["fone", "phone"], ["kwik", "quick"], ["night", "knight"], ["Zoe", "soe"]] as const) {
    expect(soundOf(one)).toBe(soundOf(other));
  }
  expect(soundOf("the")).toBe("Ta");
});

it("has a distance that is one", () => {
  const keys = ["", "k", "kampatar", "kamatar", "kampatars", "kanpatar", "kampasar", "sab", "tap"];
  for (const one of keys) {
    for (const other of keys) {
      const distance = distanceOf(one, other, 99);
      expect(distance).toBe(distanceOf(other, one, 99));
      expect(distance === 0).toBe(one === other);
      expect(distance).toBeLessThanOrEqual(one.length + other.length);
      for (const third of keys) expect(distance).toBeLessThanOrEqual(distanceOf(one, third, 99) + distanceOf(third, other, 99));
      // Beyond the bound it is only beyond it.
      expect(Math.min(distanceOf(one, other, 1), 2)).toBe(Math.min(distance, 2));
    }
  }
  expect([distanceOf("kampatar", "kamatar", 9), distanceOf("kampatar", "kanpatar", 9), distanceOf("kampatar", "kampasar", 9)]).toEqual([1, 1, 2]);
});

it("survives whatever was heard", () => {
  let seed = 7;
  const random = (below: number) => (seed = (seed * 48_271) % 2_147_483_647) % below;
  const letters = "computer ,.!?'\u2019\u00e9\u4e2d\u{1f600}\n0";
  for (let round = 0; round < 2_000; round += 1) {
    const said = Array.from({ length: random(40) }, () => [...letters][random([...letters].length)]).join("");
    const rest = addressed(said, COMPUTER);
    if (rest !== undefined) expect(said.trimEnd().endsWith(rest)).toBe(true);
    expect(addressed(`Computer, ${said}`, COMPUTER)).toBeDefined();
  }
});
