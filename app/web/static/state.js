// The steer page's state: its forms → a state → its address, which the server reads again
// (app/web/steer_query.py).

export const by = (id) => document.getElementById(id);
export const clone = (id) => by(id).content.cloneNode(true);

const form = by("steer"), sweep = by("sweep");

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

/** Have the address tell the state, as soon as that is one that can be asked for. */
export function keep() {
  const valid = strengths().every(Number.isFinite);
  sweep.elements.strengths.setCustomValidity(valid ? "" : "Write numbers, with commas between them.");
  if (valid && form.checkValidity()) history.replaceState(null, "", address(state()));
}
