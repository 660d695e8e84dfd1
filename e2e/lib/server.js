/** What the browser tests run against: the all-in-one or, with `VOICEPING_STACK=cluster`, a cluster. */
import { binary, environment, ready } from "./binary.js";
import { startCluster } from "./cluster.js";
import { start } from "./process.js";

export { makeToken, secret } from "./binary.js";
export { freePort } from "./process.js";

/**
 * Starts the stack and resolves when it serves. `url` is for one page; `stop` ends it in good order and resolves with the
 * exit code.
 *
 * @param {object} [options]
 * @param {number} [options.port] where it listens
 * @param {string} [options.mediaAddress] the address of the audio; what clients are told
 * @param {string[]} [options.args] more flags, which the all-in-one and gateways have in common
 */
export async function startServer(options = {}) {
  const { VOICEPING_STACK: stack = "all-in-one" } = process.env;
  if (stack === "cluster") return startCluster(options);
  if (stack === "all-in-one") return startAllInOne(options);
  throw new Error(`VOICEPING_STACK is all-in-one or cluster, not ${stack}`);
}

async function startAllInOne({ port = 0, mediaAddress = "127.0.0.1", args = [] }) {
  const listen = ["--listen", `127.0.0.1:${port}`, "--media-listen", `${mediaAddress}:0`, "--media-announce", mediaAddress];
  const server = await start(binary(), [...listen, ...args], /VoicePing is at (http:\S+?)\/?\n/, environment());
  await ready(server.said);
  return { ...server, url: server.said };
}
