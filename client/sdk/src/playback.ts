/**
 * Lets one channel be heard: an `<audio>` element, because that is the way on which every browser cancels echo and which
 * a phone plays with the screen locked. Owned by `channel.ts`.
 */
export class Playback {
  readonly #element: HTMLAudioElement;

  constructor(channelId: string) {
    this.#element = document.createElement("audio");
    this.#element.autoplay = true;
    this.#element.dataset["channel"] = channelId;
    document.body.append(this.#element);
  }

  /** Plays this track from now on. */
  play(track: MediaStreamTrack): void {
    this.#element.srcObject = new MediaStream([track]);
    this.#start();
  }

  get muted(): boolean {
    return this.#element.muted;
  }

  set muted(muted: boolean) {
    this.#element.muted = muted;
  }

  close(): void {
    this.#element.srcObject = null;
    this.#element.remove();
  }

  #start(): void {
    this.#element.play().catch((error: unknown) => {
      // A page that has not been touched since it was loaded may not make a sound: the first touch starts it.
      if (!(error instanceof DOMException) || error.name !== "NotAllowedError") return;
      const start = (): void => {
        removeEventListener("pointerdown", start, true);
        removeEventListener("keydown", start, true);
        if (this.#element.srcObject) this.#start();
      };
      addEventListener("pointerdown", start, true);
      addEventListener("keydown", start, true);
    });
  }
}
