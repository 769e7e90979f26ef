// The buttons of a job's page, without leaving it: its log and its selection stay. Kill and delete lead over the
// page that asks about them once more, as does everything without this script.

import { post, say } from "./actions.js";

document.addEventListener("submit", async (event) => {
  const button = event.submitter;
  if (event.target.id !== "job-actions" || button.classList.contains("danger")) return;
  event.preventDefault();
  button.disabled = true;
  try {
    const keys = [event.target.elements.key.value];
    const { results } = await post("/api/v1/actions", { verb: button.value, keys });
    for (const result of results) say(result.message, result.ok === false);
  } catch (error) {
    say(error.message, true);
  }
  button.disabled = false;
  document.dispatchEvent(new Event("qm:ask"));
});
