// What htmx leaves to us: bodies as JSON, errors in their own words, copying.

import { csrf } from "./stream.js";

document.addEventListener("htmx:before:request", ({ detail: { ctx } }) => {
  if (!(ctx.request.body instanceof URLSearchParams)) return;
  Object.assign(ctx.request.headers, { "Content-Type": "application/json", ...csrf() });
  ctx.request.body = JSON.stringify(Object.fromEntries(ctx.request.body));
});

document.addEventListener("htmx:before:response", (event) => {
  const { ctx } = event.detail;
  if (ctx.response.status < 400) return;
  event.preventDefault();
  ctx.response.raw.json().then(
    (problem) => tell(ctx.target, problem.detail),
    () => tell(ctx.target, `The service answered with status ${ctx.response.status}.`),
  );
});

document.addEventListener("htmx:error", ({ detail: { ctx, error } }) => {
  const lost = error?.name === "TypeError";
  tell(ctx.target, lost ? "The service cannot be reached." : "This went wrong; reload the page.");
});

document.addEventListener("click", ({ target }) => {
  const button = target.closest("[data-copy]");
  if (button) copy(button, button.parentElement.querySelector("pre"));
});

// Where a page may not write to the clipboard, over plain HTTP for example, the text is selected.
function copy(button, place) {
  const title = button.textContent;
  const written = navigator.clipboard?.writeText(place.textContent) ?? Promise.reject();
  written.then(() => "Copied", () => {
    getSelection().selectAllChildren(place);
    return "Press Ctrl+C";
  }).then((told) => {
    button.textContent = told;
    setTimeout(() => (button.textContent = title), 2000);
  });
}

// An example keeps what it has, the rest makes place.
function tell(place, sentence) {
  const told = Object.assign(document.createElement("p"), { className: "error", role: "alert", textContent: sentence });
  const strip = place.closest(".strip");
  if (strip) strip.append(told);
  else place.replaceChildren(told);
}
