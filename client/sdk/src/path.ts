/**
 * The way of the audio to one media node: a transport out, one in, a producer and a consumer per channel. Made by
 * `media.ts`, which replaces it as a whole when the audio has to move. Asking it twice for the same thing gives the same
 * thing, so whoever was interrupted just asks again. Never decides when to move.
 */
import type { Device, types } from "mediasoup-client";
import { deferred } from "./deferred.ts";
import { floorOutput } from "./protocol.ts";
import type { Session } from "./session.ts";

export type PathState = "connecting" | "connected" | "interrupted" | "failed";
type Direction = "send" | "recv";

/**
 * - Mono: a microphone is one point, and half the bits.
 * - FEC on: a lost packet of speech comes back from the next one, without a round trip.
 * - DTX on: a disabled track, which is what everybody but the speaker has, costs 5 packets a second instead of 50 (measured
 *   in Chromium), on the phone's radio and at the server. The first word is not later for it: 71 ms from the press to the
 *   other end of a direct connection against 72 ms, because DTX omits only what follows 200 ms of silence.
 */
const OPUS: types.ProducerCodecOptions = { opusStereo: false, opusFec: true, opusDtx: true };

/** So many packets fill a jitter buffer enough to be heard without a stumble. */
const ENOUGH_PACKETS = 3;
const LOOK_EVERY_MS = 20;

/** Makes requests, over whichever socket there is. */
export type Requester = Pick<Session, "request" | "doubt">;

export class Path {
  readonly #transportByDirection = new Map<Direction, Promise<types.Transport>>();
  readonly #stateByTransport = new Map<types.Transport, PathState>();
  readonly #consumerByChannel = new Map<string, Promise<types.Consumer>>();
  readonly #producerByChannel = new Map<string, Promise<types.Producer>>();
  /** Transports whose DTLS parameters the server has. */
  readonly #delivered = new WeakSet<types.Transport>();
  /** Settled whenever the state changes. */
  #change = deferred();
  /** A browser's promises never settle once their connection is closed; this one does instead. */
  readonly #end = deferred<never>();
  #closed = false;

  constructor(
    private readonly server: Requester,
    private readonly device: () => Promise<Device>,
    private readonly onchange: () => void,
  ) {
    this.#end.promise.catch(() => {}); // there may be nobody who waits
  }

  /** The path is as good as the worse of its two directions. */
  get state(): PathState {
    const states = [...this.#stateByTransport.values()];
    const worst = (["failed", "interrupted", "connecting"] as const).find((state) => states.includes(state));
    return worst ?? (states.length > 0 ? "connected" : "connecting");
  }

  /** The ids of what has been opened. */
  get transportIds(): string[] {
    return [...this.#stateByTransport.keys()].map(({ id }) => id);
  }

  /** The track on which a joined channel is heard, whoever speaks. */
  async receive(channelId: string): Promise<MediaStreamTrack> {
    return (await this.#once(this.#consumerByChannel, channelId, () => this.#consume(channelId))).track;
  }

  /** Gives a channel a stream out. What the track carries is heard only while the channel's floor is ours. */
  async send(channelId: string, track: MediaStreamTrack): Promise<void> {
    await this.#once(this.#producerByChannel, channelId, () => this.#produce(channelId, track));
  }

  /** Stops or starts what is heard of a channel, at the server: a muted channel costs no traffic. */
  mute(channelId: string, paused: boolean): void {
    this.#consumerByChannel
      .get(channelId)
      ?.then(({ id }) => this.server.request("pause-consumer", { consumerId: id, paused }))
      .catch(() => {}); // it is muted here in any case
  }

  /** Resolves when all that has been opened is connected; fails when that cannot be any more. */
  connected(): Promise<void> {
    return this.#until(() => this.state);
  }

  /** Resolves when a channel's packets arrive, or when none can be expected. */
  async delivers(channelId: string, expected: () => boolean, limitMs: number): Promise<void> {
    await this.connected();
    const until = Date.now() + limitMs;
    while (expected() && Date.now() < until) {
      const consumer = await this.#consumerByChannel.get(channelId);
      if (!consumer || (await packets(consumer)) >= ENOUGH_PACKETS) return;
      // There is no event for it: browsers call a track audible from the negotiation on.
      await this.#unlessClosed(new Promise((resolve) => setTimeout(resolve, LOOK_EVERY_MS)));
    }
  }

  /**
   * Looks for the way to the server again, because the network has changed: from whatever addresses there are now. What
   * flows goes on until one is found.
   */
  async restart(): Promise<void> {
    const restart = async (transport: types.Transport): Promise<void> => {
      const { iceParameters } = await this.server.request("restart-ice", { transportId: transport.id });
      if (!transport.closed) await transport.restartIce({ iceParameters });
    };
    await this.#unlessClosed(Promise.all([...this.#stateByTransport.keys()].map(restart)));
  }

  /** Ends a channel's stream out. */
  stopSending(channelId: string): void {
    discard(this.#producerByChannel, channelId);
  }

  /** Ends both ways of a channel. */
  drop(channelId: string): void {
    this.stopSending(channelId);
    discard(this.#consumerByChannel, channelId);
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    for (const transport of this.#stateByTransport.keys()) transport.close();
    this.#end.reject(new Error("The audio connection was closed"));
  }

  async #consume(channelId: string): Promise<types.Consumer> {
    const transport = await this.#transport("recv", channelId);
    return this.#negotiated(transport, async () => {
      const answer = await this.server.request("consume", {
        channelId,
        producerId: floorOutput(channelId),
        transportId: transport.id,
        rtpCapabilities: (await this.device()).recvRtpCapabilities,
      });
      return transport.consume(answer);
    });
  }

  async #produce(channelId: string, track: MediaStreamTrack): Promise<types.Producer> {
    const transport = await this.#transport("send", channelId);
    return this.#negotiated(transport, () =>
      transport.produce({
        track,
        codecOptions: OPUS,
        stopTracks: false, // during a move two paths carry it
        disableTrackOnPause: false,
        appData: { channelId },
      }),
    );
  }

  /** A transport that failed before the server knew its parameters is left half negotiated: the next try gets a new one. */
  async #negotiated<T>(transport: types.Transport, negotiate: () => Promise<T>): Promise<T> {
    try {
      return await this.#unlessClosed(negotiate());
    } catch (error) {
      if (!this.#delivered.has(transport)) {
        transport.close();
        this.#stateByTransport.delete(transport);
        this.#transportByDirection.delete(transport.direction);
      }
      throw error;
    }
  }

