// A realm that was updated while this page stood open no longer has the chunks that the page names.
// When one does not come, the index is asked: if it names another script, the page is an old one
// and is loaded again. If it names this one, or nobody answers, the line was at fault, and whoever
// asked for the chunk says so.

/** @param script the address of the page's own first script */
export function afterUpdate(script: string, again: () => void = () => location.reload()): void {
  const own = new URL(script).pathname.split("/").at(-1) ?? "";
  addEventListener("vite:preloadError", async () => {
    const index = await fetch("./", { cache: "no-cache" }).then((answer) => (answer.ok ? answer.text() : own), () => own);
    if (!index.includes(own)) again();
  });
}
