/** The page as a whole: its words, who is logged in, files or the camera, and what programs may do. */
import { $, go, make } from "./address.js";
import { call } from "./api.js";
import { camera } from "./camera.js";
import { words } from "./english.js";
import { add, background, listen, sending } from "./files.js";
import { open, poll } from "./jobs.js";

for (const one of document.querySelectorAll("[data-text]")) one.textContent = words[one.dataset.text];
for (const one of document.querySelectorAll("[data-label]")) one.ariaLabel = words[one.dataset.label];

const live = camera(background);
listen(live.changed);
addEventListener("popstate", open);
addEventListener("visibilitychange", () => !document.hidden && document.body.dataset.state === "ready" && poll());
addEventListener("beforeunload", (event) => sending() && event.preventDefault());

let settings;

async function begin() {
  settings = await call("GET", "/v1/settings");
  const out = settings.login && !settings.person;
  $("login").hidden = !out;
  $("logout").hidden = out || !settings.login;
  document.querySelector("main").hidden = out;
  $("bounds").textContent = words.bounds(settings.limits);
  $("about").textContent = words.about(settings);
  $("modes").hidden = !settings.live;
  $("plate").hidden = !settings.needs_plate;
  $("detail").parentElement.hidden = settings.details.length < 2;
  $("example").hidden = !settings.example || settings.needs_plate; // nobody has a plate of the example
  $("example").onclick = async () => {
    const content = await (await fetch(settings.example)).blob();
    add([new File([content], settings.example.split("/").at(-1), { type: content.type, lastModified: 0 })]);
  };
  if (out) $("login").elements.name.focus();
  else {
    await poll();
    go(location.pathname);
  }
  document.body.dataset.state = out ? "login" : "ready";
}

$("login").onsubmit = async (event) => {
  event.preventDefault();
  const told = $("login").querySelector(".alert");
  told.textContent = "";
  try {
    await call("POST", "/v1/session", Object.fromEntries(new FormData($("login"))));
    $("login").reset();
    await begin();
  } catch (error) {
    told.textContent = error.message;
  }
};
$("logout").onclick = () => call("DELETE", "/v1/session").then(() => location.assign("/"));
addEventListener("loggedout", () => {
  if (settings.login) begin();
  else $("message").textContent = words.stranger;  // a guest of a server that has begun anew
});

$("modes").onclick = ({ target }) => {
  if (!target.dataset.mode) return;
  document.body.dataset.mode = target.dataset.mode;
  for (const button of $("modes").children) button.ariaPressed = button === target;
  live.stop();
  go(location.pathname);
};

$("api").ontoggle = async () => {
  if (!$("api").open || $("api").dataset.state) return;
  const { paths } = await call("GET", "/v1/openapi.json");
  for (const [path, methods] of Object.entries(paths))
    for (const [method, { summary }] of Object.entries(methods)) {
      const code = make("code", { textContent: `${method.toUpperCase()} ${path}` });
      $("api").querySelector("ul").append(make("li", {}, code, ` ${summary ?? ""}`));
    }
  $("api").dataset.state = "shown";
};

begin();
