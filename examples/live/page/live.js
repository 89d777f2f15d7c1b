// Live data of a machine, as charts: `mount` builds the interface inside an element.

import { Chart, SPAN } from "./chart.js";
import { Client } from "./hubbub.js";

const INTERVAL = 0.5; // seconds between snapshots
const CUT = 5_000; // milliseconds
const READING = 10_000; // milliseconds between changes of what a screen reader reads

const BINARY = { step: 1024, units: ["B", "KiB", "MiB", "GiB", "TiB"] };
const TRAFFIC = { step: 1000, units: ["B/s", "kB/s", "MB/s", "GB/s"] };
const RATE = { step: 1000, units: ["/s", "k/s", "M/s"] };

const CHARTS = [
  {
    name: "CPU",
    lines: [
      { kind: "first", label: "all cores", values: ({ cpu }) => [cpu], filled: true },
      { kind: "faint", label: "busiest core", values: ({ cores }) => cores },
    ],
    top: () => 100,
    format: (percent, exact) => `${exact ? percent.toFixed(1) : percent} %`,
  },
  {
    name: "Memory",
    lines: [{ kind: "first", label: "used", values: (one) => [one.memory_used], filled: true }],
    top: (snapshots) => snapshots.at(-1).memory_total,
    format: (bytes, exact) => scale(bytes, BINARY, exact),
  },
  {
    name: "Network",
    lines: [
      { kind: "first", label: "in", values: ({ received }) => [received], filled: true },
      // Below zero: it is drawn downwards.
      { kind: "second", label: "out", values: ({ sent }) => [-sent], filled: true },
    ],
    top: (snapshots) => ceiling(snapshots.flatMap(({ received, sent }) => [received, sent]), 1000),
    mirrored: true,
    format: (bytes, exact) => scale(bytes, TRAFFIC, exact),
  },
  {
    name: "Deliveries",
    lines: [{ kind: "first", label: "to subscribers", values: (one) => [one.deliveries], filled: true }],
    top: (snapshots) => ceiling(snapshots.map(({ deliveries }) => deliveries), 10),
    format: (rate, exact) => scale(rate, RATE, exact),
  },
];

/** Show live data inside an element; `close()` takes it away. */
export function mount(element) {
  const client = new Client(new URL("connection/websocket", import.meta.url));
  const room = client.subscribe("live", { delta: true });
  const clock = new Clock();
  const still = matchMedia("(prefers-reduced-motion: reduce)");
  const { bar, status, news, cut } = buildBar();
  const panels = CHARTS.map(buildPanel);
  const charts = build("div", "charts");
  charts.append(...panels.map(({ figure }) => figure));
  const facts = build("p", "facts");
  element.classList.add("hubbub-live");
  element.replaceChildren(bar, charts, facts);

  let snapshots = []; // oldest first
  let complete = false; // whether the history is among them
  let changed = false; // whether they are not all drawn
  let readAt = -Infinity;
  let lostAt = 0;
  let frame = 0;

  client.addEventListener("state", ({ detail }) => {
    if (detail.state !== "connected" && snapshots.length) lostAt ||= performance.now();
    status.dataset.state = detail.state;
    status.lastChild.textContent = describe(detail);
  });

  room.addEventListener("subscribed", async ({ detail }) => {
    if (lostAt) news.textContent = tell(detail, (performance.now() - lostAt) / 1000);
    lostAt = 0;
    complete &&= detail.recovered;
    if (complete) return;
    try {
      const { publications } = await room.history({ limit: SPAN / INTERVAL, reverse: true });
      take(publications.map(({ data }) => data).reverse());
      complete = true;
    } catch {
      // The connection is lost again: next time.
    }
  });

  room.addEventListener("publication", ({ detail: { data, recovered } }) => {
    if (!recovered) clock.follow(data.time);
    take([data]);
  });

  cut.addEventListener("click", () => client.cut(CUT));

  function take(more) {
    snapshots = append(snapshots, more);
    changed = snapshots.length > 0;
    if (changed && !clock.runs) clock.follow(snapshots.at(-1).time);
  }

  function draw() {
    changed = false;
    const { machine, cores, clients } = snapshots.at(-1);
    const watching = clients === 1 ? "1 page is watching" : `${clients} pages are watching`;
    facts.textContent = `${machine}, ${cores.length} cores. ${watching}.`;
    const read = performance.now() - readAt >= READING;
    if (read) readAt = performance.now();
    for (const panel of panels) panel.draw(snapshots, read);
  }

  function animate() {
    frame = requestAnimationFrame(animate);
    if (!snapshots.length) return;
    // A snapshot is drawn beyond the edge, and moves in until the next one is there.
    const edge = clock.now() - 1.2 * INTERVAL;
    if (changed || !still.matches) panels.forEach(({ chart }) => chart.move(edge));
    if (changed) draw();
  }

  client.connect();
  animate();
  return {
    client,
    close() {
      cancelAnimationFrame(frame);
      client.disconnect();
      panels.forEach(({ chart }) => chart.close());
      element.replaceChildren();
      element.classList.remove("hubbub-live");
    },
  };
}

