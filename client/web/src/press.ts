/**
 * Turns mouse, touch and keys into two calls: down and up. Knows the two modes of the button and nothing of channels.
 * Whatever happens to the pointer, the key or the window, a held button comes up again.
 */
import type { ButtonMode } from "./settings.ts";

export interface Press {
  mode: ButtonMode;
  /** Lets go, for a reason of the page's own. */
  up(): void;
  /** Stops listening. */
  close(): void;
}

export function pressable(button: HTMLButtonElement, ondown: () => void, onup: () => void): Press {
  const listening = new AbortController();
  const { signal } = listening;
  let down = false;
  let mode: ButtonMode = "hold";
  /** The pointer or key that holds. */
  let holder: number | string | undefined;

  const press = (by: number | string): void => {
    if (down && mode === "toggle") return release();
    if (down) return;
    down = true;
    holder = by;
    ondown();
  };
  const release = (): void => {
    if (!down) return;
    down = false;
    holder = undefined;
    onup();
  };
  const letGo = (by: number | string): void => {
    if (mode === "hold" && holder === by) release();
  };

  button.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    event.preventDefault(); // no selection, no drag, no second press from emulated mouse events
    button.focus({ preventScroll: true });
    // A finger that slides off the button still holds it.
    button.setPointerCapture(event.pointerId);
    press(event.pointerId);
  }, { signal });
  for (const type of ["pointerup", "pointercancel", "lostpointercapture"] as const) {
    button.addEventListener(type, (event) => letGo(event.pointerId), { signal });
  }
  button.addEventListener("contextmenu", (event) => event.preventDefault(), { signal }); // a long press

  addEventListener("keydown", (event) => {
    if (!isPressKey(event, button)) return;
    event.preventDefault(); // no scrolling
    if (!event.repeat) press(event.code);
  }, { signal });
  addEventListener("keyup", (event) => {
    if (isPressKey(event, button)) event.preventDefault(); // no click on the focused button
    letGo(event.code);
  }, { signal });

  // The key or pointer may come up where the page cannot see it. What was switched on stays on: a person who works in
  // another window means that.
  const lost = (): void => void (mode === "hold" && release());
  addEventListener("blur", lost, { signal });
  document.addEventListener("visibilitychange", () => document.hidden && lost(), { signal });
  addEventListener("pagehide", release, { signal });

  return {
    get mode() {
      return mode;
    },
    set mode(next) {
      release();
      mode = next;
    },
    up: release,
    close: () => listening.abort(),
  };
}

/** The space bar anywhere but where it types or works another control; Enter on the button itself. */
function isPressKey(event: KeyboardEvent, button: HTMLButtonElement): boolean {
  if (event.ctrlKey || event.altKey || event.metaKey) return false;
  const target = event.target as HTMLElement;
  if (event.code === "Enter") return target === button;
  if (event.code !== "Space") return false;
  return target === button || !target.closest("input, textarea, select, button, a, summary");
}
