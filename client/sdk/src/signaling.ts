/**
 * One WebSocket to a gateway: requests with their responses, pushes, and a heartbeat. It lives as long as its socket and
 * ends exactly once; `client.ts` makes the next one. Knows nothing of channels or media.
 */
import { CloseCode, type Incoming, type Pushes, type PushType, type Requests, type RequestType } from "./protocol.ts";
import { ConnectionEnd, RequestError } from "./errors.ts";
import { explainRefusal } from "./refusal.ts";

/** Longer than a bad network takes to answer, shorter than a talk may be silent. */
const DOUBT_MS = 1_500;

export interface SignalingOptions {
  /** After this long a socket that has not opened is given up. */
  connectTimeoutMs?: number;
  /** After this long a request has failed. */
  requestTimeoutMs?: number;
  /** How often to ask whether the server is still there: a browser hides the server's own pings. Half of it to answer. */
  pingIntervalMs?: number;
  /** For tests outside a browser. */
  WebSocket?: typeof WebSocket;
}

interface Pending {
  type: string;
  resolve: (data: unknown) => void;
  reject: (error: RequestError) => void;
  timer: ReturnType<typeof setTimeout>;
}

/** What comes after the type of a request. */
export type RequestArguments<T extends RequestType> = Requests[T]["data"] extends undefined
  ? [data?: undefined, timeoutMs?: number]
  : [data: Requests[T]["data"], timeoutMs?: number];

type PushListener = <T extends PushType>(type: T, data: Pushes[T]) => void;

export class Signaling {
  /** Resolves, never rejects, with the reason when the socket has ended. */
  readonly ended: Promise<ConnectionEnd>;
  /** Called once, when requests may be sent. */
  onopen: () => void = () => {};
  /** Receives every push. Set it before the socket opens: the first push follows at once. */
  onpush: PushListener = () => {};

  readonly #socket: WebSocket;
  readonly #pendingById = new Map<string, Pending>();
  readonly #requestTimeoutMs: number;
  #nextId = 1;
  #opened = false;
  #end: ConnectionEnd | undefined;
  #resolveEnded!: (end: ConnectionEnd) => void;
  #heartbeat: ReturnType<typeof setInterval> | undefined;
  readonly #connecting: ReturnType<typeof setTimeout>;

  constructor(
    private readonly url: string,
    private readonly token: string,
    options: SignalingOptions = {},
  ) {
    this.#requestTimeoutMs = options.requestTimeoutMs ?? 10_000;
    this.ended = new Promise((resolve) => (this.#resolveEnded = resolve));
    const Socket = options.WebSocket ?? WebSocket;
    // The token travels as a subprotocol: unlike a query it is in no access log.
    this.#socket = new Socket(url, ["voiceping", token]);
    this.#socket.onmessage = ({ data }) => this.#receive(data);
    this.#socket.onerror = () => {}; // the close that follows tells more
    this.#socket.onclose = ({ code, reason }) => void this.#closed(code, reason);
    this.#connecting = setTimeout(
      () => this.close(new ConnectionEnd("lost", "The server does not answer")),
      options.connectTimeoutMs ?? 8_000,
    );
    this.#socket.onopen = () => {
      if (this.#end) return;
      this.#opened = true;
      clearTimeout(this.#connecting);
      const intervalMs = options.pingIntervalMs ?? 10_000;
      this.#heartbeat = setInterval(() => void this.#ping(intervalMs / 2), intervalMs);
      this.onopen();
    };
  }

  /** Resolves with the server's answer; rejects with a `RequestError`, also when the socket ends. */
  request<T extends RequestType>(
    type: T,
    ...[data, timeoutMs]: RequestArguments<T>
  ): Promise<Requests[T]["reply"]> {
    return new Promise<unknown>((resolve, reject) => {
      if (this.#end) {
        reject(new RequestError("Not connected", "disconnected"));
        return;
      }
      const id = String(this.#nextId++);
      const timer = setTimeout(() => {
        this.#pendingById.delete(id);
        reject(new RequestError(`The server did not answer ${type} in time`, "timeout"));
      }, timeoutMs ?? this.#requestTimeoutMs);
      this.#pendingById.set(id, { type, resolve, reject, timer });
      this.#socket.send(JSON.stringify(data === undefined ? { type, id } : { type, id, data }));
    }) as Promise<Requests[T]["reply"]>;
  }

  /** Requests may have been sent. */
  get opened(): boolean {
    return this.#opened;
  }

  /** Ends the connection for a reason of our own. Unless we are done, the server keeps our session for a while. */
  close(end: ConnectionEnd, done = end.final): void {
    this.#finish(end);
    this.#socket.close(done ? CloseCode.Done : CloseCode.GaveUp);
  }

  /** Asks at once whether the server is still there: a socket whose network is gone does not notice by itself. */
  doubt(): void {
    if (this.#opened && !this.#end) void this.#ping(DOUBT_MS);
  }

  #receive(text: unknown): void {
    let message: Incoming;
    try {
      message = JSON.parse(String(text)) as Incoming;
    } catch {
      return; // not ours to understand; a proxy's greeting, say
    }
    const pending = message.id === undefined ? undefined : this.#pendingById.get(message.id);
    if (message.id === undefined) {
      if (!this.#end && message.data) this.onpush(message.type as PushType, message.data as Pushes[PushType]);
      return;
    }
    if (!pending) return; // the answer to a request that has timed out
    this.#pendingById.delete(message.id);
    clearTimeout(pending.timer);
    // A denial is told by its type or its data, an error by its text: any of the three means no.
    const denied = message.type === "ptt-denied" || isDenial(message.data);
    if (denied || message.error !== undefined || message.type === "error") {
      const text = message.error ?? (message.data as { message?: string } | undefined)?.message ?? "Refused";
      pending.reject(new RequestError(text, message.code ?? (denied ? "denied" : "error"), message.data));
    } else {
      pending.resolve(message.data ?? {});
    }
  }

  async #ping(timeoutMs: number): Promise<void> {
    try {
      await this.request("ping", undefined, timeoutMs);
    } catch (error) {
      if (error instanceof RequestError && error.code === "timeout") {
        this.close(new ConnectionEnd("lost", "The server no longer answers"));
      }
    }
  }

  async #closed(code: number, reason: string): Promise<void> {
    if (this.#end) return;
    if (code === CloseCode.TokenExpired) this.#finish(new ConnectionEnd("unauthorized", "The token has expired"));
    else if (code === CloseCode.Removed) this.#finish(new ConnectionEnd("removed", reason || "You have been removed"));
    else if (this.#opened) this.#finish(new ConnectionEnd("lost", "The connection was lost"));
    else this.#finish(await explainRefusal(this.url, this.token));
  }

  #finish(end: ConnectionEnd): void {
    if (this.#end) return;
    this.#end = end;
    clearTimeout(this.#connecting);
    clearInterval(this.#heartbeat);
    for (const pending of this.#pendingById.values()) {
      clearTimeout(pending.timer);
      pending.reject(new RequestError("The connection was lost", "disconnected"));
    }
    this.#pendingById.clear();
    this.#resolveEnded(end);
  }
}

function isDenial(data: unknown): boolean {
  return typeof data === "object" && data !== null && (data as { denied?: unknown }).denied === true;
}
