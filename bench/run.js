/**
 * `make bench`: every figure of docs/performance.md on the machine at hand. Each is a ratio to a floor that is measured in
 * the same run, wherever there is one. Prints what it does while it does it, and one summary at the end, which is also
 * written to `bench/out/summary.txt` and, for programs, `bench/out/summary.json`, beside every report and drawing.
 *
 * It is bounded: each part has a time after which it is given up, and that is said in the summary. `BENCH="redis load"`
 * runs only these parts. Asserts nothing.
 */
import { mkdirSync, writeFileSync } from "node:fs";
import { binary } from "../e2e/lib/binary.js";
import { machine, withPriority } from "./machine.js";
import { engine, sockets } from "./cargo.js";
import { browser } from "./browser.js";
import { cluster, load, many, quiet } from "./load.js";
import { floorScript } from "./redis.js";
import { draw } from "./plots.js";

const out = new URL("out/", import.meta.url).pathname;

/** Name, what it is, minutes that it takes about, minutes after which it is given up. */
const PARTS = [
  ["engine", "a listener-packet beside sealing alone", 1, 5, engine],
  ["sockets", "the engine with real sockets beside bare sendmmsg", 1, 5, sockets],
  ["redis", "the floor script beside SET", 0.5, 3, floorScript],
  ["load", "a thousand members on one process, beside bare sendmmsg", 5, 13, load],
  ["many", "more and more members", 2.5, 10, many],
  ["quiet", "members without media: ten thousand, and five thousand on one channel", 2, 10, quiet],
  ["cluster", "a thousand members on Redis, two gateways and two media nodes", 2, 6, cluster],
  ["browser", "mouth to ear in Chromium beside the same pages connected directly", 4, 12, browser],
  ["plots", "drawings of these reports", 0.1, 1, draw],
];

const chosen = (process.env.BENCH ?? "").split(/[\s,]+/).filter(Boolean);
const unknown = chosen.filter((name) => !PARTS.some(([part]) => part === name));
if (unknown.length) {
  console.error(`BENCH: there is no part ${unknown.join(", ")}; there are ${PARTS.map(([name]) => name).join(", ")}`);
  process.exit(2);
}
const parts = PARTS.filter(([name]) => !chosen.length || chosen.includes(name));

mkdirSync(out, { recursive: true });
const summary = { machine: machine(), started: new Date().toISOString(), parts: {} };
const minutes = parts.reduce((sum, [, , about]) => sum + about, 0);
console.log(`${parts.length} parts, about ${Math.ceil(minutes)} minutes. ${Object.values(summary.machine).join(" · ")}`);
console.log(`${binary()}${withPriority([]).length ? ", with real-time priority (chrt -r 1)" : ", without priority"}\n`);

for (const [at, [name, what, about, limit, measure]] of parts.entries()) {
  console.log(`== ${at + 1} of ${parts.length}: ${name}, ${what}; about ${about} min`);
  const started = Date.now();
  try {
    summary.parts[name] = { what, figures: await within(limit, measure(out)) };
  } catch (error) {
    summary.parts[name] = { what, figures: [], error: error.message.slice(0, 2000) };
  }
  const part = summary.parts[name];
  part.seconds = Math.round((Date.now() - started) / 1000);
  console.log(text(part), "\n");
}

const whole = Object.entries(summary.parts).map(([name, part]) => `${name}: ${part.what} (${part.seconds} s)\n${text(part)}`);
const head = Object.entries(summary.machine).map(([name, value]) => `${name.padEnd(10)} ${value}`);
writeFileSync(`${out}summary.json`, `${JSON.stringify(summary, null, 1)}\n`);
writeFileSync(`${out}summary.txt`, `${[head.join("\n"), ...whole].join("\n\n")}\n`);
console.log(`${"=".repeat(100)}\n${[head.join("\n"), ...whole].join("\n\n")}\n\n${out}summary.txt`);
// Parts that failed have left their processes to their own clean-up; nothing else is waited for.
process.exit(Object.values(summary.parts).some(({ error }) => error) ? 1 : 0);

/** Figures as lines: name, value, what it is compared with. */
function text({ figures, error }) {
  const lines = figures.map(({ name, value, note = "" }) => `  ${name.padEnd(66)} ${String(value).padStart(22)}  ${note}`);
  return [...lines, ...(error ? [`  not measured: ${error}`] : [])].join("\n");
}

async function within(limit, work) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`given up after ${limit} minutes`)), limit * 60_000);
  });
  try {
    return await Promise.race([work, late]);
  } finally {
    clearTimeout(timer);
  }
}
