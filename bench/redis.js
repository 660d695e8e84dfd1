/** What a decision about a floor costs Redis: the script of a press beside a bare SET, by redis-benchmark, in one run. */
import { readFileSync } from "node:fs";
import { freePort, start } from "../e2e/lib/process.js";
import { run, withPriority } from "./machine.js";

const lua = (name) => readFileSync(new URL(`../state/src/redis/lua/${name}.lua`, import.meta.url), "utf8");
const LEASE_MS = "10000";
const REQUESTS = "30000";
const ROUNDS = 3;

export async function floorScript() {
  const port = String(await freePort());
  const server = ["--port", port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"];
  const [command, ...args] = withPriority(["redis-server", ...server]);
  const redis = await start(command, args, /Ready to accept connections/);
  try {
    // As the state does it: these files, one behind the other, are one script; and it is called by its hash.
    const text = lua("channel") + lua("known") + lua("take");
    const hash = (await run("redis-cli", ["-p", port, "SCRIPT", "LOAD", text])).trim();
    const keys = ["floor", "topic", "members", "users", "gateways"].map((key) => `bench:{__rand_int__}:${key}`);
    const owner = ["user", "Name of a user", "connection-0123456789", "gateway-0123456789", "node-0123456789"];
    // No time, no limit of a talk, nothing to take over, no trace, nothing known: a press on a channel that is free.
    const press = ["EVALSHA", hash, "5", ...keys, "", LEASE_MS, "", ...owner, "", "", ""];
    const set = ["SET", "bench:{__rand_int__}:value", "0123456789012345678901234567890123456789"];
    const answer = await run("redis-cli", ["-p", port, ...press]);
    if (!answer.startsWith("granted")) throw new Error(`the script answers ${answer}`);
    const rates = { set: [], press: [] };
    for (let round = 0; round < ROUNDS; round++) {
      rates.set.push(await rate(port, set));
      rates.press.push(await rate(port, press));
    }
    const median = (values) => values.sort((a, b) => a - b)[Math.floor(values.length / 2)];
    const [bare, script] = [median(rates.set), median(rates.press)];
    return [
      { name: "SET", value: `${Math.round(bare)} /s`, note: `redis-benchmark, 20 connections, median of ${ROUNDS}` },
      { name: "the script of a press", value: `${Math.round(script)} /s`, note: "decides, keeps, announces" },
      { name: "ratio", value: (script / bare).toFixed(2) },
    ];
  } finally {
    await redis.stop();
  }
}

async function rate(port, command) {
  const flags = ["-p", port, "-c", "20", "-n", REQUESTS, "-r", "1000000", "--csv"];
  const [benchmark, ...args] = withPriority(["redis-benchmark", ...flags, ...command]);
  const lines = (await run(benchmark, args)).trim().split("\n");
  const [, rps] = lines.at(-1).split(/","/);
  return Number(rps.replaceAll('"', ""));
}
