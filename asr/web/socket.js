// One stream to the server, in its protocol: see asr/serving/protocol.py.

const MOST_BUFFERED_BYTES = 1 << 20;
const BLOCK_S = 0.5;
const BROKEN = "The connection broke off.";

/** Opens a stream. `onMessage` gets every message; `onEnd` is called once, with the reason in words
 * if the stream did not end as it should. */
export class RecognitionSocket {
  constructor({ sampleRate, endpoints, token }, onMessage, onEnd) {
    const address = new URL("/", location.href);
    address.protocol = location.protocol === "https:" ? "wss:" : "ws:";
    address.searchParams.set("sample_rate", String(sampleRate));
    address.searchParams.set("endpoints", endpoints);
    if (token) address.searchParams.set("token", token);
    this.sampleRate = sampleRate;
    this.socket = new WebSocket(address);
    this.socket.binaryType = "arraybuffer";
    let problem = "The server can't be reached, or it refuses this page: is the token right?";
    this.opened = new Promise((resolve, reject) => {
      this.socket.onopen = () => {
        problem = BROKEN;
        resolve();
      };
      this.socket.onclose = () => {
        reject(new Error(problem));
        onEnd(problem);
      };
    });
    this.opened.catch(() => {}); // onEnd has said it
    this.socket.onmessage = ({ data }) => {
      const message = data === "Done!" ? null : JSON.parse(data);
      if (message?.error) problem = sentence(message.error.message);
      else if (message) onMessage(message);
      else if (problem === BROKEN) problem = "";
    };
  }

  /** Sends samples, a Float32Array in [-1, 1]. */
  send(samples) {
    if (this.socket.readyState === WebSocket.OPEN) this.socket.send(littleEndian(samples));
  }

  /** Says that no more audio follows; what is still to be told comes, then the end. */
  finish() {
    if (this.socket.readyState === WebSocket.OPEN) this.socket.send("Done");
  }

  /** Sends a whole recording, no faster than the server takes it. `onProgress` gets seconds. */
  async sendAll(samples, onProgress) {
    const block = Math.round(BLOCK_S * this.sampleRate);
    for (let start = 0; start < samples.length; start += block) {
      while (this.socket.bufferedAmount > MOST_BUFFERED_BYTES) await sleep(20);
      if (this.socket.readyState !== WebSocket.OPEN) return;
      this.send(samples.subarray(start, start + block));
      onProgress(Math.min(start + block, samples.length) / this.sampleRate);
    }
    this.finish();
  }

  close() {
    this.socket.close();
  }
}

function littleEndian(samples) {
  if (new Uint8Array(new Uint16Array([1]).buffer)[0] === 1) return samples;
  const view = new DataView(new ArrayBuffer(4 * samples.length));
  samples.forEach((sample, index) => view.setFloat32(4 * index, sample, true));
  return view.buffer;
}

function sentence(text) {
  return `${text[0].toUpperCase()}${text.slice(1)}.`;
}

function sleep(milliseconds) {
  return new Promise((resolve) => setTimeout(resolve, milliseconds));
}
