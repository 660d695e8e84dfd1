/**
 * What a page hears, measured in the page: runs there, so it must not use anything from outside of itself. Installed as
 * `window.ear` by `person.js`.
 */
export function installEar() {
  const context = new AudioContext();
  const analyserByStream = new WeakMap();

  /** The analyser of a channel's received track, which must be on an `<audio>` element to reach WebAudio at all. */
  function analyser(channel) {
    const stream = document.querySelector(`audio[data-channel="${channel}"]`)?.srcObject;
    if (!stream) return undefined;
    let analyser = analyserByStream.get(stream);
    if (!analyser) {
      analyser = new AnalyserNode(context, { fftSize: 4096, smoothingTimeConstant: 0 });
      context.createMediaStreamSource(stream).connect(analyser);
      analyserByStream.set(stream, analyser);
    }
    return analyser;
  }

  /** The strongest frequency now, and how loud it is in dB below full scale. */
  function peak(channel) {
    const source = analyser(channel);
    if (!source) return { frequency: 0, decibels: -Infinity };
    const bins = new Float32Array(source.frequencyBinCount);
    source.getFloatFrequencyData(bins);
    let best = 4; // below 50 Hz is nothing that was said
    for (let i = 4; i < bins.length; i++) if (bins[i] > bins[best]) best = i;
    return { frequency: (best * context.sampleRate) / source.fftSize, decibels: bins[best] };
  }

  /** How loud the last 20 ms were, in dB. */
  function loudness(channel) {
    const source = analyser(channel);
    if (!source) return -Infinity;
    const samples = new Float32Array(source.fftSize);
    source.getFloatTimeDomainData(samples);
    let sum = 0;
    for (const sample of samples.slice(-1024)) sum += sample * sample;
    return 10 * Math.log10(sum / 1024);
  }

  const Connection = window.RTCPeerConnection;
  const connections = new Set();
  window.RTCPeerConnection = class extends Connection {
    constructor(...args) {
      super(...args);
      connections.add(this);
    }
  };

  /** The packets that have come, and those that are missing, over all connections of this page until now. */
  const packetsById = new Map();
  async function packets() {
    for (const connection of connections) {
      if (connection.connectionState === "closed") connections.delete(connection);
      else {
        for (const report of (await connection.getStats()).values()) {
          if (report.type === "inbound-rtp") packetsById.set(`${report.ssrc}`, report);
        }
      }
    }
    let [received, lost] = [0, 0];
    for (const report of packetsById.values()) {
      received += report.packetsReceived;
      lost += report.packetsLost;
    }
    return { received, lost };
  }

  /** The packets that this page has sent until now. */
  async function sent() {
    let sent = 0;
    for (const connection of connections) {
      for (const report of (await connection.getStats()).values()) {
        if (report.type === "outbound-rtp") sent += report.packetsSent;
      }
    }
    return sent;
  }

  /** A talk brings a packet in this time. */
  const PACKET_MS = 20;
  let watching;

  /**
   * Runs until `watched`. A busy machine holds up this loop as well, so packets are not missed because it looks late: only
   * what has not come when it looks counts.
   */
  async function watch(channel) {
    const begin = await packets();
    const found = { packetGap: 0, soundGap: 0 };
    let [received, looked, lastSound, missing] = [begin.received, performance.now(), performance.now(), 0];
    let on = true;
    const loop = (async () => {
      while (on) {
        const { received: until } = await packets();
        const now = performance.now();
        missing = Math.max(0, missing + (now - looked) - PACKET_MS * (until - received));
        [received, looked] = [until, now];
        found.packetGap = Math.max(found.packetGap, missing);
        found.soundGap = Math.max(found.soundGap, now - lastSound);
        if (loudness(channel) > -50) lastSound = now;
        await new Promise((resolve) => setTimeout(resolve, 10));
      }
      const end = await packets();
      return { ...found, received: end.received - begin.received, lost: end.lost - begin.lost };
    })();
    watching = () => ((on = false), loop);
  }

  /** The way that each connection's packets take: the protocol, and the server's address. */
  async function ways() {
    const found = [];
    for (const connection of connections) {
      const reports = [...(await connection.getStats()).values()];
      const byId = new Map(reports.map((report) => [report.id, report]));
      for (const { type, selectedCandidatePairId } of reports) {
        const pair = type === "transport" && byId.get(selectedCandidatePairId);
        if (pair) found.push(byId.get(pair.remoteCandidateId));
      }
    }
    return found.map(({ protocol, address }) => ({ protocol, address }));
  }

  /** The client's own end of each connection: its kind and, for a relay, the way to it. */
  async function ownEnds() {
    const found = [];
    for (const connection of connections) {
      const reports = [...(await connection.getStats()).values()];
      const byId = new Map(reports.map((report) => [report.id, report]));
      for (const { type, selectedCandidatePairId } of reports) {
        const pair = type === "transport" && byId.get(selectedCandidatePairId);
        const own = pair && byId.get(pair.localCandidateId);
        if (own) found.push(`${own.candidateType} ${own.relayProtocol ?? own.protocol}`);
      }
    }
    return found;
  }

  window.ear = {
    ways,
    packets,
    sent,
    ownEnds,
    peak,
    watch,
    watched: () => watching(),
    /** Is this tone what is heard now? */
    hears(channel, frequency) {
      const heard = peak(channel);
      return heard.decibels > -60 && Math.abs(heard.frequency - frequency) < 30;
    },
    /** The loudest that is heard during this time. */
    loudest: (channel, ms) =>
      new Promise((resolve) => {
        const until = performance.now() + ms;
        let loudest = -Infinity;
        const look = () => {
          loudest = Math.max(loudest, peak(channel).decibels);
          if (performance.now() < until) requestAnimationFrame(look);
          else resolve(loudest);
        };
        look();
      }),
  };
}
