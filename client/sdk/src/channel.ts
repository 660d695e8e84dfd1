/**
 * One channel that the person has joined: who speaks, who is there, and the press of the button. Made by `client.ts`,
 * which attaches it to every session and after every resume, and hands it every push; survives both. Never opens a
 * connection itself.
 */
import { Backoff } from "./backoff.ts";
import type { Emitter } from "./emitter.ts";
import { ConnectionEnd, isTransient, RequestError } from "./errors.ts";
import type { Events } from "./events.ts";
import type { Ear } from "./media.ts";
import type { Microphone } from "./microphone.ts";
import { Playback } from "./playback.ts";
import type { ChannelState, Denial, FreeReason, Member, Pushes } from "./protocol.ts";
import { Roster } from "./roster.ts";
import type { Session } from "./session.ts";
import { Talk, type TalkChannel, type TalkState } from "./talk.ts";

export type JoinState =
  | "joining" // on the way, also after a reconnect that had to begin anew
  | "joined" // heard
  | "refused"; // the server said no; see `refusal`

export interface Speaker extends Member {
  /** It is this very page that speaks. */
  self: boolean;
  /** When the talk began, by the server's clock, in milliseconds since the Unix epoch. */
  since: number;
}

/** The server does not let us join. What it refuses after that is no decision: the audio may find another way. */
class Refused extends Error {}

function decided(error: unknown): never {
  const transient = !(error instanceof RequestError) || error.code === "disconnected" || isTransient(error);
  throw transient ? error : new Refused(error.message);
}

export class Channel {
  #join: JoinState = "joining";
  #refusal: string | undefined;
  #speaker: Speaker | null = null;
  /** Of the newest news of the floor. A join begins anew: its snapshot counts, whatever it says. */
  #epoch = 0;
  #session: Session | undefined;
  /** Counts the attempts to join: a newer one ends an older one. */
  #attempt = 0;
  /** The microphone that is, or is being, taken into the channel. */
  #source: MediaStreamTrack | undefined;
  /** The channel's own clone of it, once it is there. */
  #voice: MediaStreamTrack | undefined;
  #retry: ReturnType<typeof setTimeout> | undefined;
  readonly #talk: Talk;
  readonly #backoff = new Backoff();
  readonly #roster: Roster;
  readonly #playback: Playback;
  readonly #ear: Ear;

