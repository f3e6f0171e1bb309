// The last scores of a stream with its threshold, which is dragged, and the calibration beside it.
//
//   scores ────────────────┬─────────────┐
//    ·  ·  ·   ·     ×     │ calibration │   raw scores upwards, one scale for both
//   ─ ─ ─ threshold ─ ─ ─ ─│─ ─ ─ ─ ─ ─ ─│
//    · ·· ··· · ·· · ··· · │▇▇▇▇▇        │
//   ───────────────────────┴─────────────┘

import { drawn, element, number } from "./dom.js";

const HEIGHT = 170;
const SIDE = 130;
const PAD = 8;

/** The share of good parts that a threshold would call anomalous, as split-conformal calibration
 *  promises it: (n above + 1) / (n + 1), where n above is read off the quantiles and n are groups of
 *  images that are alike. */
export function falseAlarms(quantiles, groups, threshold) {
  const last = quantiles.length - 1;
  let below = 0;
  if (threshold > quantiles[last]) below = 1;
  else if (threshold > quantiles[0]) {
    const next = quantiles.findIndex((value) => value >= threshold);
    const [low, high] = [quantiles[next - 1], quantiles[next]];
    below = (next - 1 + (high > low ? (threshold - low) / (high - low) : 1)) / last;
  }
  return Math.min(1, ((1 - below) * groups + 1) / (groups + 1));
}

const label = (x, words) => drawn("text", { class: "label", x, y: HEIGHT - 5 }, words);

export class Strip {
  constructor(name, apply) {
    this.apply = apply;
    this.wanted = null;
    this.svg = drawn("svg", { "aria-hidden": "true" });
    this.handle = element("div", {
      class: "handle", role: "slider", tabindex: "0", "aria-orientation": "vertical", "aria-label": `threshold of ${name}`,
    });
    this.rate = element("output", {});
    this.yes = element("button", { onclick: () => this.end(true) }, "Apply");
    this.no = element("button", { class: "plain", onclick: () => this.end(false) }, "Cancel");
    this.usual = element("button", { class: "plain", onclick: () => this.apply(null) }, "Artifact's threshold");
    this.root = element("div", { class: "strip" },
      element("div", { class: "plot" }, this.svg, this.handle),
      element("div", { class: "row" }, this.rate, this.yes, this.no, this.usual));
    this.handle.addEventListener("pointerdown", (event) => this.begin(event));
    this.handle.addEventListener("pointermove", (event) => this.move(event));
    this.handle.addEventListener("pointerup", () => (this.dragging = false));
    this.handle.addEventListener("keydown", (event) => this.key(event));
  }

  update(stream, line) {
    this.stream = stream;
    this.quantiles = stream.on_map ? [] : line.calibration_scores;
    [this.images, this.groups] = [line.calibration_images, line.calibration_groups];
    if (this.wanted == null) this.scale();
    this.draw();
  }

  scale() {
    const values = this.stream.scores.map((one) => one[1]);
    const all = [...values, ...this.quantiles, this.stream.threshold];
    const [low, high] = [Math.min(...all), Math.max(...all)];
    const room = (high - low || 1) * 0.08;
    [this.low, this.high] = [low - room, high + room];
  }

  y(value) {
    return PAD + ((this.high - value) / (this.high - this.low)) * (HEIGHT - 2 * PAD);
  }

  draw() {
    const threshold = this.wanted ?? this.stream.threshold;
    const width = this.svg.clientWidth || 640;
    this.svg.setAttribute("viewBox", `0 0 ${width} ${HEIGHT}`);
    const right = this.quantiles.length ? width - SIDE : width;
    const step = (right - 10) / 300;
    const scores = this.stream.scores;
    const first = 300 - scores.length;
    const line = drawn("polyline", {
      class: "scores",
      points: scores.map(([, score], n) => `${(first + n) * step},${this.y(score)}`).join(" "),
    });
    const marks = scores.flatMap(([, score], n) => score >= threshold
      ? [drawn("circle", { class: "above", cx: (first + n) * step, cy: this.y(score), r: 3 })] : []);
    const level = drawn("line", { class: "threshold", x1: 0, x2: width, y1: this.y(threshold), y2: this.y(threshold) });
    this.svg.replaceChildren(...this.histogram(right), line, ...marks, level, label(10, `last ${scores.length} scores`));
    this.handle.style.top = `${(this.y(threshold) / HEIGHT) * 100}%`;
    this.say(threshold);
  }

  histogram(right) {
    const q = this.quantiles;
    if (q.length < 2) return [];
    // Each pair of neighbouring quantiles holds the same share: narrow pairs are dense.
    const smallest = (q[q.length - 1] - q[0]) / 200 || 1;
    const density = q.slice(1).map((value, n) => 1 / Math.max(value - q[n], smallest));
    const most = Math.max(...density);
    return [
      drawn("line", { class: "edge", x1: right, x2: right, y1: 0, y2: HEIGHT }),
      label(right + 6, `${this.images} at calibration`),
      ...density.map((value, n) => drawn("rect", {
        class: "calibration", x: right + 2, y: this.y(q[n + 1]),
        width: Math.max(2, (SIDE - 6) * (value / most)), height: Math.max(1, this.y(q[n]) - this.y(q[n + 1])),
      })),
    ];
  }

  say(threshold) {
    const changing = this.wanted != null;
    const rate = this.quantiles.length ? falseAlarms(this.quantiles, this.groups, threshold) : null;
    const promise = rate == null ? "" : `, about ${Number((rate * 100).toPrecision(2))} % of good parts ${changing ? "would be" : "are"} stopped`;
    this.rate.textContent = `${changing ? "New threshold" : "Threshold"} ${number(threshold)}${promise}`;
    this.yes.hidden = this.no.hidden = !changing;
    this.usual.hidden = changing || this.stream.threshold === this.stream.usual_threshold;
    this.handle.setAttribute("aria-valuemin", this.low.toPrecision(4));
    this.handle.setAttribute("aria-valuemax", this.high.toPrecision(4));
    this.handle.setAttribute("aria-valuenow", threshold.toPrecision(6));
    this.handle.setAttribute("aria-valuetext", this.rate.textContent);
  }

  begin(event) {
    this.dragging = true;
    this.handle.setPointerCapture(event.pointerId);
    event.preventDefault();
    this.handle.focus();
  }

  move(event) {
    if (!this.dragging) return;
    const box = this.svg.getBoundingClientRect();
    const share = ((event.clientY - box.top) / box.height) * HEIGHT;
    this.set(this.high - ((share - PAD) / (HEIGHT - 2 * PAD)) * (this.high - this.low));
  }

  key(event) {
    const step = (this.high - this.low) / (event.shiftKey ? 20 : 200);
    const moves = { ArrowUp: step, ArrowDown: -step, PageUp: 10 * step, PageDown: -10 * step };
    if (event.key in moves) this.set((this.wanted ?? this.stream.threshold) + moves[event.key]);
    else if (event.key === "Enter" && this.wanted != null) this.end(true);
    else if (event.key === "Escape") this.end(false);
    else return;
    event.preventDefault();
    event.stopPropagation();
  }

  set(value) {
    this.wanted = Math.min(this.high, Math.max(this.low, value));
    this.draw();
  }

  async end(apply) {
    const value = this.wanted;
    if (apply && value != null) await this.apply(value);
    this.wanted = null;
    this.draw();
  }
}
