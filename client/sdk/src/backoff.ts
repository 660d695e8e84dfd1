/**
 * How long to wait before the next attempt to connect. Exponential, with half of each delay random, so that the clients
 * of a gateway that went away do not all come back in the same instant.
 */
export class Backoff {
  #attempts = 0;

  constructor(
    private readonly firstMs = 500,
    private readonly capMs = 15_000,
    private readonly random: () => number = Math.random,
  ) {}

  /** The next delay; `atLeastMs` is what the server asked for. */
  next(atLeastMs = 0): number {
    const full = Math.min(this.capMs, this.firstMs * 2 ** this.#attempts++);
    return Math.round(atLeastMs + (full / 2) * (1 + this.random()));
  }

  /** A connection has proved good: the next failure starts from the beginning. */
  reset(): void {
    this.#attempts = 0;
  }
}
