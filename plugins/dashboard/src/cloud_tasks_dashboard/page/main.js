// The page: polls the server for the state of the jobs and shows changes.

import { drawArea, drawBars, empty, merge } from "./chart.js";
import { byId, forget, h, show } from "./dom.js";
import { Failures, taskDialog } from "./failures.js";
import { clock, count, moment, money, percent, plural, short, shortMoment, span, steps, words } from "./format.js";
import { Tasks } from "./tasks.js";
import { Timeline } from "./timeline.js";

const LIVE_MS = 2000, QUIET_MS = 15000, LIST_MS = 8000, BEHIND_MS = 100;
const STATUSES = [
  ["completed", ["completed"]], ["failed", ["failed", "timed_out", "exited", "dead"]],
  ["running", ["running"]], ["queued", ["queued"]], ["pending", ["pending"]],
];

let current = null, facts = null, timer = 0, polls = 0;

async function request(path, parameters) {
  const query = parameters ? `?${new URLSearchParams(parameters)}` : "";
  let response;
  try {
    response = await fetch(`api/${path}${query}`);
  } catch {
    throw new Error("The dashboard server has stopped; start `cloud-tasks dashboard` again.");
  }
  const content = await response.json().catch(() => ({}));
  if (!response.ok) throw new Error(content.error ?? `The server responded with status ${response.status}.`);
  return content;
}

const ofJob = (what, parameters) => request(`job/${encodeURIComponent(current)}${what}`, parameters);

async function openTask(id) {
  try {
    taskDialog(byId("task"), await ofJob("/task", { id }));
  } catch (error) {
    notice(error.message);
  }
}

const tasks = new Tasks({ request: (filter) => ofJob("/tasks", filter), onTask: openTask });
const failures = new Failures(byId("failures"), {
  request: (event) => ofJob("/failure", { event }),
  onTask: openTask,
  onTasks: (group) => tasks.showReason(group),
});
const timeline = new Timeline(byId("line"), openTask);

function notice(text) {
  byId("notice").textContent = text;
  byId("notice").hidden = !text;
}

function live(kind, text) {
  byId("live").className = `live ${kind}`;
  const label = byId("live").lastElementChild;
  if (label.textContent !== text) label.textContent = text;
}

// -- the jobs of the folder

async function loadJobs() {
  const { jobs, folder } = await request("jobs");
  byId("folder").textContent = folder;
  const good = jobs.filter((job) => !job.problem);
  if (!jobs.length) notice(`No job database in ${folder || "this folder"} yet; jobs appear here when they are loaded.`);
  if (!current && good.length) choose(good.find((job) => `#${encodeURIComponent(job.name)}` === location.hash)?.name ?? good[0].name);
  byId("jobs").hidden = jobs.length < 2;
  show(byId("jobs"), [jobs, current], () => [h("p", { "aria-hidden": "true" }, "Jobs"), ...jobs.map(entry)]);
}

async function watchJobs() {
  try {
    await loadJobs();
  } catch (error) {
    // If a job is shown, its own poll reports the error.
    if (!current) { live("off", "not connected"); notice(error.message); }
  }
  setTimeout(watchJobs, LIST_MS);
}

function entry(job) {
  if (job.problem) return h("button", { type: "button", disabled: true, title: job.problem }, h("strong", {}, job.name), h("small", {}, job.problem));
  const done = job.completed + job.failed;
  return h("button", { type: "button", "aria-current": job.name === current ? "true" : null, title: job.name, onclick: () => choose(job.name) },
    h("strong", {}, job.job_id),
    h("span", { class: "progress" }, h("span", { class: "c-completed", "width%": (100 * job.completed) / Math.max(job.total, 1) }), h("span", { class: "c-failed", "width%": (100 * job.failed) / Math.max(job.total, 1) })),
    h("small", {}, `${percent(done, job.total)} of ${short(job.total)} · ${shortMoment(job.created_at)}`));
}

