/**
 * Networks on one machine, for pages that do not have a good one: namespaces, joined by veth pairs to the machine itself,
 * where the server is. Needs root; all of it ends with the test.
 */
import { execFileSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

const run = (command, ...args) => execFileSync(command, args, { encoding: "utf8", stdio: ["ignore", "pipe", "pipe"] });

/** Why these tests cannot run here, if they cannot. */
export const skip = (() => {
  if (process.getuid() !== 0) return "network namespaces need root";
  for (const command of ["ip", "iptables"]) {
    try {
      run(command, "-V");
    } catch {
      return `${command} is missing: apt-get install iproute2 iptables`;
    }
  }
  return false;
})();

export class Network {
  #hosts = [];
  #links = [];
  #folder = mkdtempSync(join(tmpdir(), "voiceping-reach-"));
  // Interface names have 15 characters; several of these may run at a time.
  #name = `vr${randomBytes(2).toString("hex")}`;
  #octets = `${192 + (randomBytes(1)[0] % 8)}.${randomBytes(1)[0]}`;

  constructor(t) {
    t.after(() => this.#end());
  }

  /** A host of its own. `files` hold what it has that belongs to a host. */
  host() {
    const name = `${this.#name}-${this.#hosts.length}`;
    run("ip", "netns", "add", name);
    const host = {
      name,
      /** Runs a command there. */
      run: (command, ...args) => run("ip", "netns", "exec", name, command, ...args),
      /** A program that is there what another is here: for those who start a browser. */
      program: (path) => {
        const script = join(this.#folder, `${name}-${path.replaceAll("/", "-")}`);
        writeFileSync(script, `#!/bin/sh\nexec ip netns exec ${name} ${path} "$@"\n`);
        chmodSync(script, 0o755);
        return script;
      },
    };
    this.#hosts.push(host);
    host.run("ip", "link", "set", "lo", "up");
    return host;
  }

  /**
   * A cable between two hosts, or from this machine (`undefined`) to one. Its ends get the addresses `.1` and `.2` of a
   * network of their own.
   *
   * @param {object} [options]
   * @param {boolean} [options.v6] IPv6 instead of IPv4
   */
  cable(from, to, { v6 = false } = {}) {
    const number = this.#links.length;
    const [near, far] = [`${this.#name}a${number}`, `${this.#name}b${number}`];
    run("ip", "link", "add", near, "type", "veth", "peer", "name", far);
    this.#links.push(near);
    const addresses = v6 // written as everybody else writes them, so no zeros
      ? [1, 2].map((host) => `fd76:${this.#name.slice(2)}:${(number + 1).toString(16)}::${host}`)
      : [1, 2].map((host) => `10.${this.#octets.split(".")[0]}.${(Number(this.#octets.split(".")[1]) + number) % 256}.${host}`);
    for (const [host, device, address] of [
      [from, near, addresses[0]],
      [to, far, addresses[1]],
    ]) {
      const ip = host ? (...args) => run("ip", "-n", host.name, ...args) : (...args) => run("ip", ...args);
      if (host) run("ip", "link", "set", device, "netns", host.name);
      // Without `nodad` an IPv6 address cannot be used for its first second.
      ip("addr", "add", `${address}/${v6 ? 64 : 24}`, "dev", device, ...(v6 ? ["nodad"] : []));
      ip("link", "set", device, "up");
    }
    return { near: addresses[0], far: addresses[1], nearDevice: near, farDevice: far };
  }

  #end() {
    // What is not there any more needs no removing.
    const quietly = (...args) => {
      try {
        run(...args);
      } catch {}
    };
    for (const { name } of this.#hosts) quietly("ip", "netns", "del", name);
    for (const link of this.#links) quietly("ip", "link", "del", link);
    rmSync(this.#folder, { recursive: true, force: true });
  }
}
