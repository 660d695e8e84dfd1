/**
 * Mouth to ear in Chromium, beside the same page connected directly, browser to browser, in the same run. Prints the
 * figures; asserts nothing.
 *
 * A connection's encoder cuts the sound into frames of 20 ms where it likes, so the same sound leaves one connection up
 * to 20 ms earlier or later than the other, for as long as both live. That is luck, not latency: it is drawn anew in
 * each of `ROUNDS` rounds, with fresh connections of both kinds, and all their bursts are put together. `BURSTS` and
 * `PRESSES` are measured in each.
 */
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { openBrowser } from "../lib/person.js";
import { startServer } from "../lib/server.js";
import { measure } from "./page.js";

const { ROUNDS = "12", BURSTS = "12", PRESSES = "3" } = process.env;
/** The first bursts of a fresh connection, either kind, find a jitter buffer that is still learning. */
const WARM_UP = 10;

const cleanUp = [];
const context = { after: (end) => cleanUp.unshift(end) };
try {
  const server = await startServer();
  context.after(() => server.stop());
  const browser = await openBrowser(context);
  const results = { direct: [], ours: [], grant: [], firstSound: [] };
  for (let round = 0; round < Number(ROUNDS); round++) {
    const measured = await measureRound(server, browser);
    for (const [name, values] of Object.entries(measured)) results[name].push(...values);
  }
  report(results);
} finally {
  for (const end of cleanUp) await end();
}

async function measureRound(server, browser) {
  const session = await browser.newContext({ bypassCSP: true });
  try {
    const page = await session.newPage();
    // Any address of the server will do for a page of our own: its scripts come from here, not from the server.
    await page.goto(`${server.url}/live`);
    const { direct, ours, ...rest } = await page.evaluate(measure, {
      code: readFileSync(new URL("../../client/sdk/dist/voiceping.js", import.meta.url), "utf8"),
      url: `${server.url.replace(/^http/, "ws")}/ws`,
      tokens: await Promise.all(["Mouth", "Ear"].map((name) => signIn(server, name))),
      bursts: Number(BURSTS) + WARM_UP,
      presses: Number(PRESSES),
    });
    return { direct: direct.slice(WARM_UP), ours: ours.slice(WARM_UP), ...rest };
  } finally {
    await session.close();
  }
}

async function signIn(server, userName) {
  const response = await fetch(`${server.url}/dev/token`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ userName, channels: ["bench"] }),
  });
  return (await response.json()).token;
}

function report({ direct: d, ours: o, grant, firstSound }) {
  const line = (name, values, note = "") =>
    console.log(`${name.padEnd(44)} ${values.map((value) => value.padStart(9)).join(" ")}   ${note}`);
  const ms = (values) => [quantile(values, 0.5), quantile(values, 0.95)].map((value) => `${value.toFixed(1)} ms`);
  const ratio = (q) => (quantile(o, q) / quantile(d, q)).toFixed(3);
  line("", ["median", "p95"]);
  line("mouth to ear, browser to browser", ms(d), `${d.length} bursts, ${ROUNDS} rounds`);
  line("mouth to ear, through VoicePing", ms(o));
  line("ratio", [ratio(0.5), ratio(0.95)]);
  line("difference of the two for the same burst", ms(o.map((value, i) => value - d[i])));
  line("press to grant", ms(grant), `${grant.length} presses`);
  line("press to first sound at the other end", ms(firstSound));
  if (quantile(d, 0.5) > 100) console.log("The machine was busy: a direct connection takes 40 to 80 ms on an idle one.");
  const out = new URL("../out/", import.meta.url);
  mkdirSync(out, { recursive: true });
  writeFileSync(new URL("latency.json", out), JSON.stringify({ direct: d, ours: o, grant, firstSound }, null, 1));
}

function quantile(values, q) {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(q * sorted.length))] ?? NaN;
}
