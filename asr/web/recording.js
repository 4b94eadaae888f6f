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
  const samples = audio.getChannelData(0).slice();
  for (let channel = 1; channel < audio.numberOfChannels; channel++) {
    audio.getChannelData(channel).forEach((value, index) => (samples[index] += value));
  }
  if (audio.numberOfChannels > 1) {
    samples.forEach((value, index) => (samples[index] = value / audio.numberOfChannels));
  }
  if (!samples.length) throw new Error(`${file.name} has no audio in it.`);
  return samples;
}
