/**
 * As much of a browser as the library touches, for tests without one: elements that play at once, tracks without sound,
 * and mediasoup-client's own fake of a peer connection, whose state a test sets.
 */
import { Device, type types } from "mediasoup-client";
import * as fakeParameters from "mediasoup-client/fakeParameters";
import { FakeHandler } from "mediasoup-client/handlers/FakeHandler";

class FakeStream {
  constructor(readonly tracks: MediaStreamTrack[]) {}
}

class FakeElement {
  autoplay = false;
  muted = false;
  paused = true;
  readonly dataset: Record<string, string> = {};
  srcObject: FakeStream | null = null;

  async play(): Promise<void> {
    this.paused = false;
  }

  remove(): void {
    elements.delete(this);
  }

  replaceWith(other: FakeElement): void {
    elements.delete(this);
    elements.add(other);
  }
}

class FakeAudioContext {
  readonly state = "running";
  createAnalyser = (): object => ({ getFloatTimeDomainData: () => {} });
  createMediaStreamSource = (): object => ({ connect: () => {} });
  close = async (): Promise<void> => {};
}

/** What is in the page. */
const elements = new Set<FakeElement>();

Object.assign(globalThis, {
  document: {
    hidden: false,
    createElement: () => new FakeElement(),
    body: { append: (element: FakeElement) => elements.add(element) },
    addEventListener: () => {},
    removeEventListener: () => {},
  },
  MediaStream: FakeStream,
  AudioContext: FakeAudioContext,
});

/** The tracks that can be heard of a channel. */
export function heard(channelId: string): MediaStreamTrack[] {
  return [...elements]
    .filter(({ dataset, muted }) => dataset["channel"] === channelId && !muted)
    .flatMap(({ srcObject }) => srcObject?.tracks ?? []);
}

/** A microphone's track, or a clone of one. */
class FakeTrack extends EventTarget {
  readonly kind = "audio";
  readonly id = crypto.randomUUID();
  readyState = "live";
  enabled = true;
  clone = (): FakeTrack => new FakeTrack();
  stop = (): void => void (this.readyState = "ended");
}

export const microphone = async (): Promise<MediaStreamTrack> => new FakeTrack() as unknown as MediaStreamTrack;

/** The peer connections of one client, in the order in which they were opened. */
export class FakePeers {
  readonly all: FakePeer[] = [];
  /** New ones connect as soon as the server knows their parameters. */
  connecting = true;
  /** New ones receive packets. */
  receiving = true;

  readonly device = async (): Promise<Device> => {
    const { factory, ...rest } = FakeHandler.createFactory(fakeParameters);
    return Device.factory({
      handlerFactory: {
        ...rest,
        factory: (options: Parameters<typeof factory>[0]) => {
          const handler = factory(options) as FakeHandler;
          this.all.push(new FakePeer(this, handler, options.direction));
          return handler;
        },
      },
    });
  };

  get open(): FakePeer[] {
    return this.all.filter(({ closed }) => !closed);
  }
}

export class FakePeer {
  closed = false;
  /** Resolves when it is closed. */
  readonly gone: Promise<void>;

  constructor(
    peers: FakePeers,
    private readonly handler: FakeHandler,
    readonly direction: "send" | "recv",
  ) {
    const [setupTransport, close] = [handler["setupTransport"].bind(handler), handler.close.bind(handler)];
    handler["setupTransport"] = async (options: Parameters<typeof setupTransport>[0]) => {
      await setupTransport(options);
      if (peers.connecting) this.state("connected");
    };
    handler.getReceiverStats = async () =>
      new Map([["in", { type: "inbound-rtp", packetsReceived: peers.receiving ? 50 : 0 }]]) as unknown as RTCStatsReport;
    this.gone = new Promise((resolve) => {
      handler.close = () => {
        this.closed = true;
        close();
        resolve();
      };
    });
  }

  state(state: types.ConnectionState): void {
    this.handler.setConnectionState(state);
  }
}

/** What a server says of its transports and streams; a browser would need more. */
export const parameters = {
  router: fakeParameters.generateRouterRtpCapabilities(),
  transport: () => fakeParameters.generateTransportRemoteParameters(),
  consumer: () => fakeParameters.generateConsumerRemoteParameters({ codecMimeType: "audio/opus" }),
};
