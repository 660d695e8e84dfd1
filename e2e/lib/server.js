/** The real process: found, started on free ports, waited for, ended by its own id. */
import { execFileSync, spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { createServer } from "node:net";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("../..", import.meta.url));

/** The binary: `VOICEPING_BIN`, or the newest that cargo is likely to have built. */
function binary() {
  const { VOICEPING_BIN, CARGO_TARGET_DIR = `${root}target` } = process.env;
  const found = [VOICEPING_BIN, `${CARGO_TARGET_DIR}/debug/voiceping`, `${CARGO_TARGET_DIR}/release/voiceping`].find(
    (path) => path && existsSync(path),
  );
  if (!found) throw new Error("No voiceping binary: run `cargo build` or set VOICEPING_BIN");
  return found;
}

/** A port that was free a moment ago; used where a server must come back at the same address. */
export async function freePort() {
  const probe = createServer().listen(0, "127.0.0.1");
  await once(probe, "listening");
  const { port } = probe.address();
  probe.close();
  await once(probe, "close");
  return port;
}

/**
 * Starts the all-in-one and resolves when it serves.
 *
 * @param {object} [options]
 * @param {number} [options.port] where it listens
 * @param {string} [options.mediaAddress] the address of the audio; what clients are told
 * @param {string[]} [options.args] more flags
 */
export async function startServer({ port = 0, mediaAddress = "127.0.0.1", args = [] } = {}) {
  const child = spawn(
    binary(),
    ["--listen", `127.0.0.1:${port}`, "--media-listen", `${mediaAddress}:0`, "--media-announce", mediaAddress, ...args],
    {
      cwd: root,
      stdio: ["ignore", "pipe", "pipe"],
      env: { ...process.env, VOICEPING_LOG: process.env.VOICEPING_LOG ?? "info", VOICEPING_WEB_ROOT: `${root}client/web/dist` },
    },
  );
  const exited = once(child, "exit");
  let log = "";
  const address = new Promise((resolve, reject) => {
    const take = (text) => {
      log += text;
      const [, url] = /VoicePing is at (http:\S+)\n/.exec(log) ?? [];
      if (url) resolve(url.replace(/\/$/, ""));
    };
    for (const stream of [child.stdout, child.stderr]) stream.setEncoding("utf8").on("data", take);
    exited.then(([code]) => reject(new Error(`voiceping ended with ${code}:\n${log}`)));
  });
  const url = await address;
  await ready(url);
  return {
    url,
    /** What it has written so far. */
    log: () => log,
    /** Asks it to end, as an orchestrator would; resolves with its exit code. */
    async stop(signal = "SIGTERM") {
      if (child.exitCode === null && child.signalCode === null) child.kill(signal);
      const [code] = await exited;
      return code;
    },
  };
}

/** It has its port; it serves a moment later, which can only be asked. */
async function ready(url) {
  const deadline = Date.now() + 10_000;
  while (!(await fetch(`${url}/ready`)).ok) {
    if (Date.now() > deadline) throw new Error("voiceping does not become ready");
    await new Promise((resolve) => setTimeout(resolve, 25));
  }
}

/** A token made by hand, with the binary's own command. */
export function makeToken(secret, ...args) {
  const env = { ...process.env, VOICEPING_JWT_SECRET: secret };
  return execFileSync(binary(), ["token", ...args], { env, encoding: "utf8" }).trim();
}

/** A secret for servers that must accept each other's tokens. */
export const secret = () => randomBytes(32).toString("hex");
