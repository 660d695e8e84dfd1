/** A person at a page: signs in, holds the button, listens. Each has a browser, and so a microphone, of their own. */
import { chromium } from "playwright-core";
import { installEar } from "./ear.js";
import { toneFile } from "./tone.js";

const FLAGS = [
  "--no-sandbox",
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
  "--allow-loopback-in-peer-connection",
  "--use-fake-ui-for-media-stream",
  "--use-fake-device-for-media-stream",
  "--autoplay-policy=no-user-gesture-required",
  "--disable-background-timer-throttling",
  "--disable-backgrounding-occluded-windows",
  "--disable-renderer-backgrounding",
];

/** Below this a page hears nothing. */
export const SILENCE = -90;

/** Starts a browser whose microphone plays a tone; it is closed with the test. */
export async function openBrowser(t, { tone = 440, flags = [], executablePath } = {}) {
  const browser = await chromium.launch({
    executablePath: executablePath || process.env.CHROMIUM || "/usr/bin/chromium",
    args: [...FLAGS, `--use-file-for-fake-audio-capture=${toneFile(tone)}`, ...flags],
  });
  t.after(() => browser.close());
  return browser;
}

export class Person {
  /** Frames of the socket by direction and type, as far as they can be read. */
  sent = [];
  received = [];

  constructor(page, name, tone) {
    this.page = page;
    this.name = name;
    this.tone = tone;
    page.setDefaultTimeout(15_000);
    page.on("websocket", (socket) => {
      socket.on("framesent", ({ payload }) => this.sent.push(JSON.parse(String(payload))));
      socket.on("framereceived", ({ payload }) => this.received.push(JSON.parse(String(payload))));
    });
  }

  /** Opens a browser and the page in it; `gateways` are given to the page as an operator would. */
  static async open(t, server, name, { tone = 440, context = {}, path = "/", flags, gateways = [], executablePath } = {}) {
    const browser = await openBrowser(t, { tone, flags, executablePath });
    const page = await (await browser.newContext(context)).newPage();
    const person = new Person(page, name, tone);
    await page.addInitScript(installEar);
    if (gateways.length > 0) await page.addInitScript(nameGateways, gateways);
    await page.goto(server.url + path);
    return person;
  }

  /** Opens the page, signs in through the form and waits until the button works. */
  static async join(t, server, name, { channels = "lobby", ...options } = {}) {
    const person = await Person.open(t, server, name, options);
    await person.signIn(channels);
    await person.ready();
    return person;
  }

  async signIn(channels) {
    await this.page.getByLabel("Your name").fill(this.name);
    await this.page.getByLabel("Channels").fill(channels);
    await this.page.getByRole("button", { name: "Join" }).click();
  }

  /** The audio flows and the button can be pressed. */
  async ready() {
    await this.connected();
    await this.page.locator('.stage:is([data-phase="free"], [data-phase="listening"])').waitFor();
  }

  async phase(phase) {
    await this.page.locator(`.stage[data-phase="${phase}"]`).waitFor();
  }

  get title() {
    return this.page.locator(".stage .title");
  }

  async sees(title) {
    await this.title.getByText(title, { exact: true }).waitFor();
  }

  /** Presses with the mouse and keeps it down. */
  async press() {
    await this.page.locator(".talk").hover();
    await this.page.mouse.down();
  }

  /** Presses and waits for the grant. */
  async talk() {
    await this.press();
    await this.phase("talking");
  }

  async release() {
    await this.page.mouse.up();
  }

  async hears(frequency, channel = "lobby") {
    await this.page.waitForFunction(([channel, frequency]) => window.ear.hears(channel, frequency), [channel, frequency]);
  }

  /** Waits until nothing is heard any more; the jitter buffer may still hold some. */
  async silence(channel = "lobby") {
    await this.page.waitForFunction(
      ([channel, silence]) => window.ear.peak(channel).decibels < silence,
      [channel, SILENCE],
    );
  }

  /** The loudest sound of the next `ms`, in dB. */
  loudest(ms, channel = "lobby") {
    return this.page.evaluate(([channel, ms]) => window.ear.loudest(channel, ms), [channel, ms]);
  }

  /** Follows what is heard from now on. */
  async watch(channel = "lobby") {
    await this.page.evaluate((channel) => window.ear.watch(channel), channel);
  }

  /**
   * What was heard since `watch`: packets received and lost, the longest time without a packet (`packetGap`) and the
   * longest without a sound (`soundGap`), which a tone's own pauses are part of; both in milliseconds.
   */
  watched() {
    return this.page.evaluate(() => window.ear.watched());
  }

  /** Waits until the server has sent such a message. */
  async told(type, passes = () => true) {
    const deadline = Date.now() + 15_000;
    while (!this.received.some((message) => message.type === type && passes(message.data ?? {}))) {
      if (Date.now() > deadline) throw new Error(`${this.name} was not sent a ${type}`);
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
  }

  /** Waits until its session has been resumed. */
  resumed() {
    return this.told("session", ({ resumed }) => resumed);
  }

  /** The server can be reached, and the audio flows. */
  async connected() {
    await this.page.locator('.link-state[data-state="connected"]').waitFor();
  }

  /** How many messages of a type this page has sent. */
  count(type) {
    return this.sent.filter((message) => message.type === type).length;
  }

  /** A picture for a person to look at. */
  async picture(name) {
    await this.page.screenshot({ path: new URL(`../out/${name}.png`, import.meta.url).pathname });
  }
}

/** In the page: as an operator would, in its head and before its scripts. */
function nameGateways(gateways) {
  const meta = Object.assign(document.createElement("meta"), {
    name: "gateways",
    content: gateways.map((url) => `${url.replace(/^http/, "ws")}/ws`).join(" "),
  });
  new MutationObserver((_, observer) => {
    if (!document.head) return;
    observer.disconnect();
    document.head.append(meta);
  }).observe(document, { childList: true, subtree: true });
}
