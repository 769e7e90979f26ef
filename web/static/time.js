// Elapsed times go on counting between two refreshes: <span data-since="UTC epoch seconds">00:12</span>.
// The reader's clock may be wrong: the page says what the server's clock was when it was made.

const text = (seconds) => {
  const whole = Math.max(0, Math.floor(seconds));
  const two = (number) => String(number).padStart(2, "0");
  const [days, hours, minutes, rest] = [Math.floor(whole / 86400), Math.floor(whole / 3600) % 24, Math.floor(whole / 60) % 60, whole % 60];
  if (days) return `${days}-${two(hours)}:${two(minutes)}:${two(rest)}`;
  return hours ? `${two(hours)}:${two(minutes)}:${two(rest)}` : `${two(minutes)}:${two(rest)}`;
};

const skew = Number(document.body.dataset.now) - Date.now() / 1000;

function tick() {
  for (const element of document.querySelectorAll("[data-since]")) {
    const shown = text(Date.now() / 1000 + skew - Number(element.dataset.since));
    if (element.textContent !== shown) element.textContent = shown;
  }
}

tick();
setInterval(tick, 1000);
