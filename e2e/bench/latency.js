/**
 * Mouth to ear in Chromium, beside the same page connected directly, browser to browser, in the same run. Prints the
 * figures; asserts nothing. `BURSTS` and `PRESSES` set how many are measured.
 */
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { openBrowser } from "../lib/person.js";
import { startServer } from "../lib/server.js";
import { measure } from "./page.js";

const { BURSTS = "100", PRESSES = "30" } = process.env;
/** The first bursts of a fresh connection, either kind, find a jitter buffer that is still learning. */
const WARM_UP = 10;

const cleanUp = [];
const context = { after: (end) => cleanUp.unshift(end) };
try {
  const server = await startServer();
  context.after(() => server.stop());
  const browser = await openBrowser(context);
  // Any address of the server will do for a page of our own: its scripts come from here, not from the server.
  const page = await (await browser.newContext({ bypassCSP: true })).newPage();
  await page.goto(`${server.url}/live`);
  const results = await page.evaluate(measure, {
    code: readFileSync(new URL("../../client/sdk/dist/voiceping.js", import.meta.url), "utf8"),
    url: `${server.url.replace(/^http/, "ws")}/ws`,
    tokens: await Promise.all(["Mouth", "Ear"].map((name) => signIn(server, name))),
    bursts: Number(BURSTS) + WARM_UP,
    presses: Number(PRESSES),
  });
  report(results);
} finally {
  for (const end of cleanUp) await end();
}

async function signIn(server, userName) {
  const response = await fetch(`${server.url}/dev/token`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ userName, channels: ["bench"] }),
  });
  return (await response.json()).token;
}

function report({ direct, ours, grant, firstSound }) {
  const [d, o] = [direct.slice(WARM_UP), ours.slice(WARM_UP)];
  const line = (name, values, note = "") =>
    console.log(`${name.padEnd(44)} ${values.map((value) => value.padStart(9)).join(" ")}   ${note}`);
  const ms = (values) => [quantile(values, 0.5), quantile(values, 0.95)].map((value) => `${value.toFixed(1)} ms`);
  const ratio = (q) => (quantile(o, q) / quantile(d, q)).toFixed(3);
  line("", ["median", "p95"]);
  line("mouth to ear, browser to browser", ms(d), `${d.length} bursts`);
  line("mouth to ear, through VoicePing", ms(o));
  line("ratio", [ratio(0.5), ratio(0.95)]);
  line("difference of the two for the same burst", ms(o.map((value, i) => value - d[i])));
  line("press to grant", ms(grant), `${grant.length} presses`);
  line("press to first sound at the other end", ms(firstSound));
  if (quantile(d, 0.5) > 100) console.log("The machine was busy: a direct connection takes 60 to 100 ms on an idle one.");
  const out = new URL("../out/", import.meta.url);
  mkdirSync(out, { recursive: true });
  writeFileSync(new URL("latency.json", out), JSON.stringify({ direct: d, ours: o, grant, firstSound }, null, 1));
}

function quantile(values, q) {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(q * sorted.length))] ?? NaN;
}