function choose(name) {
  current = name;
  facts = null;
  history.replaceState(null, "", `#${encodeURIComponent(name)}`);
  for (const button of byId("jobs").querySelectorAll("button")) {
    if (button.title === name) button.setAttribute("aria-current", "true");
    else button.removeAttribute("aria-current");
  }
  failures.clear();
  tasks.reset();
  polls = 0;
  poll();
}

// -- one job

async function poll() {
  clearTimeout(timer);
  const name = current;
  let wait = LIVE_MS;
  try {
    const found = await ofJob("");
    const line = polls % 3 === 0 || found.behind ? await ofJob("/timeline") : null;
    if (name !== current) return;
    facts = found;
    notice("");
    render();
    if (line) renderTimeline(line);
    const active = found.job.pid !== null && found.job.state !== "finished";
    if (polls && active) tasks.refresh();
    polls += 1;
    wait = found.behind ? BEHIND_MS : active ? LIVE_MS : QUIET_MS;
    if (found.behind) live("on", `reading the history: ${percent(found.behind.read, found.behind.of)}`);
    else live(active ? "on" : "", active ? "live" : found.job.state === "finished" ? "finished" : "not live");
  } catch (error) {
    if (name !== current) return;
    live("off", "not connected");
    notice(error.message);
  }
  timer = setTimeout(poll, document.hidden ? Math.max(wait, QUIET_MS) : wait);
}

function render() {
  byId("content").hidden = false;
  const { job, total } = facts;
  document.title = `${total ? `${percent(facts.finished, total)} ` : ""}${job.job_id} · cloud-tasks`;
  byId("title").textContent = job.job_id;
  const [kind, status] = jobStatus();
  byId("badge").className = `badge ${kind}`;
  byId("badge").textContent = status;
  const source = job.task_source ? ` · tasks from ${job.task_source}` : "";
  byId("about").textContent = `${job.provider || "no provider"}${source} · created ${moment(job.created_at)}${job.finished_at ? `, finished ${moment(job.finished_at)}` : ""}`;
  byId("activity").textContent = ["stopped", "no_controller", "loading"].includes(job.state) ? job.activity : "";
  const sums = STATUSES.map(([name, parts]) => [name, parts.reduce((sum, part) => sum + facts.counts[part], 0)]);
  show(byId("progress"), [sums, total], () => sums.map(([name, number]) => h("span", { class: `c-${name}`, "width%": (100 * number) / Math.max(total, 1) })));
  show(byId("legend"), [sums, total], () => sums.filter(([name, number]) => number || name === "completed").map(([name, number]) => h("li", {}, h("i", { class: `c-${name}`, "aria-hidden": "true" }), h("b", {}, count(number)), ` ${name}`)));
  renderStatistics();
  renderCharts();
  renderLists();
}

function jobStatus() {
  const { state, since } = facts.job;
  const at = since === null ? "" : ` ${clock(since)}`;
  switch (state) {
    case "finished": return facts.failed ? ["failed", `finished, ${count(facts.failed)} failed`] : ["done", "complete"];
    case "running": return ["running", facts.finished === facts.total && facts.total ? "finishing" : "running"];
    case "stopped": return ["idle", `stopped since${at}`];
    case "no_controller": return ["failed", `no controller since${at}`];
    default: return ["idle", facts.job.pid === null ? "setup interrupted" : "loading"];
  }
}

