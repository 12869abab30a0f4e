// Follows a job until it ends; metrics of a training grow into lines.

const job = document.querySelector("#job");
const part = (name) => job.querySelector(`[data-is="${name}"]`);
const lines = new Map();
const kept = `metrics of ${job.dataset.events}`; // While the tab is open, a reload shows them again.
const MOST = 1000; // Values of a line; of more, every second one goes.
const source = new EventSource(job.dataset.events);
source.addEventListener("progress", ({ data }) => show(JSON.parse(data)));
source.addEventListener("done", () => {
  source.close();
  sessionStorage.removeItem(kept);
  location.reload();
});

source.addEventListener("error", () => {
  if (source.readyState === EventSource.CLOSED) part("left").textContent = "The connection is lost; reload the page.";
});

function show(view) {
  part("state").textContent = view.state;
  part("state").className = `state ${view.state}`;
  part("phase").textContent = view.phase ?? "";
  part("left").textContent = view.eta == null ? "" : `about ${time(view.eta)} left in this phase`;
  part("progress").value = view.progress;
  for (const [name, value] of Object.entries(view.metrics)) line(name).add(value);
  sessionStorage.setItem(kept, JSON.stringify(Object.fromEntries([...lines].map(([name, one]) => [name, one.values]))));
}

function time(seconds) {
  return seconds < 90 ? `${Math.ceil(seconds)} s` : `${Math.round(seconds / 60)} min`;
}

function line(name) {
  if (!lines.has(name)) lines.set(name, new Line(name));
  return lines.get(name);
}

class Line {
  constructor(name) {
    this.values = [];
    this.figure = part("metrics").querySelector(`[data-metric="${CSS.escape(name)}"]`);
    if (!this.figure) {
      this.figure = document.createElement("figure");
      this.figure.dataset.metric = name;
      const caption = document.createElement("figcaption");
      const title = document.createElement("span");
      title.textContent = name.replaceAll("_", " ");
      caption.append(title, document.createElement("b"));
      this.figure.append(caption);
      part("metrics").append(this.figure);
    }
    const space = "http://www.w3.org/2000/svg";
    const picture = document.createElementNS(space, "svg");
    picture.setAttribute("viewBox", "0 0 100 30");
    picture.setAttribute("preserveAspectRatio", "none");
    picture.setAttribute("aria-hidden", "true");
    this.curve = document.createElementNS(space, "polyline");
    picture.append(this.curve);
    this.figure.prepend(picture);
  }

  add(value) {
    this.values.push(value);
    if (this.values.length > MOST) this.values = this.values.filter((_, place) => place % 2);
    this.figure.querySelector("b").textContent = Number(value.toPrecision(4));
    const low = Math.min(...this.values), high = Math.max(...this.values);
    const step = 100 / Math.max(1, this.values.length - 1);
    this.curve.setAttribute("points", this.values.map((one, place) =>
      `${(place * step).toFixed(1)},${(28 - 26 * (one - low) / (high - low || 1)).toFixed(1)}`,
    ).join(" "));
  }
}

for (const [name, values] of Object.entries(JSON.parse(sessionStorage.getItem(kept) ?? "{}"))) {
  for (const value of values) line(name).add(value);
}
