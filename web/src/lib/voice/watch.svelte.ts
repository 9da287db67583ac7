// What changes on the page, for those who are no part of a view.

import { untrack } from "svelte";

/** Calls back whenever it is another one than before; the first is none. */
export function onAnother(look: () => string | undefined, then: () => void): void {
  let before: string | undefined;
  $effect.root(() => {
    $effect(() => {
      const now = look();
      const other = before !== undefined && before !== now;
      before = now;
      if (other) untrack(then);
    });
  });
}

/** Resolves as soon as it holds. */
export function until(holds: () => boolean): Promise<void> {
  return new Promise((done) => {
    const end = $effect.root(() => {
      $effect(() => {
        if (!holds()) return;
        done();
        queueMicrotask(() => end());
      });
    });
  });
}
