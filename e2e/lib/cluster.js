/**
 * A cluster: Redis, two gateways and two media nodes, one of each in the regions `east` and `west`, all processes of the
 * one binary. A client is placed in its gateway's region, so pages on different gateways are on different media nodes.
 */
import { binary, environment, ready, secret } from "./binary.js";
import { freePort, start } from "./process.js";

const REGIONS = ["east", "west"];

/** Long enough for the talk of a test. */
const DRAIN = ["--drain-deadline", "60s"];

/** The second gateway's port belongs to the first one's, so that a whole cluster comes back at its addresses. */
const secondPorts = new Map();

/**
 * Starts a cluster and resolves when it serves.
 *
 * @param {object} [options]
 * @param {number} [options.port] where the first gateway listens
 * @param {string} [options.mediaAddress] the address of the audio; what clients are told
 * @param {string[]} [options.args] more flags of the gateways
 */
export async function startCluster({ port = 0, mediaAddress = "127.0.0.1", args = [] } = {}) {
  const clusterSecret = secret();
  const redisPort = await freePort();
  const redis = await start(
    "redis-server",
    ["--port", String(redisPort), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"],
    /Ready to accept connections/,
  );
  const shared = ["--redis-url", `redis://127.0.0.1:${redisPort}`, "--cluster-secret", clusterSecret];
  const signing = args.includes("--jwt-secret") ? [] : ["--jwt-secret", secret(), "--dev-sign-in"];

  const startMediaNode = (region) =>
    start(
      binary(),
      [
        "media-node",
        ...shared,
        ...["--region", region, "--grpc-listen", "127.0.0.1:0", "--media-listen", `${mediaAddress}:0`],
        ...["--media-announce", mediaAddress, "--media-workers", "1"],
        ...DRAIN,
      ],
      /media node is ready at grpc:\/\/(\S+)/,
      environment(),
    );
  const startGateway = async (region, port) => {
    // Each page is told of all gateways, and comes from one of them.
    const listen = ["--region", region, "--listen", `127.0.0.1:${port}`, "--allowed-origins", "*"];
    const process = await start(
      binary(),
      ["gateway", ...shared, ...listen, ...signing, ...args],
      /VoicePing is at (http:\S+?)\/?\n/,
      environment(),
    );
    await ready(process.said);
    return process;
  };

  if (port !== 0 && !secondPorts.has(port)) secondPorts.set(port, await freePort());
  const mediaNodes = await Promise.all(REGIONS.map(startMediaNode));
  const ports = [port, secondPorts.get(port) ?? 0];
  const gateways = await Promise.all(REGIONS.map((region, i) => startGateway(region, ports[i])));
  const urls = gateways.map(({ said }) => said);
  let pages = 0;

  return {
    gateways,
    mediaNodes,
    urls,
    /** The next page's gateway, in turn. */
    get url() {
      return urls[pages++ % urls.length];
    },
    log: () => [...gateways, ...mediaNodes, redis].map((process) => process.log()).join("\n"),
    /** Puts a new process in the place of a gateway that has ended, at its address. */
    async replaceGateway(number) {
      gateways[number] = await startGateway(REGIONS[number], new URL(urls[number]).port);
    },
    /** Puts a new process in the place of a media node that has ended. */
    async replaceMediaNode(number) {
      mediaNodes[number] = await startMediaNode(REGIONS[number]);
    },
    /** Ends everything; resolves with the worst exit code. */
    async stop(signal = "SIGTERM") {
      const codes = await Promise.all(gateways.map((gateway) => gateway.stop(signal)));
      // Those who are still on the media nodes will not leave them for others.
      await Promise.all(mediaNodes.map((node) => node.kill()));
      await redis.stop();
      return Math.max(...codes.map((code) => code ?? 0));
    },
  };
}
