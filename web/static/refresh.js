// Keeps the parts of a page that change by themselves up to date, without a reload.
//
// Every element with data-live="name" is compared with the one of that name in the page as the server would give
// it now, and only what differs is changed: scroll position, selection, typed text, ticked boxes and focus stay.
// The server answers 304 when nothing is new. A hidden page does not ask; a server that is away is asked less often.

const seconds = Number(document.body.dataset.refresh) || 3;
let etag = "";
let failures = 0;
let timer = 0;

const keyOf = (node) => node.nodeType === Node.ELEMENT_NODE ? node.id || node.dataset.key || "" : "";
const alike = (a, b) => a.nodeType === b.nodeType && a.nodeName === b.nodeName && keyOf(a) === keyOf(b);

/** Make `old` equal to `fresh`, touching as little as possible. */
export function morph(old, fresh) {
  if (old.nodeType !== Node.ELEMENT_NODE) {
    if (old.nodeValue !== fresh.nodeValue) old.nodeValue = fresh.nodeValue;
    return;
  }
  if (old.dataset.since && old.dataset.since === fresh.dataset.since) return; // time.js counts it
  for (const { name, value } of fresh.attributes) if (old.getAttribute(name) !== value) old.setAttribute(name, value);
  for (const { name } of [...old.attributes]) {
    if (!fresh.hasAttribute(name) && name !== "open" && name !== "hidden") old.removeAttribute(name);
  }
  const keyed = new Map([...old.childNodes].filter(keyOf).map((node) => [keyOf(node), node]));
  let here = old.firstChild;
  for (const wanted of [...fresh.childNodes]) {
    let found = keyOf(wanted) ? keyed.get(keyOf(wanted)) : here && alike(here, wanted) ? here : null;
    if (found && !alike(found, wanted)) found = null;
    if (!found) {
      old.insertBefore(document.importNode(wanted, true), here);
      continue;
    }
    if (found === here) here = here.nextSibling;
    else old.insertBefore(found, here);
    morph(found, wanted);
  }
  while (here) {
    const next = here.nextSibling;
    if (!here.dataset?.kept) here.remove(); // what a script added for good
    here = next;
  }
}

/** Ask the server now. */
export async function refresh() {
  clearTimeout(timer);
  try {
    await ask();
    failures = 0;
  } catch {
    failures += 1;
  }
  document.body.classList.toggle("offline", failures > 1);
  timer = setTimeout(tick, seconds * 1000 * Math.min(10, 2 ** failures));
}

async function ask() {
  const headers = { "QM-Refresh": "1" };
  if (etag) headers["If-None-Match"] = etag;
  const answer = await fetch(location.href, { headers, cache: "no-store", redirect: "error", signal: AbortSignal.timeout(20000) });
  if (answer.status === 304) return;
  if (answer.status === 401 || answer.status === 403) return location.reload();
  if (!answer.ok) throw new Error(answer.statusText);
  const text = await answer.text();
  etag = answer.headers.get("ETag") ?? "";
  const fresh = new DOMParser().parseFromString(text, "text/html");
  for (const part of fresh.querySelectorAll("[data-live]")) {
    const old = document.querySelector(`[data-live="${CSS.escape(part.dataset.live)}"]`);
    if (old) morph(old, part);
  }
  document.dispatchEvent(new CustomEvent("qm:refreshed"));
}

const tick = () => (document.hidden ? (timer = setTimeout(tick, 1000)) : refresh());

if (document.querySelector("[data-live]")) {
  timer = setTimeout(tick, seconds * 1000);
  document.addEventListener("visibilitychange", () => document.hidden || refresh());
  document.addEventListener("qm:ask", refresh);
}
