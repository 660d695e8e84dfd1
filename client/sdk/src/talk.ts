/**
 * Our own presses on one channel: asks for the floor, talks, gives it back, and says how each press ended. A press
 * outlives a socket: it is repeated on the next one, and a talk goes on while its audio may still arrive. Owned by
 * `channel.ts`; knows nothing of other people's talks.
 */
import type { Emitter } from "./emitter.ts";
import { RequestError } from "./errors.ts";
import type { Events } from "./events.ts";
import type { ChannelState, Denial, FreeReason } from "./protocol.ts";
import type { Session } from "./session.ts";

/**
 * How long the gate stays open after the button is up. What was said until then is still on its way through the sound
 * card, the encoder and the network, and the request to close would overtake it.
 */
const RELEASE_TAIL_MS = 100;

/** A grant that takes longer helps nobody. */
const GRANT_TIMEOUT_MS = 5_000;

/** So long the server lets somebody speak whose connection it has lost: the lease of a floor. */
const ALONE_MS = 15_000;

export type TalkState = "idle" | "requesting" | "talking";
export type TalkEnd = "released" | "denied" | "interrupted" | "disconnected";

/** What a talk needs of its channel. */
export interface TalkChannel {
  readonly id: string;
  readonly session: Pick<Session, "request" | "online"> | undefined;
  /** Lets the microphone into the channel, or out of it. */
  open(open: boolean): void;
  /** The floor is ours. */
  granted(state: ChannelState): void;
  /** The talk is over on this side; what the server thinks follows. */
  ended(): void;
  /** What the server says of the floor after it was given back. */
  floorChanged(state: ChannelState): void;
}

interface Press {
  granted: boolean;
  /** Runs until the grant. */
  deadline: ReturnType<typeof setTimeout>;
  /** Runs from the release to the end of the talk. */
  tail?: ReturnType<typeof setTimeout>;
}

export class Talk {
  #press: Press | undefined;
  /** Of our own last talk, whose news are no news. */
  #epoch: number | undefined;
  /** The floor may be ours although nobody presses. */
  #owed = false;
  /** Runs while a talk goes on without a socket. */
  #alone: ReturnType<typeof setTimeout> | undefined;

  constructor(
    private readonly channel: TalkChannel,
    private readonly events: Emitter<Events>,
  ) {}

  get state(): TalkState {
    return !this.#press ? "idle" : this.#press.granted ? "talking" : "requesting";
  }

  /** These are news of our own talk. */
  isOwn(epoch: number): boolean {
    return epoch === this.#epoch;
  }

  /** The button is down: asks for the floor. What is said from now on is heard from the grant on. */
  hold(): void {
    if (this.#press) {
      // Down again before the tail of the last talk has run out: it was one talk.
      clearTimeout(this.#press.tail);
      return;
    }
    this.#press = { granted: false, deadline: setTimeout(() => this.#late(), GRANT_TIMEOUT_MS) };
    // Open before the grant, so that the first syllable is already at the server's gate when that opens.
    this.channel.open(true);
    this.events.emit("talk", { channelId: this.channel.id, state: "requesting" });
    if (this.channel.session?.online) this.#ask(this.#press);
  }

  /** The button is up. */
  release(): void {
    const press = this.#press;
    if (!press) return;
    if (!press.granted) return this.end("released");
    clearTimeout(press.tail);
    press.tail = setTimeout(() => this.end("released"), RELEASE_TAIL_MS);
  }

  /** The press, if there is one, is over. */
  end(end: TalkEnd, message?: string): void {
    const press = this.#press;
    if (!press) return;
    clearTimeout(press.tail);
    clearTimeout(press.deadline);
    clearTimeout(this.#alone);
    this.#press = undefined;
    this.channel.open(false);
    if (end === "released" || end === "disconnected") this.#giveBack();
    this.channel.ended();
    this.events.emit("talk", { channelId: this.channel.id, state: "idle", end, ...(message && { message }) });
  }

  /** The socket is gone, and the session may go on. */
  suspended(): void {
    if (this.#press?.granted) this.#alone = setTimeout(() => this.end("disconnected"), ALONE_MS);
  }

  /** The session goes on; `state` is what the server says of the floor. True if our talk is what goes on there. */
  resumed(state: ChannelState): boolean {
    clearTimeout(this.#alone);
    const press = this.#press;
    if (press && !press.granted) this.#ask(press);
    else if (!press && this.#owed) this.#giveBack();
    return press?.granted === true && state.isBusy && this.isOwn(state.epoch);
  }

  /** Another session has begun: it knows nothing of our talks. */
  forget(): void {
    this.end("disconnected");
    this.#epoch = undefined;
    this.#owed = false;
  }

  /** The floor has changed, and it is not our talk. */
  lost(state: ChannelState & { reason?: FreeReason }): void {
    if (this.#press?.granted) this.end("interrupted", whyInterrupted(state));
  }

  /** A grant that the server had to take back. */
  takenBack(denial: Denial): void {
    const message = denial.message ?? "The floor was taken back";
    if (!this.#press) return;
    this.end("denied", message);
    this.deny("denied", message, denial.currentSpeakerName ?? undefined);
  }

  /** A press was in vain. */
  deny(code: string, message: string, speakerName?: string): void {
    this.events.emit("denied", { channelId: this.channel.id, code, message, ...(speakerName && { speakerName }) });
  }

  #ask(press: Press): void {
    this.channel.session?.request("ptt-start", { channelId: this.channel.id }, GRANT_TIMEOUT_MS).then(
      ({ state }) => this.#press === press && this.#granted(press, state),
      (error: unknown) => this.#press === press && this.#refused(error),
    );
  }

  #granted(press: Press, state: ChannelState): void {
    if (press.granted) return; // asked on two sockets, or twice
    clearTimeout(press.deadline);
    press.granted = true;
    this.#owed = false;
    this.#epoch = state.epoch;
    this.channel.granted(state);
    this.events.emit("talk", { channelId: this.channel.id, state: "talking" });
  }

  #refused(error: unknown): void {
    // Without an answer the next socket asks again, or the deadline ends it.
    if (!(error instanceof RequestError) || error.code === "disconnected" || error.code === "timeout") return;
    this.end("denied", error.message);
    const denial = error.data as Partial<Denial> | undefined;
    this.deny(error.code, error.message, denial?.currentSpeakerName ?? undefined);
  }

  #late(): void {
    const [code, message] = this.channel.session?.online
      ? ["timeout", "The server did not answer in time"]
      : ["offline", "Not connected"];
    this.end("denied", message);
    this.deny(code, message);
    this.#giveBack(); // the grant may still come, and nobody would be speaking
  }

  #giveBack(): void {
    this.#owed = true;
    this.channel.session?.request("ptt-stop", { channelId: this.channel.id }).then(
      ({ state }) => {
        this.#owed = false;
        this.channel.floorChanged(state);
      },
      () => {}, // a session that goes on repeats it, and the end of one does the same
    );
  }
}

function whyInterrupted({ speakerName, reason }: ChannelState & { reason?: FreeReason }): string {
  if (speakerName) return `${speakerName} took over`;
  if (reason === "talk-limit") return "The talk reached its limit";
  if (reason === "silent") return "No sound arrived at the server";
  return "The server ended the talk";
}
