/** The log of recent talks: who, when, how long. Fed with every change of a speaker, newest first, and bounded. */
import type { Speaker } from "@voiceping/client";
import { avatar, h } from "./dom.ts";

const KEPT = 50;
const clock = new Intl.DateTimeFormat(undefined, { timeStyle: "medium" });

interface Talk {
  channelId: string;
  begun: number;
  row: HTMLElement;
  length: HTMLElement;
}

export class TalkLog {
  readonly element = h("ol", { class: "rows talks" });
  readonly #empty = h("p", { class: "empty" }, "Nobody has spoken yet.");
  readonly #openByChannel = new Map<string, Talk>();
  readonly view = h("div", {}, this.#empty, this.element);

  /** Somebody speaks on a channel, or nobody does. */
  changed(channelId: string, speaker: Speaker | null, showChannel: boolean): void {
    this.#end(channelId);
    if (!speaker) return;
    const { userName, self } = speaker;
    this.#empty.hidden = true;
    const length = h("span", { class: "length live" }, "now");
    const detail = `${clock.format(Date.now())}${showChannel ? ` · ${channelId}` : ""}`;
    const row = h("li", {}, avatar(userName), h("span", { class: "who" }, self ? "You" : userName, h("small", {}, detail)), length);
    this.element.prepend(row);
    this.#openByChannel.set(channelId, { channelId, begun: Date.now(), row, length });
    while (this.element.childElementCount > KEPT) this.element.lastElementChild?.remove();
  }

  #end(channelId: string): void {
    const talk = this.#openByChannel.get(channelId);
    if (!talk) return;
    this.#openByChannel.delete(channelId);
    talk.length.classList.remove("live");
    talk.length.textContent = duration(Date.now() - talk.begun);
  }
}

/** 4.2 s, 1:05 min. */
export function duration(ms: number): string {
  if (ms < 60_000) return `${(ms / 1000).toFixed(1)} s`;
  const seconds = Math.round(ms / 1000);
  return `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, "0")} min`;
}
