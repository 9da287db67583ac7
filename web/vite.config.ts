import { fileURLToPath } from "node:url";
import { svelte } from "@sveltejs/vite-plugin-svelte";
import { defineConfig } from "vite";
import { packed } from "./packed.ts";

/** Every `import()` of the page goes by `src/lib/chunks.ts`, instead of what vite puts around it. */
const whole = {
  name: "mtor:whole-chunks",
  enforce: "pre",
  apply: "build",
  load: (id: string) => (id === "\0vite/preload-helper.js" ? `export { whole as __vitePreload } from ${JSON.stringify(fileURLToPath(new URL("src/lib/chunks.ts", import.meta.url)))};` : undefined),
} as const;

/**
 * What stands before a stylesheet's link is painted without it: the bar needs only what index.html
 * itself holds (`src/first.css`), so the link comes behind the bar.
 */
const behindTheBar = {
  name: "mtor:behind-the-bar",
  // In development there is no stylesheet to link.
  apply: "build",
  transformIndexHtml: {
    order: "post",
    handler(html: string) {
      const link = /\n *<link rel="stylesheet"[^>]*>/;
      const found = link.exec(html)?.[0];
      if (!found) throw new Error("index.html links no stylesheet");
      return html.replace(link, "").replace("\n  </body>", `${found}\n  </body>`);
    },
  },
} as const;

// The server embeds whatever stands in dist/ and forbids inline code (CSP `default-src 'self'`):
// nothing inlined but the bar's style, whose hash the policy names; relative addresses, and a hash in
// every name, because assets are kept for ever.
// What the first view does not need is imported with `import()` and becomes a chunk of its own.
export default defineConfig({
  base: "./",
  publicDir: false,
  plugins: [svelte(), whole, behindTheBar, packed()],
  // A worker is a module like everything else, and lies beside it.
  worker: { format: "es", rolldownOptions: { output: { entryFileNames: "assets/[name]-[hash].js", assetFileNames: "assets/[name]-[hash][extname]" } } },
  build: {
    target: "es2022",
    // Each chunk is named among what it needs, also where it needs nothing else.
    modulePreload: { polyfill: false, resolveDependencies: (file, needed, { hostType }) => (hostType === "html" || needed.includes(file) ? needed : [file, ...needed]) },
    assetsInlineLimit: 0,
    // The server's own compressed sizes are what counts; `npm run build` need not compress twice.
    reportCompressedSize: false,
    rolldownOptions: {
      output: {
        entryFileNames: "assets/[name]-[hash].js",
        chunkFileNames: "assets/[name]-[hash].js",
        assetFileNames: "assets/[name]-[hash][extname]",
      },
    },
  },
  server: { proxy: { "/v1": process.env["REALM"] ?? "http://127.0.0.1:7460" } },
});
