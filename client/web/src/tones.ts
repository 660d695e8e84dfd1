/** The sounds of the button: short and quiet, so that they help and do not speak over anybody. */

/** Pitch in Hz, then start and length in seconds. */
type Beep = [pitch: number, at: number, length: number];

const TONES = {
  /** Speak now: two steps up. */
  start: [[880, 0, 0.05], [1320, 0.06, 0.06]],
  /** Done: two steps down. */
  stop: [[880, 0, 0.05], [587, 0.06, 0.07]],
  /** Not now: three low pulses, unlike anything else here. */
  busy: [[311, 0, 0.09], [311, 0.14, 0.09], [311, 0.28, 0.14]],
} satisfies Record<string, Beep[]>;

const VOLUME = 0.07;

export class Tones {
  #context: AudioContext | undefined;

  /** Call it from a click: browsers make no sound before one. */
  unlock(): void {
    this.#context ??= new AudioContext({ latencyHint: "interactive" });
    void this.#context.resume();
  }

  close(): void {
    void this.#context?.close();
  }

  play(tone: keyof typeof TONES): void {
    const context = this.#context;
    if (context?.state !== "running") return this.unlock(); // silent this once, after a reload
    for (const [pitch, at, length] of TONES[tone]) {
      const from = context.currentTime + at;
      const oscillator = new OscillatorNode(context, { frequency: pitch, type: tone === "busy" ? "triangle" : "sine" });
      const gain = new GainNode(context, { gain: 0 });
      // Ramps, or every beep would begin and end with a click.
      gain.gain.setValueAtTime(0, from);
      gain.gain.linearRampToValueAtTime(VOLUME, from + 0.008);
      gain.gain.setValueAtTime(VOLUME, from + length - 0.015);
      gain.gain.linearRampToValueAtTime(0, from + length);
      oscillator.connect(gain).connect(context.destination);
      oscillator.start(from);
      oscillator.stop(from + length);
    }
  }
}
