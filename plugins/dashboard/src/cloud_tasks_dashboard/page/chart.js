// Charts over a number axis: stacked bars and areas, drawn as SVG, with a tooltip for the position of the pointer.

import { h, hideTip, s, showTip } from "./dom.js";
import { short, steps, timeMarks } from "./format.js";

const LEFT = 46, RIGHT = 8, TOP = 8, BOTTOM = 22, HEIGHT = 190;

// options: begin, end, maximum: largest value, label(value): labels of the y axis, marks: [[x, text], ...] of the x axis,
// whole: whether values are integers, alt: description
class Frame {
  constructor(host, options) {
    this.width = Math.max(host.clientWidth, 240);
    const values = options.whole && options.maximum <= 5 ? Array.from({ length: Math.max(options.maximum, 1) + 1 }, (_, index) => index) : steps(options.maximum, 5);
    this.options = { ...options, top: values.at(-1) };
    this.right = this.width - RIGHT;
    this.floor = HEIGHT - BOTTOM;
    this.svg = s("svg", { viewBox: `0 0 ${this.width} ${HEIGHT}`, role: "img", "aria-label": options.alt });
    for (const value of values) {
      const y = this.y(value);
      this.svg.append(
        s("line", { class: "axis", x1: LEFT, x2: this.right, y1: y, y2: y }),
        s("text", { x: LEFT - 6, y: y + 4, "text-anchor": "end" }, options.label(value)),
      );
    }
    for (const [at, text] of options.marks) {
      const x = this.x(at);
      this.svg.append(s("text", { x: Math.min(x, this.right), y: HEIGHT - 5, "text-anchor": x > this.right - 12 ? "end" : "middle" }, text));
    }
  }

  x(value) {
    const { begin, end } = this.options;
    return LEFT + ((this.right - LEFT) * (value - begin)) / Math.max(end - begin, 1e-9);
  }

  y(value) {
    return this.floor - (this.floor - TOP) * (value / this.options.top);
  }

  // describe(x): tooltip of this position, or null
  pointer(describe) {
    const cursor = s("line", { class: "cursor", y1: TOP, y2: this.floor, visibility: "hidden" });
    this.svg.append(cursor);
    this.svg.addEventListener("pointermove", (event) => {
      const box = this.svg.getBoundingClientRect();
      const place = ((event.clientX - box.left) * this.width) / box.width;
      const { begin, end } = this.options;
      const text = place < LEFT || place > this.right ? null : describe(begin + ((end - begin) * (place - LEFT)) / (this.right - LEFT));
      cursor.setAttribute("visibility", text ? "visible" : "hidden");
      cursor.setAttribute("x1", place);
      cursor.setAttribute("x2", place);
      if (text) showTip(event, text);
      else hideTip();
    });
    this.svg.addEventListener("pointerleave", () => { cursor.setAttribute("visibility", "hidden"); hideTip(); });
    return this.svg;
  }
}

export const empty = (text) => h("p", { class: "empty" }, text);

const sinceBegin = (begin, end) => timeMarks(end - begin).map(([seconds, text]) => [begin + seconds, text]);

// bars: [{from, to, values}] with one class per value
export function drawBars(host, { bars, classes, begin, end, label = short, marks, whole = false, alt, describe }) {
  const maximum = Math.max(...bars.map((bar) => bar.values.reduce((sum, value) => sum + value, 0)));
  const frame = new Frame(host, { begin, end, maximum, whole, label, marks: marks ?? sinceBegin(begin, end), alt });
  for (const bar of bars) {
    let base = 0;
    const left = frame.x(bar.from), width = Math.max(frame.x(bar.to) - left - 1, 0.8);
    bar.values.forEach((value, index) => {
      if (!value) return;
      const y = frame.y(base + value);
      frame.svg.append(s("rect", { class: classes[index], x: left, y, width, height: Math.max(frame.y(base) - y, 0.6), rx: 1 }));
      base += value;
    });
  }
  return frame.pointer((at) => {
    const bar = bars.find((each) => at >= each.from && at < each.to);
    return bar ? describe(bar) : null;
  });
}

// points: [x, value] in order; whole: integers, each valid until the next point
export function drawArea(host, { points, kind, begin, end, whole = false, label = short, alt, describe }) {
  const maximum = Math.max(...points.map((point) => point[1]));
  const frame = new Frame(host, { begin, end, maximum, whole, label, marks: sinceBegin(begin, end), alt });
  const line = points.map(([at, value], index) => {
    const x = frame.x(at).toFixed(1), y = frame.y(value).toFixed(1);
    return index === 0 ? `M${x} ${y}` : whole ? `H${x}V${y}` : `L${x} ${y}`;
  }).join("");
  const last = frame.x(points.at(-1)[0]).toFixed(1), first = frame.x(points[0][0]).toFixed(1);
  frame.svg.append(
    s("path", { class: `f-${kind} soft`, d: `${line}L${last} ${frame.floor}L${first} ${frame.floor}Z` }),
    s("path", { class: `s-${kind}`, d: line }),
  );
  return frame.pointer((at) => {
    const point = points.findLast((each) => each[0] <= at) ?? points[0];
    return describe(point, at);
  });
}

// Merge neighbouring buckets until there are at most `maximum`.
export function merge(counted, width, begin, end, maximum = 64) {
  let size = width;
  while ((end - begin) / size > maximum) size *= 2;
  const merged = new Map();
  for (const [at, ...counts] of counted) {
    const from = Math.floor(at / size) * size;
    const known = merged.get(from) ?? counts.map(() => 0);
    merged.set(from, known.map((value, index) => value + counts[index]));
  }
  return { size, bars: [...merged].map(([from, counts]) => ({ from, to: from + size, counts })) };
}
