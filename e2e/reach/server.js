/** The all-in-one at an address of this machine that pages elsewhere reach. */
import { binary, environment, ready } from "../lib/binary.js";
import { start } from "../lib/process.js";

/** Starts it; ends with the test. `args` are more flags. */
export async function startAt(t, address, args = []) {
  const host = address.includes(":") ? `[${address}]` : address;
  const listen = ["--listen", `${host}:0`, "--media-listen", `${host}:0`, "--media-workers", "2", "--dev-sign-in"];
  const secret = ["--jwt-secret", "0123456789abcdef0123456789abcdef"];
  const server = await start(binary(), [...listen, ...secret, ...args], /VoicePing is at (http:\S+?)\/?\n/, environment());
  t.after(() => server.stop());
  await ready(server.said);
  return { ...server, url: server.said };
}

/** What a browser at a host needs for a page that is neither local nor over HTTPS: it would get no microphone. */
export const onHost = (host, server) => ({
  executablePath: host?.program(process.env.CHROMIUM || "/usr/bin/chromium"),
  flags: [`--unsafely-treat-insecure-origin-as-secure=${server.url}`],
});

/** The way that a page's audio takes, in and out: the protocol and the address of the server's end of each connection. */
export async function ways(person) {
  const found = await person.page.evaluate(() => window.ear.ways());
  return found.map(({ protocol, address }) => `${protocol} ${address}`).sort();
}
