import { describe, expect, it } from "vitest";
import { assetName, formatAmount, formatMoney, formatPrice, fromPrice, isLess, parseAmount, meanCost, parseShown, timesMore } from "../src/lib/amount";

describe("amounts", () => {
  it.each([
    ["0", 6, "0.000000"],
    ["1", 6, "0.000001"],
    ["42", 6, "0.000042"],
    ["250000", 6, "0.250000"],
    ["1000000", 6, "1.000000"],
    ["1234567890000", 6, "1,234,567.890000"],
    ["999", 0, "999"],
    ["1000", 0, "1,000"],
    ["-1500000", 6, "-1.500000"],
    // 2^96 - 1: far beyond what a float holds
    ["79228162514264337593543950335", 9, "79,228,162,514,264,337,593.543950335"],
    // More decimals than need to stand still.
    ["1500000000", 9, "1.500000"],
    ["1500000010", 9, "1.50000001"],
    ["150", 2, "1.50"],
    ["1.5", 6, "?"],
    ["1e6", 6, "?"],
    ["", 6, "?"],
  ])("%s with %i decimals is %s", (text, decimals, expected) => {
    expect(formatAmount(text, decimals)).toBe(expected);
  });

  it("takes nothing but decimal integers", () => {
    for (const text of [7, null, " 1", "0x10", "1n", "9".repeat(41)]) expect(parseAmount(text)).toBeUndefined();
    expect(parseAmount("79228162514264337593543950335")).toBe(2n ** 96n - 1n);
  });

  it("names the asset, and says base units where the decimals are not known", () => {
    expect(assetName("9000")).toBe("$9000");
    expect(formatMoney({ asset: "9000", amount: "1500000" }, 6)).toBe("1.500000 $9000");
    expect(formatMoney({ asset: "grant", amount: "1500" }, undefined)).toBe("1,500 base units of grant");
  });

  it("writes prices short", () => {
    expect(formatPrice({ amount: "100", per: 1_000_000, unit: "token" }, "grant", 6)).toBe("0.0001 grant per 1M tokens");
    expect(formatPrice({ amount: "1", per: 1, unit: "intent" }, "9000", 6)).toBe("0.000001 $9000 per intent");
    expect(formatPrice({ amount: "5", per: 1_000, unit: "point" }, "grant", 0)).toBe("5 grant per 1k points");
    expect(formatPrice({ amount: "20", per: 1_000, unit: "millisecond" }, "grant", 6)).toBe("0.00002 grant per second");
    expect(formatPrice({ amount: "20", per: 60_000, unit: "millisecond" }, "grant", 6)).toBe("0.00002 grant per 60 seconds");
    expect(formatPrice({ amount: "20", per: 10, unit: "millisecond" }, "grant", 6)).toBe("0.00002 grant per 10 milliseconds");
    expect(formatPrice({ amount: "0", per: 1, unit: "token" }, "grant", 6)).toBe("free");
  });

  it("compares as integers, never as text", () => {
    expect(isLess("9", "10")).toBe(true);
    expect(isLess("10", "10")).toBe(false);
    expect(isLess(undefined, "10")).toBe(false);
  });
});

it("says what a balance is good for, never too much", () => {
  expect(timesMore("1000000", 40n)).toBe("about 25,000 more");
  expect(timesMore("999999", 1n)).toBe("about 990,000 more");
  expect(timesMore("100", 9n)).toBe("11 more");
  expect(timesMore("10", 9n)).toBe("one more");
  expect(timesMore("5", 9n)).toBe("not one more");
  expect(timesMore("-5", 9n)).toBe("not one more");
  expect(timesMore("5", 0n)).toBeUndefined();
  expect(timesMore(undefined, 3n)).toBeUndefined();
  expect(timesMore("9".repeat(30), 1n)).toBe("more than a billion more");
  const grant = (amount: string) => ({ asset: "grant", amount });
  expect(meanCost([grant("3"), undefined, grant("4"), { asset: "9000", amount: "900" }], "grant")).toBe(4n);
  expect(meanCost([undefined], "grant")).toBeUndefined();
});

it("reads what a visitor writes as an amount, exactly or not at all", () => {
  expect(parseShown("1,234.5", 6)).toBe("1234500000");
  expect(parseShown("0.000001", 6)).toBe("1");
  expect(parseShown("1.50", 1)).toBe("15");
  expect(parseShown("7", 0)).toBe("7");
  for (const wrong of ["", "-1", "1e3", "0.0000001", "1.2.3", "abc"]) expect(parseShown(wrong, 6)).toBeUndefined();
});

it("writes a list price with one face wherever it stands", () => {
  expect(fromPrice({ amount: "500000", per: 1_000_000, unit: "token" }, "grant", 6)).toBe("from 0.5 grant per 1M tokens");
  expect(fromPrice({ amount: "0", per: 1, unit: "token" }, "grant", 6)).toBe("free");
});
