// Uploads: folders and archives, chosen or dropped, one after the other, with progress. Without this script the
// forms are sent as forms.

import { markPrograms, pack } from "./tar.js";

const meta = (name) => document.querySelector(`meta[name="${name}"]`).content;
const list = document.getElementById("uploads");
const most = Number(document.getElementById("drop").dataset.most);
const archive = document.getElementById("archive");
const folder = document.getElementById("folder");
const ARCHIVE = /\.(zip|tar|tgz|tbz2?|txz|tar\.(gz|bz2|xz)|gz|bz2|xz)$/i;

let running = Promise.resolve();
let open = 0;

/** Bytes with a binary unit, as the server writes them. */
function sized(count) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  while (count >= 1024 && unit < units.length - 1) [count, unit] = [count / 1024, unit + 1];
  return `${unit ? count.toFixed(1) : count} ${units[unit]}`;
}

const element = (tag, facts = {}, ...inside) => {
  const made = Object.assign(document.createElement(tag), facts);
  made.append(...inside);
  return made;
};

/** One line of the list, from waiting to done or failed. */
function line(name) {
  const bar = element("progress", { max: 1, value: 0, hidden: true });
  bar.setAttribute("aria-label", `Upload of ${name}`);
  const text = element("span", { className: "muted", textContent: "waits" });
  const cancel = element("button", { type: "button", textContent: "Cancel" });
  cancel.setAttribute("aria-label", `Cancel ${name}`);
  const item = element("li", {}, element("div", { className: "row" }, element("strong", { textContent: name }), bar, text, cancel));
  list.append(item);
  return { item, bar, text, cancel, cancelled: false };
}

function end(view) {
  view.text.setAttribute("role", "status"); // only now: a screen reader need not read every step
  view.bar.hidden = true;
  view.cancel.remove();
}

function failed(view, message) {
  end(view);
  view.text.textContent = "";
  view.item.append(element("p", { className: "notice bad", textContent: message }));
}

function done(view, job) {
  end(view);
  view.text.textContent = "";
  view.text.append("is in the queue: ", element("a", { href: `${meta("root")}/job/${encodeURIComponent(job.id)}`, textContent: job.name }));
  for (const note of job.notes) view.item.append(element("p", { className: "muted", textContent: note }));
}

/** Send a Blob; resolves to the job, rejects with an Error that has the server's sentence. */
function send(blob, name, view) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    const begun = performance.now();
    request.open("POST", `${meta("root")}/api/v1/jobs?name=${encodeURIComponent(text(name))}`);
    request.setRequestHeader("X-CSRF-Token", meta("csrf"));
    request.setRequestHeader("Content-Type", "application/octet-stream");
    request.upload.addEventListener("progress", (event) => {
      const seconds = (performance.now() - begun) / 1000;
      const speed = seconds > 0.5 ? `, ${sized(event.loaded / seconds)}/s` : "";
      view.bar.value = event.total ? event.loaded / event.total : 0;
      view.text.textContent = `${sized(event.loaded)} of ${sized(event.total)}${speed}`;
    });
    request.upload.addEventListener("load", () => {
      view.bar.removeAttribute("value");
      view.text.textContent = "is being unpacked and checked";
    });
    request.addEventListener("load", () => {
      let answer = {};
      try {
        answer = JSON.parse(request.responseText);
      } catch {
        answer = { error: request.responseText.slice(0, 300) };
      }
      if (request.status === 201) resolve(answer);
      else reject(new Error(answer.error || `the server answered ${request.status} ${request.statusText}`));
    });
    request.addEventListener("error", () => reject(new Error("The connection broke, or a file changed while it was sent.")));
    request.addEventListener("abort", () => reject(new Error("Cancelled.")));
    view.cancel.addEventListener("click", () => request.abort());
    view.bar.hidden = false;
    request.send(blob);
  });
}

/** A string that encodeURIComponent takes. */
const text = (name) => (name.toWellFormed ? name.toWellFormed() : name.replace(/[\ud800-\udfff]/g, "_"));

