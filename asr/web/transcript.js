// What was recognised: whole segments, and the open one.

const CUE_CHARACTERS = 64;
const CUE_S = 6;
const CUE_GAP_S = 0.8;

export class Transcript {
  constructor() {
    this.segments = []; // {text, words: [{text, start_s, end_s}]}
    this.stable = ""; // of the open segment: what will not change any more ...
    this.unstable = ""; // ... and the rest of it
    this.offsetS = 0; // where the present stream begins, behind those before it
    this.lengthS = 0;
  }

  /** Begins another stream behind what is there. */
  beginStream() {
    this.offsetS = this.lengthS;
  }

  /** Takes a message of the server; returns the segment that it completes, if any. */
  take(message) {
    if (message.status) this.lengthS = this.offsetS + message.status.audio_s;
    if (!message.is_final) {
      this.stable = message.stable_text;
      this.unstable = message.text.slice(message.stable_text.length);
      return null;
    }
    this.stable = this.unstable = "";
    if (!message.text) return null;
    const words = (message.timed_words ?? []).map((word) => ({
      ...word,
      start_s: word.start_s + this.offsetS,
      end_s: word.end_s + this.offsetS,
    }));
    const segment = { text: message.text, words };
    this.segments.push(segment);
    return segment;
  }

  /** The whole text; `separator` stands between segments. */
  text(separator) {
    return this.segments.map((segment) => segment.text).join(separator);
  }

  get words() {
    return this.segments.flatMap((segment) => segment.words);
  }

  /** The words as subtitles (SubRip): a cue ends at a pause, or when it is long. */
  srt() {
    const cues = [];
    for (const word of this.words) {
      const cue = cues.at(-1);
      const fits =
        cue &&
        word.start_s - cue.end_s < CUE_GAP_S &&
        word.end_s - cue.start_s < CUE_S &&
        cue.text.length + word.text.length < CUE_CHARACTERS;
      if (fits) {
        cue.text += ` ${word.text}`;
        cue.end_s = word.end_s;
      } else {
        cues.push({ ...word });
      }
    }
    return cues
      .map((cue, index) => {
        const next = cues[index + 1]?.start_s ?? Infinity;
        const end = Math.min(cue.end_s + 0.5, next); // time to read on
        return `${index + 1}\n${clock(cue.start_s)} --> ${clock(end)}\n${cue.text}\n`;
      })
      .join("\n");
  }
}

/** 3661.5 -> "01:01:01,500" */
function clock(seconds) {
  const ms = Math.round(1000 * seconds);
  const part = (unit, base, digits) => String(Math.floor(ms / unit) % base).padStart(digits, "0");
  return `${part(3600000, 100, 2)}:${part(60000, 60, 2)}:${part(1000, 60, 2)},${part(1, 1000, 3)}`;
}
