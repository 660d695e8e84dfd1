/**
 * What a client hears of a talk's beginning that consumes only when it is told that somebody speaks, as existing clients
 * do: with the talk's first second replayed (`--media-replay 1s`) and without (`0s`), one after the other in Chromium, for a
 * client beside the server and for one from which push and answer take `AWAY` milliseconds; for one that listens to its last
 * consumer until the new one is there, and for one that stops at the end of each talk. Measured by what a listener hears
 * who was there all the time. Prints the figures; asserts nothing. `TALKS` are held in each of `ROUNDS` rounds.
 */
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { openBrowser } from "../lib/person.js";
import { startServer } from "../lib/server.js";
import { measure } from "./late-page.js";

const { ROUNDS = "2", TALKS = "8", AWAY = "100", REPLAYS = "0s 1s" } = process.env;

const cleanUp = [];
const context = { after: (end) => cleanUp.unshift(end) };
try {
  const browser = await openBrowser(context);
  const results = {};
  for (let round = 0; round < Number(ROUNDS); round++) {
    for (const replay of REPLAYS.split(" ")) {
      const server = await startServer({ args: ["--media-replay", replay] });
      try {
        for (const stops of [false, true]) {
          for (const away of [0, Number(AWAY)]) {
            const name = `${replay} ${away} ms${stops ? " stops" : ""}`;
            (results[name] ??= []).push(...(await measureOn(server, browser, away, stops)));
          }
        }
      } finally {
        await server.stop();
      }
    }
  }
  report(results);
} finally {
  for (const end of cleanUp) await end();
}

async function measureOn(server, browser, away, stops) {
  const session = await browser.newContext({ bypassCSP: true });
  try {
    const page = await session.newPage();
    await page.goto(`${server.url}/live`);
    return await page.evaluate(measure, {
      code: readFileSync(new URL("../../client/sdk/dist/voiceping.js", import.meta.url), "utf8"),
      url: `${server.url.replace(/^http/, "ws")}/ws`,
      tokens: await Promise.all(["Mouth", "Late", "Ear"].map((name) => signIn(server, name))),
      talks: Number(TALKS),
      away,
      stops,
    });
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

/** Of the first steps (30 ms each) that a listener heard who was there, those that the late one heard too. */
function kept({ present, late }, steps) {
  const first = Object.keys(present.delays).slice(0, steps);
  return first.filter((step) => step in late.delays).length / first.length;
}

/** How much later than who was there the late one heard its first sound. */
function delayed({ present, late }) {
  const first = ({ delays }) => Math.min(...Object.entries(delays).map(([step, delay]) => 30 * step + delay));
  return first(late) - first(present);
}

/** How far behind who was there the late one is, this many seconds into the talk: the median of 300 ms around it. */
function behind({ present, late }, seconds) {
  const around = Array.from({ length: 10 }, (_, step) => Math.round(seconds / 0.03) - 5 + step);
  return quantile(around.map((step) => late.delays[step] - present.delays[step]), 0.5);
}

function report(results) {
  const columns = (values) => values.map((value) => String(value).padStart(15)).join("");
  console.log("replay, distance".padEnd(52) + columns(Object.keys(results)));
  const line = (name, value) => console.log(name.padEnd(52) + columns(Object.values(results).map(value)));
  const mean = (talks, of) => (talks.reduce((sum, talk) => sum + of(talk), 0) / talks.length).toFixed(2);
  line("talks", (talks) => talks.length);
  line("of the first 300 ms, heard", (talks) => mean(talks, (talk) => kept(talk, 10)));
  line("of the first second, heard", (talks) => mean(talks, (talk) => kept(talk, 33)));
  line("talks whose first 300 ms are whole (9 of 10)", (talks) => mean(talks, (talk) => (kept(talk, 10) >= 0.9 ? 1 : 0)));
  line("heard twice, ms for each talk", (talks) => mean(talks, ({ late }) => 30 * late.again));
  for (const q of [0.5, 0.95]) {
    const ms = (of) => (talks) => quantile(talks.map(of), q).toFixed(0);
    line(`push to ready to hear, ms, p${100 * q}`, ms(({ ready }) => ready));
    line(`first sound after who was there, ms, p${100 * q}`, ms(delayed));
    for (const seconds of [1, 2, 4]) line(`behind who was there after ${seconds} s, ms, p${100 * q}`, ms((talk) => behind(talk, seconds)));
  }
  const out = new URL("../out/", import.meta.url);
  mkdirSync(out, { recursive: true });
  writeFileSync(new URL("late.json", out), JSON.stringify(results, null, 1));
}

function quantile(values, q) {
  const sorted = values.filter(Number.isFinite).sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(q * sorted.length))] ?? NaN;
}
