// The steer page. Its state is its forms; the address tells the same, and the server reads it there
// (app/web/steer_query.py).

import { compare, stoppable, tell } from "./steering.js";
import { ask } from "./stream.js";

const by = (id) => document.getElementById(id);
const form = by("steer"), chosen = by("chosen"), prompts = by("prompts"), sweep = by("sweep");
const clone = (id) => by(id).content.cloneNode(true);
const number = new Intl.NumberFormat("en", { maximumSignificantDigits: 3 });

// Forms → state → address

function state() {
  const { seeds, temperature, tokens } = form.elements;
  return {
    model: form.dataset.model,
    steer: [...chosen.children].map(entry),
    prompt: [...prompts.querySelectorAll("textarea")].map((one) => one.value),
    seeds: seeds.valueAsNumber,
    temperature: temperature.valueAsNumber,
    tokens: tokens.valueAsNumber,
    sweep: Math.max(0, sweep.elements.sweep.selectedIndex),
    strengths: strengths(),
  };
}

function entry(row) {
  return {
    sae: row.dataset.sae,
    feature: Number(row.dataset.feature),
    strength: row.querySelector("[type=number]").valueAsNumber,
    method: row.querySelector("select").value,
  };
}

function strengths() {
  return sweep.elements.strengths.value.split(",").map((one) => (one.trim() ? Number(one) : NaN));
}

function address(state) {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries({ ...state, steer: state.steer.map(written) })) {
    const several = name === "steer" || name === "prompt";
    for (const one of several ? value : [value]) query.append(name, one);
  }
  return `?${query}`.replaceAll("%3A", ":").replaceAll("%2C", ",");
}

const written = ({ sae, feature, strength, method }) => [sae, feature, strength, method].join(":");

function keep() {
  const field = sweep.elements.strengths;
  field.setCustomValidity(strengths().every(Number.isFinite) ? "" : "Write numbers, with commas between.");
  if (form.checkValidity() && sweep.checkValidity()) history.replaceState(null, "", address(state()));
}

let soon;
document.addEventListener("input", () => {
  clearTimeout(soon);
  soon = setTimeout(keep, 200);
  refresh();
});

// Rows come and go

function refresh() {
  for (const row of chosen.children) {
    const idle = row.querySelector("select").value === "ablate";
    for (const one of row.querySelectorAll("input")) one.disabled = idle;
  }
  by("another").disabled = prompts.children.length >= prompts.dataset.most;
}

function offerToSweep() {
  const select = sweep.elements.sweep, was = select.value;
  select.replaceChildren(...[...chosen.children].map(({ dataset }) => new Option(`${dataset.sae} ${dataset.feature}`)));
  select.value = was;
  if (select.selectedIndex < 0) select.selectedIndex = select.length - 1;
}

function changed() {
  offerToSweep();
  refresh();
  keep();
}

function add(list, fragment, place) {
  list.append(fragment);
  list.lastElementChild.querySelector(place).focus();
  changed();
}

document.addEventListener("click", ({ target }) => {
  if (target.matches("[data-add]")) {
    add(chosen, target.parentElement.querySelector("template").content.cloneNode(true), "[type=number]");
    by("hits").replaceChildren();
    by("find").reset();
  } else if (target.matches("[data-remove]")) {
    const row = target.closest("li"), near = row.nextElementSibling ?? row.previousElementSibling;
    row.remove();
    (near?.querySelector("[data-remove]") ?? by("q")).focus();
    changed();
  }
});
by("another").addEventListener("click", () => add(prompts, clone("prompt"), "textarea"));
by("find").addEventListener("keydown", ({ key }) => key === "Escape" && by("hits").replaceChildren());
by("model")?.addEventListener("submit", (event) => {
  event.preventDefault();
  location.search = address({ ...state(), model: event.target.elements.model.value, steer: [] });
});
by("link").addEventListener("click", async ({ target }) => {
  keep();
  await navigator.clipboard.writeText(location.href);
  target.textContent = "Copied";
});

// State → answers

let free = 5; // A browser opens six connections to a service: one is left for all the rest.
const waiting = [];

async function turn(job) {
  if (free) free--;
  else await new Promise((go) => waiting.push(go));
  await job().finally(() => (waiting.length ? waiting.shift()() : free++));
}

/** Do the jobs, a few at a time, and tell how many are done. */
async function all(jobs, place, signal) {
  let done = 0;
  const count = () => (place.textContent = `${done} of ${jobs.length}`);
  count();
  await Promise.all(jobs.map((job) => turn(job).then(() => ++done).then(count)));
  place.textContent = signal.aborted ? "Stopped" : "";
}

/** Empty a table but for its head, and give it a part for each prompt. */
function groups(table, prompts) {
  table.replaceChildren(table.tHead, ...prompts.map(() => clone("group")));
  return prompts.map((prompt, place) => {
    const [cell] = table.tBodies[place].rows[0].cells;
    cell.colSpan = table.tHead.rows[0].cells.length;
    cell.textContent = prompt;
    return { prompt, group: table.tBodies[place] };
  });
}

function rowIn(group, id, title) {
  group.append(clone(id));
  const row = group.lastElementChild;
  row.cells[0].textContent = title;
  return row;
}

stoppable(by("generate"), async (signal) => {
  const { model, steer, prompt, seeds, temperature, tokens } = state();
  const jobs = groups(by("answers"), prompt).flatMap(({ prompt, group }) =>
    Array.from({ length: temperature ? seeds : 1 }, (_, seed) => {
      const [, baseline, steered] = rowIn(group, "answer", seed).cells;
      const body = { model, prompt, steering: steer, max_new_tokens: tokens, temperature, seed };
      return () => compare(body, { baseline, steered }, signal);
    }),
  );
  await all(jobs, by("answered"), signal);
});

stoppable(sweep.querySelector("button"), async (signal) => {
  const { model, steer, prompt, temperature, tokens, sweep: place, strengths } = state();
  if (!steer.length) return;
  const max = Number(chosen.children[place].dataset.max);
  const steering = [{ ...steer[place], strength: 1 }];
  const jobs = groups(by("grid"), prompt).map(({ prompt, group }) => {
    const rows = strengths.map((strength) => rowIn(group, "strength", strength));
    const body = { model, prompt, steering, strengths, max_new_tokens: tokens, temperature };
    return async () => {
      try {
        const answer = await (await ask("/v1/steer/sweep", body, signal)).json();
        fill(rows, answer.rows, max);
      } catch (error) {
        tell(rows[0].cells[1], signal.aborted ? "Stopped" : error.message, signal.aborted);
      }
    };
  });
  await all(jobs, by("swept"), signal);
});

function fill(rows, answers, max) {
  for (const [place, { text }] of answers.entries()) rows[place].cells[1].textContent = text;
  measure(rows, 2, answers.map((one) => one.kl));
  measure(rows, 3, answers.map((one) => one.unsteered_perplexity), Math.log);
  measure(rows, 4, answers.map((one) => one.features[0].after / max));
}

/** A column of numbers with bars, as long as `length` of them says. */
function measure(rows, column, values, length = (value) => value) {
  const longest = Math.max(...values.map(length));
  for (const [place, value] of values.entries()) {
    const parts = clone("measure");
    parts.querySelector("span").textContent = number.format(Math.abs(value) < 0.001 ? 0 : value);
    Object.assign(parts.querySelector("meter"), { max: longest, value: length(value) });
    rows[place].cells[column].append(parts);
  }
}
