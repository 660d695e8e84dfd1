/**
 * Lets one channel be heard: an `<audio>` element, because that is the way on which every browser cancels echo and which
 * a phone plays with the screen locked. Owned by `channel.ts`.
 */

/** An element that has not begun to play after this long will not. */
const START_MS = 1_000;

export class Playback {
  #element: HTMLAudioElement;
  #track: MediaStreamTrack | undefined;
  #muted = false;
  /** Counts the tracks: only the newest is put in place. */
  #turn = 0;

  constructor(private readonly channelId: string) {
    this.#element = this.#make();
    document.body.append(this.#element);
  }

  /** Plays this track from `ready` on; what was played before is heard until then, without a gap between the two. */
  async play(track: MediaStreamTrack, ready?: Promise<void>): Promise<void> {
    const turn = ++this.#turn;
    if (track === this.#track) return;
    if (!ready || !this.#track) return this.#replace(track);
    // An element takes a moment to start, so a second one starts beside the first, unheard.
    const next = this.#make();
    next.muted = true;
    next.srcObject = new MediaStream([track]);
    const started = Promise.race([next.play(), new Promise((_, late) => setTimeout(late, START_MS))]).then(
      () => true,
      () => false,
    );
    await ready;
    const playing = await started;
    if (turn !== this.#turn) return void (next.srcObject = null);
    next.muted = this.#muted;
    // Some browsers let only those elements sound that played when they were touched: theirs has to be used again.
    if (!playing || next.paused) return this.#replace(track);
    const old = this.#element;
    old.replaceWith(next);
    old.srcObject = null;
    this.#element = next;
    this.#track = track;
  }

  get muted(): boolean {
    return this.#muted;
  }

  set muted(muted: boolean) {
    this.#muted = this.#element.muted = muted;
  }

  close(): void {
    this.#turn++;
    this.#element.srcObject = null;
    this.#element.remove();
  }

  #make(): HTMLAudioElement {
    const element = document.createElement("audio");
    element.autoplay = true;
    element.dataset["channel"] = this.channelId;
    return element;
  }

  #replace(track: MediaStreamTrack): void {
    this.#track = track;
    this.#element.srcObject = new MediaStream([track]);
    this.#start();
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
