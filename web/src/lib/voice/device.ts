// The one ear of this device that a page has, whoever uses it: hands-free, the microphone's button.

import { list, number, record, text } from "../conversation";
import { DeviceEar, EAR_MODEL } from "./ear-device";
import type { WeightFile } from "./weights";

const ANSWER_MS_MAX = 15_000;

/** What the realm serves of the model to pages; nothing where it does not. */
export async function servedFiles(base: string): Promise<WeightFile[]> {
  const response = await fetch(new URL("v1/models", base), { cache: "no-store", credentials: "omit", signal: AbortSignal.timeout(ANSWER_MS_MAX) });
  if (!response.ok) throw new Error(`the realm answers ${response.status}`);
  return filesOf(await response.json(), EAR_MODEL);
}

export function filesOf(models: unknown, model: string): WeightFile[] {
  const row = list(record(models)["data"]).map(record).find((one) => one["id"] === model);
  return list(row?.["files"]).flatMap((item) => {
    const file = record(item);
    const [name, bytes, sha256] = [text(file["name"]), number(file["bytes"]), text(file["sha256"])];
    const whole = name && bytes !== undefined && Number.isSafeInteger(bytes) && bytes > 0 && bytes <= BYTES_MAX;
    return whole && sha256 && /^[0-9a-f]{64}$/.test(sha256) ? [{ name, bytes, sha256 }] : [];
  });
}

/** No file of this model is larger, whatever a realm says: a page has to have room for it. */
const BYTES_MAX = 64_000_000;

let ear: DeviceEar | undefined;

export function deviceEar(base: string): DeviceEar {
  return (ear ??= new DeviceEar(base, () => servedFiles(base)));
}