  constructor(
    readonly id: string,
    private readonly self: Member,
    private readonly microphone: Microphone,
    private readonly events: Emitter<Events>,
  ) {
    const playback = (this.#playback = new Playback(id));
    const expectsSound = (): boolean => this.#speaker?.self === false;
    this.#ear = {
      play: (track, ready) => playback.play(track, ready),
      get expectsSound() {
        return expectsSound();
      },
      get muted() {
        return playback.muted;
      },
    };
    this.#talk = new Talk(this.#talkChannel(), events);
    this.#roster = new Roster(
      self,
      () => this.#session?.request("members", { channelId: id }) ?? Promise.reject(new Error("No session")),
      () => this.#membersEvent(),
    );
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
    return this.#talk.state;
  }

  /** A press would be sent now: joined, with a microphone. */
  get canTalk(): boolean {
    return this.#voice !== undefined;
  }

  get userCount(): number {
    return this.#roster.userCount;
  }

  /** Ordered by name. Nobody where there are more than a hundred: see `userCount`. */
  get members(): Member[] {
    return this.#roster.members;
  }

  /** `members` is everybody. */
  get membersComplete(): boolean {
    return this.#roster.complete;
  }

  get muted(): boolean {
    return this.#playback.muted;
  }

  set muted(muted: boolean) {
    this.#playback.muted = muted;
    this.#session?.media.mute(this.id, muted);
  }

  /** The button is down: asks for the floor. What is said from now on is heard from the grant on. */
  hold(): void {
    if (!this.#session || this.#join !== "joined") return this.#talk.deny("offline", "Not connected");
    if (!this.#voice) return this.#talk.deny("no-microphone", "No microphone");
    this.#talk.hold();
  }

  /** The button is up. */
  release(): void {
    this.#talk.release();
  }

  /**
   * For `client.ts`: joins in this session. Another session than the last begins anew; the same one goes on, so only what
   * may have changed meanwhile is asked for. `undefined`: there is none any more.
   */
  async attach(session: Session | undefined): Promise<void> {
    clearTimeout(this.#retry);
    const attempt = ++this.#attempt;
    if (session !== this.#session) this.#beginAnew(session);
    if (!session) return;
    const isStale = (): boolean => attempt !== this.#attempt;
    try {
      await this.#joinIn(session, isStale);
      if (isStale()) return;
      this.#backoff.reset();
      this.#setJoin("joined");
    } catch (error) {
      if (!isStale()) this.#joinFailed(session, error);
      return;
    }
    await this.startSending();
  }

  /** For `client.ts`: the socket is gone, the session may go on. What is heard and said goes on with it. */
  suspend(): void {
    clearTimeout(this.#retry);
    this.#talk.suspended();
  }

  /** For `client.ts`: neither the server nor the audio can be reached, so nobody hears us. */
  cutOff(): void {
    if (this.talk === "talking") this.#talk.end("disconnected");
  }

  /** For `client.ts`: takes the microphone, as soon as there is one, into this channel. */
  async startSending(): Promise<void> {
    const session = this.#session;
    const source = this.microphone.track;
    if (!session || this.#join !== "joined" || source === this.#source) return;
    if (this.#source) {
      this.#talk.end("interrupted", "The microphone went away");
      this.#stopSending();
    }
    const track = this.microphone.clone();
    if (!track) return;
    this.#source = source;
    const isStale = (): boolean => session !== this.#session || source !== this.#source;
    try {
      await session.media.send(this.id, track);
      if (isStale()) return track.stop();
      this.#voice = track;
      this.events.emit("channel", { channelId: this.id, state: this.#join });
    } catch {
      track.stop(); // listening goes on, and `canTalk` tells; the next socket tries again
      if (!isStale()) this.#stopSending();
    }
  }

  /** For `client.ts`: a push that names this channel. */
  receive<T extends keyof Pushes>(type: T, data: Pushes[T]): void {
    if (type === "speaker-changed") this.#floorChanged(data as ChannelState);
    else if (type === "channel-state") {
      this.#roster.changed(data as Pushes["channel-state"]);
      this.#floorChanged(data as ChannelState);
    } else if (type === "ptt-denied") this.#talk.takenBack(data as Denial);
    else if (type === "ptt-interrupted") {
      this.#talk.end("interrupted", (data as Pushes["ptt-interrupted"]).message ?? "Interrupted");
    }
  }

  /** For `client.ts`: leaves the channel for good. */
  close(): void {
    clearTimeout(this.#retry);
    this.#attempt++;
    this.#talk.end("released");
    this.#session?.request("leave-channel", { channelId: this.id }).catch(() => {});
    this.#session?.media.drop(this.id);
    this.#stopSending();
    this.#roster.close();
    this.#session = undefined;
    this.#playback.close();
  }

  /** What the last session had is gone with it. */
  #beginAnew(session: Session | undefined): void {
    this.#talk.forget();
    this.#stopSending();
    this.#roster.close();
    this.#session = session;
    this.#setSpeaker(null);
    this.#setJoin("joining");
  }

  async #joinIn(session: Session, isStale: () => boolean): Promise<void> {
    const resumes = this.#join === "joined";
    const reply = await session.request("join-channel", { channelId: this.id }).catch(decided);
    if (isStale()) return;
    const goesOn = resumes && this.#talk.resumed(reply.state);
    if (!goesOn) {
      this.#epoch = 0;
      this.#floorChanged(reply.state);
    }
    await Promise.all([this.#roster.joined(reply.userCount), session.media.receive(this.id, this.#ear)]);
  }

  #joinFailed(session: Session, error: unknown): void {
    if (error instanceof ConnectionEnd) return session.fail(error);
    if (error instanceof RequestError && error.code === "disconnected") return; // the next socket joins again
    if (error instanceof Refused) {
      this.#refusal = error.message;
      this.#roster.close();
      this.#talk.forget();
      session.media.drop(this.id);
      this.#stopSending();
      this.#setSpeaker(null);
      return this.#setJoin("refused");
    }
    // The other channels of the session may be well: only this one is tried again.
    this.#retry = setTimeout(() => void this.attach(session), this.#backoff.next());
  }

  #talkChannel(): TalkChannel {
    const session = (): Session | undefined => this.#session;
    return {
      id: this.id,
      get session() {
        return session();
      },
      open: (open) => {
        if (this.#voice) this.#voice.enabled = open;
      },
      granted: (state) => {
        this.#epoch = state.epoch;
        this.#session?.media.speaking(this.id, true);
        this.#setSpeaker({ ...this.self, self: true, since: state.lockTimestamp ?? Date.now() });
      },
      ended: () => {
        this.#session?.media.speaking(this.id, false);
        if (this.#speaker?.self) this.#setSpeaker(null);
      },
      floorChanged: (state) => this.#floorChanged(state),
    };
  }

  #floorChanged(state: ChannelState & { reason?: FreeReason }): void {
    // Answers and pushes come by different ways, so news of an earlier talk may arrive after our grant.
    if (state.epoch < this.#epoch || this.#talk.isOwn(state.epoch)) return;
    this.#epoch = state.epoch;
    this.#talk.lost(state);
    const { currentSpeaker: userId, speakerName, lockTimestamp } = state;
    if (!state.isBusy || userId === null) this.#setSpeaker(null);
    else {
      const since = lockTimestamp ?? Date.now();
      this.#setSpeaker({ userId, userName: speakerName ?? userId, self: false, since });
    }
  }

  #membersEvent(): void {
    const { members, userCount, membersComplete: complete } = this;
    this.events.emit("members", { channelId: this.id, members, userCount, complete });
  }

  #stopSending(): void {
    this.#session?.media.stopSending(this.id);
    this.#voice?.stop();
    this.#voice = this.#source = undefined;
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
