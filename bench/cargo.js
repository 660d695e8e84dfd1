/**
 * The benchmarks that are written in Rust. They print what is measured, and below it indented lines of a name, a number and its
 * unit; all of that is passed on.
 */
import { run } from "./machine.js";

export const engine = () => cargo("voiceping-engine", "fan_out");
export const sockets = () => cargo("voiceping-media-node", "sockets");

async function cargo(crate, bench) {
  const output = await run("cargo", ["bench", "--locked", "-p", crate, "--bench", bench]);
  const line = /^ {2}(\S.*?) {2,}(-?[\d.]+.*)$/;
  return output.split("\n").flatMap((text) => {
    const [, name, rest] = line.exec(text) ?? [];
    if (!name) return text.trim() ? [{ name: text.trim(), value: "" }] : [];
    const [value, ...note] = rest.split(/ {2,}/);
    return [{ name: `  ${name}`, value: value.trim(), note: note.join(" ") }];
  });
}
