/**
 * The audio of one session: what is heard of each channel and what is said to it, over one path. It keeps both going when
 * the path has to be another one: because the server says so, or because the path has failed. The new one is complete
 * before the old one is closed. `channel.ts` says what is wanted, `session.ts` carries the requests. Never touches the
 * microphone or a loudspeaker.
 */
import type { Device } from "mediasoup-client";
import { Backoff } from "./backoff.ts";
import { deferred, type Deferred } from "./deferred.ts";
import { Path, type PathState, type Requester } from "./path.ts";
import type { MoveReason } from "./protocol.ts";

export type AudioPathState =
  | PathState
  | "moving"; // to another media node

/**
 * Browsers call a path disconnected when five seconds have brought nothing, or when the network that it used is gone. So long
 * a new way to the same transports is looked for, before they are given up.
 */
const PATIENCE_MS = 3_000;

/** A new path that is not complete after this long is given up. */
const MOVE_MS = 8_000;

/** So long a complete path may take to bring the first packets of a talk, before it is trusted without. */
const FIRST_PACKETS_MS = 1_500;

/** Where a channel is heard. */
export interface Ear {
  /** Lets this track be heard, from `ready` on if that is given: until then goes on what is heard now. */
  play(track: MediaStreamTrack, ready?: Promise<void>): Promise<void>;
  /** Somebody else speaks, so packets have to come. */
  readonly expectsSound: boolean;
  readonly muted: boolean;
}

export class Media {
  #path: Path;
  /** Paths that are being left, until the new one carries everything. */
  #left: Path[] = [];
  readonly #earByChannel = new Map<string, Ear>();
  readonly #voiceByChannel = new Map<string, MediaStreamTrack>();
  readonly #speaking = new Set<string>();
  #quiet = deferred();
  /** There from the first attempt at a new path until one is complete. */
  #moving: Deferred | undefined;
  /** The current path is not complete yet. */
  #filling = false;
  /** The node that it leads to is draining already. */
  #drainsAgain = false;
  /** Counts the moves: a newer one ends an older one. */
  #move = 0;
  #suspicion: ReturnType<typeof setTimeout> | undefined;
  #wake: () => void = () => {};
  #state: AudioPathState | undefined;
  #closed = false;

  constructor(
    private readonly server: Requester,
    /** Shared by all sessions: what a browser can do does not change. */
    private readonly device: () => Promise<Device>,
    private readonly onstate: (state: AudioPathState) => void,
  ) {
    this.#path = this.#newPath();
  }

  /** What is sent arrives and the other way round, as far as is known. */
  get carries(): boolean {
    return !this.#closed && this.#state === "connected";
  }

