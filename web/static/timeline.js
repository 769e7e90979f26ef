// Shows at once what a bar is: the browser's own tooltip comes late, and not at all on a telephone.

const section = document.querySelector('[data-live="timeline"]');
const tip = document.createElement("p");
tip.className = "gantt-tip notice";
tip.hidden = true;
tip.setAttribute("role", "status");
section.after(tip);

function show(event) {
  const bar = event.target.closest?.(".gantt-chart a");
  tip.hidden = !bar;
  if (!bar) return;
  tip.textContent = bar.querySelector("title").textContent;
  const left = Math.min(event.clientX + 12, innerWidth - tip.offsetWidth - 8);
  tip.style.left = `${Math.max(8, left)}px`;
  tip.style.top = `${Math.max(8, Math.min(event.clientY + 16, innerHeight - tip.offsetHeight - 8))}px`;
}

section.addEventListener("pointermove", show);
section.addEventListener("pointerleave", () => { tip.hidden = true; });
document.addEventListener("qm:refreshed", () => { tip.hidden = true; });
