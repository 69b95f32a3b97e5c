/** Requests to this server, and uploads in pieces that go on after a broken line. */
import { words } from "./english.js";

const BROKEN = [undefined, 409, 502, 503, 504];

export async function call(method, path, body, headers = {}) {
  const json = body !== undefined && !(body instanceof Blob);
  const type = json ? { "Content-Type": "application/json" } : {};
  const request = { method, headers: { ...type, ...headers }, body: json ? JSON.stringify(body) : body };
  const response = await fetch(path, request).catch(() => {
    throw new Error(words.noserver);
  });
  const answer = response.status === 204 ? null : await response.json().catch(() => ({}));
  if (response.ok) return answer;
  if (response.status === 401 && path !== "/v1/session") dispatchEvent(new Event("loggedout"));
  const error = new Error(answer?.error ?? `${response.status} ${response.statusText}`);
  throw Object.assign(error, { status: response.status });
}

/** The id of the whole upload. `told(share, broken)` hears how much of it is there. */
export async function upload(file, told, signal) {
  const key = `upload ${file.name} ${file.size} ${file.lastModified}`;
  const begun = JSON.parse(localStorage.getItem(key));  // what a closed page has sent already
  const there = begun && await call("GET", begun.path).catch(() => null);
  const { id, offset, piece } = there ? { ...begun, ...there }
    : await call("POST", "/v1/uploads", { name: file.name, bytes: file.size });
  const path = `/v1/uploads/${id}`;
  localStorage.setItem(key, JSON.stringify({ id, path, piece }));
  for (let sent = offset, pause = 250; sent < file.size;) {
    signal.throwIfAborted();
    told(sent / file.size, false);
    try {
      if (pause > 250) sent = (await call("GET", path)).offset;
      sent = (await call("PATCH", path, file.slice(sent, sent + piece), { "Upload-Offset": sent })).offset;
      pause = 250;
    } catch (error) {
      if (!BROKEN.includes(error.status)) throw localStorage.removeItem(key), error;
      told(sent / file.size, true);
      await new Promise((done) => setTimeout(done, pause = Math.min(2 * pause, 5000)));
    }
  }
  localStorage.removeItem(key);
  return id;
}

/** What a job is once it has ended. */
export function ended(id) {
  return new Promise((done, failed) => {
    const events = new EventSource(`/v1/jobs/${id}/events`);
    events.onerror = () => events.readyState === EventSource.CLOSED && failed(new Error(words.nojob));
    events.onmessage = ({ data }) => {
      const job = JSON.parse(data);
      if (["waiting", "running"].includes(job.state)) return;
      events.close();
      done(job);
    };
  });
}
