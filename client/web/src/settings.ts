/** What the page remembers: the person's choices for good, the session for the life of the tab. */

export type ButtonMode = "hold" | "toggle";

/** How this tab signed in; enough to do it again after a reload. */
export interface Session {
  /** Without one, the development sign-in makes it from the name. */
  token?: string;
  name?: string;
  /** As the development sign-in called us. */
  userId?: string;
  channels: string[];
}

export const settings = {
  get mode(): ButtonMode {
    return read(localStorage, "mode") === "toggle" ? "toggle" : "hold";
  },
  set mode(mode: ButtonMode) {
    write(localStorage, "mode", mode);
  },
  get name(): string {
    return read(localStorage, "name") ?? "";
  },
  set name(name: string) {
    write(localStorage, "name", name);
  },
  get channels(): string {
    return read(localStorage, "channels") ?? "lobby";
  },
  set channels(channels: string) {
    write(localStorage, "channels", channels);
  },
  get session(): Session | undefined {
    try {
      const session = JSON.parse(read(sessionStorage, "session") ?? "null") as Session | null;
      return session && Array.isArray(session.channels) ? session : undefined;
    } catch {
      return undefined;
    }
  },
  set session(session: Session | undefined) {
    if (session) write(sessionStorage, "session", JSON.stringify(session));
    else sessionStorage.removeItem("voiceping.session");
  },
};

/** Channel names as a person types them: separated by commas or spaces, each once. */
export function parseChannels(text: string): string[] {
  return [...new Set(text.split(/[\s,;]+/).filter(Boolean))];
}

function read(storage: Storage, key: string): string | undefined {
  return storage.getItem(`voiceping.${key}`) ?? undefined;
}

function write(storage: Storage, key: string, value: string): void {
  try {
    storage.setItem(`voiceping.${key}`, value);
  } catch {
    // A full or forbidden storage only costs the memory of it.
  }
}