function renderStatistics() {
  const { cost, throughput, elapsed, instances } = facts;
  const left = throughput?.remaining_seconds;
  const statistics = [
    ["Finished", percent(facts.finished, facts.total), `${count(facts.finished)} of ${count(facts.total)}`],
    ["Rate", throughput ? `${short(throughput.tasks_per_hour / 60)}/min` : "—", throughput ? `${short(throughput.tasks_per_hour)} tasks/hour` : ["running", "finished"].includes(facts.job.state) ? "unknown for this run" : "no controller counts"],
    left === undefined ? ["Elapsed", span(facts.end - facts.begin), "since the job was created"] : ["Remaining", span(left), `expected end: ${clock(facts.now + left)}`],
    ["Cost so far", money(cost.so_far), cost.projected === null ? `${money(cost.per_hour)}/hour now` : `projected total: ${money(cost.projected)}`],
    ["Instances", count(instances.alive), `${count(instances.launched)} launched${instances.preempted ? `, ${count(instances.preempted)} preempted` : ""}`],
    ["Failed tasks", count(facts.failed), `${percent(facts.failed, facts.finished)} of finished tasks`],
    ["Retries", count(facts.retries), `${plural(facts.losses, "interrupted attempt")}`],
    ["Median duration", elapsed ? span(elapsed.median) : "—", elapsed ? `95% within ${span(elapsed.percentile_95)}` : "no completed task yet"],
  ];
  show(byId("statistics"), statistics, () => statistics.map(([name, value, note]) => h("div", {}, h("dt", {}, name), h("dd", {}, value, h("small", {}, note)))));
}

function renderCharts() {
  const { begin, end, buckets, histogram, elapsed } = facts;
  const width = byId("rate").clientWidth;
  const nothing = () => empty("No data yet.");
  show(byId("rate"), [buckets, begin, end, width], () => {
    if (!buckets.counts.length) return nothing();
    const { size, bars } = merge(buckets.counts, buckets.width, begin, end);
    const perMinute = 60 / size;
    const drawn = bars.map(({ from, to, counts }) => ({ from: Math.max(from, begin), to: Math.min(to, Math.max(end, from + size / 4)), counts, values: counts.map((value) => value * perMinute) }));
    const maximum = Math.max(...drawn.map((bar) => bar.values[0]));
    byId("s-rate").textContent = `finished attempts per minute, in intervals of ${span(size)}`;
    return drawBars(byId("rate"), {
      bars: drawn, classes: ["f-completed", "f-failed", "f-lost"], begin, end: Math.max(end, ...drawn.map((bar) => bar.to)),
      alt: `Finished attempts per minute over ${span(end - begin)}; maximum ${short(maximum)} completed`,
      describe: (bar) => `${clock(bar.from)} to ${clock(bar.to)}\n${count(bar.counts[0])} completed, ${count(bar.counts[1])} failed, ${count(bar.counts[2])} interrupted`,
    });
  });
  if (!buckets.counts.length) byId("s-rate").textContent = "finished attempts per minute";
  renderMoney();
  byId("s-times").textContent = elapsed ? `completed tasks; mean ${span(elapsed.mean)}, maximum ${span(elapsed.maximum)}` : "completed tasks";
  show(byId("times"), [histogram, width], () => {
    if (!histogram.length) return empty("No task has completed yet.");
    const low = histogram[0][0], high = Math.max(histogram.at(-1)[1], low + 1e-6);
    return drawBars(byId("times"), {
      bars: histogram.map(([from, to, number]) => ({ from, to: Math.max(to, from + 1e-6), values: [number] })), classes: ["f-completed"], begin: low, end: high,
      whole: true, marks: steps(high, 6).filter((value) => value >= low && value <= high).map((value) => [value, high < 120 ? `${value} s` : span(value)]),
      alt: `Histogram of task durations from ${span(low)} to ${span(high)}`,
      describe: (bar) => `${span(bar.from)} to ${span(bar.to)}\n${plural(bar.values[0], "task")}`,
    });
  });
}

