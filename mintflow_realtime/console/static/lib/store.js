// What changes and is shown: many changes, one drawing.
import { useEffect, useState } from "./html.js";

// Ten times a second is as often as anybody reads; drawing each of 200 lines a second would be most of a core.
const DRAW_MS = 100;

export class Store {
  #listeners = new Set();
  #timer = 0;

  /** Call `listener` after changes, until what is returned is called. */
  subscribe(listener) {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** Note that something has changed. */
  changed() {
    if (!this.#timer) this.#timer = setTimeout(() => this.#tell(), DRAW_MS);
  }

  /** Draw at once what has changed: somebody has just done it here. */
  changedNow() {
    clearTimeout(this.#timer);
    this.#tell();
  }

  #tell() {
    this.#timer = 0;
    for (const listener of [...this.#listeners]) listener();
  }
}

/** Draw the component again whenever `store` changes. */
export function useStore(store) {
  const [, draw] = useState(0);
  useEffect(() => store.subscribe(() => draw((n) => n + 1)), [store]);
  return store;
}

/** Draw the component again each `ms`, while `active`: what it shows of time goes on. */
export function useTicks(ms, active = true) {
  const [, draw] = useState(0);
  useEffect(() => {
    if (!active) return undefined;
    const timer = setInterval(() => draw((n) => n + 1), ms);
    return () => clearInterval(timer);
  }, [ms, active]);
}
