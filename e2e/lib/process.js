/** A process under test: started, waited for until it says that it is ready, ended by its own id. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { createServer } from "node:net";

/**
 * Starts a process; resolves when its output matches `ready`.
 *
 * @param {string} command
 * @param {string[]} args
 * @param {RegExp} ready what it says when it is; the first group is kept as `said`
 * @param {object} [options] of `spawn`
 */
export async function start(command, args, ready, options = {}) {
  const child = spawn(command, args, { stdio: ["ignore", "pipe", "pipe"], ...options });
  const exited = once(child, "exit");
  let log = "";
  const said = await new Promise((resolve, reject) => {
    const take = (text) => {
      log += text;
      const found = ready.exec(log);
      if (found) resolve(found[1]);
    };
    for (const stream of [child.stdout, child.stderr]) stream.setEncoding("utf8").on("data", take);
    child.on("error", reject);
    exited.then(([code]) => reject(new Error(`${command} ended with ${code}:\n${log}`)));
  });
  const signal = (signal) => {
    if (child.exitCode === null && child.signalCode === null) child.kill(signal);
  };
  /** Asks it to end, as an orchestrator would; resolves with its exit code. */
  const stop = async (how = "SIGTERM") => {
    signal(how);
    const [code] = await exited;
    return code;
  };
  return {
    said,
    signal,
    stop,
    /** Ends it without a word. */
    kill: () => stop("SIGKILL"),
    /** What it has written so far. */
    log: () => log,
  };
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
