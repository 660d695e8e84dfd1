/** The room: one client, its channels, and everything on the screen that follows them. */
import { connect, type Channel, type Events, type TokenSource } from "@voiceping/client";
import { ChannelList } from "./channels.ts";
import { avatar, h, icon } from "./dom.ts";
import { settings, type Session } from "./settings.ts";
import { developmentToken } from "./signin.ts";
import { Stage, type Scene } from "./stage.ts";
import { TalkLog } from "./talks.ts";
import { Tones } from "./tones.ts";

/** How long a denial stays on the screen. */
const DENIED_MS = 2_500;

const MICROPHONE: Partial<Record<Events["microphone"]["state"], string>> = {
  asking: "Allow the microphone to talk.",
  denied: "The microphone is blocked. You can listen.",
  missing: "No microphone found. You can listen.",
  failed: "The microphone is in use by another program. You can listen.",
};

/** Shows the room; resolves with the reason when it ends, `undefined` when the person has left. */
export function room(root: HTMLElement, session: Session): Promise<string | undefined> {
  return new Promise((resolve) => new Room(root, session, resolve));
}

class Room {
  readonly #client;
  readonly #tones = new Tones();
  readonly #stage: Stage;
  readonly #channels: ChannelList;
  readonly #talks = new TalkLog();
  readonly #members = h("ul", { class: "rows members" });
  readonly #crowd = h("p", { class: "empty" }, "Names are shown for up to 100 people.");
  readonly #memberCount = h("span", { class: "count" });
  readonly #link = h("span", { class: "link-state", role: "status", data: { state: "connecting" } });
  readonly #me = h("span", { class: "me" });
  #selected: Channel | undefined;
  /** The channel on which the button went down. */
  #held: Channel | undefined;
  /** When the speaker was first seen: this machine's clock, the server's may differ. */
  readonly #begunByChannel = new Map<string, number>();
  #denied: { phase: "denied" | "failed"; title: string; timer: ReturnType<typeof setTimeout> } | undefined;
  #audio: Events["audio"]["state"] = "connecting";

  constructor(
    root: HTMLElement,
    private readonly session: Session,
    private readonly onend: (problem?: string) => void,
  ) {
    this.#tones.unlock();
    const url = new URL("ws", location.href.replace(/^http/, "ws")).href.split(/[?#]/)[0]!;
    this.#client = connect(url, this.#token(), { urls: moreGateways() });
    this.#stage = new Stage(
      () => this.#down(),
      () => this.#up(),
    );
    this.#channels = new ChannelList({
      select: (id) => this.#select(id),
      mute: (id) => this.#mute(id),
      leave: (id) => this.#leave(id),
      join: (id) => this.#join(id),
    });
    root.replaceChildren(this.#layout());
    for (const id of session.channels) this.#join(id);
    this.#listen();
    this.#show();
  }

