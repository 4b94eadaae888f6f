// One stream to the server, in its protocol: see asr/serving/protocol.py.

const MOST_BUFFERED_BYTES = 1 << 20; // of a recording, which can wait
const MOST_BEHIND_S = 60; // of a microphone, which can't
const BLOCK_S = 0.5;
const UNREACHABLE = "The server can't be reached, or it refuses this page: is the token right?";
const BROKEN = "The connection broke off.";
const BEHIND = "The server takes no more audio: it is too busy, or the connection too slow.";

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
    this.isFinished = false; // whether no more audio follows
    this.problem = UNREACHABLE;
    this.socket = new WebSocket(address);
    this.socket.binaryType = "arraybuffer";
    this.opened = new Promise((resolve, reject) => {
      this.socket.onopen = () => {
        this.problem = BROKEN;
        resolve();
      };
      this.socket.onclose = () => {
        reject(new Error(this.problem));
        onEnd(this.problem);
      };
    });
    this.opened.catch(() => {}); // onEnd has said it
    this.socket.onmessage = ({ data }) => {
      const message = data === "Done!" ? null : JSON.parse(data);
      if (message?.error) this.problem = sentence(message.error.message);
      else if (message) onMessage(message);
      else if (this.problem === BROKEN) this.problem = "";
    };
  }

  get isOpen() {
    return this.socket.readyState === WebSocket.OPEN;
  }

  /** Whether it ended before the server took it in. */
  get wasRefused() {
    return this.problem === UNREACHABLE;
  }

  /** Sends samples, a Float32Array in [-1, 1]. */
  send(samples) {
    if (!this.isOpen) return;
    if (this.socket.bufferedAmount > 4 * MOST_BEHIND_S * this.sampleRate) {
      this.problem = BEHIND;
      this.socket.close();
      return;
    }
    this.socket.send(littleEndian(samples));
  }

  /** Says that no more audio follows; what is still to be told comes, then the end. */
  finish() {
    if (!this.isOpen || this.isFinished) return;
    this.isFinished = true;
    this.socket.send("Done");
  }

  /** Sends a whole recording, no faster than the server takes it, unless it is finished before. */
  async sendAll(samples) {
    const block = Math.round(BLOCK_S * this.sampleRate);
    for (let start = 0; start < samples.length; start += block) {
      while (this.isOpen && this.socket.bufferedAmount > MOST_BUFFERED_BYTES) await sleep(20);
      if (!this.isOpen || this.isFinished) return;
      this.send(samples.subarray(start, start + block));
    }
    this.finish();
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
