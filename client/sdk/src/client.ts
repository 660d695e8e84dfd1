/**
 * The client: keeps a socket to the server open and its channels joined. One way serves the first connect and every
 * recovery: open a socket, go on with the session if the server still has it or begin another, join what is wanted, and
 * when the socket ends, wait and do it again.
 */
import { Device } from "mediasoup-client";
import { Backoff } from "./backoff.ts";
import { Channel } from "./channel.ts";
import { Emitter } from "./emitter.ts";
import { ConnectionEnd } from "./errors.ts";
import type { ConnectionState, Events } from "./events.ts";
import { Microphone, systemMicrophone, type MicrophoneSource, type MicrophoneState } from "./microphone.ts";
import type { Member, Pushes, PushType } from "./protocol.ts";
import { Session, type SessionAnswer } from "./session.ts";
import { Signaling, type SignalingOptions } from "./signaling.ts";
import { isFresh, memberOf } from "./token.ts";

/** A token, or how to get one; a function is asked when the last one is about to end or was refused. */
export type TokenSource = string | (() => Promise<string>);

export interface ClientOptions extends SignalingOptions {
  /** Where our voice comes from; `false`: listen only. Default: the system's microphone. */
  microphone?: MicrophoneSource | false;
  backoff?: Backoff;
  /** More gateways of the same deployment, tried in turn after the first. None are needed behind a load balancer. */
  urls?: readonly string[];
  /** For tests outside a browser. */
  device?: () => Promise<Device>;
}

/** Starts a client at once. Call it from a click: browsers want one before they give sound and microphone. */
export function connect(url: string, token: TokenSource, options: ClientOptions = {}): VoiceClient {
  return new VoiceClient(url, token, options);
}

/** Less than the silence after which the server ends a talk. */
const CUT_OFF_MS = 3_000;

export class VoiceClient {
  readonly #events = new Emitter<Events>();
  readonly #channelById = new Map<string, Channel>();
  readonly #microphone: Microphone;
  readonly #backoff: Backoff;
  readonly #self: Member = { userId: "", userName: "" };
  readonly #meter: ReturnType<typeof setInterval>;
  #device: Promise<Device> | undefined;
  #state: ConnectionState = "connecting";
  #session: Session | undefined;
  readonly #urls: readonly string[];
  /** Counts the sockets, to take the addresses in turn. */
  #attempt = 0;
  #cutOff: ReturnType<typeof setTimeout> | undefined;
  #lastToken: string | undefined;
  #closed: ConnectionEnd | undefined;
  #wake: () => void = () => {};

