/** `voiceping loadtest` against deployments that are started for it: one process, and a cluster. */
import { readFileSync } from "node:fs";
import { binary, environment, ready, secret } from "../e2e/lib/binary.js";
import { freePort, start } from "../e2e/lib/process.js";
import { run, withPriority } from "./machine.js";

const DURATION = "12s";
/** Members of a channel, of whom two speak so often that somebody nearly always does. */
const CHANNEL = 50;
const BUSY = ["--pause-mean", "500ms", "--seed", "1"];

export async function load(out) {
  const figures = [];
  const one = async (name, title, flags) => {
    const report = await allInOne(out, name, ["--members", "1000", ...flags]);
    figures.push(...felt(title, report));
    return report;
  };
  const twenty = ["--channels", "20", ...BUSY];
  const storm = await one("thousand", "1000 members", ["--storm", "--floor", ...twenty]);
  figures.push(...joined(storm));
  const settled = await allInOne(out, "settled", [
    ...["--members", "1000", "--storm", "--settle", "55s", "--duration", "3s"],
    ...twenty,
  ]);
  figures.push({
    name: "  the same 55 s after they joined",
    value: kib(settled.memory_per_member_bytes),
    note: "aim: 50 KiB",
  });
  await one("chromium", "the same with Chromium's SRTP profile", [
    "--srtp-profile", "aes128-cm-sha1-80", "--floor", ...twenty,
  ]);
  await one("firefox", "the same with Firefox's SRTP profile", ["--srtp-profile", "aes128-gcm", "--floor", ...twenty]);
  await one("open-microphones", "the same with all microphones open", ["--open-microphones", ...twenty]);
  await one("late-consumers", "clients that consume after speaker-changed", ["--consume", "talk", ...twenty]);
  await one("one-channel", "1000 members on one channel", ["--channels", "1", ...BUSY]);
  return figures;
}

export async function many(out) {
  const figures = [];
  for (const members of [250, 500, 2000, 3000]) {
    const flags = ["--members", String(members), "--channels", String(members / CHANNEL), "--storm", "--floor", ...BUSY];
    figures.push(...felt(`${members} members`, await allInOne(out, `members-${members}`, flags)));
  }
  return figures;
}

export async function quiet(out) {
  const ramp = ["--ramp", "15s", "--late-members", "0", "--duration", DURATION];
  const few = ["--members", "2", "--channels", "1", "--talk-mean", "1s", "--pause-mean", "500ms"];
  const idle = await allInOne(out, "quiet-10000", [
    ...["--members", "400", "--channels", "200", "--quiet-members", "9600", "--pause-mean", "60s"],
    ...ramp,
  ]);
  // Not with real-time priority: among threads that have it, one that wakes waits until another's 100 ms are over, and a push
  // to thousands keeps both processors busy for that long.
  const five = [...few, "--quiet-members", "5000", "--settle", "4s", "--floor", ...ramp];
  const crowd = await allInOne(out, "crowd-5000", five, withoutPriority);
  const storm = await allInOne(out, "quiet-storm", [
    ...["--members", "40", "--channels", "20", "--quiet-members", "1000", "--storm", "--late-members", "0"],
    ...["--duration", "3s"],
  ]);
  return [
    { name: "10,000 idle sockets: memory for each", value: kib(idle.memory_per_member_bytes), note: missing(idle) },
    { name: "  CPU while they are idle and few talk", value: share(idle, "talking") },
    { name: "5,000 sockets join one channel within 15 s: each, p50 · p95", value: times(crowd, "join_quiet"), note: missing(crowd) },
    { name: "  CPU of the deployment meanwhile", value: `${cpu(crowd, "joining").toFixed(1)} s` },
    { name: "  memory for each of them", value: kib(crowd.memory_per_member_bytes) },
    { name: "  channel-state told for each join", value: (crowd.counts.news / crowd.counts.joined).toFixed(1) },
    { name: "  then speaker-changed, p50 · p95", value: times(crowd, "push") },
    { name: "  at the last of them, p50 · p99", value: times(crowd, "push_last", "p99") },
    { name: "  from the first to the last, p50 · p95", value: times(crowd, "push_spread") },
    { name: "  bare writes to as many sockets, p50 · p95", value: times(crowd, "push_floor"), note: ratio(crowd, "push_spread", "push_floor") },
    { name: "  press to grant, p50 · p95", value: times(crowd, "grant") },
    { name: "  CPU of the deployment for each push", value: `${cpuPerPush(crowd).toFixed(1)} µs`, note: cpuFloor(crowd) },
    { name: "1,000 members without media join at once", value: `${storm.joining_seconds.toFixed(2)} s`, note: missing(storm) },
  ];
}

