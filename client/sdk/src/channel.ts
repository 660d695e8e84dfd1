/**
 * One channel that the person has joined: who speaks, who is there, and the press of the button. Made by `client.ts`,
 * which hands it every new connection and every push; survives reconnects. Never opens a connection itself.
 */
import { Backoff } from "./backoff.ts";
import type { Emitter } from "./emitter.ts";
import { ConnectionEnd, RequestError } from "./errors.ts";
import type { Events } from "./events.ts";
import type { Media, Sender } from "./media.ts";
import type { Microphone } from "./microphone.ts";
import { Playback } from "./playback.ts";
import type { ChannelState, Denial, FreeReason, Member, Pushes } from "./protocol.ts";
import type { Signaling } from "./signaling.ts";

/**
 * How long the gate stays open after the button is up. What was said until then is still on its way through the sound
 * card, the encoder and the network, and the request to close would overtake it.
 */
const RELEASE_TAIL_MS = 100;

/** A grant that takes longer helps nobody. */
const GRANT_TIMEOUT_MS = 5_000;

export type JoinState =
  | "joining" // on the way, also after a reconnect
  | "joined" // heard
  | "refused"; // the server said no; see `refusal`

export interface Speaker extends Member {
  /** It is this very page that speaks. */
  self: boolean;
  /** When the talk began, by the server's clock, in milliseconds since the Unix epoch. */
  since: number;
}

export type TalkState = "idle" | "requesting" | "talking";
export type TalkEnd = "released" | "denied" | "interrupted" | "disconnected";

/** What a later attempt may change: a moment of the server's, not a decision. */
const TRANSIENT = new Set(["timeout", "rate-limited", "state-unavailable", "media-unavailable", "media-full"]);

/** A connection, as far as a channel needs it. */
export interface Connection {
  readonly signaling: Signaling;
  readonly media: Media;
  fail(end: ConnectionEnd): void;
}

interface Press {
  granted: boolean;
  /** Runs from the release to the end of the talk. */
  tail?: ReturnType<typeof setTimeout>;
}

export class Channel {
  #join: JoinState = "joining";
  #refusal: string | undefined;
  #speaker: Speaker | null = null;
  #userCount = 0;
  /** Of the newest news of the floor. A new connection begins anew: its first snapshot counts, whatever it says. */
  #epoch = 0;
  /** Of our own last talk, whose news are no news. */
  #ownEpoch: number | undefined;
  #connection: Connection | undefined;
  #sender: { stream: Sender; track: MediaStreamTrack } | undefined;
  /** The connection on which a sender is being made. */
  #opening: Connection | undefined;
  #press: Press | undefined;
  #retry: ReturnType<typeof setTimeout> | undefined;
  readonly #backoff = new Backoff();
  readonly #nameByUser = new Map<string, string>();
  readonly #playback: Playback;

  constructor(
    readonly id: string,
    private readonly self: Member,
    private readonly microphone: Microphone,
    private readonly events: Emitter<Events>,
  ) {
    this.#playback = new Playback(id);
  }

  get state(): JoinState {
    return this.#join;
  }

  /** Why the server refused the channel. */
  get refusal(): string | undefined {
    return this.#refusal;
  }

  get speaker(): Speaker | null {
    return this.#speaker;
  }

  get talk(): TalkState {
    return !this.#press ? "idle" : this.#press.granted ? "talking" : "requesting";
  }

  /** A press would be sent now: joined, with a microphone. */
  get canTalk(): boolean {
    return this.#sender !== undefined;
  }

  get userCount(): number {
    return this.#userCount;
  }

