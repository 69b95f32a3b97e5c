/** A person's jobs, asked for again and again while one is unfinished, and the one that is shown. */
import { call } from "./api.js";
import { $, go, job as address, make } from "./address.js";
import { words } from "./english.js";
import { say, show } from "./stage.js";

const UNFINISHED = ["waiting", "running"];
const rows = new Map();  // id → {job, row}
let timer;

export async function poll() {
  clearTimeout(timer);
  let wait = 500;
  try {
    const { jobs } = await call("GET", "/v1/jobs");
    for (const id of [...rows.keys()]) if (!jobs.some((job) => job.id === id)) drop(id);
    jobs.toReversed().forEach(update);
    if ($("jobs").dataset.state === "broken") $("message").textContent = "";
    $("jobs").dataset.state = "there";
    if (!jobs.some((job) => UNFINISHED.includes(job.state))) return;
  } catch (error) {
    if (error.status) return;
    wait = 2000;
    $("jobs").dataset.state = "broken";
    $("message").textContent = error.message;
  }
  clearTimeout(timer);
  timer = setTimeout(poll, wait);
}

/** A row for a job, or what is new of it; the end of one that is seen is told. */
export function update(job) {
  const before = rows.get(job.id);
  if (before && before.job.state !== job.state) $("told").textContent = words.told(job);
  const row = before?.row ?? row_of(job), busy = UNFINISHED.includes(job.state), bar = row.querySelector("progress");
  rows.set(job.id, { job, row });
  row.querySelector("p").textContent = words.state(job);
  bar.hidden = !busy;
  if (job.frames && job.of) bar.value = job.frames / Math.max(job.of, job.frames);
  else bar.removeAttribute("value");
  row.querySelector(".remove").ariaLabel = (busy ? words.cancel : words.remove)(job.name);
  for (const name of ["matte", "alpha"]) {
    const link = row.querySelector(`.${name}`), result = job.state === "done" && job.results[name];
    link.hidden = !result;
    if (result) link.href = `${result.url}?download=1`;
  }
  row.dataset.state = job.state;
  if (job.id === address()) display(job);
}

function row_of({ id, name }) {
  const link = make("a", { className: "name", textContent: name, href: `/jobs/${id}` });
  const gone = make("button", { className: "remove", textContent: "✕" });
  const download = (kind, text) =>
    make("a", { className: `button ${kind}`, textContent: text, ariaLabel: `${text}: ${name}`, download: "" });
  link.onclick = (event) => {
    event.preventDefault();
    go(link.pathname);
  };
  gone.onclick = () => remove(id);
  const links = make("div", { className: "row" });
  links.append(download("matte", words.download), download("alpha", words.downloadalpha));
  const row = make("li", {}, link, gone, make("progress"), make("p"), links);
  row.ariaCurrent = id === address();
  $("jobs").prepend(row);
  return row;
}

/** What is unfinished is cancelled, and seen to be. */
async function remove(id) {
  const ended = !UNFINISHED.includes(rows.get(id).job.state);
  await call("DELETE", `/v1/jobs/${id}`).catch(() => {});
  if (!ended) return poll();
  drop(id);
  $("jobs").focus();
  if (id === address()) go("/");
}

function drop(id) {
  rows.get(id).row.remove();
  rows.delete(id);
}

function display(job) {
  const { preview, alpha } = job.results;
  if (job.state === "done") show("result", preview, job.source, alpha, job.start);
  else if (preview) show("running", { ...preview, url: `${preview.url}?frames=${job.frames}` });
  else say(words.state(job), UNFINISHED.includes(job.state) ? "loading" : job.state);
}

/** Show the job of the address. */
export function open() {
  const id = address();
  for (const [other, { row }] of rows) row.ariaCurrent = other === id;
  if (!id) return;
  $("stage").scrollIntoView({ block: "nearest" });
  if (rows.has(id)) return display(rows.get(id).job);
  const lost = (error) => say(error.status === 404 ? words.nojob : error.message, "failed");
  call("GET", `/v1/jobs/${id}`).then(update, lost);
}
