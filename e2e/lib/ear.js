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

  window.ear = {
    peak,
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