  constructor(
    url: string,
    private readonly token: TokenSource,
    private readonly options: ClientOptions,
  ) {
    this.#urls = [...new Set([url, ...(options.urls ?? [])])];
    this.#backoff = options.backoff ?? new Backoff();
    this.#microphone = new Microphone(options.microphone || systemMicrophone);
    this.#microphone.events.on("change", (state) => this.#microphoneChanged(state));
    if (options.microphone !== false) void this.#microphone.open();
    this.#meter = setInterval(() => this.#events.emit("level", { level: this.#microphone.level() }), 50);
    globalThis.addEventListener?.("online", this.#again);
    globalThis.addEventListener?.("pagehide", this.#leavePage);
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
      if (this.#session?.online) void channel.attach(this.#session);
    }
    return channel;
  }

  leave(channelId: string): void {
    const channel = this.#channelById.get(channelId);
    if (!channel) return;
    channel.close();
    this.#channelById.delete(channelId);
    // A session would go on with what it cannot be told to leave.
    if (this.#session && !this.#session.online) this.#endSession();
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
    this.#session?.fail(this.#closed);
    this.#endSession();
    this.#microphone.close();
    clearInterval(this.#meter);
    clearTimeout(this.#cutOff);
    globalThis.removeEventListener?.("online", this.#again);
    globalThis.removeEventListener?.("pagehide", this.#leavePage);
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
      if (end.final && !retry) {
        this.#endSession();
        return this.#setState("stopped", end);
      }
      refusedBefore = end.code === "unauthorized";
      if (refusedBefore) this.#lastToken = undefined;
      this.#attempt++;
      // What one gateway asks for is no wish of the next one's.
      const retryInMs = this.#backoff.next(this.#urls.length > 1 ? 0 : end.retryAfterMs);
      this.#setState("reconnecting", end, retryInMs);
      await this.#sleep(retryInMs);
      if (this.#closed) return this.#setState("stopped", this.#closed);
    }
  }

  /** From the first byte of one socket to its last. */
  async #connectOnce(): Promise<ConnectionEnd> {
    let signaling: Signaling;
    try {
      const token = await this.#freshToken();
      Object.assign(this.#self, memberOf(token));
      if (this.#closed) return this.#closed;
      signaling = this.#openSocket(token);
    } catch (error) {
      if (error instanceof ConnectionEnd) return error;
      return new ConnectionEnd("lost", error instanceof Error ? error.message : "No token could be had");
    }
    signaling.onopen = () => void this.#opened(signaling);
    signaling.onpush = (type, data) => this.#pushed(type, data);
    const end = await signaling.ended;
    this.#socketEnded(signaling, end);
    return end;
  }

  /** The last token while it is good: a source of tokens may be away together with the server that was lost. */
  async #freshToken(): Promise<string> {
    if (typeof this.token === "string") return this.token;
    if (this.#lastToken === undefined || !isFresh(this.#lastToken)) this.#lastToken = await this.token();
    return this.#lastToken;
  }

  /** The token ends soon, and with it the socket; unless there is a newer one, which this socket goes on with. */
  async #refreshToken(): Promise<void> {
    if (typeof this.token === "string") return;
    try {
      const token = await this.token();
      await this.#session?.request("refresh-token", { token });
      this.#lastToken = token;
    } catch {
      // The socket ends with the token, and the next one asks for another.
    }
  }

  #openSocket(token: string): Signaling {
    try {
      return new Signaling(this.#urls[this.#attempt % this.#urls.length]!, token, this.options);
    } catch (error) {
      // Only what no retry can mend: an address or a token with characters that neither may have.
      throw new ConnectionEnd("unauthorized", error instanceof Error ? error.message : String(error));
    }
  }

  /** Goes on with the session of the last socket, if there is one and the server knows it, or begins another. */
  async #opened(signaling: Signaling): Promise<void> {
    let answer: SessionAnswer | undefined;
    try {
      answer = await this.#session?.resume(signaling);
    } catch (error) {
      // The session may still be there: the next socket asks again.
      return signaling.close(new ConnectionEnd("lost", error instanceof Error ? error.message : String(error)));
    }
    if (this.#closed) return signaling.close(this.#closed);
    if (!answer?.resumed) this.#endSession();
    const session = (this.#session ??= this.#newSession());
    session.begin(signaling, answer);
    this.#setState("connected");
    const attaching = this.channels.map((channel) => channel.attach(session));
    // After the joins are on their way: without them this gateway takes no request for a channel.
    if (answer?.resumed) session.media.resumed(new Set(answer.transports.map(({ id }) => id)));
    await Promise.all(attaching);
    if (session.online && session.media.carries) this.#backoff.reset();
  }

  #newSession(): Session {
    return new Session(
      () => (this.#device ??= this.options.device?.() ?? makeDevice()),
      (state) => {
        this.#events.emit("audio", { state });
        if (!this.#session?.online) this.#checkSuspended();
        else if (state === "connected") this.#backoff.reset();
      },
    );
  }

  /** A socket that was lost leaves its session to the next one; one that was ended takes it along. */
  #socketEnded(signaling: Signaling, end: ConnectionEnd): void {
    const session = this.#session;
    if (!session) return;
    const wasOnline = session.online;
    session.suspend();
    if ((signaling.opened && end.code !== "lost") || !session.canResume) return this.#endSession();
    if (!wasOnline) return; // it was suspended before this socket, which did not get as far
    for (const channel of this.channels) channel.suspend();
    this.#checkSuspended();
  }

  /**
   * With neither a server nor a way for the audio, nobody hears us. A phone that changes its network has neither for a moment,
   * and goes on with its talk.
   */
  #checkSuspended(): void {
    this.#cutOff ??= setTimeout(() => {
      this.#cutOff = undefined;
      if (this.#session?.online || this.#session?.media.carries) return;
      for (const channel of this.channels) channel.cutOff();
    }, CUT_OFF_MS);
  }

  #endSession(): void {
    const session = this.#session;
    if (!session) return;
    this.#session = undefined;
    session.suspend();
    session.media.close();
    for (const channel of this.channels) void channel.attach(undefined);
    this.#events.emit("audio", { state: "connecting" });
  }

  #pushed<T extends PushType>(type: T, data: Pushes[T]): void {
    if (type === "channel-list") {
      const { channels, role } = data as Pushes["channel-list"];
      this.#events.emit("channels", { channels, role });
    } else if (type === "session") this.#session?.keep(data as Pushes["session"]);
    else if (type === "token-expiring") void this.#refreshToken();
    else if (type === "media-moved") this.#session?.media.move((data as Pushes["media-moved"]).reason);
    else if ("channelId" in data) this.#channelById.get(data.channelId)?.receive(type, data);
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

  /** Nobody will resume this session, so the server need not keep a floor for it. A page that is shown again reconnects. */
  readonly #leavePage = (): void => {
    this.#session?.fail(new ConnectionEnd("lost", "The page was left"), true);
    this.#endSession();
  };
}

async function makeDevice(): Promise<Device> {
  try {
    return await Device.factory();
  } catch {
    throw new ConnectionEnd("unsupported", "This browser cannot do real-time audio");
  }
}
