/**
 * What a client hears of a talk's beginning that consumes only when it is told that somebody speaks, as existing clients
 * do: with the talk's first second replayed (`--media-replay 1s`) and without (`0s`), one after the other in Chromium, for a
 * client beside the server and for one from which push and answer take `AWAY` milliseconds. Measured by what a listener hears
 * who was there all the time. Prints the figures; asserts nothing. `TALKS` are held in each of `ROUNDS` rounds.
 */
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { openBrowser } from "../lib/person.js";
import { startServer } from "../lib/server.js";
import { measure } from "./late-page.js";

const { ROUNDS = "3", TALKS = "12", AWAY = "100" } = process.env;

const cleanUp = [];
const context = { after: (end) => cleanUp.unshift(end) };
try {
  const browser = await openBrowser(context);
  const results = {};
  for (let round = 0; round < Number(ROUNDS); round++) {
    for (const replay of ["0s", "1s"]) {
      const server = await startServer({ args: ["--media-replay", replay] });
      try {
        for (const away of [0, Number(AWAY)]) {
          (results[`${replay}, ${away} ms`] ??= []).push(...(await measureOn(server, browser, away)));
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

async function measureOn(server, browser, away) {
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

/** Of the first ten steps (300 ms) that a listener heard who was there, those that the late one heard too. */
function kept({ present, late }) {
  const first = present.heard.slice(0, 10);
  return first.filter((step) => late.heard.includes(step)).length / first.length;
}

function report(results) {
  const columns = (values) => values.map((value) => String(value).padStart(12)).join("");
  console.log("replay, distance".padEnd(52) + columns(Object.keys(results)));
  const line = (name, value) => console.log(name.padEnd(52) + columns(Object.values(results).map(value)));
  const mean = (talks, of) => (talks.reduce((sum, talk) => sum + of(talk), 0) / talks.length).toFixed(2);
  line("talks", (talks) => talks.length);
  line("of the first 300 ms, heard", (talks) => mean(talks, kept));
  line("talks whose first 300 ms are whole (9 of 10)", (talks) => mean(talks, (talk) => (kept(talk) >= 0.9 ? 1 : 0)));
  for (const q of [0.5, 0.95]) {
    const ms = (of) => (talks) => quantile(talks.map(of), q).toFixed(0);
    line(`push to ready to hear, ms, p${100 * q}`, ms(({ ready }) => ready));
    line(`first sound after who was there, ms, p${100 * q}`, ms(({ present, late }) => late.first - present.first));
    line(`behind who was there at the end, ms, p${100 * q}`, ms(({ present, late }) => late.lag - present.lag));
  }
  const out = new URL("../out/", import.meta.url);
  mkdirSync(out, { recursive: true });
  writeFileSync(new URL("late.json", out), JSON.stringify(results, null, 1));
}

function quantile(values, q) {
  const sorted = values.filter((value) => value !== null).sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(q * sorted.length))] ?? NaN;
}