export async function cluster(out) {
  const [clusterSecret, jwt] = [secret(), secret()];
  const port = await freePort();
  const own = [];
  const begin = async (...args) => {
    const process = await start(...args);
    own.unshift(process);
    return process;
  };
  try {
    const [redis, ...flags] = withPriority(["redis-server", "--port", `${port}`, "--bind", "127.0.0.1", "--save", ""]);
    await begin(redis, flags, /Ready to accept connections/);
    const shared = ["--redis-url", `redis://127.0.0.1:${port}`, "--cluster-secret", clusterSecret];
    const media = ["--grpc-listen", "127.0.0.1:0", "--media-listen", "127.0.0.1:0", "--media-announce", "127.0.0.1"];
    const urls = [];
    for (const region of ["east", "west"]) {
      const node = ["media-node", ...shared, "--region", region, ...media, "--media-workers", "1"];
      await begin(...prepared(node), /media node is ready at grpc:\/\/(\S+)/, environment());
    }
    for (const region of ["east", "west"]) {
      const gateway = ["gateway", ...shared, "--region", region, "--listen", "127.0.0.1:0", "--jwt-secret", jwt];
      const { said } = await begin(...prepared(gateway), /VoicePing is at (http:\S+?)\/?\n/, environment());
      await ready(said);
      urls.push("--url", said.replace("http", "ws"));
    }
    const members = ["--members", "1000", "--channels", "20", "--storm", "--settle", "55s", "--floor", ...BUSY];
    const report = await loadtest(out, "cluster", jwt, [...urls, ...members]);
    const each = report.processes.map(({ name, cpu_per_packet_ns: cpu, memory_per_member_bytes: memory }) => ({
      name: `  ${name}: CPU for each packet, memory for each of all members, settled`,
      value: `${us(cpu)} · ${memory === null ? "–" : kib(memory)}`,
    }));
    return [...felt("1000 members", report), ...joined(report, "55 s after they joined; aim: 50 KiB"), ...each];
  } finally {
    for (const process of own) await process.stop();
  }
}

async function allInOne(out, name, flags, prepare = prepared) {
  const jwt = secret();
  const listen = ["--listen", "127.0.0.1:0", "--media-listen", "127.0.0.1:0", "--media-announce", "127.0.0.1"];
  const args = [...listen, "--jwt-secret", jwt];
  const server = await start(...prepare(args), /VoicePing is at (http:\S+?)\/?\n/, environment());
  try {
    await ready(server.said);
    return await loadtest(out, name, jwt, ["--url", server.said.replace("http", "ws"), ...flags], prepare);
  } finally {
    await server.stop();
  }
}

async function loadtest(out, name, jwt, flags, prepare = prepared) {
  const file = `${out}${name}.json`;
  const duration = flags.includes("--duration") ? [] : ["--duration", DURATION];
  const [command, args] = prepare(["loadtest", ...flags, ...duration, "--json", file]);
  process.stdout.write(`   ${name} …`);
  await run(command, args, { env: { ...process.env, VOICEPING_JWT_SECRET: jwt } });
  console.log(" done");
  return JSON.parse(readFileSync(file, "utf8"));
}

function prepared(args) {
  const [command, ...rest] = withPriority([binary(), ...args]);
  return [command, rest];
}

const withoutPriority = (args) => [binary(), args];

function felt(title, report) {
  const { counts, floor_ratio: ratio } = report;
  const heard = `${counts.lost} of ${counts.expected}, ${counts.clipped_first + counts.clipped_last} clipped`;
  return [
    { name: `${title}: talks at once`, value: report.talks_at_once.toFixed(1), note: missing(report) },
    { name: "  press to grant, p50 · p95", value: times(report, "grant") },
    { name: "  press to first packet, p50 · p95", value: times(report, "first_packet") },
    { name: "  mouth to ear, p50 · p95", value: times(report, "mouth_to_ear") },
    { name: "  packets lost", value: heard },
    { name: "  CPU of all processes for each forwarded packet", value: us(report.cpu_per_packet_ns) },
    ...(ratio ? [{ name: "  ratio of the forwarding processes to bare sends", value: ratio.toFixed(2), note: "aim: 1.15" }] : []),
  ];
}

function joined(report, when = "first half minute") {
  return [
    { name: "  all joined at once within", value: `${report.joining_seconds.toFixed(2)} s`, note: "aim: 10 s" },
    { name: "  memory for each of them, all processes", value: kib(report.memory_per_member_bytes), note: when },
  ];
}

const us = (ns) => (ns === null ? "–" : `${(ns / 1000).toFixed(2)} µs`);
const kib = (bytes) => (bytes === null ? "–" : `${(bytes / 1024).toFixed(1)} KiB`);

function times({ milliseconds }, name, second = "p95") {
  const { p50, [second]: other } = milliseconds[name];
  return p50 === undefined ? "–" : `${p50.toPrecision(3)} · ${other.toPrecision(3)} ms`;
}

function missing({ counts, doubts }) {
  return [...(counts.not_joined ? [`${counts.not_joined} did not join`] : []), ...doubts].join("; ");
}

function share(report, phase) {
  return `${((100 * cpu(report, phase)) / report[`${phase}_seconds`]).toFixed(1)} % of a core`;
}

function cpu({ processes }, phase) {
  return processes.reduce((sum, process) => sum + process.cpu_seconds[phase], 0);
}

function cpuPerPush(report) {
  // Each talk is announced twice to everybody: its beginning, which is counted, and its end.
  return (cpu(report, "talking") * 1e6) / (2 * report.counts.pushes);
}

function cpuFloor(report) {
  const bare = report.milliseconds.write_floor.p50 * 1000;
  return bare ? `bare writes ${bare.toFixed(1)} µs, ratio ${(cpuPerPush(report) / bare).toFixed(2)}` : "";
}

function ratio({ milliseconds }, name, floor) {
  const [measured, bare] = [milliseconds[name].p50, milliseconds[floor].p50];
  return measured && bare ? `ratio ${(measured / bare).toFixed(2)}` : "";
}
