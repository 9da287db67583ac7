// Money is base units in decimal strings; it is never a float. Everything here is BigInt.

export interface Money {
  asset: string;
  amount: string;
}

export interface Price {
  amount: string;
  per: number;
  unit: string;
}

/** Base units, or undefined where the text is no decimal integer. */
export function parseAmount(text: unknown): bigint | undefined {
  return typeof text === "string" && /^-?\d{1,40}$/.test(text) ? BigInt(text) : undefined;
}

/** Decimals that are always shown, so that a figure keeps its width while it changes. */
const STEADY_DECIMALS = 6;

/**
 * `"1234500000"` with 6 decimals is `1,234.500000`: exact, and of `steady` decimals, or as few as the
 * asset has. Further zeros are dropped.
 */
export function formatAmount(text: string, decimals: number, steady = STEADY_DECIMALS): string {
  const units = parseAmount(text);
  if (units === undefined) return "?";
  const sign = units < 0n ? "-" : "";
  const digits = (units < 0n ? -units : units).toString().padStart(decimals + 1, "0");
  const whole = digits.slice(0, digits.length - decimals).replace(/\B(?=(\d{3})+$)/g, ",");
  const zeros = /0*$/.exec(digits)?.[0].length ?? 0;
  const shown = Math.max(decimals - zeros, Math.min(steady, decimals));
  const fraction = digits.slice(digits.length - decimals).slice(0, shown);
  return sign + whole + (fraction ? `.${fraction}` : "");
}

/** `20,000` */
export function formatCount(count: number): string {
  return count.toString().replace(/\B(?=(\d{3})+$)/g, ",");
}

/** The machine symbol of the token is `9000` because a shell would expand `$9000`. */
export function assetName(asset: string): string {
  return asset === "9000" ? "$9000" : asset;
}

export function formatMoney(money: Money, decimals: number | undefined): string {
  return decimals === undefined
    ? `${formatAmount(money.amount, 0)} base units of ${assetName(money.asset)}`
    : `${formatAmount(money.amount, decimals)} ${assetName(money.asset)}`;
}

/** `0.5 grant per 1M tokens`: a list price stands still, and is written short. Time is read in seconds. */
export function formatPrice(price: Price, asset: string, decimals: number): string {
  if (price.amount === "0") return "free";
  const timed = price.unit === "millisecond" && price.per % 1_000 === 0;
  const [per, one] = timed ? [price.per / 1_000, "second"] : [price.per, price.unit];
  const many = per === 1 ? "" : `${shortCount(per)} `;
  const unit = per === 1 ? one : `${one}s`;
  return `${formatAmount(price.amount, decimals, 0)} ${assetName(asset)} per ${many}${unit}`;
}

/** `from 0.5 grant per 1M tokens`: the lowest that anybody asks now; a quote tells what a thing may cost. */
export function fromPrice(price: Price, asset: string, decimals: number): string {
  const words = formatPrice(price, asset, decimals);
  return price.amount === "0" ? words : `from ${words}`;
}

function shortCount(count: number): string {
  if (count % 1_000_000 === 0) return `${count / 1_000_000}M`;
  if (count % 1_000 === 0) return `${count / 1_000}k`;
  return String(count);
}

/** `a < b` for base-unit strings; false where either is no amount. */
export function isLess(a: string | undefined, b: string | undefined): boolean {
  const left = parseAmount(a);
  const right = parseAmount(b);
  return left !== undefined && right !== undefined && left < right;
}

/** What a visitor wrote, `1,234.5`, in base units; undefined where it is no amount, or too exact. */
export function parseShown(written: string, decimals: number): string | undefined {
  const found = /^(\d{1,24})(?:\.(\d*))?$/.exec(written.trim().replaceAll(",", ""));
  const fraction = (found?.[2] ?? "").replace(/0+$/, "");
  if (!found || fraction.length > decimals) return undefined;
  return BigInt(`${found[1]}${fraction.padEnd(decimals, "0")}`).toString();
}

/**
 * How often `each` can be paid from `balance`, in words: `about 25,000 more`. Rounded down to two
 * figures, because the next one costs something else. Nothing where either is unknown.
 */
export function timesMore(balance: string | undefined, each: bigint | undefined): string | undefined {
  const units = parseAmount(balance);
  if (units === undefined || each === undefined || each < 0n) return undefined;
  if (each === 0n) return undefined;
  const times = units < 0n ? 0n : units / each;
  if (times === 0n) return "not one more";
  if (times === 1n) return "one more";
  if (times < 20n) return `${times} more`;
  if (times > 1_000_000_000n) return "more than a billion more";
  const digits = times.toString();
  const round = digits.slice(0, 2).padEnd(digits.length, "0");
  return `about ${formatCount(Number(round))} more`;
}

/** The mean of what was paid, rounded up: a promise made from it should hold. Nothing without a cost. */
export function meanCost(costs: readonly (Money | undefined)[], asset: string): bigint | undefined {
  const paid = costs.flatMap((cost) => (cost?.asset === asset ? (parseAmount(cost.amount) ?? []) : []));
  if (paid.length === 0) return undefined;
  const count = BigInt(paid.length);
  return (paid.reduce((sum, one) => sum + one, 0n) + count - 1n) / count;
}