  /** Ordered by name. */
  get members(): Member[] {
    return [...this.#nameByUser]
      .map(([userId, userName]) => ({ userId, userName }))
      .sort((a, b) => a.userName.localeCompare(b.userName));
  }

  get muted(): boolean {
    return this.#playback.muted;
  }

  set muted(muted: boolean) {
    this.#playback.muted = muted;
    this.#connection?.media.mute(this.id, muted);
  }

  /** The button is down: asks for the floor. What is said from now on is heard from the grant on. */
  hold(): void {
    if (this.#press) {
      // Down again before the tail of the last talk has run out: it was one talk.
      clearTimeout(this.#press.tail);
      return;
    }
    const { media, signaling } = this.#connection ?? {};
    if (!media || !signaling || this.#join !== "joined") return this.#deny("offline", "Not connected");
    if (!this.#sender) return this.#deny("no-microphone", "No microphone");
    const press: Press = (this.#press = { granted: false });
    // Open before the grant, so that the first syllable is already at the server's gate when that opens.
    this.#sender.track.enabled = true;
    this.events.emit("talk", { channelId: this.id, state: "requesting" });
    signaling.request("ptt-start", { channelId: this.id }, GRANT_TIMEOUT_MS).then(
      ({ state }) => this.#press === press && this.#granted(press, state),
      (error: unknown) => this.#press === press && this.#refused(error),
    );
  }

  /** The button is up. */
  release(): void {
    const press = this.#press;
    if (!press) return;
    if (!press.granted) return this.#endTalk("released");
    clearTimeout(press.tail);
    press.tail = setTimeout(() => this.#endTalk("released"), RELEASE_TAIL_MS);
  }

  /** For `client.ts`: joins on this connection; `undefined` when there is none any more. */
  async attach(connection: Connection | undefined): Promise<void> {
    clearTimeout(this.#retry);
    this.#endTalk("disconnected");
    this.#connection = connection;
    this.#stopSending();
    this.#setSpeaker(null);
    this.#setJoin("joining");
    if (!connection) return;
    try {
      await this.#joinOn(connection);
      if (this.#connection !== connection) return;
      this.#backoff.reset();
      this.#setJoin("joined");
    } catch (error) {
      if (this.#connection === connection) this.#joinFailed(connection, error);
      return;
    }
    await this.startSending();
  }

  async #joinOn(connection: Connection): Promise<void> {
    const { signaling, media } = connection;
    const reply = await signaling.request("join-channel", { channelId: this.id });
    if (this.#connection !== connection) return;
    this.#nameByUser.clear();
    this.#nameByUser.set(this.self.userId, this.self.userName);
    this.#userCount = reply.userCount;
    this.#epoch = 0;
    this.#ownEpoch = undefined;
    this.#floorChanged(reply.state);
    const [track, { members }] = await Promise.all([
      media.receive(this.id),
      signaling.request("members", { channelId: this.id }),
    ]);
    if (this.#connection !== connection) return;
    for (const { userId, userName } of members) this.#nameByUser.set(userId, userName);
    this.#membersEvent();
    this.#playback.play(track);
    if (this.muted) media.mute(this.id, true);
  }

  #joinFailed(connection: Connection, error: unknown): void {
    if (error instanceof ConnectionEnd) return connection.fail(error);
    if (error instanceof RequestError && error.code === "disconnected") return; // the next connection joins again
    if (error instanceof RequestError && !TRANSIENT.has(error.code)) {
      this.#refusal = error.message;
      return this.#setJoin("refused");
    }
    // The other channels of the connection may be well: only this one is tried again.
    this.#retry = setTimeout(() => void this.attach(connection), this.#backoff.next());
  }

  /** For `client.ts`: takes the microphone, as soon as there is one, into this channel. */
  async startSending(): Promise<void> {
    const connection = this.#connection;
    if (!connection || this.#join !== "joined" || this.#opening === connection) return;
    const track = this.microphone.clone();
    if (!track || this.#sender) {
      this.#endTalk("interrupted", "The microphone went away");
      this.#stopSending();
    }
    if (!track) return;
    this.#opening = connection;
    try {
      const stream = await connection.media.send(this.id, track);
      if (this.#connection !== connection) return;
      this.#sender = { stream, track };
      this.events.emit("channel", { channelId: this.id, state: this.#join });
    } catch {
      track.stop(); // listening goes on, and `canTalk` tells; the next connection tries again
    } finally {
      if (this.#opening === connection) this.#opening = undefined;
    }
  }

  /** For `client.ts`: a push that names this channel. */
  receive<T extends keyof Pushes>(type: T, data: Pushes[T]): void {
    if (type === "speaker-changed") this.#floorChanged(data as ChannelState);
    else if (type === "channel-state") this.#membersChanged(data as Pushes["channel-state"]);
    else if (type === "ptt-denied") this.#takenBack(data as Denial);
    else if (type === "ptt-interrupted") {
      this.#endTalk("interrupted", (data as Pushes["ptt-interrupted"]).message ?? "Interrupted");
    }
  }

  /** For `client.ts`: leaves the channel for good. */
  close(): void {
    clearTimeout(this.#retry);
    this.#endTalk("released");
    this.#connection?.signaling.request("leave-channel", { channelId: this.id }).catch(() => {});
    this.#connection?.media.drop(this.id);
    this.#connection = undefined;
    this.#stopSending();
    this.#playback.close();
  }

  #granted(press: Press, state: ChannelState): void {
    press.granted = true;
    this.#epoch = this.#ownEpoch = state.epoch;
    this.#setSpeaker({ ...this.self, self: true, since: state.lockTimestamp ?? Date.now() });
    this.events.emit("talk", { channelId: this.id, state: "talking" });
  }

  #refused(error: unknown): void {
    if (!(error instanceof RequestError) || error.code === "disconnected") return; // attach() ends the talk
    this.#endTalk("denied", error.message);
    const denial = error.data as Partial<Denial> | undefined;
    this.#deny(error.code, error.message, denial?.currentSpeakerName ?? undefined);
    // The grant may still come, and nobody would be speaking.
    if (error.code === "timeout") this.#giveBack();
  }

  /** A grant that the server had to take back. */
  #takenBack(denial: Denial): void {
    const message = denial.message ?? "The floor was taken back";
    if (!this.#press) return;
    this.#endTalk("denied", message);
    this.#deny("denied", message, denial.currentSpeakerName ?? undefined);
  }

  #floorChanged(state: ChannelState & { reason?: FreeReason }): void {
    // Answers and pushes come by different ways, so news of an earlier talk may arrive after our grant.
    if (state.epoch < this.#epoch || state.epoch === this.#ownEpoch) return;
    this.#epoch = state.epoch;
    if (this.#press?.granted) this.#endTalk("interrupted", whyInterrupted(state));
    const { currentSpeaker: userId, speakerName, lockTimestamp } = state;
    if (!state.isBusy || userId === null) this.#setSpeaker(null);
    else {
      const since = lockTimestamp ?? Date.now();
      this.#setSpeaker({ userId, userName: speakerName ?? userId, self: false, since });
    }
  }

  #membersChanged(data: Pushes["channel-state"]): void {
    if (data.action === "user-joined") this.#nameByUser.set(data.userId, data.userName);
    else if (data.userId !== this.self.userId) this.#nameByUser.delete(data.userId);
    this.#userCount = data.userCount;
    this.#membersEvent();
    this.#floorChanged(data);
  }

  #membersEvent(): void {
    this.events.emit("members", { channelId: this.id, members: this.members, userCount: this.#userCount });
  }

  #endTalk(end: TalkEnd, message?: string): void {
    const press = this.#press;
    if (!press) return;
    clearTimeout(press.tail);
    this.#press = undefined;
    if (this.#sender) this.#sender.track.enabled = false;
    if (end === "released") this.#giveBack();
    if (this.#speaker?.self) this.#setSpeaker(null);
    this.events.emit("talk", { channelId: this.id, state: "idle", end, ...(message && { message }) });
  }

  #giveBack(): void {
    this.#connection?.signaling.request("ptt-stop", { channelId: this.id }).then(
      ({ state }) => this.#floorChanged(state),
      () => {}, // the end of the connection gives it back as well
    );
  }

  #deny(code: string, message: string, speakerName?: string): void {
    this.events.emit("denied", { channelId: this.id, code, message, ...(speakerName && { speakerName }) });
  }

  #stopSending(): void {
    this.#sender?.track.stop();
    this.#sender?.stream.close();
    this.#sender = undefined;
  }

  #setSpeaker(speaker: Speaker | null): void {
    const old = this.#speaker;
    if (old?.userId === speaker?.userId && old?.since === speaker?.since && old?.self === speaker?.self) return;
    this.#speaker = speaker;
    this.events.emit("speaker", { channelId: this.id, speaker });
  }

  #setJoin(state: JoinState): void {
    if (this.#join === state) return;
    this.#join = state;
    this.events.emit("channel", { channelId: this.id, state, ...(this.#refusal && { refusal: this.#refusal }) });
  }
}

function whyInterrupted({ speakerName, reason }: ChannelState & { reason?: FreeReason }): string {
  if (speakerName) return `${speakerName} took over`;
  if (reason === "talk-limit") return "The talk reached its limit";
  if (reason === "silent") return "No sound arrived at the server";
  return "The server ended the talk";
}
