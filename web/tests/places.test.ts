import { expect, it } from "vitest";
import { addressOf, hashOf } from "../src/lib/places.svelte";

it("leads to a place, to a thing in it, and to the first place from anywhere else", () => {
  expect(addressOf("#/ask")).toEqual({ place: "ask", rest: "" });
  expect(addressOf(hashOf("ask", "a b/%"))).toEqual({ place: "ask", rest: "a b/%" });
  for (const hash of ["", "#", "#/", "#/nowhere", "#ask", "#/ask%"]) {
    expect(addressOf(hash)).toEqual({ place: "ask", rest: "" });
  }
  expect(addressOf("#/ask/%E0%A4%A")).toEqual({ place: "ask", rest: "" });
});
