// The steer page's state: its forms → a state → its address, which the server reads again
// (app/web/steer_query.py).

export const by = (id) => document.getElementById(id);
export const clone = (id) => by(id).content.cloneNode(true);

const form = by("steer"), sweep = by("sweep");
const TOO_LONG = "All prompts together are too long for this page's address. Shorten one, or take one away.";

export function state() {
  const { seeds, temperature, tokens } = form.elements;
  return {
    model: form.dataset.model,
    steer: [...by("chosen").children].map(entry),
    prompt: [...by("prompts").querySelectorAll("textarea")].map((one) => one.value),
    seeds: seeds.valueAsNumber,
    temperature: temperature.valueAsNumber,
    tokens: tokens.valueAsNumber,
    sweep: Math.max(0, sweep.elements.sweep.selectedIndex),
    strengths: strengths(),
  };
}

/** A chosen feature, as /v1/steer takes it. */
function entry(row) {
  return {
    sae: row.dataset.sae,
    feature: Number(row.dataset.feature),
    strength: row.querySelector("[type=number]").valueAsNumber || 0,
    method: row.querySelector("select").value,
  };
}

function strengths() {
  return sweep.elements.strengths.value.split(",").map((one) => (one.trim() ? Number(one) : NaN));
}

export function address({ steer, prompt, ...rest }) {
  const query = new URLSearchParams(rest);
  for (const { sae, feature, strength, method } of steer) {
    query.append("steer", [sae, feature, strength, method].join(":"));
  }
  for (const one of prompt) query.append("prompt", one);
  return `?${query}`.replaceAll("%3A", ":").replaceAll("%2C", ",");
}

/** Whether the state is one that can be asked for; its fields tell why it is not. */
export function check() {
  const valid = strengths().every(Number.isFinite);
  sweep.elements.strengths.setCustomValidity(valid ? "" : "Write numbers, with commas between them.");
  const long = address(state()).length > by("prompts").dataset.longest;
  for (const one of by("prompts").querySelectorAll("textarea")) one.setCustomValidity(long ? TOO_LONG : "");
  return valid && form.checkValidity();
}

/** Have the address tell the state. */
export function keep() {
  if (check()) history.replaceState(null, "", address(state()));
}
