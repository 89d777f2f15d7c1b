// A chart that moves: the last two minutes, in SVG that is drawn in CSS pixels.

export const SPAN = 120; // seconds from the left edge to the right

const GAP = 1.25; // seconds without a snapshot: the line breaks
const LABELS = { right: 64, bottom: 20 }; // pixels
const AGES = [[120, "2 min ago"], [60, "1 min"], [0, "now"]];

export class Chart {
  #lines;
  #format;
  #top;
  #mirrored;
  #frame = create("g", { class: "frame" });
  #labels = create("g", { class: "labels" });
  #window = create("svg"); // what is inside of it is cut off at its edges
  #moving = create("g");
  #observer;
  #size = { width: 0, height: 0 };
  #snapshots = [];
  #origin = 0; // the time that is at x = 0 of what moves
  #edge = 0; // the time at the right edge
  #x = NaN;

  /**
   * @param lines - Each with `values`, a function that returns an array of numbers of a snapshot,
   *   one for each line of this kind; `kind`, their CSS class; and whether they are `filled`.
   * @param top - A function that returns the number at the top, of all snapshots.
   * @param format - A function that writes a number with its unit.
   * @param mirrored - Whether there are negative numbers, whose lines go down from the middle.
   */
  constructor({ lines, top, format, mirrored = false }) {
    this.#top = top;
    this.#mirrored = mirrored;
    this.#format = format;
    this.#lines = lines.map((line) => {
      const stroke = create("path", { class: `line ${line.kind}` });
      const area = line.filled ? create("path", { class: `area ${line.kind}` }) : null;
      return { ...line, stroke, area };
    });
    // The first line is in front.
    for (const { stroke, area } of this.#lines) this.#moving.prepend(...(area ? [area, stroke] : [stroke]));
    this.#window.append(this.#moving);
    this.element = create("svg", { class: "chart", "aria-hidden": "true" });
    this.element.append(this.#frame, this.#window, this.#labels);
    this.#observer = new ResizeObserver(([{ contentRect }]) => this.#resize(contentRect));
    this.#observer.observe(this.element);
  }

  /** Draw snapshots, oldest first, each with its `time` in seconds. */
  draw(snapshots) {
    const { width, height } = this.#size;
    this.#snapshots = snapshots;
    if (!snapshots.length || !width) return;
    this.#origin = snapshots.at(-1).time;
    const top = this.#top(snapshots);
    const bottom = this.#mirrored ? -top : 0;
    const x = ({ time }) => (((time - this.#origin) / SPAN) * width).toFixed(1);
    const y = (value) => ((height * (top - value)) / (top - bottom)).toFixed(1);
    const runs = split(snapshots);
    for (const { values, stroke, area } of this.#lines) {
      let path = "";
      let below = "";
      for (const run of runs) {
        for (const i of values(run[0]).keys()) {
          const line = run.map((one) => `${x(one)} ${y(values(one)[i])}`).join("L");
          path += `M${line}${run.length === 1 ? "h0" : ""}`;
          below += `M${x(run[0])} ${y(0)}L${line}V${y(0)}Z`;
        }
      }
      stroke.setAttribute("d", path);
      area?.setAttribute("d", below);
    }
    for (const [i, label] of [...this.#labels.querySelectorAll(".y")].entries()) {
      const value = Math.abs(bottom + ((top - bottom) * i) / 2);
      label.textContent = value ? this.#format(value) : "0";
    }
    this.#x = NaN;
    this.move(this.#edge);
  }

  /** Move so that a time, in seconds, is at the right edge. */
  move(edge) {
    this.#edge = edge;
    const { width } = this.#size;
    // In halves of a pixel: what nobody sees is not painted.
    const fine = 2 * devicePixelRatio;
    const x = Math.round((width - ((edge - this.#origin) / SPAN) * width) * fine) / fine;
    if (x === this.#x) return;
    this.#x = x;
    this.#moving.setAttribute("transform", `translate(${x} 0)`);
  }

  close() {
    this.#observer.disconnect();
  }

  #resize(box) {
    const width = Math.max(1, box.width - LABELS.right);
    const height = Math.max(1, box.height - LABELS.bottom);
    this.#size = { width, height };
    // A little higher than the frame: lines are not cut in half at its top and bottom.
    set(this.#window, { y: -2, width, height: height + 4, viewBox: `0 -2 ${width} ${height + 4}` });
    // On whole pixels, and halves of them: one pixel wide lines are sharp.
    const across = [0, 1, 2].map((i) => Math.round(height * (1 - i / 2)) + 0.5);
    const down = [0, 30, 60, 90, 120].map((age) => Math.round(width * (1 - age / SPAN)) + 0.5);
    this.#frame.replaceChildren(
      ...across.map((y) => create("line", { x1: 0, x2: width, y1: y, y2: y })),
      ...down.map((x) => create("line", { class: "age", x1: x, x2: x, y1: 0, y2: height })),
    );
    this.#labels.replaceChildren(
      ...across.map((y) => create("text", { class: "y", x: width + 8, y: Math.max(y + 4, 10) })),
      ...AGES.map(([age, text]) => {
        const anchor = age === 0 ? "end" : age === SPAN ? "start" : "middle";
        const label = create("text", { x: width * (1 - age / SPAN), y: height + 16, "text-anchor": anchor });
        label.textContent = text;
        return label;
      }),
    );
    this.draw(this.#snapshots);
  }
}

/** Split snapshots where some are missing. */
function split(snapshots) {
  const runs = [];
  let last = -Infinity;
  for (const snapshot of snapshots) {
    if (snapshot.time - last > GAP) runs.push([]);
    runs.at(-1).push(snapshot);
    last = snapshot.time;
  }
  return runs;
}

function create(name, attributes = {}) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", name);
  set(element, attributes);
  return element;
}

function set(element, attributes) {
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
}
