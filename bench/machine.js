/** What the figures were measured on, and how processes are run on it. */
import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { cpus, loadavg, release, totalmem } from "node:os";

export function machine() {
  const virtual = /hypervisor/.test(readFileSync("/proc/cpuinfo", "utf8")) ? ", virtual" : "";
  return {
    processors: `${cpus().length} × ${cpus()[0].model.trim()}${virtual}`,
    memory: `${Math.round(totalmem() / 2 ** 30)} GiB`,
    kernel: `Linux ${release()}`,
    rust: said("rustc", "--version"),
    chromium: said(process.env.CHROMIUM || "chromium", "--version"),
    load: `load ${loadavg()[0].toFixed(1)} at the start`,
  };
}

function said(command, ...args) {
  try {
    return execFileSync(command, args, { encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] }).trim();
  } catch {
    return `no ${command}`;
  }
}

let priority;

/** A command with real-time priority where that is allowed: on a busy machine it is measured, and not the others. */
export function withPriority(command) {
  if (priority === undefined) {
    try {
      execFileSync("chrt", ["-r", "1", "true"], { stdio: "ignore" });
      priority = ["chrt", "-r", "1"];
    } catch {
      priority = [];
    }
  }
  return [...priority, ...command];
}

/** Runs a command to its end; resolves with what it said. Fails with its last words. */
export async function run(command, args, options = {}) {
  const child = spawn(command, args, { stdio: ["ignore", "pipe", "pipe"], ...options });
  let output = "";
  let errors = "";
  child.stdout.setEncoding("utf8").on("data", (text) => (output += text));
  child.stderr.setEncoding("utf8").on("data", (text) => (errors += text));
  const [code] = await once(child, "close");
  if (code !== 0) throw new Error(`${command} ${args[0] ?? ""} ended with ${code}: ${errors.slice(-1000)}`);
  return output;
}
