// A recording that the browser can decode, as 16 kHz mono.

export const SAMPLE_RATE = 16000;

/** Returns the samples (Float32Array) of a file; throws an Error that says what is wrong with it. */
export async function decodeRecording(file) {
  const bytes = await file.arrayBuffer();
  let audio;
  try {
    audio = await new OfflineAudioContext(1, 1, SAMPLE_RATE).decodeAudioData(bytes);
  } catch {
    throw new Error(`${file.name} is no recording that this browser can decode.`);
  }
  const channels = Array.from({ length: audio.numberOfChannels }, (_, index) =>
    asOthersScale(audio.getChannelData(index)),
  );
  const samples = channels[0].map(
    (_, index) => channels.reduce((sum, channel) => sum + channel[index], 0) / channels.length,
  );
  if (!samples.length) throw new Error(`${file.name} has no audio in it.`);
  return samples;
}

/** Returns 16-bit samples as k / 32768. Chromium divides those above zero by 32767, and the least
 * difference may change a word. Samples that were no such numbers are returned as they are. */
function asOthersScale(samples) {
  const isWhole = (value) => Number.isInteger(32768 * value);
  const isScaled = (value) => value <= 0 || Math.abs(32767 * value - Math.round(32767 * value)) < 0.01;
  if (samples.every(isWhole) || !samples.every(isScaled)) return samples;
  return samples.map((value) => (value > 0 ? Math.round(32767 * value) / 32768 : value));
}
