/** Reads what a token says about itself. It proves nothing here: only the server checks the signature. */
import { ConnectionEnd } from "./errors.ts";
import type { Member } from "./protocol.ts";

/** Too little of its life is left to connect with it, in milliseconds. */
const MARGIN_MS = 30_000;

interface Claims extends Partial<Member> {
  /** Seconds since the Unix epoch (RFC 7519, section 4.1.4). */
  exp?: number;
}

export function memberOf(token: string): Member {
  const { userId, userName } = claimsOf(token) ?? {};
  if (typeof userId === "string" && typeof userName === "string") return { userId, userName };
  throw new ConnectionEnd("unauthorized", "This is not a token");
}

/** It is good for another connect, as far as can be seen from here. */
export function isFresh(token: string): boolean {
  const exp = claimsOf(token)?.exp;
  return exp === undefined || exp * 1_000 > Date.now() + MARGIN_MS;
}

function claimsOf(token: string): Claims | undefined {
  try {
    const [, payload = ""] = token.split(".");
    const bytes = Uint8Array.from(atob(payload.replace(/-/g, "+").replace(/_/g, "/")), (c) => c.charCodeAt(0));
    return JSON.parse(new TextDecoder().decode(bytes)) as Claims;
  } catch {
    return undefined;
  }
}
