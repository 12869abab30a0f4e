// What htmx leaves to us: bodies as JSON, errors in their own words, copying.

document.addEventListener("htmx:before:request", ({ detail: { ctx } }) => {
  if (!(ctx.request.body instanceof URLSearchParams)) return;
  ctx.request.headers["Content-Type"] = "application/json";
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

document.addEventListener("htmx:error", ({ detail: { ctx } }) => {
  tell(ctx.target, "The service cannot be reached.");
});

document.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-copy]");
  if (!button) return;
  await navigator.clipboard.writeText(button.parentElement.querySelector("pre").textContent);
  button.textContent = "Copied";
});

function tell(place, sentence) {
  place.replaceChildren(Object.assign(document.createElement("p"), {
    className: "error", textContent: sentence,
  }));
}
