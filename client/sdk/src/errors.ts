/** What can go wrong, as types that a caller can tell apart. `message` is fit to be shown to a person. */

/** The server refused a request, or did not answer it. */
export class RequestError extends Error {
  override readonly name = "RequestError";

  constructor(
    message: string,
    /** The server's stable code, or `timeout`, or `disconnected`. */
    readonly code: string,
    /** What came with the refusal. */
    readonly data?: unknown,
  ) {
    super(message);
  }
}

/** What a later attempt may change: a moment of the server's, not a decision. */
export function isTransient(error: RequestError): boolean {
  return TRANSIENT.has(error.code);
}

const TRANSIENT: ReadonlySet<string> = new Set([
  "timeout",
  "rate-limited",
  "state-unavailable",
  "media-unavailable",
  "media-full",
]);

/** Why a connection ended, or could not be made. */
export type EndCode =
  | "unauthorized" // the token is missing, wrong or has expired
  | "suspended" // the account is banned or cooling down
  | "removed" // kicked
  | "busy" // the server asks to come back later
  | "lost" // the socket ended: network, restart of the server
  | "unsupported" // this browser cannot do it
  | "closed"; // by our own wish

const FINAL: ReadonlySet<EndCode> = new Set(["unauthorized", "suspended", "removed", "unsupported", "closed"]);

/** The end of one connection. */
export class ConnectionEnd extends Error {
  override readonly name = "ConnectionEnd";

  constructor(
    readonly code: EndCode,
    message: string,
    /** The server asked to wait this long. */
    readonly retryAfterMs?: number,
  ) {
    super(message);
  }

  /** Trying again with the same token is pointless. */
  get final(): boolean {
    return FINAL.has(this.code);
  }
}
