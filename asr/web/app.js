// The page: a microphone or a recording goes to the server, text comes back.

import { Gauges } from "./gauges.js";
import { Microphone } from "./microphone.js";
import { SAMPLE_RATE, decodeRecording } from "./recording.js";
import { RecognitionSocket } from "./socket.js";
import { Transcript } from "./transcript.js";
import { Waveform } from "./waveform.js";

const NOTICES = 5;
const AT_END_PX = 40; // of the text: so near to it, its end is what is read

const $ = (id) => document.getElementById(id);
const gauges = new Gauges($("gauges"));
const waveform = new Waveform($("wave"), $("track"), $("canvas"), $("words"));
let transcript = new Transcript();
let isRecording = false; // else what is shown came from the microphone
let socket = null; // of the stream that runs
let microphone = null;
let isBusy = false; // from the start of something until it is over
let token = new URLSearchParams(location.hash.slice(1)).get("token");
let needsToken = false;

function say(text, isAlarm = false) {
  $("status").textContent = text;
  $("status").classList.toggle("alarm", isAlarm);
}

/** Opens a stream, and returns its socket when that can take audio. */
async function open(sampleRate, endpoints) {
  transcript.beginStream();
  socket = new RecognitionSocket({ sampleRate, endpoints, token }, show, end);
  showControls();
  const opening = socket;
  await opening.opened;
  return opening;
}

function show(message) {
  const text = $("text");
  const isAtEnd = text.scrollHeight - text.scrollTop - text.clientHeight < AT_END_PX;
  const segment = transcript.take(message);
  if (segment) {
    const paragraph = document.createElement("p");
    paragraph.textContent = isRecording ? `${segment.text} ` : segment.text;
    $("segments").append(paragraph);
    if (isRecording) waveform.addWords(segment.words);
  }
  $("stable").textContent = transcript.stable;
  $("unstable").textContent = transcript.unstable;
  if (isAtEnd) text.scrollTop = text.scrollHeight; // else somebody reads further up
  if (message.status) {
    gauges.show(message.status);
    $("point").textContent = `chunks of ${message.status.chunk_ms} ms`;
    if (isRecording) waveform.setHeard(message.status.audio_s);
  }
  for (const notice of message.notices ?? []) {
    const item = document.createElement("li");
    item.textContent = notice;
    $("notices").append(item);
    while ($("notices").childElementCount > NOTICES) $("notices").firstElementChild.remove();
  }
  showControls();
}

/** The stream is over; `problem` says why, if it should not be. */
function end(problem) {
  if (problem && needsToken && socket?.wasRefused) askForToken();
  socket = null;
  isBusy = false;
  microphone?.close();
  microphone = null;
  if (problem) say(problem, true);
  else if (isRecording) say("Done.");
  else say(transcript.segments.length ? "Done. Speak again to go on." : "Done: no words were heard.");
  showControls();
}

/** Whether there is something to stop: a microphone, or a recording on its way. */
function isRunning() {
  return microphone !== null || Boolean(isRecording && socket && !socket.isFinished);
}

function showControls() {
  $("microphone").classList.toggle("listening", microphone !== null);
  $("microphone-label").textContent = isRunning() ? "Stop" : "Speak";
  const isEmpty = !transcript.segments.length;
  $("save-text").disabled = $("save-srt").disabled = isEmpty;
  $("clear").disabled = isBusy || isEmpty;
  $("hint").hidden = !isEmpty || Boolean(transcript.stable || transcript.unstable);
  $("text").classList.toggle("continuous", isRecording);
}

function clear() {
  transcript = new Transcript();
  isRecording = false;
  $("segments").replaceChildren();
  $("notices").replaceChildren();
  $("stable").textContent = $("unstable").textContent = "";
  $("recording").hidden = true;
  waveform.clear();
  showControls();
}

/** Takes the page for one thing at a time. Controls are not disabled for that: who uses a keyboard
 * would lose the place. */
function begin() {
  if (isBusy) say("One thing at a time: wait for the end of this first.");
  const isFree = !isBusy;
  isBusy = true;
  return isFree;
}

async function speak() {
  if (!begin()) return;
  if (isRecording) clear();
  say("Waiting for the microphone …");
  const early = []; // blocks from before the stream is open: no first word is lost
  let isOpen = false;
  try {
    microphone = await Microphone.open((block) => {
      showLevel(block);
      if (isOpen) socket?.send(block);
      else early.push(block);
    });
  } catch (error) {
    end(error.message);
    return;
  }
  microphone.onEnded = () => stop("The microphone is gone; what it heard is kept.");
  try {
    await open(microphone.sampleRate, "pause");
  } catch {
    return; // end() has said it
  }
  early.forEach((block) => socket?.send(block));
  isOpen = true;
  if (microphone) say("Listening.");
  else socket?.finish(); // stopped already
}

function stop(text = "Finishing …") {
  microphone?.close();
  microphone = null;
  say(text);
  $("microphone").style.setProperty("--level", "0");
  socket?.finish();
  showControls();
}

function showLevel(block) {
  const power = block.reduce((sum, value) => sum + value * value, 0) / block.length;
  const level = Math.min(1, Math.max(0, 1 + Math.log10(power + 1e-9) / 5)); // -50 dB to 0 dB
  $("microphone").style.setProperty("--level", level.toFixed(2));
}

async function transcribe(file) {
  if (!file || !begin()) return;
  clear();
  say(`Reading ${file.name} …`);
  try {
    const samples = await decodeRecording(file);
    isRecording = true;
    $("recording").hidden = false;
    $("recording-facts").textContent = `${file.name}, ${(samples.length / SAMPLE_RATE).toFixed(1)} s`;
    waveform.show(samples, SAMPLE_RATE);
    const stream = await open(SAMPLE_RATE, "length"); // as `asr transcribe`: pauses change no word
    say("Transcribing …"); // how far it is, the waveform shows: a screen reader is told no numbers
    await stream.sendAll(samples);
    showControls();
  } catch (error) {
    end(error.message);
  }
}

function save(content, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([content], { type: "text/plain;charset=utf-8" }));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}

$("microphone").onclick = () => (isRunning() ? stop() : speak());
$("file").onchange = () => {
  transcribe($("file").files[0]);
  $("file").value = ""; // so that the same file can be chosen again
};
$("save-text").onclick = () => save(`${transcript.text(isRecording ? " " : "\n")}\n`, "transcript.txt");
$("save-srt").onclick = () => save(transcript.srt(), "transcript.srt");
$("clear").onclick = () => {
  clear();
  say("Ready.");
  $("microphone").focus();
};
function askForToken() {
  $("token-form").hidden = false;
  $("token").select();
}

$("token-form").onsubmit = (event) => {
  event.preventDefault();
  token = $("token").value;
  $("token-form").hidden = true;
  say("Ready.");
  $("microphone").focus();
};
document.addEventListener("dragover", (event) => {
  event.preventDefault();
  document.body.classList.add("dragging");
});
document.addEventListener("dragleave", (event) => {
  if (!event.relatedTarget) document.body.classList.remove("dragging");
});
document.addEventListener("drop", (event) => {
  event.preventDefault();
  document.body.classList.remove("dragging");
  transcribe(event.dataTransfer.files[0]);
});

if (location.hash) history.replaceState(null, "", location.pathname); // it isn't for shoulders
showControls();
needsToken = (await (await fetch("/healthz")).json()).needs_token;
if (needsToken && !token) askForToken();
