/** What is shown is what the address says: a job at /jobs/ID, else the first frame of a chosen file. */
export const job = () => location.pathname.match(/^\/jobs\/([\w-]+)$/)?.[1] ?? null;

/** Go there; whoever shows something hears of it as of the browser's way back. */
export function go(path) {
  if (location.pathname !== path) history.pushState(null, "", path);
  dispatchEvent(new PopStateEvent("popstate"));
}

export const $ = (id) => document.getElementById(id);

export function make(tag, properties, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}
