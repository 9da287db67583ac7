import { svelte } from "@sveltejs/vite-plugin-svelte";
import { defineConfig } from "vite";

// The server embeds the files of dist/ by name and forbids inline code (CSP `default-src 'self'`):
// fixed names, one script, one style sheet, nothing inlined, relative addresses.
export default defineConfig({
  base: "./",
  plugins: [svelte()],
  build: {
    target: "es2022",
    modulePreload: { polyfill: false },
    assetsInlineLimit: 0,
    cssCodeSplit: false,
    reportCompressedSize: true,
    rolldownOptions: {
      output: {
        entryFileNames: "assets/app.js",
        assetFileNames: "assets/app[extname]",
        codeSplitting: false,
      },
    },
  },
  server: { proxy: { "/v1": process.env["REALM"] ?? "http://127.0.0.1:7460" } },
});
