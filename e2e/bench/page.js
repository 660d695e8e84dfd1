/**
 * The benchmark's half that runs in the page; must not use anything from outside of itself. The page is at both ends:
 * bursts of sound go out by two ways at once, through VoicePing and straight from one RTCPeerConnection to another, and
 * one clock tells when each leaves and comes back.
 */
export async function measure({ code, url, tokens, bursts, presses }) {
  const { connect } = await import(URL.createObjectURL(new Blob([code], { type: "text/javascript" })));
  /** Louder than this is a sound. */
  const THRESHOLD = 0.02;

  const context = new AudioContext({ sampleRate: 48_000 });
  const mouth = new GainNode(context);
  murmur();
  const source = () => {
    const destination = new MediaStreamAudioDestinationNode(context, { channelCount: 1 });
    mouth.connect(destination);
    return destination.stream.getAudioTracks()[0];
  };

  const said = ear(source());
  const direct = ear(await connectDirectly(source()));
  const { channel, heard: ours } = await connectThroughServer();
  const results = { direct: [], ours: [], grant: [], firstSound: [] };

  // Bursts during one long talk.
  channel.hold();
  await until(() => channel.talk === "talking");
  for (let i = 0; i < bursts; i++) {
    sound(context.currentTime + 0.05, 0.1);
    await pause(600 + 200 * Math.random());
  }
  channel.release();
  await until(() => channel.talk === "idle");
  for (const at of said) {
    const after = (onsets) => onsets.find((time) => time >= at && time < at + 500);
    const [a, b] = [after(direct), after(ours)];
    if (a === undefined || b === undefined) continue;
    results.direct.push(a - at);
    results.ours.push(b - at);
  }

  // Presses while somebody is talking already: from the press to the grant, and to the first sound at the other end.
  const hum = sound(context.currentTime, 3_600);
  for (let i = 0; i < presses; i++) {
    await pause(700);
    const [pressed, before] = [performance.now(), ours.length];
    channel.hold();
    await until(() => channel.talk === "talking");
    results.grant.push(performance.now() - pressed);
    await until(() => ours.length > before);
    results.firstSound.push(ours.at(-1) - pressed);
    channel.release();
    await until(() => channel.talk === "idle");
  }
  hum.stop();
  return results;

  /**
   * A microphone is never quite silent. In digital silence a jitter buffer cannot tell where to stretch or cut time, and
   * what it gathered while the machine was busy stays in it.
   */
  function murmur() {
    const buffer = new AudioBuffer({ length: context.sampleRate, sampleRate: context.sampleRate });
    const samples = buffer.getChannelData(0);
    for (let i = 0; i < samples.length; i++) samples[i] = 0.2 * THRESHOLD * (2 * Math.random() - 1);
    const noise = new AudioBufferSourceNode(context, { buffer, loop: true });
    noise.connect(mouth);
    noise.start();
  }

  function sound(at, seconds) {
    const oscillator = new OscillatorNode(context, { frequency: 1_000 });
    const gain = new GainNode(context, { gain: 0.5 });
    oscillator.connect(gain).connect(mouth);
    oscillator.start(at);
    oscillator.stop(at + seconds);
    return oscillator;
  }

  /**
   * The times at which sounds begin on a track, after 100 ms of quiet. Read from the track itself: on its way into
   * WebAudio it would wait in a queue between two clocks, which grows by hundreds of milliseconds on a busy machine.
   */
  function ear(track) {
    const onsets = [];
    const reader = new MediaStreamTrackProcessor({ track: track.clone() }).readable.getReader();
    void (async () => {
      for (let quiet = 0; ; ) {
        const { value: piece, done } = await reader.read();
        if (done) return;
        const now = performance.now();
        const samples = new Float32Array(piece.numberOfFrames);
        piece.copyTo(samples, { planeIndex: 0, format: "f32-planar" });
        for (let i = 0; i < samples.length; i++) {
          if (Math.abs(samples[i]) < THRESHOLD) quiet++;
          else {
            if (quiet > piece.sampleRate / 10) onsets.push(now - (1_000 * (samples.length - i)) / piece.sampleRate);
            quiet = 0;
          }
        }
        piece.close();
      }
    })();
    return onsets;
  }

  async function connectThroughServer() {
    const speaker = connect(url, tokens[0], { microphone: async () => source() });
    const listener = connect(url, tokens[1], { microphone: false });
    const [channel, listening] = [speaker.join("bench"), listener.join("bench")];
    await until(() => channel.canTalk && listening.state === "joined");
    // Both clients live in this page, so both have an element; only the listener's will ever have sound.
    const [, element] = document.querySelectorAll('audio[data-channel="bench"]');
    return { channel, heard: ear(element.srcObject.getAudioTracks()[0]) };
  }

  async function connectDirectly(track) {
    const [from, to] = [new RTCPeerConnection(), new RTCPeerConnection()];
    from.onicecandidate = ({ candidate }) => to.addIceCandidate(candidate);
    to.onicecandidate = ({ candidate }) => from.addIceCandidate(candidate);
    const received = new Promise((resolve) => (to.ontrack = ({ track }) => resolve(track)));
    from.addTrack(track);
    // The same encoder settings as the library's.
    const tuned = ({ type, sdp }) => ({ type, sdp: sdp.replace("useinbandfec=1", "useinbandfec=1;usedtx=1") });
    await from.setLocalDescription();
    await to.setRemoteDescription(tuned(from.localDescription));
    await to.setLocalDescription();
    await from.setRemoteDescription(tuned(to.localDescription));
    const element = Object.assign(document.createElement("audio"), {
      autoplay: true,
      srcObject: new MediaStream([await received]),
    });
    document.body.append(element);
    return received;
  }

  function pause(ms) {
    return new Promise((resolve) => setTimeout(resolve, ms));
  }

  /** Looks at every turn of the page's loop. */
  async function until(condition) {
    const deadline = performance.now() + 20_000;
    while (!condition()) {
      if (performance.now() > deadline) throw new Error(`Waited too long for ${condition}`);
      await pause(1);
    }
  }
}
