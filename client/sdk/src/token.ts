/** Reads what a token says about its owner. It proves nothing here: only the server checks the signature. */
import { ConnectionEnd } from "./errors.ts";
import type { Member } from "./protocol.ts";

export function memberOf(token: string): Member {
  try {
    const [, payload = ""] = token.split(".");
    const bytes = Uint8Array.from(atob(payload.replace(/-/g, "+").replace(/_/g, "/")), (c) => c.charCodeAt(0));
    const claims = JSON.parse(new TextDecoder().decode(bytes)) as Partial<Member>;
    if (typeof claims.userId === "string" && typeof claims.userName === "string") {
      return { userId: claims.userId, userName: claims.userName };
    }
  } catch {
    // Falls through to the one answer.
  }
  throw new ConnectionEnd("unauthorized", "This is not a token");
}
