// What changes on the page, for those who are no part of a view.

import { untrack } from "svelte";

/** Calls back whenever it is another one than before; the first is none. */
export function onAnother(look: () => string | undefined, then: () => void): void {
  let before = untrack(look);
  const watch = () => {
    $effect(() => {
      const now = look();
      const other = before !== undefined && before !== now;
      before = now;
      if (other) untrack(then);
    });
  };
  // In no view's arms: whichever asks first for the rooms would take the watch with it when it goes.
  queueMicrotask(() => void $effect.root(watch));
}

/** Resolves when it holds, behind all that waited for the same in this turn of the loop. */
export function until(holds: () => boolean): Promise<void> {
  return new Promise((done) => {
    const end = $effect.root(() => {
      $effect(() => {
        if (!holds()) return;
        setTimeout(() => (end(), done()));
      });
    });
  });
}