/** Put something into the line: `make` gives the Blob when its turn has come. */
function queue(name, make) {
  const view = line(name);
  open += 1;
  view.cancel.addEventListener("click", () => { view.cancelled = true; });
  running = running.then(async () => {
    try {
      if (view.cancelled) throw new Error("Cancelled.");
      view.text.textContent = "is being prepared";
      const blob = await make();
      if (view.cancelled) throw new Error("Cancelled.");
      if (blob.size > most) throw new Error(`${sized(blob.size)} are more than the ${sized(most)} that may be uploaded here (Max_Upload in QMserv.cfg).`);
      done(view, await send(blob, name, view));
    } catch (error) {
      failed(view, error.message);
    } finally {
      open -= 1;
    }
  });
}

async function packed(entries) {
  return pack(await markPrograms(entries));
}

/** A file by itself: an archive as it is; anything else as a folder that has it alone (a job.sh, say). */
function takeFile(file) {
  if (ARCHIVE.test(file.name)) {
    queue(file.name, () => file);
  } else {
    queue(file.name.replace(/\.[^.]*$/, "") || file.name, () => packed([{ path: /\.sh$/i.test(file.name) ? "job.sh" : file.name, file }]));
  }
}

/** The files of a chosen folder; their paths begin with its name. */
function takeFolder(files) {
  const entries = [...files].map((file) => ({ path: file.webkitRelativePath, file }));
  if (entries.length) queue(entries[0].path.split("/")[0], () => packed(entries));
}

/** Everything in a dropped folder, its empty folders too. A browser gives at most 100 entries at once. */
async function read(entry, path, found) {
  if (entry.isFile) {
    const file = await new Promise((resolve, reject) => entry.file(resolve, reject)).catch(() => {
      throw new Error(`${path} cannot be read`);
    });
    found.push({ path, file });
    return found;
  }
  found.push({ path });
  const reader = entry.createReader();
  for (;;) {
    const some = await new Promise((resolve, reject) => reader.readEntries(resolve, reject)).catch(() => {
      throw new Error(`${path} cannot be read`);
    });
    if (!some.length) return found;
    for (const each of some) await read(each, `${path}/${each.name}`, found);
  }
}

function takeDrop(data) {
  const entries = [...data.items].map((item) => (item.kind === "file" ? item.webkitGetAsEntry?.() : null)); // now: later they are gone
  if (!entries.some(Boolean)) {
    for (const file of data.files) takeFile(file);
    return;
  }
  for (const entry of entries.filter(Boolean)) {
    if (entry.isDirectory) queue(entry.name, async () => packed(await read(entry, entry.name, [])));
    else entry.file(takeFile, () => failed(line(entry.name), `${entry.name} cannot be read`));
  }
}

// --- the page ---

for (const each of document.querySelectorAll(".only-scripted")) each.hidden = false;
for (const each of document.querySelectorAll(".without-script")) each.hidden = true;
document.body.classList.add("scripted");
archive.multiple = true;
folder.hidden = false;
archive.addEventListener("change", () => {
  for (const file of archive.files) takeFile(file);
  archive.value = "";
});
folder.addEventListener("change", () => {
  takeFolder([...folder.files]);
  folder.value = "";
});

const isFiles = (event) => [...(event.dataTransfer?.types ?? [])].includes("Files");
let inside = 0;
const mark = (change) => {
  inside = Math.max(0, inside + change);
  document.body.classList.toggle("dropping", inside > 0);
};
document.addEventListener("dragenter", (event) => { if (isFiles(event)) mark(1); });
document.addEventListener("dragleave", (event) => { if (isFiles(event)) mark(-1); });
document.addEventListener("dragover", (event) => {
  if (!isFiles(event)) return;
  event.preventDefault();
  event.dataTransfer.dropEffect = "copy";
});
document.addEventListener("drop", (event) => {
  if (!isFiles(event)) return;
  event.preventDefault();
  inside = 0;
  mark(0);
  takeDrop(event.dataTransfer);
});
window.addEventListener("beforeunload", (event) => { if (open) event.preventDefault(); });
