/** A WAV file with a tone, for a browser's fake microphone. */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

const RATE = 48_000;

const folder = mkdtempSync(join(tmpdir(), "voiceping-e2e-"));
process.on("exit", () => rmSync(folder, { recursive: true, force: true }));

/**
 * Four seconds of 16-bit mono, played in a loop. The tone comes in syllables of 300 ms, because a steady one is noise to
 * a browser's noise suppression, which is part of what is tested.
 */
export function toneFile(frequency) {
  const samples = new Int16Array(4 * RATE);
  for (let i = 0; i < samples.length; i++) {
    const at = (i / RATE) % 0.4;
    const envelope = at < 0.3 ? Math.sin((Math.PI * at) / 0.3) : 0;
    samples[i] = 0.5 * 32_767 * envelope * Math.sin((2 * Math.PI * frequency * i) / RATE);
  }
  const header = Buffer.alloc(44);
  header.write("RIFF", 0);
  header.writeUInt32LE(36 + samples.byteLength, 4);
  header.write("WAVEfmt ", 8);
  header.writeUInt32LE(16, 16); // size of this part
  header.writeUInt16LE(1, 20); // PCM
  header.writeUInt16LE(1, 22); // mono
  header.writeUInt32LE(RATE, 24);
  header.writeUInt32LE(2 * RATE, 28);
  header.writeUInt16LE(2, 32);
  header.writeUInt16LE(16, 34);
  header.write("data", 36);
  header.writeUInt32LE(samples.byteLength, 40);
  const path = join(folder, `${frequency}.wav`);
  writeFileSync(path, Buffer.concat([header, Buffer.from(samples.buffer)]));
  return path;
}
