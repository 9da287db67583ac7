// A step of the page's build: beside each file it writes the same compressed, once and for good
// (`NAME.br`, `NAME.gz`), because a realm answers many and builds once. What does not become
// smaller by a tenth stays as it is. Assets must carry a hash in their name: browsers keep them for ever.

import { readFile, readdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import { brotliCompress, constants, gzip } from "node:zlib";
import type { Plugin } from "vite";

/** As vite names it: eight characters of base64 for URLs before the ending. */
const HASHED = /-[\w-]{8}\.[a-z0-9]+$/;
const GAIN_MIN = 0.1;
/**
 * Brotli's best costs 21 s for the 11 MB of onnxruntime, and saves a tenth of what it sends against
 * the ninth quality, which costs 1.5 s.
 */
const BEST_BYTES_MAX = 2 << 20;

const FORMS = {
  br: (bytes: Buffer) =>
    promisify(brotliCompress)(bytes, {
      params: { [constants.BROTLI_PARAM_QUALITY]: bytes.length > BEST_BYTES_MAX ? 9 : 11, [constants.BROTLI_PARAM_SIZE_HINT]: bytes.length },
    }),
  gz: (bytes: Buffer) => promisify(gzip)(bytes, { level: 9 }),
};

export function packed(): Plugin {
  let dist = "dist";
  return {
    name: "mtor:packed",
    apply: "build",
    configResolved: (config) => {
      dist = config.build.outDir;
    },
    closeBundle: {
      order: "post",
      async handler() {
        for (const name of await readdir(dist, { recursive: true })) {
          const path = join(dist, name);
          if (/\.(br|gz)$/.test(name) || !/\.\w+$/.test(name)) continue;
          if (name !== "index.html" && !HASHED.test(name)) this.error(`${name} has no hash in its name: import it from src/`);
          const bytes = await readFile(path);
          for (const [ending, pack] of Object.entries(FORMS)) {
            const small = await pack(bytes);
            if (small.length <= bytes.length * (1 - GAIN_MIN)) await writeFile(`${path}.${ending}`, small);
          }
        }
      },
    },
  };
}