function renderMoney() {
  const { begin, end, instances, cost } = facts;
  const points = facts.money;
  byId("s-cost").textContent = points.length ? `${money(cost.per_hour)}/hour now` : "";
  byId("s-fleet").textContent = instances.kinds.map((kind) => `${count(kind.count)} × ${kind.instance_type} ${kind.purchase}, ${kind.state}`).join("; ") || (points.length ? "all terminated" : "");
  const none = () => empty("No instance was launched for this job.");
  const width = byId("cost").clientWidth;
  show(byId("cost"), [points, width], () => (points.length ? drawArea(byId("cost"), {
    points, kind: "money", begin, end, label: (value) => (value ? `$${Number(value.toPrecision(3))}` : "$0"),
    alt: `Cost over time, now ${money(points.at(-1)[1])}`,
    describe: ([at, spent, , hourly]) => `${clock(at)}\n${money(spent)} accrued, ${money(hourly)}/hour`,
  }) : none()));
  show(byId("fleet"), [points, width], () => (points.length ? drawArea(byId("fleet"), {
    points: points.map(([at, , alive]) => [at, alive]), kind: "running", begin, end, whole: true,
    alt: `Instances over time, maximum ${Math.max(...points.map((point) => point[2]))}`,
    describe: ([at, alive]) => `${clock(at)}\n${plural(alive, "instance")}`,
  }) : none()));
}

function renderLists() {
  const groups = facts.failures;
  const sum = groups.reduce((all, group) => all + group.count, 0);
  byId("s-fail").textContent = groups.length ? `${plural(sum, "attempt")}, grouped by message${facts.failure_groups > groups.length ? `; the ${groups.length} most frequent of ${count(facts.failure_groups)} groups` : ""}` : "";
  failures.update(groups, facts.job.created_at);
  const { slowest } = facts;
  byId("s-slow").textContent = slowest.length ? "slowest completed attempts" : "";
  show(byId("slowest"), slowest, () => (slowest.length ? h("table", {},
    h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "Task"), h("th", { scope: "col", class: "number" }, "Time"), h("th", { scope: "col" }, "Host"))),
    h("tbody", {}, slowest.map((slow) => h("tr", {},
      h("td", { class: "bar" }, h("i", { "aria-hidden": "true", "width%": (100 * slow.seconds) / Math.max(slowest[0].seconds, 1e-9) }), h("button", { type: "button", class: "link", onclick: () => openTask(slow.task_id) }, slow.task_id)),
      h("td", { class: "number tight" }, span(slow.seconds)), h("td", {}, slow.host))))) : empty("No task has completed yet.")));
}

function renderTimeline(line) {
  const some = line.lanes.length > 0;
  byId("line").hidden = !some;
  const hidden = line.hidden_lanes ? ` The latest ${line.lanes.length} instances; ${count(line.hidden_lanes)} earlier ones are omitted.` : "";
  const what = line.each ? "Each bar is an attempt; select one to show its task." : "Utilization of each instance; stronger colour means more slots in use.";
  byId("s-line").replaceChildren(some ? `${what}${hidden}` : "No worker has started yet.",
    h("span", { class: "key" }, ["completed", "failed", "lost", "running"].map((kind) => h("span", {}, h("i", { class: `c-${kind}`, "aria-hidden": "true" }), words(kind)))));
  if (some) timeline.update(line);
}

// -- light, dark and size

const theme = localStorage.getItem("theme");
if (theme) document.documentElement.dataset.theme = theme;
byId("theme").addEventListener("click", () => {
  const dark = getComputedStyle(document.documentElement).colorScheme === "dark"
    || (!document.documentElement.dataset.theme && matchMedia("(prefers-color-scheme: dark)").matches);
  document.documentElement.dataset.theme = dark ? "light" : "dark";
  localStorage.setItem("theme", document.documentElement.dataset.theme);
  if (timeline.facts) timeline.draw();
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { if (timeline.facts) timeline.draw(); });
let resized = 0;
addEventListener("resize", () => { clearTimeout(resized); resized = setTimeout(() => { if (facts) renderCharts(); }, 120); });
document.addEventListener("visibilitychange", () => { if (!document.hidden && current) poll(); });
byId("task").addEventListener("close", () => forget(byId("task")));

watchJobs();
