/** Before and after in one frame with a slider between, as pictures or as videos that play together. */
import { $ } from "./address.js";
import { words } from "./english.js";

const stage = $("stage"), frame = $("frame");
let shown = "", kind = "";

/** Show a sentence in place of a picture. */
export function say(text, state = "empty") {
  shown = kind = "";
  clear();
  $("hint").textContent = text;
  set(state);
}

/** Show {url, type}s; whatever of them is null is left out. `start` is where in `before` the others begin. */
export function show(state, after, before = null, alpha = null, start = 0) {
  const key = JSON.stringify([after.url, before?.url, alpha?.url]);
  if (key === shown) return;
  const old = frame.querySelector("img.after");
  if (state === "running" && kind === "running") {
    if (!old.complete) return;  // of a slow line only what it can bring
    old.src = after.url;
  } else build(state, { after, alpha, before }, start);
  [shown, kind] = [key, state];
}

function build(state, media, start) {
  clear();
  set("loading");
  const made = Object.entries(media).filter(([, what]) => what).map(([name, what]) => element(name, what, start));
  frame.append(...made);
  const after = made[0];
  const loaded = () => {
    if (!after.isConnected) return;
    frame.style.setProperty("--w", after.naturalWidth || after.videoWidth);
    frame.style.setProperty("--h", after.naturalHeight || after.videoHeight);
    stage.dataset.moving = after.tagName === "VIDEO";
    $("time").max = after.duration || 0;
    $("time").value = 0;
    set(state);
  };
  after.addEventListener(after.tagName === "VIDEO" ? "loadeddata" : "load", loaded);
  after.addEventListener("play", () => each((video) => video.play().catch(() => {})));
  after.addEventListener("pause", () => each((video) => video.pause()));
  for (const event of ["play", "pause"])
    after.addEventListener(event, () => ($("play").textContent = after.paused ? words.play : words.pause));
  after.addEventListener("timeupdate", () => {
    if (!after.seeking) $("time").value = after.currentTime;
    const away = (video) => Math.abs(video.currentTime - video.from - after.currentTime) > 0.15;
    each((video) => away(video) && seek(video, after.currentTime));
  });
}

function element(name, { url, type }, start) {
  const made = document.createElement(type.startsWith("video/") ? "video" : "img");
  made.className = name;
  made.alt = made.ariaLabel = words[name];
  made.from = name === "before" ? start : 0;
  if (made.tagName === "VIDEO") Object.assign(made, { muted: true, loop: true, playsInline: true, preload: "auto" });
  const there = () => made.isConnected && (stage.dataset[name] = "there");
  made.addEventListener(made.tagName === "VIDEO" ? "loadeddata" : "load", there, { once: true });
  made.addEventListener("error", () => {
    if (name !== "after") made.remove();  // what this browser cannot play
    else if (made.isConnected) say(words.nojob, "failed");
  });
  made.src = url + (made.from && made.tagName === "VIDEO" ? `#t=${made.from}` : "");
  return made;
}

function clear() {
  frame.replaceChildren();
  for (const name of ["before", "after", "alpha", "moving"]) delete stage.dataset[name];
  $("hint").textContent = "";
  $("cut").value = 50;
  slide();
}

function set(state) {
  stage.dataset.state = state;
  stage.ariaBusy = state === "loading";
}

const each = (work) => frame.querySelectorAll("video:not(.after)").forEach(work);
const seek = (video, time) => (video.currentTime = time + video.from);

function slide() {
  frame.style.setProperty("--cut", `${$("cut").value}%`);
  $("cut").ariaValueText = words.beforeafter($("cut").value);
}

$("cut").oninput = slide;
frame.onpointerdown = frame.onpointermove = (event) => {
  if (!event.buttons) return;
  const { left, width } = frame.getBoundingClientRect();
  $("cut").value = (100 * (event.clientX - left)) / width;
  slide();
};
$("play").onclick = () => {
  const after = frame.querySelector("video.after");
  after.paused ? after.play() : after.pause();
};
$("time").oninput = () => frame.querySelectorAll("video").forEach((video) => seek(video, Number($("time").value)));
