// Baseline beside steered, on the steer page and on a feature's page.

import { events } from "./stream.js";

/** Write the answers to a request into two places, as they come. */
export async function compare(body, places, signal) {
  const both = [places.baseline, places.steered];
  for (const place of both) place.setAttribute("aria-busy", "true");
  try {
    let whole = null;
    for await (const { name, data } of events("/v1/steer", { ...body, stream: true }, signal)) {
      if (name === "delta") places[data.answer].append(data.text);
      else if (name === "done") whole = data;
      else throw new Error(data.detail);
    }
    if (!whole) throw new Error("The answer broke off; try again.");
    for (const answer of ["baseline", "steered"]) places[answer].textContent = whole[answer].text;
  } catch (error) {
    tell(places.steered, signal.aborted ? "Stopped" : error.message, signal.aborted);
  } finally {
    for (const place of both) place.removeAttribute("aria-busy");
  }
}

/** Say why there is no more. */
export function tell(place, sentence, expected = false) {
  place.append(Object.assign(document.createElement("p"), {
    className: expected ? "told" : "error", role: "status", textContent: sentence,
  }));
}

/** Let a form's button start some work, and stop it while it goes on. */
export function stoppable(button, work) {
  const title = button.textContent;
  let running = null;
  button.addEventListener("click", (event) => {
    if (!running) return;
    event.preventDefault();
    // A double click started it; Enter in a field presses the button as well.
    const meant = event.detail === 1 || document.activeElement === button;
    if (meant && event.detail < 2) running.abort();
  });
  button.form.addEventListener("submit", async (event) => {
    event.preventDefault();
    running = new AbortController();
    button.textContent = "Stop";
    await work(running.signal).finally(() => {
      running = null;
      button.textContent = title;
    });
  });
}

// A strength's slider and its number show the same.
document.addEventListener("input", ({ target }) => {
  for (const one of target.closest(".dose")?.children ?? []) if (one !== target) one.value = target.value;
});
