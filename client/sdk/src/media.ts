/**
 * The audio of one connection: one transport out, one in, a producer and a consumer per channel. Lives and dies with its
 * connection; `channel.ts` asks for the two ways of a channel, `client.ts` starts anew when a transport fails. Never
 * touches the microphone or a loudspeaker.
 */
import type { Device, types } from "mediasoup-client";
import { floorOutput } from "./protocol.ts";
import type { Signaling } from "./signaling.ts";

export type AudioPathState = "connecting" | "connected" | "interrupted" | "failed";

/**
 * - Mono: a microphone is one point, and half the bits.
 * - FEC on: a lost packet of speech comes back from the next one, without a round trip.
 * - DTX on: a disabled track, which is what everybody but the speaker has, costs 5 packets a second instead of 50 (measured
 *   in Chromium), on the phone's radio and at the server. The first word is not later for it: 71 ms from the press to the
 *   other end of a direct connection against 72 ms, because DTX omits only what follows 200 ms of silence.
 */
const OPUS: types.ProducerCodecOptions = { opusStereo: false, opusFec: true, opusDtx: true };

/** What `channel.ts` needs of a stream out. */
export type Sender = Pick<types.Producer, "close">;

export class Media {
  readonly #producerByChannel = new Map<string, types.Producer>();
  readonly #consumerByChannel = new Map<string, types.Consumer>();
  readonly #stateByDirection = new Map<"send" | "recv", AudioPathState>();
  #send: Promise<types.Transport> | undefined;
  #recv: Promise<types.Transport> | undefined;
  #closed = false;

  constructor(
    private readonly signaling: Signaling,
    /** Shared by all connections: what a browser can do does not change. */
    private readonly device: () => Promise<Device>,
    private readonly onstate: (state: AudioPathState) => void,
  ) {}

  /** The track on which a joined channel is heard, whoever speaks. It stays the same for the life of the connection. */
  async receive(channelId: string): Promise<MediaStreamTrack> {
    const transport = await (this.#recv ??= this.#open("recv", channelId).catch((error: unknown) => {
      this.#recv = undefined; // the next attempt begins anew
      throw error;
    }));
    const answer = await this.signaling.request("consume", {
      channelId,
      producerId: floorOutput(channelId),
      transportId: transport.id,
      rtpCapabilities: (await this.device()).recvRtpCapabilities,
    });
    const consumer = await transport.consume(answer);
    this.#consumerByChannel.get(channelId)?.close();
    this.#consumerByChannel.set(channelId, consumer);
    return consumer.track;
  }

  /** Stops or starts what is heard of a channel, at the server: a muted channel costs no traffic. */
  mute(channelId: string, muted: boolean): void {
    const consumer = this.#consumerByChannel.get(channelId);
    if (!consumer) return;
    this.signaling.request("pause-consumer", { consumerId: consumer.id, paused: muted }).catch(() => {
      // It is muted here in any case.
    });
  }

  /** Gives a channel a stream out. What the track carries is heard only while the channel's floor is ours. */
  async send(channelId: string, track: MediaStreamTrack): Promise<Sender> {
    const transport = await (this.#send ??= this.#open("send", channelId).catch((error: unknown) => {
      this.#send = undefined;
      throw error;
    }));
    const producer = await transport.produce({
      track,
      codecOptions: OPUS,
      stopTracks: true,
      disableTrackOnPause: false,
      appData: { channelId },
    });
    this.#producerByChannel.set(channelId, producer);
    return producer;
  }

  /** Ends both ways of a channel that has been left. */
  drop(channelId: string): void {
    this.#producerByChannel.get(channelId)?.close();
    this.#producerByChannel.delete(channelId);
    this.#consumerByChannel.get(channelId)?.close();
    this.#consumerByChannel.delete(channelId);
  }

  close(): void {
    this.#closed = true;
    for (const transport of [this.#send, this.#recv]) {
      transport?.then(
        (transport) => transport.close(),
        () => {}, // it never opened
      );
    }
  }

  async #open(direction: "send" | "recv", channelId: string): Promise<types.Transport> {
    const { signaling } = this;
    const device = await this.device();
    if (!device.loaded) {
      const { routerRtpCapabilities } = await signaling.request("get-router-capabilities", { channelId });
      // Two channels may have come this far together.
      if (!device.loaded) await device.load({ routerRtpCapabilities });
    }
    const parameters = await signaling.request("create-transport", { channelId, direction });
    const transport = direction === "send" ? device.createSendTransport(parameters) : device.createRecvTransport(parameters);
    if (this.#closed) transport.close();
    transport.on("connect", ({ dtlsParameters }, done, failed) => {
      signaling.request("connect-transport", { transportId: transport.id, dtlsParameters }).then(done, failed);
    });
    transport.on("produce", ({ kind, rtpParameters, appData }, done, failed) => {
      const { channelId } = appData as { channelId: string };
      signaling.request("produce", { transportId: transport.id, kind, rtpParameters, channelId }).then(done, failed);
    });
    transport.on("connectionstatechange", (state) => this.#changed(direction, state));
    return transport;
  }

  /** The path is as good as the worse of its two directions. */
  #changed(direction: "send" | "recv", state: types.ConnectionState): void {
    if (this.#closed || state === "closed" || state === "new") return;
    this.#stateByDirection.set(direction, state === "disconnected" ? "interrupted" : state);
    const states = [...this.#stateByDirection.values()];
    const worst = (["failed", "interrupted", "connecting"] as const).find((state) => states.includes(state));
    this.onstate(worst ?? "connected");
  }
}
