/**
 * The client: keeps a connection to the server alive and its channels joined on it. One path serves the first connect and
 * every recovery: open a socket, join what is wanted, make the audio, and if any of it ends, wait and begin again.
 */
import { Device } from "mediasoup-client";
import { Backoff } from "./backoff.ts";
import { Channel, type Connection } from "./channel.ts";
import { Emitter } from "./emitter.ts";
import { ConnectionEnd } from "./errors.ts";
import type { ConnectionState, Events } from "./events.ts";
import { Media } from "./media.ts";
import { Microphone, systemMicrophone, type MicrophoneSource, type MicrophoneState } from "./microphone.ts";
import type { Member, Pushes, PushType } from "./protocol.ts";
import { Signaling, type SignalingOptions } from "./signaling.ts";
import { memberOf } from "./token.ts";

/** A token, or how to get one; a function is asked before every connect, so it can bring a fresh one. */
export type TokenSource = string | (() => Promise<string>);

export interface ClientOptions extends SignalingOptions {
  /** Where our voice comes from; `false`: listen only. Default: the system's microphone. */
  microphone?: MicrophoneSource | false;
  backoff?: Backoff;
}

/** Starts a client at once. Call it from a click: browsers want one before they give sound and microphone. */
export function connect(url: string, token: TokenSource, options: ClientOptions = {}): VoiceClient {
  return new VoiceClient(url, token, options);
}

export class VoiceClient {
  readonly #events = new Emitter<Events>();
  readonly #channelById = new Map<string, Channel>();
  readonly #microphone: Microphone;
  readonly #backoff: Backoff;
  readonly #self: Member = { userId: "", userName: "" };
  readonly #meter: ReturnType<typeof setInterval>;
  #device: Promise<Device> | undefined;
  #state: ConnectionState = "connecting";
  #connection: Connection | undefined;
  #closed: ConnectionEnd | undefined;
  #wake: () => void = () => {};

