/** Drawings of the reports, by the tool itself. */
import { existsSync } from "node:fs";
import { binary } from "../e2e/lib/binary.js";
import { run } from "./machine.js";

export async function draw(out) {
  const reports = (names) => names.map((name) => `${out}${name}.json`).filter(existsSync);
  const growing = reports(["members-250", "members-500", "thousand", "members-2000", "members-3000"]);
  const drawings = [
    ["latency", "A thousand members, 20 channels, about 19 talks at once", reports(["thousand"])],
    ["cpu", "Processors in use while members of channels of 50 talk", growing],
    ["delay", "Mouth to ear", growing],
  ];
  const figures = [];
  for (const [what, title, inputs] of drawings.filter(([, , inputs]) => inputs.length)) {
    await run(binary(), ["plot", what, "--out", `${out}${what}.svg`, "--title", title, ...inputs]);
    figures.push({ name: what, value: `${what}.svg` });
  }
  return figures;
}
