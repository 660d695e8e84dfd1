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

export class Session {
  readonly media: Media;
  readonly #tickets: { ticket: string; until: number }[] = [];
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
    return this.#tickets.some(({ until }) => until > Date.now());
  }

  /** As `Signaling.request`, over whichever socket there is; without one it fails as if it had just ended. */
  request<T extends RequestType>(type: T, ...rest: RequestArguments<T>): Promise<Requests[T]["reply"]> {
    return this.#signaling?.request(type, ...rest) ?? Promise.reject(new RequestError("Not connected", "disconnected"));
  }

  /** Ends the socket; see `Signaling.close`. */
  fail(end: ConnectionEnd, done?: boolean): void {
    this.#signaling?.close(end, done);
  }

  /** From now on its requests go this way; `undefined`: there is no socket at the moment. */
  carryOver(signaling: Signaling | undefined): void {
    this.#signaling = signaling;
  }

  /** Keeps a ticket for the next socket. */
  keep({ ticket, expiresIn }: Ticket): void {
    this.#tickets.push({ ticket, until: Date.now() + expiresIn });
    if (this.#tickets.length > TICKETS) this.#tickets.shift();
  }

  /** The newest ticket, which cannot be had again: nobody knows whether a request without an answer has used it. */
  takeTicket(): string | undefined {
    for (let last = this.#tickets.pop(); last; last = this.#tickets.pop()) {
      if (last.until > Date.now()) return last.ticket;
    }
    return undefined;
  }
}

/**
 * The server's answer to a ticket; `undefined` from a server that has no sessions. Fails when there was no answer, or
 * one that another attempt may change.
 */
export async function present(
  signaling: Signaling,
  ticket?: string,
): Promise<Requests["session"]["reply"] | undefined> {
  try {
    return await signaling.request("session", ticket === undefined ? {} : { ticket });
  } catch (error) {
    if (!(error instanceof RequestError) || error.code === "disconnected" || isTransient(error)) throw error;
    return undefined;
  }
}
