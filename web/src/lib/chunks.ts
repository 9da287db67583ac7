// The parts of the page that are no part of its first view. A browser that could not fetch a module once
// fails it for as long as the page stands, and so it does with each module that needs this one. So what a
// part needs is fetched first, as any file is; only when all of it has come is it imported, out of the
// browser's cache. The build puts `whole` around every `import()` (vite.config.ts).

/** For one file. */
const FILE_MS_MAX = 30_000;

/** It did not come: asked for once more, it may. */
export class Unfetched extends Error {}

/** What has come, or is coming. */
const files = new Map<string, Promise<void>>();

/** @param from the address of the script that imports */
export async function whole<T>(load: () => Promise<T>, names: readonly string[] = [], from: string = document.baseURI): Promise<T> {
  try {
    await Promise.all(names.map((name) => file(new URL(name, from))));
    return await load();
  } catch (cause) {
    // Whoever may know a reason listens (update.ts).
    dispatchEvent(new Event("vite:preloadError"));
    throw cause;
  }
}

function file(address: URL): Promise<void> {
  const known = files.get(address.href);
  if (known) return known;
  const coming = address.pathname.endsWith(".css") ? style(address.href) : script(address.href);
  files.set(address.href, coming);
  coming.catch(() => files.delete(address.href));
  return coming;
}

async function script(address: string): Promise<void> {
  try {
    const answer = await fetch(address, { signal: AbortSignal.timeout(FILE_MS_MAX) });
    // Half a file is none.
    await answer.arrayBuffer();
    if (!answer.ok) throw new Error(`the realm answers ${answer.status}`);
  } catch (cause) {
    throw new Unfetched(address, { cause });
  }
}

function style(address: string): Promise<void> {
  if ([...document.querySelectorAll<HTMLLinkElement>("link[rel=stylesheet]")].some(({ href }) => href === address)) return Promise.resolve();
  const link = document.createElement("link");
  link.rel = "stylesheet";
  link.href = address;
  return new Promise((done, fail) => {
    const missed = () => {
      clearTimeout(timer);
      link.remove();
      fail(new Unfetched(address));
    };
    const timer = setTimeout(missed, FILE_MS_MAX);
    link.onload = () => {
      clearTimeout(timer);
      done();
    };
    link.onerror = missed;
    document.head.append(link);
  });
}

/** What is said of a part that is not there, and what to do. */
export function remedyOf(cause: unknown): string {
  if (cause instanceof Unfetched) return "The realm is away, and this part of the page could not be fetched.";
  return "This part of the page does not run. Load the page again.";
}

/** As `remedyOf`, where a press asks for the part; one that does not run fails for as long as the page stands. */
export function toPressAgain(cause: unknown): string {
  return cause instanceof Unfetched ? `${remedyOf(cause)} Press again to try again.` : remedyOf(cause);
}
