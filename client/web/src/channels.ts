/** The list of channels: who speaks where, which one the button talks on, which ones are muted, and joining more. */
import type { Channel } from "@voiceping/client";
import { h, icon } from "./dom.ts";
import { parseChannels } from "./settings.ts";

interface Actions {
  select(channelId: string): void;
  mute(channelId: string): void;
  leave(channelId: string): void;
  join(channelId: string): void;
}

export class ChannelList {
  readonly element: HTMLElement;
  readonly #rowById = new Map<string, Row>();
  readonly #list = h("ul", { class: "rows channels" });

  constructor(private readonly actions: Actions) {
    const input = h("input", {
      placeholder: "Join a channel",
      maxLength: 200,
      autocomplete: "off",
      autocapitalize: "none",
      spellcheck: false,
      ariaLabel: "Channel to join",
    });
    const form = h(
      "form",
      { class: "join" },
      input,
      h("button", { type: "submit", class: "round", ariaLabel: "Join" }, icon("plus")),
    );
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      for (const id of parseChannels(input.value)) actions.join(id);
      input.value = "";
      input.blur();
    });
    this.element = h("section", { class: "panel" }, h("h3", {}, "Channels"), this.#list, form);
  }

  /** Rows are changed in place: one that is made anew under a finger loses the click. */
  show(channels: Channel[], selected: string | undefined): void {
    for (const [id, row] of this.#rowById) {
      if (channels.some((channel) => channel.id === id)) continue;
      row.element.remove();
      this.#rowById.delete(id);
    }
    for (const channel of channels) {
      let row = this.#rowById.get(channel.id);
      if (!row) {
        row = new Row(channel, this.actions);
        this.#rowById.set(channel.id, row);
        this.#list.append(row.element);
      }
      row.show(channel.id === selected);
    }
  }
}

class Row {
  readonly element: HTMLElement;
  readonly #detail = h("small", {});
  readonly #select: HTMLButtonElement;
  readonly #mute: HTMLButtonElement;

  constructor(
    private readonly channel: Channel,
    actions: Actions,
  ) {
    const { id } = channel;
    const who = h("span", { class: "who" }, id, this.#detail);
    this.#select = h(
      "button",
      { type: "button", class: "select", onclick: () => actions.select(id) },
      h("span", { class: "lamp" }),
      who,
    );
    this.#mute = h("button", { type: "button", class: "round", ariaLabel: `Mute ${id}`, onclick: () => actions.mute(id) });
    const leave = h(
      "button",
      { type: "button", class: "round faint", ariaLabel: `Leave ${id}`, title: "Leave", onclick: () => actions.leave(id) },
      icon("close"),
    );
    this.element = h("li", { data: { channel: id } }, this.#select, this.#mute, leave);
  }

  show(selected: boolean): void {
    const { channel } = this;
    this.element.dataset["state"] = channel.state;
    this.element.classList.toggle("busy", channel.speaker !== null);
    this.#detail.textContent = describe(channel);
    this.#select.setAttribute("aria-current", String(selected));
    this.#mute.setAttribute("aria-pressed", String(channel.muted));
    this.#mute.title = channel.muted ? "Muted: press to hear" : "Heard: press to mute";
    this.#mute.replaceChildren(icon(channel.muted ? "muted" : "speaker"));
  }
}

function describe(channel: Channel): string {
  if (channel.state === "refused") return channel.refusal ?? "Refused";
  if (channel.state === "joining") return "Joining…";
  if (channel.speaker) return channel.speaker.self ? "You are speaking" : `${channel.speaker.userName} speaks`;
  return channel.userCount === 1 ? "Only you" : `${channel.userCount} people`;
}
