// Tables of answers: a part for each prompt, in which a row waits for each answer.

import { clone } from "./state.js";

const number = new Intl.NumberFormat("en", { maximumSignificantDigits: 3 });
const waiting = [];
let free = 3; // A browser opens six connections to a service, for all of its pages together.

/** Do the jobs, a few at a time, and tell how many are done. */
export async function all(jobs, place, signal) {
  let done = 0;
  const count = () => (place.textContent = `${done} of ${jobs.length}`);
  count();
  await Promise.all(jobs.map((job) => turn(job).then(() => ++done).then(count)));
  place.textContent = signal.aborted ? "Stopped" : "Done";
}

async function turn(job) {
  if (free) free--;
  else await new Promise((go) => waiting.push(go));
  await job().finally(() => (waiting.length ? waiting.shift()() : free++));
}

/** Empty a table but for its head, and give it a part for each prompt. */
export function groups(table, prompts) {
  table.classList.remove("old");
  table.replaceChildren(table.tHead, ...prompts.map(() => clone("group")));
  return prompts.map((prompt, place) => {
    const group = table.tBodies[place], [cell] = group.rows[0].cells;
    cell.colSpan = table.tHead.rows[0].cells.length;
    cell.textContent = prompt;
    return { prompt, group };
  });
}

export function rowIn(group, template, title) {
  group.append(clone(template));
  const row = group.lastElementChild;
  row.cells[0].textContent = title;
  return row;
}

/** A sweep's answers, in units of the feature's own strongest activation. */
export function fill(rows, answers, strongest) {
  for (const [place, { text }] of answers.entries()) rows[place].cells[1].textContent = text;
  measure(rows, 2, answers.map((one) => one.kl));
  measure(rows, 3, answers.map((one) => one.unsteered_perplexity), Math.log);
  measure(rows, 4, answers.map((one) => one.features[0].after / strongest));
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
