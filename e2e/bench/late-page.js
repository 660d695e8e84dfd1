/**
 * The half of `late.js` that runs in the page; must not use anything from outside of itself. The speaker is our library, and so
 * is a listener who is there all the time; the late one signals by hand what an existing client signals: a consumer for each
 * talk, made when the push comes, `away` milliseconds after it as if both had to travel. It listens to its last consumer until
 * the new one is there or, with `stops`, until that talk is over, as Android does.
 *
 * Each talk is a ladder of tones that begins with the press, one for each 30 ms, so that every piece of what is heard tells
 * when it was said. The tones repeat after a second: nothing is heard as late as that.
 */
export async function measure({ code, url, tokens, talks, away, stops }) {
  const { connect } = await import(URL.createObjectURL(new Blob([code], { type: "text/javascript" })));
  const STEP = 0.03;
  const STEPS = 140;
  const tones = Array.from({ length: 33 }, (_, step) => 500 + 100 * step);
  const context = new AudioContext({ sampleRate: 48_000 });
  const mouth = new MediaStreamAudioDestinationNode(context, { channelCount: 1 });
  murmur();

  const speaker = connect(url, tokens[0], { microphone: async () => mouth.stream.getAudioTracks()[0] });
  const channel = speaker.join("bench");
  await until(() => channel.canTalk);
  const present = presentListener();
  await until(() => present.state === "joined");
  let atOnce = [];
  listen(document.querySelectorAll('audio[data-channel="bench"]')[1].srcObject.getAudioTracks()[0], (window) =>
    atOnce.push(window),
  );
  const listener = await lateListener();

  const results = [];
  for (let talk = 0; talk < talks; talk++) {
    await pause(500 + 200 * Math.random());
    listener.begin();
    atOnce = [];
    channel.hold();
    const said = ladder();
    await until(() => channel.talk === "talking");
    await pause(1_000 * STEP * STEPS + 500);
    channel.release();
    await until(() => channel.talk === "idle");
    await pause(600);
    const { windows, ready } = listener.end();
    results.push({ present: summary(atOnce, said), late: summary(windows, said), ready });
  }
  return results;

  /** When each step was heard first, after it was said; and how many were heard again when later ones had been. */
  function summary(windows, said) {
    const delays = {};
    const again = new Set();
    let newest = 0;
    for (const { at, tone } of windows) {
      const now = (at - said) / (1_000 * STEP) + 1; // a step may seem to be heard a little before it was said
      const step = tone + tones.length * Math.floor((now - tone) / tones.length);
      if (step < 0 || step >= STEPS) continue;
      delays[step] ??= at - said - 1_000 * STEP * step;
      if (step < newest - 2) again.add(step);
      newest = Math.max(newest, step);
    }
    return { delays, again: again.size };
  }

  function presentListener() {
    return connect(url, tokens[2], { microphone: false }).join("bench");
  }

  /** Digital silence would let the encoder and the jitter buffer do what they never do with a microphone. */
  function murmur() {
    const buffer = new AudioBuffer({ length: context.sampleRate, sampleRate: context.sampleRate });
    const samples = buffer.getChannelData(0);
    for (let i = 0; i < samples.length; i++) samples[i] = 0.004 * (2 * Math.random() - 1);
    const noise = new AudioBufferSourceNode(context, { buffer, loop: true });
    noise.connect(mouth);
    noise.start();
  }

  /** Says the tones, each in its step. Answers when the first one begins, in the page's time. */
  function ladder() {
    const oscillator = new OscillatorNode(context, { frequency: tones[0] });
    const gain = new GainNode(context, { gain: 0.5 });
    const start = context.currentTime;
    for (let step = 0; step < STEPS; step++) {
      oscillator.frequency.setValueAtTime(tones[step % tones.length], start + STEP * step);
    }
    oscillator.connect(gain).connect(mouth);
    oscillator.start(start);
    oscillator.stop(start + STEP * STEPS);
    return performance.now();
  }

  async function lateListener() {
    const socket = new WebSocket(url, ["voiceping", tokens[1]]);
    await new Promise((resolve) => (socket.onopen = resolve));
    const waiting = new Map();
    let [id, producerId, ready, pushed] = [0, null, null, 0];
    let windows = [];
    const ask = (type, data) => {
      socket.send(JSON.stringify({ type, id: String(++id), data }));
      return new Promise((resolve, reject) => waiting.set(String(id), { resolve, reject }));
    };
    socket.onmessage = ({ data: text }) => {
      const { type, id, data, error } = JSON.parse(text);
      if (id !== undefined && waiting.has(id)) {
        const { resolve, reject } = waiting.get(id);
        waiting.delete(id);
        if (error) reject(new Error(error));
        else resolve(data);
      } else if (type === "speaker-changed" && data.isBusy) {
        producerId = data.producerId;
        pushed = performance.now();
        setTimeout(hear, away);
      } else if (type === "speaker-changed" && stops) {
        setTimeout(stop, away);
      }
    };
    await ask("join-channel", { channelId: "bench" });
    const { routerRtpCapabilities: rtpCapabilities } = await ask("get-router-capabilities", { channelId: "bench" });
    const transport = await ask("create-transport", { channelId: "bench", direction: "recv" });
    const peer = new RTCPeerConnection();
    peer.ontrack = ({ track }) => {
      const element = Object.assign(document.createElement("audio"), { autoplay: true, srcObject: new MediaStream([track]) });
      document.body.append(element);
      listen(track, (window) => windows.push(window));
    };
    const sections = [];
    let connected = false;
    let turn = Promise.resolve();

    /** What a client does for each talk: its last consumer ends here without a word, a new one begins. */
    function hear() {
      turn = turn.then(async () => {
        const consumer = await ask("consume", { channelId: "bench", producerId, rtpCapabilities });
        sections.forEach((section) => (section.direction = "inactive"));
        sections.push({ direction: "sendonly", ...consumer.rtpParameters });
        await negotiate();
        ready = performance.now() - pushed;
      });
      turn.catch((error) => console.error(error));
    }

    function stop() {
      turn = turn.then(async () => {
        sections.forEach((section) => (section.direction = "inactive"));
        if (sections.length > 0) await negotiate();
      });
    }

    async function negotiate() {
      await peer.setRemoteDescription({ type: "offer", sdp: offer() });
      const answer = await peer.createAnswer();
      if (!connected) {
        connected = true;
        const [, value] = /a=fingerprint:sha-256 (\S+)/.exec(answer.sdp);
        const dtlsParameters = { role: "client", fingerprints: [{ algorithm: "sha-256", value }] };
        await ask("connect-transport", { transportId: transport.id, dtlsParameters });
      }
      await peer.setLocalDescription(answer);
    }

    function offer() {
      const { iceParameters: ice, iceCandidates, dtlsParameters } = transport;
      const [{ value }] = dtlsParameters.fingerprints;
      const candidates = iceCandidates
        .filter(({ protocol }) => protocol === "udp")
        .map((of) => `a=candidate:${of.foundation} 1 udp ${of.priority} ${of.ip} ${of.port} typ host`);
      const media = sections.flatMap(({ direction, mid, codecs: [codec], encodings: [{ ssrc }], rtcp }) => [
        `m=audio 7 UDP/TLS/RTP/SAVPF ${codec.payloadType}`, "c=IN IP4 127.0.0.1", `a=mid:${mid}`, `a=${direction}`,
        `a=rtpmap:${codec.payloadType} opus/48000/2`, `a=fmtp:${codec.payloadType} minptime=10;useinbandfec=1`,
        "a=setup:actpass", `a=ice-ufrag:${ice.usernameFragment}`, `a=ice-pwd:${ice.password}`, ...candidates,
        "a=end-of-candidates", "a=rtcp-mux", "a=rtcp-rsize", `a=ssrc:${ssrc} cname:${rtcp.cname}`,
      ]);
      const mids = sections.map(({ mid }) => mid).join(" ");
      return [
        "v=0", "o=late 1 1 IN IP4 0.0.0.0", "s=-", "t=0 0", "a=ice-lite", `a=fingerprint:sha-256 ${value}`,
        "a=msid-semantic: WMS *", `a=group:BUNDLE ${mids}`, ...media, "",
      ].join("\r\n");
    }

    return {
      begin() {
        [windows, ready] = [[], null];
      },
      end: () => ({ windows, ready }),
    };
  }

  /** Says which tone each 20 ms of a track are, where they are one. */
  function listen(track, heard) {
    const reader = new MediaStreamTrackProcessor({ track: track.clone() }).readable.getReader();
    void (async () => {
      for (let kept = []; ; ) {
        const { value: piece, done } = await reader.read();
        if (done) return;
        const now = performance.now();
        const samples = new Float32Array(piece.numberOfFrames);
        piece.copyTo(samples, { planeIndex: 0, format: "f32-planar" });
        kept = kept.concat(Array.from(samples)).slice(-piece.sampleRate / 50);
        const tone = toneOf(kept, piece.sampleRate);
        if (tone !== null) heard({ at: now, tone });
        piece.close();
      }
    })();
  }

  /** The tone that these samples are, if they clearly are one (Goertzel's algorithm for each tone). */
  function toneOf(samples, rate) {
    let energy = 0;
    for (const sample of samples) energy += sample * sample;
    if (energy / samples.length < 0.002) return null;
    let [best, strongest] = [0, 0];
    tones.forEach((tone, index) => {
      const turn = 2 * Math.cos((2 * Math.PI * tone) / rate);
      let [a, b] = [0, 0];
      for (const sample of samples) [a, b] = [sample + turn * a - b, a];
      const power = (a * a + b * b - turn * a * b) / (energy * samples.length / 2);
      if (power > strongest) [best, strongest] = [index, power];
    });
    return strongest > 0.5 ? best : null;
  }

  function pause(ms) {
    return new Promise((resolve) => setTimeout(resolve, ms));
  }

  async function until(condition) {
    const deadline = performance.now() + 20_000;
    while (!condition()) {
      if (performance.now() > deadline) throw new Error(`Waited too long for ${condition}`);
      await pause(1);
    }
  }
}
