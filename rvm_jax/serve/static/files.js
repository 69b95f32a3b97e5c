/** The files that are sent, the settings, and the first frame of the file that is chosen. */
import { call, ended, upload } from "./api.js";
import { $, go, job as address, make } from "./address.js";
import { words } from "./english.js";
import { poll, update } from "./jobs.js";
import { say, show } from "./stage.js";

const files = [];
let chosen = null, behind = null, clean = null, looks = 0, looked = null;

const value = (name) => document.querySelector(`input[name=${name}]:checked`).value;
const choose = (name, to) => (document.querySelector(`input[name=${name}][value=${to}]`).checked = true);
const forget = (id) => call("DELETE", `/v1/jobs/${id}`).catch(() => {});

/** Whether a closed page would lose something. */
export const sending = () => files.some(({ row }) => ["uploading", "broken"].includes(row.dataset.state));

export async function background() {
  const name = value("background");
  if (name === "color") return $("color").value;
  if (name !== "file") return name;
  if (!behind) throw new Error(words.nobehind);
  return { upload: await behind.sent };
}

/** The clean plate, of networks that want one: for others its part of the page is hidden. */
async function plate() {
  if ($("plate").hidden) return {};
  if (!clean) throw new Error(words.noplate);
  return { plate: { upload: await clean.sent }, align_plate: $("align").checked };
}

async function options(file, preview) {
  const seconds = (id) => Number($(id).value) || null;
  return {
    ...await plate(),
    video: await file.sent, background: await background(), preview, format: value("format"), detail: $("detail").value,
    start: seconds("start") ?? 0, end: preview ? null : seconds("end"),
  };
}

/** Begin to send a file; `row` tells how far it is, and `sent` is the id that it will have. */
function send(file, row) {
  const stop = new AbortController();
  const tell = (state, text) => {
    row.dataset.state = state;
    row.querySelector("output").textContent = text;
  };
  const told = (share, broken) => {
    const state = broken ? "broken" : "uploading";
    tell(state, words[state](share));
  };
  const sent = upload(file, told, stop.signal);
  sent.then(() => tell("uploaded", words.uploaded), (error) => tell("failed", error.message));
  return { sent, row, stop: () => stop.abort(), done: false };
}

export function add(list) {
  if (!list.length) return;
  if (files.every(({ done }) => done)) files.splice(0).forEach(({ row }) => row.remove());
  for (const file of list) {
    const pick = make("button", { className: "name", textContent: file.name, ariaLabel: words.look(file.name) });
    const gone = make("button", { className: "remove", textContent: "✕", ariaLabel: words.remove(file.name) });
    const one = send(file, make("li", {}, pick, gone, make("output")));
    pick.onclick = () => pick_out(one);
    gone.onclick = () => remove(one);
    files.push(one);
    $("sent").append(one.row);
  }
  pick_out(files.at(-list.length));
}

function pick_out(one) {
  chosen = one;
  $("go").disabled = !files.length;
  go("/");
}

function remove(one) {
  one.stop();
  one.row.remove();
  files.splice(files.indexOf(one), 1);
  one.sent.then((id) => call("DELETE", `/v1/uploads/${id}`)).catch(() => {});
  if (one === chosen || !files.length) pick_out(files[0] ?? null);
  $("video").focus();
}

/** Show the first frame of the chosen file before the background. */
async function look() {
  const turn = ++looks;
  if (looked) forget(looked);
  looked = null;
  for (const one of files) one.row.ariaCurrent = one === chosen && !address();
  if (address() || document.body.dataset.mode !== "files") return;
  $("message").textContent = "";
  if (!chosen) return say(words.empty);
  if (!$("plate").hidden && !clean) return say(words.noplate);
  if (value("background") === "file" && !behind) return say(words.nobehind);
  say(words.looking, "loading");
  try {
    const { id } = await call("POST", "/v1/jobs", await options(chosen, true));
    if (turn !== looks) return forget(id);
    looked = id;
    const job = await ended(id);
    if (turn !== looks) return;
    if (job.state !== "done") throw new Error(words.state(job));
    show("preview", job.results.preview, job.source, job.results.alpha, job.start);
  } catch (error) {
    if (turn === looks) say(error.message, "failed");
  }
}

/** Make a job of every file, or of those that were refused the last time. */
async function run() {
  $("message").textContent = "";
  $("go").disabled = true;
  let first = null;
  const missing = files.filter(({ done }) => !done);
  for (const one of missing.length ? missing : [...files]) {
    try {
      const job = await call("POST", "/v1/jobs", await options(one, false));
      one.done = true;
      first ??= job.id;
      update(job);
    } catch (error) {
      $("message").textContent = error.message;
    }
  }
  $("go").disabled = !files.length;
  await poll();
  if (first) go(`/jobs/${first}`);
}

/** `changed` hears that the background is another. */
export function listen(changed) {
  const again = () => {
    changed();
    if (chosen) go("/");
  };
  addEventListener("popstate", look);
  $("go").onclick = run;
  $("video").onchange = ({ target }) => {
    add([...target.files]);
    target.value = "";
  };
  const one = (id, keep) => ($(id).onchange = ({ target }) => {
    const [file] = target.files;
    if (!file) return;
    $(`${id}-name`).textContent = file.name;
    const sent = send(file, $(id).parentElement);
    keep(sent);
    sent.sent.catch(() => keep(null));
    target.value = "";
    again();
  });
  one("behind", (sent) => (behind = sent));
  one("clean", (sent) => (clean = sent));
  $("background").onchange = ({ target }) => {
    if (target.type === "file") return;
    if (value("background") === "transparent" && value("format") === "mp4") choose("format", "webm");
    again();
  };
  $("format").onchange = () => {
    const [from, to] = value("format") === "mp4" ? ["transparent", "green"] : ["green", "transparent"];
    if (value("background") !== from) return;
    choose("background", to);
    again();
  };
  for (const id of ["align", "detail", "start"]) $(id).onchange = again;
  document.ondragover = (event) => event.preventDefault();
  document.ondrop = (event) => {
    event.preventDefault();
    const input = (event.target.closest(".drop") ?? $("drop")).querySelector("input");
    input.files = event.dataTransfer.files;
    input.dispatchEvent(new Event("change"));
  };
}
