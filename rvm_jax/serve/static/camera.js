/** The live camera: pictures to the server over a WebSocket, mattes back, and recording to WebM. */
import { $ } from "./address.js";
import { words } from "./english.js";

const AHEAD = 2;  // pictures on their way: more would only be late
const box = $("camera"), canvas = $("live"), video = document.createElement("video");
let socket, recorder, sent = 0, answered = 0, times = new Map(), arrivals = [], dropped = 0;

Object.assign(video, { muted: true, playsInline: true });

function state(name, text) {
  box.dataset.state = name;
  $("live-status").textContent = text;
  $("camera-go").textContent = name === "off" || name === "failed" ? words.camerastart : words.camerastop;
  $("record").disabled = name !== "running";
}

/** `options()` answers the background: what a job would be given. */
export function camera(options) {
  $("camera-go").onclick = () => (socket || video.srcObject ? stop("off", words.cameraoff) : start(options));
  $("record").onclick = record;
  return {
    stop: () => (socket || video.srcObject) && stop("off", words.cameraoff),
    changed: () => socket?.readyState === WebSocket.OPEN &&
      tell(options).catch((error) => ($("live-status").textContent = error.message)),
  };
}

async function start(options) {
  state("asking", words.cameraasks);
  try {
    const width = Number($("size").value);
    const wish = { width: { ideal: width }, height: { ideal: width * 9 / 16 }, facingMode: "user" };
    video.srcObject = await navigator.mediaDevices.getUserMedia({ video: wish });
    await video.play();
  } catch {
    return stop("failed", words.nocamera);
  }
  const [long, short] = $("size").value === "1280" ? [1280, 720] : [640, 360];
  const upright = video.videoHeight > video.videoWidth;
  [canvas.width, canvas.height] = upright ? [short, long] : [long, short];
  const opened = (socket = new WebSocket(`${location.protocol.replace("http", "ws")}//${location.host}/v1/live`));
  [sent, answered, dropped] = [0, 0, 0];
  socket.binaryType = "arraybuffer";
  socket.onopen = () => tell(options).then(
    () => send(opened, new OffscreenCanvas(canvas.width, canvas.height)), (error) => stop("failed", error.message));
  socket.onmessage = ({ data }) => (typeof data === "string" ? heard(JSON.parse(data)) : draw(data));
  socket.onclose = () => opened === socket && stop("failed", words.lineended);
}

async function tell(options) {
  const background = await options();
  socket?.send(JSON.stringify({ width: canvas.width, height: canvas.height, background }));
}

/** Send what the camera sees now, whenever the server has answered what was sent before. */
async function send(open, small) {
  if (open.readyState !== WebSocket.OPEN) return;
  video.requestVideoFrameCallback(() => send(open, small));
  if (sent - answered >= AHEAD || open.bufferedAmount) return;
  const number = ++sent, { width, height } = small;
  times.set(number, performance.now());
  const scale = Math.max(width / video.videoWidth, height / video.videoHeight);
  const [w, h] = [video.videoWidth * scale, video.videoHeight * scale];
  small.getContext("2d").drawImage(video, (width - w) / 2, (height - h) / 2, w, h);
  const jpeg = await small.convertToBlob({ type: "image/jpeg", quality: 0.85 });
  if (open.readyState === WebSocket.OPEN) open.send(new Blob([new Uint32Array([swapped(number)]), jpeg]));
}

const swapped = (number) => new DataView(Uint32Array.of(number).buffer).getUint32(0);

async function draw(data) {
  const number = new DataView(data).getUint32(0);
  if (number <= answered) return;
  answered = number;
  const picture = await createImageBitmap(new Blob([data.slice(4)], { type: "image/jpeg" }));
  if (!socket) return;
  canvas.getContext("2d").drawImage(picture, 0, 0);
  if (box.dataset.state !== "running") state("running", words.cameraruns);
  const now = performance.now();
  arrivals = [...arrivals.filter((time) => now - time < 2000), now];
  const rate = arrivals.length > 1 ? 1000 * (arrivals.length - 1) / (now - arrivals[0]) : 0;
  const latency = Math.round(now - times.get(number));
  times = new Map([...times].filter(([other]) => other > number));
  $("figures").textContent = words.figures({ rate: rate.toFixed(1), latency, dropped });
}

function heard({ waiting, error, dropped: left }) {
  if (error) stop("failed", error);
  else if (waiting) state("waiting", words.liveplace(waiting));
  else dropped = left ?? dropped;
}

function stop(name, text) {
  if (recorder) record();
  const old = socket;
  socket = undefined;
  old?.close();
  video.srcObject?.getTracks().forEach((track) => track.stop());
  video.srcObject = null;
  state(name, text);
}

function record() {
  if (recorder) return recorder.stop();
  const parts = [];
  recorder = new MediaRecorder(canvas.captureStream(), { mimeType: "video/webm" });
  recorder.ondataavailable = ({ data }) => parts.push(data);
  recorder.onstop = () => {
    const link = Object.assign(document.createElement("a"), { download: "camera.webm" });
    link.href = URL.createObjectURL(new Blob(parts, { type: "video/webm" }));
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
    recorder = undefined;
    box.dataset.recording = "false";
    $("record").textContent = words.record;
  };
  recorder.start(1000);
  box.dataset.recording = "true";
  $("record").textContent = words.recordstop;
}
