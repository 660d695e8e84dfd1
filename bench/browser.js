/** Mouth to ear in a browser: e2e/bench/latency.js, whose samples are read from what it writes. */
import { readFileSync } from "node:fs";
import { run } from "./machine.js";

export async function browser() {
  const e2e = new URL("../e2e/", import.meta.url).pathname;
  await run("node", ["bench/latency.js"], { cwd: e2e });
  const { direct, ours, grant, firstSound } = JSON.parse(readFileSync(`${e2e}out/latency.json`, "utf8"));
  const both = (values) => [0.5, 0.95].map((q) => `${quantile(values, q).toFixed(1)} ms`).join(" · ");
  const ratio = [0.5, 0.95].map((q) => (quantile(ours, q) / quantile(direct, q)).toFixed(2)).join(" · ");
  return [
    { name: "mouth to ear, browser to browser, p50 · p95", value: both(direct), note: `${direct.length} bursts` },
    { name: "mouth to ear, through VoicePing", value: both(ours) },
    { name: "ratio", value: ratio, note: "aim: within 1.10" },
    { name: "press to grant, as the page sees it", value: both(grant) },
    { name: "press to first sound at the other end", value: both(firstSound) },
  ];
}

function quantile(values, q) {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(q * sorted.length))] ?? NaN;
}