  #token(): TokenSource {
    return this.session.token ?? (() => developmentToken(this.session));
  }

  #layout(): HTMLElement {
    const leave = h(
      "button",
      { type: "button", class: "round", title: "Leave", ariaLabel: "Leave", onclick: () => this.#end() },
      icon("leave"),
    );
    return h(
      "div",
      { class: "room" },
      h("header", {}, h("strong", { class: "brand" }, "VoicePing"), this.#link, this.#me, leave),
      this.#channels.element,
      this.#stage.element,
      h(
        "aside",
        {},
        h("section", { class: "panel" }, h("h3", {}, "Members ", this.#memberCount), this.#crowd, this.#members),
        h("section", { class: "panel" }, h("h3", {}, "Recent talks"), this.#talks.view),
      ),
    );
  }

  #listen(): void {
    const { on } = this.#client;
    on("connection", (event) => this.#connection(event));
    on("audio", ({ state }) => {
      this.#audio = state;
      this.#show();
    });
    on("microphone", () => this.#show());
    on("channel", () => this.#show());
    on("channels", ({ channels }) => {
      // A token that names its channels needs no list from the person.
      if (this.#client.channels.length === 0) for (const id of channels) this.#join(id);
      this.#show();
    });
    on("members", () => this.#show());
    on("level", ({ level }) => this.#stage.level(level));
    on("speaker", ({ channelId, speaker }) => {
      this.#begunByChannel.set(channelId, Date.now());
      const several = this.#client.channels.length > 1;
      this.#talks.changed(channelId, speaker, several);
      this.#show();
    });
    on("talk", ({ state, end, message }) => {
      if (state === "talking") {
        this.#tones.play("start");
        navigator.vibrate?.(15);
      } else if (end === "released") this.#tones.play("stop");
      else if (end === "interrupted" || end === "disconnected") this.#deny("failed", message ?? "The talk was cut off");
      this.#show();
    });
    on("denied", ({ speakerName, message }) => {
      if (speakerName) this.#deny("denied", `${speakerName} is speaking`);
      else this.#deny("failed", message);
    });
  }

  #connection({ state, reason, retryInMs }: Events["connection"]): void {
    if (state === "stopped") {
      this.#close();
      return this.onend(reason?.code === "closed" ? undefined : reason?.message);
    }
    this.#show();
    if (retryInMs !== undefined) this.#link.title = `${reason?.message}; next attempt in ${duration(retryInMs)}`;
  }

  #down(): void {
    this.#clearDenied();
    this.#held = this.#selected;
    this.#held?.hold();
    this.#show();
  }

  #up(): void {
    this.#held?.release();
    this.#held = undefined;
    this.#show();
  }

  /** A press that leads to nothing: said, shown, and the button comes up. */
  #deny(phase: "denied" | "failed", title: string): void {
    this.#tones.play("busy");
    navigator.vibrate?.([40, 60, 40]);
    this.#clearDenied();
    this.#denied = { phase, title, timer: setTimeout(() => (this.#clearDenied(), this.#show()), DENIED_MS) };
    this.#held = undefined;
    this.#stage.press.up();
    this.#show();
  }

  #clearDenied(): void {
    clearTimeout(this.#denied?.timer);
    this.#denied = undefined;
  }

  #select(id: string): void {
    this.#stage.press.up();
    this.#selected = this.#client.channels.find((channel) => channel.id === id);
    this.#show();
  }

  #mute(id: string): void {
    const channel = this.#client.channels.find((channel) => channel.id === id);
    if (channel) channel.muted = !channel.muted;
    this.#show();
  }

  #join(id: string): void {
    const channel = this.#client.join(id);
    this.#selected ??= channel;
    this.#remember();
    this.#show();
  }

  #leave(id: string): void {
    if (this.#selected?.id === id) this.#stage.press.up();
    this.#client.leave(id);
    this.#talks.changed(id, null, false);
    if (this.#selected?.id === id) this.#selected = this.#client.channels[0];
    this.#remember();
    this.#show();
  }

  #remember(): void {
    this.session.channels = this.#client.channels.map(({ id }) => id);
    settings.session = this.session;
  }

  #end(): void {
    this.#stage.press.up();
    this.#client.close();
  }

  #close(): void {
    this.#clearDenied();
    this.#stage.close();
    this.#tones.close();
    this.#client.close();
  }

  #show(): void {
    const { channels, self, state } = this.#client;
    this.#channels.show(channels, this.#selected?.id);
    this.#stage.show(this.#scene());
    const microphone = MICROPHONE[this.#client.microphone];
    const ask = this.#client.microphone === "asking" ? undefined : "Try again";
    this.#stage.notice(microphone, ask, () => void this.#client.enableMicrophone());
    this.#me.replaceChildren(...(self.userName ? [avatar(self.userName), h("span", {}, self.userName)] : []));
    const link = state === "connected" && this.#audio !== "connected" ? `audio-${this.#audio}` : state;
    this.#link.dataset["state"] = link;
    this.#link.textContent = LINK[link] ?? link;
    if (state === "connected") this.#link.title = "";
    this.#showMembers();
  }

  #showMembers(): void {
    const channel = this.#selected;
    const { self } = this.#client;
    const speaker = channel?.speaker;
    this.#memberCount.textContent = channel ? String(channel.userCount) : "";
    let members = channel?.members ?? [];
    const isCrowd = channel?.state === "joined" && !channel.membersComplete && members.length === 0;
    this.#crowd.hidden = !isCrowd;
    // Whoever speaks is named with the floor.
    if (isCrowd && speaker) members = [speaker];
    this.#members.replaceChildren(
      ...members.map(({ userId, userName }) => {
        const you = userId === self.userId ? h("small", {}, "you") : "";
        const row = h("li", {}, avatar(userName), h("span", { class: "who" }, userName, you));
        row.classList.toggle("speaking", speaker?.userId === userId);
        return row;
      }),
    );
  }

  #scene(): Scene {
    const channel = this.#selected;
    const name = channel?.id ?? "";
    if (!channel) return { phase: "offline", channel: "No channel", title: "Join a channel to talk" };
    if (channel.state === "refused") {
      return { phase: "offline", channel: name, title: channel.refusal ?? "The channel was refused" };
    }
    const { state } = this.#client;
    const { speaker, talk } = channel;
    // A talk goes on without the server, as long as its audio does.
    const goesOn = state === "connected" || (this.#audio === "connected" && (speaker || talk !== "idle"));
    if (!goesOn || channel.state !== "joined") {
      return { phase: "offline", channel: name, title: state === "reconnecting" ? "Reconnecting…" : "Connecting…" };
    }
    const since = this.#begunByChannel.get(name) ?? Date.now();
    if (talk === "talking") {
      const me = this.#client.self.userName;
      return { phase: "talking", channel: name, title: "Everybody hears you", speaker: me, since };
    }
    if (this.#denied) {
      const { phase, title } = this.#denied;
      const who = phase === "denied" && speaker && { speaker: speaker.userName, since };
      return { phase, channel: name, title, ...who };
    }
    if (talk === "requesting") return { phase: "requesting", channel: name, title: "Asking for the channel…" };
    if (speaker) {
      const { userName } = speaker;
      return { phase: "listening", channel: name, title: `${userName} is speaking`, speaker: userName, since };
    }
    const detail = audience(channel.userCount - 1);
    return { phase: channel.canTalk ? "free" : "mute", channel: name, title: "The channel is free", detail };
  }
}

const LINK: Record<string, string> = {
  connecting: "Connecting",
  connected: "Connected",
  reconnecting: "Reconnecting",
  "audio-connecting": "Starting audio",
  "audio-moving": "Moving audio",
  "audio-interrupted": "Weak network",
  "audio-failed": "No audio",
};

/** Where the operator has no load balancer: `<meta name="gateways" content="wss://a.example/ws wss://b.example/ws">`. */
function moreGateways(): string[] {
  const content = document.querySelector<HTMLMetaElement>('meta[name="gateways"]')?.content ?? "";
  return content.split(/\s+/).filter(Boolean);
}

function audience(others: number): string {
  if (others <= 0) return "Nobody else is here yet";
  return others === 1 ? "1 other is listening" : `${others} others are listening`;
}

function duration(ms: number): string {
  return `${Math.ceil(ms / 1000)} s`;
}
