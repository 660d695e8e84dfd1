/**
 * The microphone: asked for once, cloned for each channel, measured for the meter. The original is never sent anywhere,
 * so the meter moves before the first press and a clone can be shut without shutting the others. Owned by `client.ts`.
 */
import { Emitter } from "./emitter.ts";

export type MicrophoneState =
  | "off" // not asked for: listening only
  | "asking" // the browser is asking the person
  | "ready"
  | "denied" // the person or the browser said no
  | "missing" // there is none, or it went away
  | "failed"; // the system would not give it

/** Where the sound comes from; the default is the system's microphone. */
export type MicrophoneSource = () => Promise<MediaStreamTrack>;

export const systemMicrophone: MicrophoneSource = async () => {
  // Absent on a page that is neither https nor localhost.
  if (!navigator.mediaDevices) throw new DOMException("The microphone needs a secure page", "NotAllowedError");
  const stream = await navigator.mediaDevices.getUserMedia({
    audio: { echoCancellation: true, noiseSuppression: true, autoGainControl: true, channelCount: 1 },
  });
  const [track] = stream.getAudioTracks();
  if (!track) throw new DOMException("The microphone has no sound", "NotFoundError");
  return track;
};

export class Microphone {
  readonly events = new Emitter<{ change: MicrophoneState }>();
  #state: MicrophoneState = "off";
  #track: MediaStreamTrack | undefined;
  #meter: Meter | undefined;

  constructor(private readonly source: MicrophoneSource) {}

  get state(): MicrophoneState {
    return this.#state;
  }

  /** The original: another microphone is another track. */
  get track(): MediaStreamTrack | undefined {
    return this.#track;
  }

  /** Asks for the microphone, unless it is there. The outcome is the state; it never rejects. */
  async open(): Promise<void> {
    if (this.#state === "ready" || this.#state === "asking") return;
    this.#set("asking");
    try {
      const track = await this.source();
      if (this.#is("off")) return track.stop(); // closed while the person was being asked
      track.addEventListener("ended", this.#lost);
      this.#track = track;
      this.#set("ready");
    } catch (error) {
      const name = error instanceof DOMException ? error.name : "";
      if (this.#is("off")) return;
      this.#set(name === "NotAllowedError" ? "denied" : name === "NotFoundError" ? "missing" : "failed");
      this.#retryOnNewDevice();
    }
  }

  /** A track of its own for one channel, shut until somebody presses. */
  clone(): MediaStreamTrack | undefined {
    const clone = this.#track?.clone();
    if (clone) clone.enabled = false;
    return clone;
  }

  /** How loud it is now, 0 to 1 (−60 to 0 dB below full scale). */
  level(): number {
    if (!this.#track) return 0;
    return (this.#meter ??= new Meter(this.#track)).level();
  }

  close(): void {
    this.#track?.removeEventListener("ended", this.#lost);
    this.#track?.stop();
    this.#track = undefined;
    this.#meter?.close();
    this.#meter = undefined;
    this.#set("off");
  }

  /** Unplugged, or taken back in the browser's settings. */
  readonly #lost = (): void => {
    this.close();
    this.#set("missing");
    this.#retryOnNewDevice();
  };

  #retryOnNewDevice(): void {
    if (this.#state !== "missing") return; // a person's no stays a no
    navigator.mediaDevices?.addEventListener("devicechange", () => this.#is("missing") && void this.open(), {
      once: true,
    });
  }

  #is(state: MicrophoneState): boolean {
    return this.#state === state;
  }

  #set(state: MicrophoneState): void {
    if (this.#state === state) return;
    this.#state = state;
    this.events.emit("change", state);
  }
}

class Meter {
  readonly #context = new AudioContext();
  readonly #analyser = this.#context.createAnalyser();
  readonly #samples: Float32Array<ArrayBuffer>;
  #resuming: Promise<void> | undefined;

  constructor(track: MediaStreamTrack) {
    this.#analyser.fftSize = 1024; // 21 ms at 48 kHz
    this.#samples = new Float32Array(this.#analyser.fftSize);
    this.#context.createMediaStreamSource(new MediaStream([track])).connect(this.#analyser);
  }

  level(): number {
    // Without a gesture yet the context waits; it may start any time later.
    if (this.#context.state === "suspended") this.#resuming ??= this.#context.resume().catch(() => {});
    this.#analyser.getFloatTimeDomainData(this.#samples);
    let sum = 0;
    for (const sample of this.#samples) sum += sample * sample;
    const decibels = 10 * Math.log10(sum / this.#samples.length + 1e-12);
    return Math.min(1, Math.max(0, 1 + decibels / 60));
  }

  close(): void {
    void this.#context.close();
  }
}
