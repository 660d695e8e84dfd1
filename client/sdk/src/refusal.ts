/**
 * Finds out why a WebSocket could not be opened. A browser tells a page only that it failed (close code 1006), so the
 * same address is asked once more by plain HTTP, which the gateway answers with the refusal itself. Called by
 * `signaling.ts` after a failed handshake, never while connected.
 */
import { ConnectionEnd } from "./errors.ts";

/** Never fails: what cannot be found out is a lost connection. */
export async function explainRefusal(url: string, token: string): Promise<ConnectionEnd> {
  let response: Response;
  try {
    response = await fetch(url.replace(/^ws/, "http"), {
      headers: { authorization: `Bearer ${token}` },
      cache: "no-store",
      signal: AbortSignal.timeout(5_000),
    });
  } catch {
    return new ConnectionEnd("lost", "The server cannot be reached");
  }
  const body = (await response.text().catch(() => "")).trim();
  // The delay-seconds form only (RFC 9110, section 10.2.3): the gateway sends no dates.
  const retryAfterMs = Number(response.headers.get("retry-after")) * 1_000 || undefined;
  switch (response.status) {
    case 401:
      return new ConnectionEnd("unauthorized", body || "The token is not valid");
    case 403:
      return new ConnectionEnd("suspended", body || "The account is suspended");
    case 429:
    case 503:
      return new ConnectionEnd("busy", body || "The server is busy", retryAfterMs);
    default:
      return new ConnectionEnd("lost", "The connection could not be opened");
  }
}
