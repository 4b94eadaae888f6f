// The waveform of a recording, with its words under it at their times.

const PIXELS_PER_S = 130;
const HEIGHT = 96;
const QUIETEST = 0.01; // a recording with no louder sample is noise, and looks so
const ROWS = 3; // of words
const ROW_HEIGHT = 24;
const CHARACTER_WIDTH = 8;

export class Waveform {
  constructor(scroller, track, canvas, list) {
    Object.assign(this, { scroller, track, canvas, list });
    this.clear();
    scroller.addEventListener("scroll", () => this.draw());
    new ResizeObserver(() => this.draw()).observe(scroller);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.draw());
  }

  clear() {
    this.samples = new Float32Array(0);
    this.words = [];
    this.heardS = 0;
    this.list.replaceChildren();
  }

  /** Shows `samples` (Float32Array) at `sampleRate`. */
  show(samples, sampleRate) {
    this.clear();
    this.samples = samples;
    this.perPixel = sampleRate / PIXELS_PER_S;
    this.gain = 1 / Math.max(QUIETEST, this.peak(0, samples.length));
    this.track.style.width = `${Math.ceil(samples.length / this.perPixel)}px`;
    this.rowEnds = Array(ROWS).fill(-Infinity);
    this.track.style.height = `${HEIGHT + 8 + ROW_HEIGHT}px`;
    this.scroller.scrollLeft = 0;
    this.draw();
  }

  /** Shows how far the recogniser has come. */
  setHeard(seconds) {
    this.heardS = seconds;
    this.draw();
  }

  addWords(words) {
    for (const word of words) {
      const item = document.createElement("li");
      const left = word.start_s * PIXELS_PER_S;
      const free = this.rowEnds.findIndex((end) => end <= left);
      const row = free < 0 ? this.rowEnds.indexOf(Math.min(...this.rowEnds)) : free;
      this.rowEnds[row] = left + CHARACTER_WIDTH * (word.text.length + 2);
      item.textContent = word.text;
      item.title = `${word.start_s.toFixed(2)} to ${word.end_s.toFixed(2)} s, confidence ${word.confidence.toFixed(2)}`;
      item.style.left = `${left}px`;
      item.style.top = `${HEIGHT + 8 + row * ROW_HEIGHT}px`;
      this.words.push(word);
      const height = HEIGHT + 8 + (row + 1) * ROW_HEIGHT;
      if (height > this.track.clientHeight) this.track.style.height = `${height}px`;
      this.list.append(item);
    }
    this.draw();
  }

  /** Draws the part that can be seen. */
  draw() {
    const width = this.scroller.clientWidth;
    if (!width || !this.samples.length) return;
    const scale = devicePixelRatio;
    this.canvas.width = width * scale;
    this.canvas.height = HEIGHT * scale;
    this.canvas.style.width = `${width}px`;
    const style = getComputedStyle(this.canvas);
    const context = this.canvas.getContext("2d");
    context.scale(scale, scale);
    const left = this.scroller.scrollLeft;
    context.fillStyle = style.getPropertyValue("--wash");
    for (const word of this.words) {
      const start = word.start_s * PIXELS_PER_S - left;
      context.fillRect(start, 0, Math.max(3, (word.end_s - word.start_s) * PIXELS_PER_S), HEIGHT);
    }
    const heard = this.heardS * PIXELS_PER_S - left;
    const [accent, soft] = [style.getPropertyValue("--accent"), style.getPropertyValue("--soft")];
    for (let x = 0; x < width; x += 3) {
      const half = (HEIGHT / 2 - 2) * this.gain * this.peak(left + x, 3);
      context.fillStyle = x < heard ? accent : soft;
      context.fillRect(x, HEIGHT / 2 - half - 0.75, 2, 2 * half + 1.5);
    }
  }

  /** The largest amplitude in some pixels. */
  peak(pixel, pixels) {
    let peak = 0;
    const end = Math.min(this.samples.length, (pixel + pixels) * this.perPixel);
    for (let index = Math.floor(pixel * this.perPixel); index < end; index++) {
      peak = Math.max(peak, Math.abs(this.samples[index]));
    }
    return peak;
  }
}
