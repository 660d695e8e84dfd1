/**
 * What outlives a WebSocket: the audio, and the tickets with which another socket, to any gateway, goes on where the last
 * one ended. Made by `client.ts`, which hands it from socket to socket; channels send their requests through it. Never
 * opens a socket itself.
 */
import type { Device } from "mediasoup-client";
import { ConnectionEnd, isTransient, RequestError } from "./errors.ts";
import { Media, type AudioPathState } from "./media.ts";
import type { Requests, RequestType, Ticket } from "./protocol.ts";
import type { RequestArguments, Signaling } from "./signaling.ts";

/** More are of no use: each is good for one attempt, and all of them expire soon. */
const TICKETS = 4;

export type SessionAnswer = Requests["session"]["reply"];

interface Held {
  ticket: string;
  until: number;
}

export class Session {
  readonly media: Media;
  readonly #tickets: Held[] = [];
  #signaling: Signaling | undefined;

  constructor(device: () => Promise<Device>, onaudio: (state: AudioPathState) => void) {
    this.media = new Media(this, device, onaudio);
  }

  /** There is a socket. */
  get online(): boolean {
    return this.#signaling !== undefined;
  }

  /** Another socket may go on with it. */
  get canResume(): boolean {
    return this.#tickets.some(isGood);
  }

  /** As `Signaling.request`, over whichever socket there is; without one it fails as if it had just ended. */
  request<T extends RequestType>(type: T, ...rest: RequestArguments<T>): Promise<Requests[T]["reply"]> {
    return this.#signaling?.request(type, ...rest) ?? Promise.reject(new RequestError("Not connected", "disconnected"));
  }

  /** Something speaks for the socket being dead; see `Signaling.doubt`. */
  doubt(): void {
    this.#signaling?.doubt();
  }

  /** Ends the socket; see `Signaling.close`. */
  fail(end: ConnectionEnd, done?: boolean): void {
    this.#signaling?.close(end, done);
  }

  /**
   * Asks over a new socket to go on with it. `undefined`: it has no ticket, or the server has no sessions. Fails when there
   * was no answer, or one that another attempt may change.
   */
  async resume(signaling: Signaling): Promise<SessionAnswer | undefined> {
    const held = this.#takeTicket();
    if (!held) return undefined;
    try {
      return await signaling.request("session", { ticket: held.ticket });
    } catch (error) {
      if (!(error instanceof RequestError)) throw error;
      // Nobody knows whether a request without an answer has used the ticket.
      if (error.code === "disconnected" || error.code === "timeout") throw error;
      if (!isTransient(error)) return undefined;
      this.#tickets.push(held);
      throw error;
    }
  }

  /** From now on its requests go over this socket; `answer` is what the server said of the session there. */
  begin(signaling: Signaling, answer: SessionAnswer | undefined): void {
    this.#signaling = signaling;
    // Older tickets name the gateway that served it before.
    this.#tickets.length = 0;
    if (answer) return this.keep(answer);
    // A server without sessions says that it does not know the word. Nobody waits for the answer: it is for later.
    signaling.request("session", {}).then(
      (first) => this.#signaling === signaling && this.keep(first),
      () => {},
    );
  }

  /** The socket is gone. */
  suspend(): void {
    this.#signaling = undefined;
  }

  /** Keeps a ticket for the next socket. */
  keep({ ticket, expiresIn }: Ticket): void {
    if (typeof ticket !== "string") return;
    this.#tickets.push({ ticket, until: Date.now() + expiresIn });
    if (this.#tickets.length > TICKETS) this.#tickets.shift();
  }

  /** The newest. */
  #takeTicket(): Held | undefined {
    let held = this.#tickets.pop();
    while (held && !isGood(held)) held = this.#tickets.pop();
    return held;
  }
}

function isGood({ until }: Held): boolean {
  return until > Date.now();
}