  constructor(
    private readonly url: string,
    private readonly token: TokenSource,
    private readonly options: ClientOptions,
  ) {
    this.#backoff = options.backoff ?? new Backoff();
    this.#microphone = new Microphone(options.microphone || systemMicrophone);
    this.#microphone.events.on("change", (state) => this.#microphoneChanged(state));
    if (options.microphone !== false) void this.#microphone.open();
    this.#meter = setInterval(() => this.#events.emit("level", { level: this.#microphone.level() }), 50);
    globalThis.addEventListener?.("online", this.#again);
    globalThis.document?.addEventListener("visibilitychange", this.#again);
    void this.#run();
  }

  /** Listens to an event; the answer stops listening. */
  readonly on = this.#events.on.bind(this.#events);

  get state(): ConnectionState {
    return this.#state;
  }

  get microphone(): MicrophoneState {
    return this.#microphone.state;
  }

  /** Who the token says that we are; known from the first connect on. */
  get self(): Readonly<Member> {
    return this.#self;
  }

  get channels(): Channel[] {
    return [...this.#channelById.values()];
  }

  /** Joins a channel, now and after every reconnect. Its progress is the `channel` event. */
  join(channelId: string): Channel {
    let channel = this.#channelById.get(channelId);
    if (!channel) {
      channel = new Channel(channelId, this.#self, this.#microphone, this.#events);
      this.#channelById.set(channelId, channel);
      if (this.#connection) void channel.attach(this.#connection);
    }
    return channel;
  }

  leave(channelId: string): void {
    this.#channelById.get(channelId)?.close();
    this.#channelById.delete(channelId);
  }

  /** Asks for the microphone again, after a no or a failure. */
  async enableMicrophone(): Promise<void> {
    await this.#microphone.open();
  }

  /** Ends it all. The client cannot be used again. */
  close(): void {
    if (this.#closed) return;
    this.#closed = new ConnectionEnd("closed", "Closed");
    for (const id of [...this.#channelById.keys()]) this.leave(id);
    this.#connection?.fail(this.#closed);
    this.#microphone.close();
    clearInterval(this.#meter);
    globalThis.removeEventListener?.("online", this.#again);
    globalThis.document?.removeEventListener("visibilitychange", this.#again);
    this.#wake();
  }

  async #run(): Promise<void> {
    let refusedBefore = false;
    for (;;) {
      const end = await this.#connectOnce();
      if (this.#closed) return this.#setState("stopped", this.#closed);
      // A fresh token may be what is missing; a second no to a fresh one is the answer.
      const retry = end.code === "unauthorized" && typeof this.token === "function" && !refusedBefore;
      if (end.final && !retry) return this.#setState("stopped", end);
      refusedBefore = end.code === "unauthorized";
      const retryInMs = this.#backoff.next(end.retryAfterMs);
      this.#setState("reconnecting", end, retryInMs);
      await this.#sleep(retryInMs);
      if (this.#closed) return this.#setState("stopped", this.#closed);
    }
  }

  /** From the first byte of one connection to its last. */
  async #connectOnce(): Promise<ConnectionEnd> {
    let token: string;
    try {
      token = typeof this.token === "string" ? this.token : await this.token();
      Object.assign(this.#self, memberOf(token));
    } catch (error) {
      if (error instanceof ConnectionEnd) return error;
      return new ConnectionEnd("lost", error instanceof Error ? error.message : "No token could be had");
    }
    if (this.#closed) return this.#closed;
    let signaling: Signaling;
    try {
      signaling = new Signaling(this.url, token, this.options);
    } catch (error) {
      // Only what no retry can mend: an address or a token with characters that neither may have.
      return new ConnectionEnd("unauthorized", error instanceof Error ? error.message : String(error));
    }
    signaling.onopen = () => this.#opened(signaling);
    signaling.onpush = (type, data) => this.#pushed(type, data);
    const end = await signaling.ended;
    this.#connection?.media.close();
    this.#connection = undefined;
    for (const channel of this.#channelById.values()) void channel.attach(undefined);
    return end;
  }

  #opened(signaling: Signaling): void {
    if (this.#closed) return signaling.close(this.#closed);
    const device = (): Promise<Device> => (this.#device ??= makeDevice());
    const media = new Media(signaling, device, (state) => {
      this.#events.emit("audio", { state });
      if (state === "connected") this.#backoff.reset();
      if (state === "failed") signaling.close(new ConnectionEnd("audio", "The audio connection failed"));
    });
    const connection: Connection = { signaling, media, fail: (end) => signaling.close(end) };
    this.#connection = connection;
    this.#setState("connected");
    for (const channel of this.#channelById.values()) void channel.attach(connection);
  }

  #pushed<T extends PushType>(type: T, data: Pushes[T]): void {
    if (type === "channel-list") {
      const { channels, role } = data as Pushes["channel-list"];
      this.#events.emit("channels", { channels, role });
    } else if ("channelId" in data) this.#channelById.get(data.channelId)?.receive(type, data);
  }

  #microphoneChanged(state: MicrophoneState): void {
    this.#events.emit("microphone", { state });
    for (const channel of this.#channelById.values()) void channel.startSending();
  }

  #setState(state: ConnectionState, reason?: ConnectionEnd, retryInMs?: number): void {
    this.#state = state;
    this.#events.emit("connection", {
      state,
      ...(reason && { reason: { code: reason.code, message: reason.message } }),
      ...(retryInMs !== undefined && { retryInMs }),
    });
  }

  #sleep(ms: number): Promise<void> {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, ms);
      this.#wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }

  /** The network is back, or the person looks at the page: no reason to wait any longer. */
  readonly #again = (): void => {
    if (!globalThis.document?.hidden) this.#wake();
  };
}

async function makeDevice(): Promise<Device> {
  try {
    return await Device.factory();
  } catch {
    throw new ConnectionEnd("unsupported", "This browser cannot do real-time audio");
  }
}
