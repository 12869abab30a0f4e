// The steer page: rows that come and go, and what is asked of the model.

import { address, by, check, clone, keep, state } from "./state.js";
import { compare, stoppable, tell } from "./steering.js";
import { ask } from "./stream.js";
import { all, fill, groups, rowIn } from "./tables.js";

const chosen = by("chosen"), prompts = by("prompts"), sweep = by("sweep");

// What is chosen

let soon;
document.addEventListener("input", ({ target }) => {
  if (target.form !== by("find")) for (const table of [by("answers"), by("grid")]) table.classList.add("old");
  clearTimeout(soon);
  soon = setTimeout(keep, 200);
  check();
  refresh();
});

function refresh() {
  for (const row of chosen.children) {
    const idle = row.querySelector("select").value === "ablate";
    for (const one of row.querySelectorAll("input")) one.disabled = idle;
  }
  by("another").disabled = prompts.children.length >= prompts.dataset.most;
}

function changed() {
  const select = sweep.elements.sweep, was = select.value;
  select.replaceChildren(...[...chosen.children].map(({ dataset: { sae, feature } }) => new Option(`${sae} ${feature}`)));
  select.value = was;
  if (select.selectedIndex < 0) select.selectedIndex = select.length - 1;
  by("answered").textContent = "";
  refresh();
  keep();
}

function add(list, row, first) {
  list.append(row);
  list.lastElementChild.querySelector(first).focus();
  changed();
}

function remove(row) {
  const near = row.nextElementSibling ?? row.previousElementSibling;
  row.remove();
  const places = near ? [...near.querySelectorAll("[data-remove], textarea")] : [by("q")];
  places.findLast((one) => one.checkVisibility()).focus();
  changed();
}

document.addEventListener("click", ({ target }) => {
  if (target.matches("[data-remove]")) remove(target.closest("li"));
  if (!target.matches("[data-add]")) return;
  if (chosen.children.length >= chosen.dataset.most) {
    by("hits").replaceChildren();
    return tell(by("hits"), `At most ${chosen.dataset.most} features act at once.`);
  }
  add(chosen, target.parentElement.querySelector("template").content.cloneNode(true), "[type=number]");
  by("hits").replaceChildren();
  by("find").reset();
  by("q").dispatchEvent(new Event("input", { bubbles: true })); // Its search replaces one that runs.
});
by("another").addEventListener("click", () => add(prompts, clone("prompt"), "textarea"));
by("find").addEventListener("keydown", ({ key }) => key === "Escape" && by("hits").replaceChildren());
by("model")?.addEventListener("submit", (event) => {
  event.preventDefault();
  if (by("steer").reportValidity()) location.search = address({ ...state(), model: event.target.elements.model.value, steer: [] });
});
by("link").addEventListener("click", async ({ target }) => {
  keep();
  const written = navigator.clipboard?.writeText(location.href) ?? Promise.reject();
  target.textContent = await written.then(() => "Copied", () => "It is the page's address");
  setTimeout(() => (target.textContent = "Copy link"), 2000);
});
refresh();

// What the model writes

stoppable(by("generate"), async (signal) => {
  keep();
  const { model, steer, prompt, seeds, temperature, tokens } = state();
  if (!steer.length) {
    by("answered").textContent = "Add a feature first.";
    return by("q").focus();
  }
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
  keep();
  const { model, steer, prompt, temperature, tokens, sweep: place, strengths } = state();
  const steering = [{ ...steer[place], strength: 1 }], strongest = Number(chosen.children[place].dataset.max);
  const jobs = groups(by("grid"), prompt).map(({ prompt, group }) => {
    const rows = strengths.map((strength) => rowIn(group, "strength", strength));
    const body = { model, prompt, steering, strengths, max_new_tokens: tokens, temperature };
    return async () => {
      try {
        fill(rows, (await (await ask("/v1/steer/sweep", body, signal)).json()).rows, strongest);
      } catch (error) {
        tell(rows[0].cells[1], signal.aborted ? "Stopped" : error.message, signal.aborted);
      }
    };
  });
  await all(jobs, by("swept"), signal);
});