  async #transport(direction: Direction, channelId: string): Promise<types.Transport> {
    let opening = this.#transportByDirection.get(direction);
    if (!opening) {
      this.#transportByDirection.set(direction, (opening = this.#open(direction, channelId)));
      opening.catch(() => this.#transportByDirection.delete(direction)); // the next attempt begins anew
    }
    return this.#unlessClosed(opening);
  }

  async #open(direction: Direction, channelId: string): Promise<types.Transport> {
    const { server } = this;
    const device = await this.device();
    if (!device.loaded) {
      const { routerRtpCapabilities } = await server.request("get-router-capabilities", { channelId });
      // Two channels may have come this far together.
      if (!device.loaded) await device.load({ routerRtpCapabilities });
    }
    const parameters = await server.request("create-transport", { channelId, direction });
    const transport = direction === "send" ? device.createSendTransport(parameters) : device.createRecvTransport(parameters);
    if (this.#closed) transport.close();
    this.#stateByTransport.set(transport, "connecting");
    transport.on("connect", ({ dtlsParameters }, done, failed) => {
      server.request("connect-transport", { transportId: transport.id, dtlsParameters }).then(() => {
        this.#delivered.add(transport);
        done();
      }, failed);
    });
    transport.on("produce", ({ kind, rtpParameters, appData }, done, failed) => {
      const { channelId } = appData as { channelId: string };
      // Not before the transport carries it: the server takes a talk that is going on to where it is produced.
      this.#until(() => this.#stateByTransport.get(transport))
        .then(() => server.request("produce", { transportId: transport.id, kind, rtpParameters, channelId }))
        .then(done, failed);
    });
    transport.on("connectionstatechange", (state) => this.#changed(transport, state));
    return transport;
  }

  #changed(transport: types.Transport, state: types.ConnectionState): void {
    if (this.#closed || state === "closed" || state === "new" || !this.#stateByTransport.has(transport)) return;
    this.#stateByTransport.set(transport, state === "disconnected" ? "interrupted" : state);
    this.#change.resolve();
    this.#change = deferred();
    this.onchange();
  }

  async #until(state: () => PathState | undefined): Promise<void> {
    for (let now = state(); now !== "connected"; now = state()) {
      if (now === "failed" || now === undefined) throw new Error("The audio connection failed");
      await this.#unlessClosed(this.#change.promise);
    }
  }

  /** What is asked for twice is made once; what has failed can be asked for again. */
  #once<T>(made: Map<string, Promise<T>>, channelId: string, make: () => Promise<T>): Promise<T> {
    let making = made.get(channelId);
    if (!making) {
      made.set(channelId, (making = make()));
      making.catch(() => made.get(channelId) === making && made.delete(channelId));
    }
    return making;
  }

  #unlessClosed<T>(promise: Promise<T>): Promise<T> {
    return Promise.race([promise, this.#end.promise]);
  }
}

async function packets(consumer: types.Consumer): Promise<number> {
  let received = 0;
  (await consumer.getStats()).forEach((report: { type: string; packetsReceived?: number }) => {
    if (report.type === "inbound-rtp") received += report.packetsReceived ?? 0;
  });
  return received;
}

function discard(made: Map<string, Promise<{ close(): void }>>, channelId: string): void {
  made.get(channelId)?.then(
    (stream) => stream.close(),
    () => {}, // it was never made
  );
  made.delete(channelId);
}
