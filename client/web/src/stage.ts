/** The middle of the room: what goes on on the chosen channel, and the button. Shows what it is told, decides nothing. */
import { avatar, h, icon } from "./dom.ts";
import { pressable, type Press } from "./press.ts";
import { settings, type ButtonMode } from "./settings.ts";
import { duration } from "./talks.ts";

/** What the button looks like. */
export type Phase =
  | "offline" // not connected
  | "mute" // connected, without a microphone
  | "free"
  | "requesting"
  | "talking"
  | "listening"
  | "denied" // somebody else speaks
  | "failed"; // a press or a talk that came to nothing for another reason

export interface Scene {
  phase: Phase;
  channel: string;
  title: string;
  detail?: string;
  /** Whose picture to show. */
  speaker?: string;
  /** Since when somebody speaks, by this machine's clock. */
  since?: number;
}

const LABELS: Record<Phase, [big: string, small: string]> = {
  offline: ["Offline", ""],
  mute: ["Listening", "no microphone"],
  free: ["Talk", "hold"],
  requesting: ["…", "asking"],
  talking: ["On air", "release to end"],
  listening: ["Wait", "hold to ask"],
  denied: ["Busy", "try again"],
  failed: ["Off air", ""],
};

export class Stage {
  readonly element: HTMLElement;
  readonly press: Press;
  readonly #channel = h("h2", {});
  readonly #picture = h("span", { class: "picture" });
  readonly #title = h("p", { class: "title" });
  readonly #detail = h("p", { class: "detail" });
  readonly #big = h("span", { class: "big" });
  readonly #small = h("span", { class: "small" });
  readonly #button: HTMLButtonElement;
  readonly #notice = h("div", { class: "notice", hidden: true });
  #scene: Scene | undefined;
  #timer: ReturnType<typeof setInterval> | undefined;

  constructor(ondown: () => void, onup: () => void) {
    this.#button = h(
      "button",
      { class: "talk", type: "button", aria: { pressed: "false" } },
      icon("microphone"),
      this.#big,
      this.#small,
    );
    this.press = pressable(this.#button, ondown, onup);
    this.press.mode = settings.mode;
    const status = h("div", { class: "status" }, this.#picture, this.#title, this.#detail);
    // Only what matters is read out: who speaks, not how many seconds.
    this.#title.setAttribute("aria-live", "polite");
    this.element = h(
      "section",
      { class: "stage", data: { phase: "offline" }, aria: { label: "Talk" } },
      h("div", { class: "where" }, this.#channel),
      status,
      h("div", { class: "ring" }, this.#button),
      this.#notice,
      this.#modes(),
    );
  }

  show(scene: Scene): void {
    const { phase } = scene;
    const changed = !this.#scene || this.#scene.speaker !== scene.speaker;
    this.#scene = scene;
    this.element.dataset["phase"] = phase;
    this.#channel.textContent = scene.channel;
    if (this.#title.textContent !== scene.title) this.#title.textContent = scene.title;
    if (changed) this.#picture.replaceChildren(scene.speaker ? avatar(scene.speaker) : icon("speaker"));
    const [big, small] = LABELS[phase];
    this.#big.textContent = big;
    this.#small.textContent = small;
    if (this.press.mode === "toggle") {
      this.#small.textContent = phase === "talking" ? "press to end" : phase === "free" ? "press" : small;
    }
    this.#button.setAttribute("aria-pressed", String(phase === "talking" || phase === "requesting"));
    this.#button.setAttribute("aria-label", `${big}. ${this.#small.textContent}`);
    clearInterval(this.#timer);
    this.#tick();
    if (scene.since !== undefined) this.#timer = setInterval(() => this.#tick(), 100);
  }

  level(level: number): void {
    this.element.style.setProperty("--level", level.toFixed(3));
  }

  /** A line below the button, with something to do about it; nothing hides it. */
  notice(text?: string, action?: string, onaction?: () => void): void {
    this.#notice.hidden = text === undefined;
    this.#notice.replaceChildren(text ?? "");
    if (action) this.#notice.append(h("button", { type: "button", class: "link", onclick: () => onaction?.() }, action));
  }

  close(): void {
    clearInterval(this.#timer);
    this.press.close();
  }

  #tick(): void {
    const { since, detail = "" } = this.#scene ?? {};
    this.#detail.textContent = since === undefined ? detail : duration(Math.max(0, Date.now() - since));
  }

  #modes(): HTMLElement {
    const option = (mode: ButtonMode, text: string): HTMLElement => {
      const input = h("input", { type: "radio", name: "mode", value: mode, checked: settings.mode === mode });
      input.addEventListener("change", () => {
        settings.mode = this.press.mode = mode;
        input.blur(); // the space bar is the button's again
        if (this.#scene) this.show(this.#scene);
      });
      return h("label", {}, input, h("span", {}, text));
    };
    return h(
      "div",
      { class: "modes" },
      h(
        "fieldset",
        { class: "segments" },
        h("legend", { class: "unseen" }, "How the button works"),
        option("hold", "Hold"),
        option("toggle", "Toggle"),
      ),
      h("span", { class: "keys" }, "or the ", h("kbd", {}, "space bar")),
    );
  }
}
