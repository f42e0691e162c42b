// One lane per instance, drawn on a canvas, since there may be thousands of tasks.

import { h, hideTip, showTip } from "./dom.js";
import { clock, count, moment, percent, span, timeMarks } from "./format.js";

const WIDEST_LABEL = 190, AXIS = 24, GAP = 7, KINDS = ["completed", "failed", "lost"], LABELS = ["completed", "failed", "interrupted"];

export class Timeline {
  // open(task): show a task
  constructor(host, open) {
    this.host = host;
    this.open = open;
    this.canvas = h("canvas", { role: "img", tabindex: "-1" });
    this.places = [];
    host.replaceChildren(this.canvas);
    this.canvas.addEventListener("pointermove", (event) => this.point(event));
    this.canvas.addEventListener("pointerleave", hideTip);
    this.canvas.addEventListener("click", (event) => { const bar = this.find(event)?.bar; if (bar) this.open(bar[4]); });
    new ResizeObserver(() => { if (this.facts) this.draw(); }).observe(host);
  }

  update(facts) {
    this.facts = facts;
    this.rows = pack(facts);
    const running = facts.bars.filter((bar) => bar[2] === null).length;
    this.canvas.setAttribute("aria-label", `${facts.lanes.length} instances over ${span(facts.end - facts.begin)}, ${count(running)} tasks running now`);
    this.draw();
  }

  draw() {
    const { lanes } = this.facts;
    const heights = lanes.map((_, lane) => Math.min(Math.max(this.rows.depth[lane] * 9, 20), 90));
    const width = Math.max(this.host.clientWidth, 300);
    const height = AXIS + heights.reduce((sum, each) => sum + each + GAP, 0);
    const scale = devicePixelRatio || 1;
    const { canvas } = this;
    canvas.width = width * scale;
    canvas.height = height * scale;
    canvas.style.height = `${height}px`;
    const pen = canvas.getContext("2d");
    pen.scale(scale, scale);
    const known = new Map();
    this.colour = (name) => {
      if (!known.has(name)) known.set(name, resolve(name));
      return known.get(name);
    };
    this.width = width;
    this.label = Math.min(WIDEST_LABEL, width * 0.34);
    this.places = [];
    let top = AXIS;
    this.axis(pen, height);
    lanes.forEach((lane, index) => { this.lane(pen, lane, index, top, heights[index]); top += heights[index] + GAP; });
  }

  x(at) {
    const { begin, end } = this.facts;
    return this.label + ((this.width - this.label - 8) * (at - begin)) / Math.max(end - begin, 1e-9);
  }

  axis(pen, height) {
    const { begin, end } = this.facts;
    pen.font = "11px system-ui, sans-serif";
    for (const [seconds, text] of timeMarks(end - begin, Math.max(Math.floor((this.width - this.label) / 80), 2))) {
      const at = begin + seconds;
      pen.strokeStyle = this.colour("--line");
      pen.beginPath();
      pen.moveTo(this.x(at), AXIS - 6);
      pen.lineTo(this.x(at), height);
      pen.stroke();
      pen.fillStyle = this.colour("--faint");
      pen.textAlign = this.x(at) > this.width - 24 ? "right" : "center";
      pen.fillText(text, this.x(at), 12);
    }
  }