  /** Lets a joined channel be heard, whoever speaks, until `drop`. */
  async receive(channelId: string, ear: Ear): Promise<void> {
    this.#earByChannel.set(channelId, ear);
    await this.#onPath(async (path) => {
      const track = await path.receive(channelId);
      if (ear.muted) path.mute(channelId, true);
      await ear.play(track);
    });
  }

  /** Gives a channel a stream out, until `stopSending` or `drop`. */
  async send(channelId: string, track: MediaStreamTrack): Promise<void> {
    this.#voiceByChannel.set(channelId, track);
    await this.#onPath((path) => path.send(channelId, track));
  }

  mute(channelId: string, muted: boolean): void {
    this.#path.mute(channelId, muted);
  }

  /**
   * A talk on a channel begins or ends: while there is one, no path is left without need. One that was asked for does not
   * count: its grant may already be for the node that we are about to go to.
   */
  speaking(channelId: string, speaks: boolean): void {
    if (speaks) this.#speaking.add(channelId);
    else this.#speaking.delete(channelId);
    if (this.#speaking.size > 0) return;
    this.#quiet.resolve();
    this.#quiet = deferred();
  }

  stopSending(channelId: string): void {
    this.#voiceByChannel.delete(channelId);
    for (const path of [this.#path, ...this.#left]) path.stopSending(channelId);
  }

  /** Ends both ways of a channel. */
  drop(channelId: string): void {
    this.#earByChannel.delete(channelId);
    this.#voiceByChannel.delete(channelId);
    for (const path of [this.#path, ...this.#left]) path.drop(channelId);
  }

  /** Takes the audio to another media node. */
  move(reason: MoveReason): void {
    if (this.#closed) return;
    if (this.#filling && reason === "draining") {
      this.#drainsAgain = true;
      return;
    }
    if (this.#filling) this.#giveUp();
    this.#trust();
    const move = ++this.#move;
    void this.#leave(reason === "draining", () => move === this.#move && !this.#closed);
  }

  /** Another socket goes on with the session; `kept` are the transports that the server still has. */
  resumed(kept: ReadonlySet<string>): void {
    this.#wake();
    if (this.#moving) return;
    if (this.#path.transportIds.some((id) => !kept.has(id))) this.move("node-lost");
    else if (this.#suspicion !== undefined) this.#lookForAWay();
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#trust();
    this.#wake();
    for (const path of [this.#path, ...this.#left]) path.close();
    this.#moving?.resolve();
    this.#quiet.resolve();
  }

  async #leave(gently: boolean, wanted: () => boolean): Promise<void> {
    if (gently) await this.#silence();
    if (!wanted()) return;
    const moving = (this.#moving ??= deferred());
    const backoff = new Backoff(500, 5_000);
    for (;;) {
      const complete = await this.#tryNewPath();
      if (!wanted()) return;
      if (complete) break;
      this.#giveUp();
      await this.#sleep(backoff.next());
      if (!wanted()) return;
    }
    this.#filling = false;
    this.#moving = undefined;
    moving.resolve();
    this.#changed(this.#path);
    if (this.#drainsAgain && wanted()) return this.move("draining");
    // A talk that began meanwhile may still be on its way through the old path: both carry it.
    if (gently) await this.#silence();
    if (!wanted()) return;
    for (const path of this.#left.splice(0)) path.close();
  }

  async #tryNewPath(): Promise<boolean> {
    this.#filling = true;
    this.#drainsAgain = false;
    this.#left.push(this.#path);
    this.#path = this.#newPath();
    this.#report();
    try {
      await within(MOVE_MS, this.#fill(this.#path));
      return true;
    } catch {
      return false;
    }
  }

  /** Back from a path that is not complete to the one before, which may still carry something. */
  #giveUp(): void {
    this.#filling = false;
    this.#path.close();
    this.#path = this.#left.pop() ?? this.#newPath();
  }

  /** Makes a path carry all that is wanted, and lets it be heard. */
  async #fill(path: Path): Promise<void> {
    const hear = async (channelId: string, ear: Ear): Promise<void> => {
      const track = await path.receive(channelId);
      if (path !== this.#path) throw new Error("There is a newer path");
      if (ear.muted) path.mute(channelId, true);
      const ready = path.delivers(channelId, () => ear.expectsSound && !ear.muted, FIRST_PACKETS_MS);
      ready.catch(() => {}); // an ear that has failed for itself does not look
      await ear.play(track, ready);
    };
    const voices = [...this.#voiceByChannel].filter(([, { readyState }]) => readyState === "live");
    await Promise.all([
      ...voices.map(([channelId, track]) => path.send(channelId, track)),
      ...[...this.#earByChannel].map(([channelId, ear]) => hear(channelId, ear)),
    ]);
    if (path.transportIds.length > 0) await path.connected();
  }

  /** On the current path, or on the one that replaces it meanwhile. */
  async #onPath<T>(use: (path: Path) => Promise<T>): Promise<T> {
    for (;;) {
      while (this.#moving) await this.#moving.promise;
      const path = this.#path;
      try {
        return await use(path);
      } catch (error) {
        if (this.#closed || (path === this.#path && !this.#moving)) throw error;
      }
    }
  }

  #newPath(): Path {
    const path: Path = new Path(this.server, this.device, () => this.#changed(path));
    return path;
  }

  #changed(path: Path): void {
    if (path !== this.#path || this.#closed) return;
    if (!this.#moving) {
      if (path.state === "connected") this.#trust();
      else if (path.state === "failed") this.move("node-lost");
      else if (path.state === "interrupted" && this.#suspicion === undefined) this.#lookForAWay();
    }
    this.#report();
  }

  #trust(): void {
    clearTimeout(this.#suspicion);
    this.#suspicion = undefined;
  }

  /** Over the same transports and, if that does not help, over others. */
  #lookForAWay(): void {
    this.#trust();
    this.#suspicion = setTimeout(() => this.move("node-lost"), PATIENCE_MS);
    // What took the way of the audio may have taken the socket, too; the next one comes back to here.
    this.server.doubt();
    this.#path.restart().catch(() => {}); // then others it is
  }

  #report(): void {
    const state = this.#moving ? "moving" : this.#path.state;
    if (state === this.#state) return;
    this.#state = state;
    this.onstate(state);
  }

  async #silence(): Promise<void> {
    while (this.#speaking.size > 0 && !this.#closed) await this.#quiet.promise;
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
}

/** Fails if it takes longer. */
async function within<T>(ms: number, promise: Promise<T>): Promise<T> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error("It took too long")), ms);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}
