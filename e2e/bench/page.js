/**
 * The benchmark's half that runs in the page; must not use anything from outside of itself. One AudioContext has both
 * ends: bursts go out by two ways at once, through VoicePing and straight from one RTCPeerConnection to another, and one
 * clock tells when each comes back.
 */
export async function measure({ code, url, tokens, bursts, presses }) {
  const url_ = (text, type) => URL.createObjectURL(new Blob([text], { type }));
  const { connect } = await import(url_(code, "text/javascript"));

  const context = new AudioContext({ latencyHint: "interactive", sampleRate: 48_000 });
  await context.audioWorklet.addModule(url_(`(${onsetProcessor})()`, "text/javascript"));
  const mouth = new GainNode(context);
  const source = () => {
    const destination = new MediaStreamAudioDestinationNode(context, { channelCount: 1 });
    mouth.connect(destination);
    return destination.stream.getAudioTracks()[0];
  };

  /** Times, by the context's clock, at which a sound began on a stream. */
  const ear = (stream) => {
    const node = new AudioWorkletNode(context, "onset", { numberOfOutputs: 0 });
    context.createMediaStreamSource(stream).connect(node);
    const onsets = [];
    node.port.onmessage = ({ data }) => onsets.push(data);
    return onsets;
  };

  const direct = ear(await connectDirectly(source()));
  const { channel, onsets: ours } = await connectThroughServer();
  const results = { direct: [], ours: [], grant: [], firstSound: [] };

  // Bursts during one long talk.
  channel.hold();
  await until(() => channel.talk === "talking");
  for (let i = 0; i < bursts; i++) {
    const [at, wait] = [context.currentTime + 0.05, 0.55 + 0.2 * Math.random()];
    sound(at, 0.1);
    await until(() => context.currentTime > at + wait);
    const [a, b] = [direct, ours].map((onsets) => onsets.find((time) => time >= at && time < at + wait));
    if (a !== undefined) results.direct.push((a - at) * 1000);
    if (b !== undefined) results.ours.push((b - at) * 1000);
  }
  channel.release();
  await until(() => channel.talk === "idle");

  // Presses while somebody is talking already: from the press to the grant, and to the first sound at the other end.
  const hum = sound(context.currentTime, 3_600);
  for (let i = 0; i < presses; i++) {
    await until(() => context.currentTime - (ours.at(-1) ?? 0) > 0.3);
    const [at, pressed, heard] = [context.currentTime, performance.now(), ours.length];
    channel.hold();
    await until(() => channel.talk === "talking");
    results.grant.push(performance.now() - pressed);
    await until(() => ours.length > heard);
    results.firstSound.push((ours.at(-1) - at) * 1000);
    channel.release();
    await until(() => channel.talk === "idle");
    const quiet = context.currentTime;
    await until(() => context.currentTime > quiet + 0.5);
  }
  hum.stop();
  return results;

  function sound(at, seconds) {
    const oscillator = new OscillatorNode(context, { frequency: 1_000 });
    const gain = new GainNode(context, { gain: 0.5 });
    oscillator.connect(gain).connect(mouth);
    oscillator.start(at);
    oscillator.stop(at + seconds);
    return oscillator;
  }

  async function connectThroughServer() {
    const speaker = connect(url, tokens[0], { microphone: async () => source() });
    const listener = connect(url, tokens[1], { microphone: false });
    const [channel, heard] = [speaker.join("bench"), listener.join("bench")];
    await until(() => channel.canTalk && heard.state === "joined");
    const elements = [...document.querySelectorAll('audio[data-channel="bench"]')];
    // Both clients live in this page, so both have an element; only the listener's will ever have sound.
    const onsets = ear(elements[1].srcObject);
    return { channel, onsets };
  }

  async function connectDirectly(track) {
    const [from, to] = [new RTCPeerConnection(), new RTCPeerConnection()];
    from.onicecandidate = ({ candidate }) => to.addIceCandidate(candidate);
    to.onicecandidate = ({ candidate }) => from.addIceCandidate(candidate);
    const stream = new Promise((resolve) => (to.ontrack = ({ track }) => resolve(new MediaStream([track]))));
    from.addTrack(track);
    // The same encoder settings as the library's.
    const tuned = ({ type, sdp }) => ({ type, sdp: sdp.replace("useinbandfec=1", "useinbandfec=1;usedtx=1") });
    await from.setLocalDescription();
    await to.setRemoteDescription(tuned(from.localDescription));
    await to.setLocalDescription();
    await from.setRemoteDescription(tuned(to.localDescription));
    const element = Object.assign(document.createElement("audio"), { autoplay: true, srcObject: await stream });
    document.body.append(element);
    return element.srcObject;
  }

  /** Looks at every turn of the page's loop. */
  function until(condition) {
    return new Promise((resolve, reject) => {
      const { port1, port2 } = new MessageChannel();
      const deadline = performance.now() + 20_000;
      port1.onmessage = () => {
        if (condition()) resolve();
        else if (performance.now() > deadline) reject(new Error(`Waited too long for ${condition}`));
        else setTimeout(() => port2.postMessage(0), 1);
      };
      port2.postMessage(0);
    });
  }

  /** In the audio thread: the first sample of a sound after 100 ms of quiet, to the sample. */
  function onsetProcessor() {
    const THRESHOLD = 0.02;
    registerProcessor(
      "onset",
      class extends AudioWorkletProcessor {
        quiet = 0;
        process([[samples]]) {
          if (!samples) this.quiet += 128; // the length of a block
          for (let i = 0; i < (samples?.length ?? 0); i++) {
            if (Math.abs(samples[i]) < THRESHOLD) {
              this.quiet++;
              continue;
            }
            if (this.quiet > sampleRate / 10) this.port.postMessage((currentFrame + i) / sampleRate);
            this.quiet = 0;
          }
          return true;
        }
      },
    );
  }
}
