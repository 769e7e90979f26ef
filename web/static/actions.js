// Kill, hold, retry, delete, … of the chosen jobs, without leaving the page. Without this script the same forms
// are sent as forms, and the server asks before it kills or deletes.

const bulk = document.getElementById("bulk");
const sure = document.getElementById("sure");
const said = document.getElementById("said");
const meta = (name) => document.querySelector(`meta[name="${name}"]`).content;

const chosen = () => [...document.querySelectorAll('input[name="key"][form="bulk"]:checked')];
const nameOf = (box) => box.closest("tr").querySelector("td.job a").textContent;
const count = (number) => `${number} job${number === 1 ? "" : "s"}`;

/** Show a sentence for a while. */
export function say(text, bad = false) {
  const line = document.createElement("p");
  line.className = bad ? "notice bad" : "notice";
  line.textContent = text;
  said.append(line);
  setTimeout(() => line.remove(), bad ? 12000 : 6000);
}

/** POST JSON; the answer's JSON. An Error has the sentence the server said. */
export async function post(address, value) {
  let answer = await send(address, value);
  if (answer.status === 403 && (await renewToken())) answer = await send(address, value);
  const text = await answer.text();
  let body = {};
  try {
    body = JSON.parse(text);
  } catch {
    body = { error: text.slice(0, 200) };
  }
  if (!answer.ok) throw new Error(body.error || answer.statusText);
  return body;
}

const send = (address, value) =>
  fetch(meta("root") + address, {
    method: "POST",
    headers: { "Content-Type": "application/json", "X-CSRF-Token": meta("csrf") },
    body: JSON.stringify(value),
  });

/** A dashboard that was started again has other tokens than this page: take its new one. Is there one? */
async function renewToken() {
  const answer = await fetch(`${meta("root")}/api/v1/session`);
  const { csrf } = answer.ok ? await answer.json() : {};
  if (!csrf || csrf === meta("csrf")) return false;
  document.querySelector('meta[name="csrf"]').content = csrf;
  for (const field of document.querySelectorAll('input[name="csrf"]')) field.value = csrf;
  return true;
}

/** Ask before what cannot be taken back. Resolves to true or false. */
export function confirmed(verb, names) {
  const text = verb === "delete" ? "Their folders are deleted, with all files and results in them." : "Their processes are ended; jobs that wait leave the queue.";
  const word = verb[0].toUpperCase() + verb.slice(1);
  document.getElementById("sure-title").textContent = `${word} ${count(names.length)}?`;
  document.getElementById("sure-text").textContent = text;
  document.getElementById("sure-list").replaceChildren(...names.map((name) => Object.assign(document.createElement("li"), { textContent: name })));
  document.getElementById("sure-yes").textContent = `${word} ${count(names.length)}`;
  sure.returnValue = "";
  sure.showModal();
  return new Promise((resolve) => sure.addEventListener("close", () => resolve(sure.returnValue === "yes"), { once: true }));
}

async function act(verb, boxes) {
  const names = boxes.map(nameOf);
  if (["kill", "delete"].includes(verb) && !(await confirmed(verb, names))) return;
  for (const button of bulk.querySelectorAll("button")) button.disabled = true;
  try {
    const { results } = await post("/api/v1/actions", { verb, keys: boxes.map((box) => box.value) });
    const bad = results.filter((result) => result.ok !== true);
    const good = results.length - bad.length;
    if (good) say(results.length === 1 ? results[0].message : `${verb}: ${count(good)}`);
    for (const result of bad.slice(0, 5)) say(result.message, result.ok === false);
    if (bad.length > 5) say(`… and ${bad.length - 5} more`, true);
    for (const box of boxes) box.checked = false;
  } catch (error) {
    say(error.message, true);
  }
  show();
  document.dispatchEvent(new Event("qm:ask"));
}

function show() {
  const number = chosen().length;
  bulk.hidden = number === 0;
  document.getElementById("chosen").textContent = `${count(number)} chosen:`;
  for (const button of bulk.querySelectorAll("button")) button.disabled = false;
  for (const all of document.querySelectorAll("input.all")) {
    const boxes = [...all.closest("table").querySelectorAll('tbody input[name="key"]')];
    const ticked = boxes.filter((box) => box.checked).length;
    all.checked = ticked > 0 && ticked === boxes.length;
    all.indeterminate = ticked > 0 && ticked < boxes.length;
  }
}

/** A box in each head that chooses the whole table. */
function headBoxes() {
  for (const head of document.querySelectorAll("table.list th.check:not(:has(input.all))")) {
    const box = Object.assign(document.createElement("input"), { type: "checkbox", className: "all", title: "Choose all of this list" });
    box.dataset.kept = "yes";
    box.setAttribute("aria-label", "Choose all jobs of this list");
    head.append(box);
  }
}

let last = null;

function onChange(event) {
  const box = event.target;
  if (box.matches("input.all")) {
    for (const one of box.closest("table").querySelectorAll('tbody input[name="key"]')) one.checked = box.checked;
  }
  show();
}

/** Shift and click chooses all between this and the last. */
function onClick(event) {
  const box = event.target;
  if (!box.matches?.('input[name="key"][form="bulk"]')) return;
  if (event.shiftKey && last?.isConnected) {
    const boxes = [...document.querySelectorAll('input[name="key"][form="bulk"]')];
    const [from, to] = [boxes.indexOf(last), boxes.indexOf(box)].sort((a, b) => a - b);
    for (const one of boxes.slice(from, to + 1)) one.checked = box.checked;
  }
  last = box;
}

if (bulk) {
  headBoxes();
  show();
  document.addEventListener("change", onChange);
  document.addEventListener("click", onClick);
  document.addEventListener("qm:refreshed", () => {
    headBoxes();
    show();
  });
  bulk.addEventListener("submit", (event) => {
    event.preventDefault();
    act(event.submitter.value, chosen());
  });
}
