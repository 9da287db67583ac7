import { svelte } from "@sveltejs/vite-plugin-svelte";
import { defineConfig } from "vitest/config";

export default defineConfig({
  plugins: [svelte()],
  // Against what hangs; how long a test takes is its machine's affair.
  test: { include: ["tests/**/*.test.ts"], environment: "node", testTimeout: 60_000 },
});
