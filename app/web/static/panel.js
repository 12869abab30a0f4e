// Steering on a feature's page.

import { compare, stoppable } from "./steering.js";

const form = document.getElementById("panel");
const { model, sae, feature, tokens, temperature } = form.dataset;
const told = document.getElementById("written");
const places = { baseline: document.getElementById("baseline"), steered: document.getElementById("steered") };

stoppable(form.querySelector("button"), async (signal) => {
  told.textContent = "Writing";
  for (const place of Object.values(places)) place.replaceChildren();
  const strength = form.elements.strength.valueAsNumber;
  await compare({
    model, prompt: form.elements.prompt.value,
    steering: [{ sae, feature: Number(feature), strength }],
    max_new_tokens: Number(tokens), temperature: Number(temperature),
  }, places, signal);
  told.textContent = "Done";
});

// The steer page goes on with what is here: once the slider and its number are the same.
document.addEventListener("input", () => {
  const { strength, prompt } = form.elements;
  if (!strength.value) return;
  const query = new URLSearchParams({ model, steer: `${sae}:${feature}:${strength.value}:add`, prompt: prompt.value });
  document.getElementById("more").href = `/steer?${query}`;
});
