// The microphone, at the rate that the device has: the server resamples.

export class Microphone {
  /** `onBlock` gets the samples (Float32Array) of each block. */
  static async open(onBlock) {
    if (!navigator.mediaDevices || !window.AudioWorkletNode) {
      throw new Error(
        "Browsers give the microphone to https pages and to localhost only: start the server " +
          "with --tls-cert, or open this page on the machine that it runs on.",
      );
    }
    const microphone = new Microphone();
    try {
      microphone.media = await navigator.mediaDevices.getUserMedia({
        audio: { channelCount: 1, echoCancellation: false, noiseSuppression: false, autoGainControl: false },
      });
      microphone.context = new AudioContext();
      await microphone.context.resume();
      await microphone.context.audioWorklet.addModule("capture.js");
      const source = microphone.context.createMediaStreamSource(microphone.media);
      microphone.node = new AudioWorkletNode(microphone.context, "capture", {
        numberOfOutputs: 0,
        channelCount: 1,
        channelCountMode: "explicit",
      });
      microphone.node.port.onmessage = ({ data }) => onBlock(data);
      source.connect(microphone.node);
    } catch (error) {
      microphone.close(); // or the browser would go on to record
      throw new Error(explain(error));
    }
    return microphone;
  }

  get sampleRate() {
    return this.context.sampleRate;
  }

  /** Calls `handler` if the device goes away. */
  set onEnded(handler) {
    for (const track of this.media.getAudioTracks()) track.onended = handler;
  }

  close() {
    for (const track of this.media?.getTracks() ?? []) {
      track.onended = null;
      track.stop();
    }
    if (this.node) this.node.port.onmessage = null;
    this.context?.close();
  }
}

function explain(error) {
  switch (error.name) {
    case "NotAllowedError":
      return "This page may not use the microphone: allow it in the address bar of the browser.";
    case "NotFoundError":
      return "There is no microphone: plug one in, or choose a recording.";
    case "NotReadableError":
      return "The microphone is busy: another program may be using it.";
    default:
      return `The microphone can't be used: ${error.message}`;
  }
}