  lane(pen, lane, index, top, height) {
    const { begin, end, width: step } = this.facts;
    pen.textAlign = "left";
    pen.fillStyle = this.colour("--ink");
    pen.fillText(fit(pen, lane.name, this.label - 12), 0, top + 11);
    if (height >= 20) {
      pen.fillStyle = this.colour("--faint");
      pen.fillText(fit(pen, [lane.type, lane.purchase].filter(Boolean).join(", "), this.label - 12), 0, top + 23);
    }
    const from = this.x(Math.max(lane.begin ?? begin, begin)), to = this.x(lane.end ?? end);
    pen.fillStyle = this.colour("--life");
    round(pen, from, top, Math.max(to - from, 2), height, 4);
    this.places.push({ left: from, right: to, top, bottom: top + height, lane });
    pen.fillStyle = this.colour("--completed");
    for (const [at, share] of lane.busy) {
      pen.globalAlpha = 0.15 + 0.85 * share;
      const left = this.x(Math.max(at, begin)), right = this.x(Math.min(at + step, end));
      pen.fillRect(left, top + 3, Math.max(right - left, 0.6), height - 6);
      this.places.push({ left, right, top, bottom: top + height, lane, share });
    }
    pen.globalAlpha = 1;
    const row = height / this.rows.depth[index];
    for (const [bar, place] of this.rows.of[index]) {
      const left = this.x(bar[1]), right = this.x(bar[2] ?? end), y = top + place * row;
      pen.fillStyle = this.colour(bar[2] === null ? "--running" : `--${KINDS[bar[3]]}`);
      round(pen, left, y + 1, Math.max(right - left - 0.5, 1.5), Math.max(row - 2, 1), 2);
      this.places.push({ left, right: Math.max(right, left + 2), top: y, bottom: y + row, lane, bar });
    }
    if (lane.preempted_at !== null) {
      pen.fillStyle = this.colour("--lost");
      pen.fillRect(this.x(lane.preempted_at) - 1, top - 3, 2.5, height + 6);
    }
  }

  find(event) {
    const box = this.canvas.getBoundingClientRect();
    const x = event.clientX - box.left, y = event.clientY - box.top;
    return this.places.findLast((place) => x >= place.left - 1 && x <= place.right + 1 && y >= place.top && y <= place.bottom);
  }

  point(event) {
    const place = this.find(event);
    this.canvas.style.cursor = place?.bar ? "pointer" : "default";
    if (place) showTip(event, place.bar ? this.ofBar(place) : this.ofLane(place));
    else hideTip();
  }

  ofBar({ bar, lane }) {
    const [, from, to, kind, task, attempt] = bar;
    const ended = to === null ? `running for ${span(this.facts.now - from)}` : `${LABELS[kind]} after ${span(to - from)}`;
    return `${task}${attempt > 1 ? `, attempt ${attempt}` : ""}\n${ended}\n${clock(from)} to ${to === null ? "now" : clock(to)} on ${lane.name}`;
  }

  ofLane({ lane, share }) {
    const life = lane.begin === null ? [] : [`from ${moment(lane.begin)} to ${lane.end === null ? "now" : moment(lane.end)}`];
    const lines = [lane.name, [lane.type, lane.zone, lane.purchase].filter(Boolean).join(", "), ...life];
    if (lane.completed !== null) lines.push(`${count(lane.completed)} tasks completed, ${count(lane.running)} running`);
    if (share !== undefined) lines.push(`${percent(share, 1)} of its slots in use`);
    if (lane.preempted_at !== null) lines.push(`spot interruption notice at ${clock(lane.preempted_at)}`);
    if (lane.end_reason) lines.push(lane.end_reason);
    return lines.join("\n");
  }
}

// Put overlapping attempts into separate rows.
function pack({ bars, lanes, end }) {
  const of = lanes.map(() => []), rows = lanes.map(() => []);
  for (const bar of [...bars].sort((one, other) => one[1] - other[1])) {
    const free = rows[bar[0]];
    let place = free.findIndex((until) => until <= bar[1] + 1e-3);
    if (place < 0) place = free.length;
    free[place] = bar[2] ?? end;
    of[bar[0]].push([bar, place]);
  }
  return { of, depth: rows.map((row, lane) => Math.max(row.length, Math.min(lanes[lane].slots, 8), 1)) };
}

function round(pen, x, y, width, height, radius) {
  pen.beginPath();
  pen.roundRect(x, y, width, height, Math.min(radius, width / 2, height / 2));
  pen.fill();
}

function fit(pen, text, width) {
  if (pen.measureText(text).width <= width) return text;
  let kept = text;
  while (kept.length > 1 && pen.measureText(`${kept}…`).width > width) kept = kept.slice(0, -1);
  return `${kept}…`;
}

// A canvas cannot resolve light-dark(): let an element compute the colour.
const probe = document.createElement("i");
function resolve(name) {
  if (!probe.isConnected) { probe.hidden = true; document.body.append(probe); }
  probe.style.color = `var(${name})`;
  return getComputedStyle(probe).color;
}
