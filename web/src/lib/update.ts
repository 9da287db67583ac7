// A realm that was updated while this page stood open no longer has the chunks that the page names.
// When one does not come, the index is asked: if it names another script, the page is an old one
// and is loaded again. If it names this one, or nobody answers, the line was at fault, and whoever
// asked for the chunk says so.

const INDEX_MS_MAX = 30_000;

/** @param script the address of the page's own first script */
export function afterUpdate(script: string, again: () => void = () => location.reload()): void {
  const own = new URL(script).pathname.split("/").at(-1) ?? "";
  let asking = false;
  addEventListener("vite:preloadError", async () => {
    // Several chunks may miss at once: one answer is for all of them.
    if (asking) return;
    asking = true;
    const index = await fetch("./", { cache: "no-cache", signal: AbortSignal.timeout(INDEX_MS_MAX) })
      .then((answer) => (answer.ok ? answer.text() : own))
      .catch(() => own);
    asking = false;
    if (!index.includes(own)) again();
  });
}
