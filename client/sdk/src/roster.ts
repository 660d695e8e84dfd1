/**
 * Who is on one channel, as far as it is known: the names that an answer to `members` brought, and the comings and goings
 * since. Made by `channel.ts`, which tells it what the server says and asks for it. Of a crowd it keeps the number alone:
 * the server then tells some of what happens (`docs/protocol.md`, section 4), and thousands of names help nobody.
 */
import { Backoff } from "./backoff.ts";
import type { Member, Pushes, Requests } from "./protocol.ts";

/** Users of a channel above which names are neither told nor kept. The same on every gateway. */
export const CROWD = 100;

type Names = Requests["members"]["reply"];

export class Roster {
  #userCount = 0;
  readonly #nameByUser = new Map<string, string>();
  /** Something was missed: only an answer sets it right. */
  #stale = true;
  /** What has happened since the last question was sent, which its answer may not know: a name, or gone. */
  #sinceAsked = new Map<string, string | undefined>();
  #asked = 0;
  #timer: ReturnType<typeof setTimeout> | undefined;

  constructor(
    private readonly self: Member,
    /** Sends `members`. Fails without a connection: the next one begins with a join. */
    private readonly request: () => Promise<Names>,
    private readonly onchange: () => void,
    /** Before a question, half of it random: all who are on a channel miss a name at the same time. */
    private readonly backoff = new Backoff(2_000, 60_000),
  ) {}

  get userCount(): number {
    return this.#userCount;
  }

  /** Everybody's name is known. */
  get complete(): boolean {
    return !this.#stale && this.#nameByUser.size === this.#userCount;
  }

  /** The names that are known, in their order; none of a crowd. */
  get members(): Member[] {
    return [...this.#nameByUser]
      .map(([userId, userName]) => ({ userId, userName }))
      .sort((a, b) => a.userName.localeCompare(b.userName));
  }

  /** We have joined, or joined again: so many are there. Resolves when their names are known, if they are to be. */
  async joined(userCount: number): Promise<void> {
    this.#count(userCount);
    if (this.#isCrowd) this.onchange();
    else await this.#ask();
  }

  /** Somebody came or went. */
  changed({ action, userId, userName, userCount, merged }: Pushes["channel-state"]): void {
    const name = action === "user-joined" || userId === this.self.userId ? userName : undefined;
    this.#sinceAsked.set(userId, name);
    this.#keep(userId, name);
    if (merged) this.#stale = true;
    this.#count(userCount);
    if (!this.complete && !this.#isCrowd) this.#askLater();
    this.onchange();
  }

  /** Asks nothing more, until the next join. */
  close(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#asked++;
  }

  get #isCrowd(): boolean {
    return this.#userCount > CROWD;
  }

  #count(userCount: number): void {
    this.#userCount = userCount;
    if (!this.#isCrowd) return;
    this.#stale = true;
    this.#nameByUser.clear();
    this.#sinceAsked.clear();
  }

  #keep(userId: string, name: string | undefined): void {
    if (name === undefined) this.#nameByUser.delete(userId);
    else this.#nameByUser.set(userId, name);
  }

  #askLater(): void {
    this.#timer ??= setTimeout(() => {
      this.#timer = undefined;
      // What was missing may have come meanwhile: a push behind an answer that knew of it.
      if (this.complete || this.#isCrowd) return this.backoff.reset();
      this.#ask().then(
        () => this.backoff.reset(),
        () => this.#askLater(),
      );
    }, this.backoff.next());
  }

  async #ask(): Promise<void> {
    const asked = ++this.#asked;
    this.#sinceAsked.clear();
    const { members, userCount = members.length, complete = true } = await this.request();
    if (asked !== this.#asked || this.#isCrowd) return;
    this.#nameByUser.clear();
    if (complete) {
      for (const { userId, userName } of [this.self, ...members]) this.#keep(userId, userName);
      for (const [userId, name] of this.#sinceAsked) this.#keep(userId, name);
    }
    this.#stale = !complete;
    // What the answer knows of is pushed as well, perhaps later; what was pushed last counts.
    if (this.#sinceAsked.size === 0) this.#count(complete ? this.#nameByUser.size : userCount);
    this.onchange();
  }
}