/** The clock of the snapshots, which goes evenly although they arrive unevenly. */
class Clock {
  #ahead = NaN; // seconds, of performance.now()

  get runs() {
    return !Number.isNaN(this.#ahead);
  }

  now() {
    return performance.now() / 1000 + this.#ahead;
  }

  /** Follow a snapshot that has just arrived; slowly, unless it is far off. */
  follow(time) {
    const late = time - this.now();
    this.#ahead = Math.abs(late) < 1 ? this.#ahead + late / 10 : time - performance.now() / 1000;
  }
}

/** Build what is above the charts: how the connection is, what has happened, a button. */
function buildBar() {
  const bar = build("div", "bar");
  const status = build("p", "state");
  const news = build("p", "news");
  const cut = build("button", "", `Cut the connection for ${CUT / 1000} s`);
  status.append(build("span", "dot"), build("span", "", "Connecting …"));
  for (const live of [status, news]) live.setAttribute("role", "status");
  cut.type = "button";
  bar.append(status, news, cut);
  return { bar, status, news, cut };
}

/** Build a chart with its caption and its current values. */
function buildPanel({ name, lines, ...scales }) {
  const chart = new Chart({ lines, ...scales });
  const figure = build("figure");
  const text = build("p", "read");
  const digits = build("p", "digits");
  digits.setAttribute("aria-hidden", "true");
  const outputs = lines.map(() => build("b"));
  for (const [i, { kind, label }] of lines.entries()) {
    const item = build("span", kind);
    item.append(build("small", "", label), outputs[i]);
    digits.append(item);
  }
  figure.append(build("figcaption", "", name), text, digits, chart.element);

  function draw(snapshots, read) {
    const values = lines.map((line) => Math.max(...line.values(snapshots.at(-1)).map(Math.abs)));
    const texts = values.map((value) => scales.format(value, true));
    for (const [i, output] of outputs.entries()) {
      const [number, unit] = texts[i].split(" ");
      output.replaceChildren(number, build("i", "", unit));
    }
    if (read) text.textContent = lines.map(({ label }, i) => `${label}: ${texts[i]}`).join(", ");
    chart.draw(snapshots);
  }

  return { chart, figure, draw };
}

/** Append snapshots to those before them, and forget what is off the chart. */
function append(known, more) {
  if (!more.length) return known;
  const oldest = more.at(-1).time - SPAN - 2 * INTERVAL;
  return [...known.filter(({ time }) => time < more[0].time), ...more].filter(({ time }) => time > oldest);
}

function describe({ state, code, reason, delay }) {
  if (state === "connected") return "Connected";
  if (state === "disconnected") return `Disconnected: ${reason} (${code})`;
  return code ? `Connection lost, next attempt in ${(delay / 1000).toFixed(1)} s` : "Connecting …";
}

/** Say what has become of what an interruption has missed. */
function tell({ recovered, missed }, seconds) {
  const away = `Back after ${seconds.toFixed(1)} s`;
  if (!recovered) return `${away}: what was missed is gone, the history was loaded anew.`;
  return `${away}: ${missed} ${missed === 1 ? "snapshot was" : "snapshots were"} caught up, none is missing.`;
}

/** Return the next round number above all of some numbers. */
function ceiling(numbers, least) {
  const most = Math.max(least, ...numbers);
  const power = 10 ** Math.floor(Math.log10(most));
  return power * [1, 2, 5, 10].find((step) => step * power >= most);
}

/** Write a number with a unit that suits its size; `exact`: with three digits, always. */
function scale(number, { step, units }, exact) {
  let size = 0;
  for (; number >= step && size < units.length - 1; size++) number /= step;
  const digits = size && exact ? 2 - Math.floor(Math.log10(number)) : 0;
  return `${digits > 0 ? number.toFixed(digits) : +number.toPrecision(3)} ${units[size]}`;
}

function build(name, className = "", text = "") {
  const element = document.createElement(name);
  if (className) element.className = className;
  element.textContent = text;
  return element;
}
