// Groups of failures; each shows traceback and output of its latest attempt.

import { h } from "./dom.js";
import { clock, count, moment, plural, span, words } from "./format.js";

export class Failures {
  // request(event): texts of a failure; onTasks(group): show the tasks of a group; onTask(id): show a task
  constructor(host, { request, onTasks, onTask }) {
    Object.assign(this, { host, request, onTasks, onTask });
    this.items = new Map();
  }

  clear() {
    this.items.clear();
    this.host.replaceChildren();
  }

  // Open groups stay open. run: identifies job and run.
  update(groups, run) {
    if (!groups.length) {
      this.items.clear();
      this.host.replaceChildren(h("p", { class: "empty" }, "No attempt has failed."));
      return;
    }
    const kept = new Map();
    for (const group of groups) {
      const key = `${run} ${group.number}`;
      const item = this.items.get(key) ?? this.make();
      item.update(group);
      kept.set(key, item);
    }
    this.items = kept;
    const wanted = [...kept.values()].map((item) => item.element);
    if (wanted.some((element, index) => this.host.children[index] !== element) || this.host.children.length !== wanted.length) {
      this.host.replaceChildren(...wanted);
    }
  }

  make() {
    const number = h("span", { class: "number" }), text = h("code"), note = h("small"), inside = h("div", { class: "inside" });
    const element = h("details", {}, h("summary", {}, number, text, note), inside);
    const item = {
      element,
      shown: null,
      update: (group) => {
        item.group = group;
        number.textContent = count(group.count);
        text.textContent = group.summary;
        note.textContent = group.count === 1 ? clock(group.last_at) : `last ${clock(group.last_at)}`;
      },
    };
    element.addEventListener("toggle", () => { if (element.open) this.open(item, inside); });
    return item;
  }

  async open(item, inside) {
    const { group } = item;
    if (item.shown === group.event) return;
    item.shown = group.event;
    inside.replaceChildren(h("p", { class: "faint" }, "Loading …"));
    try {
      const found = await this.request(group.event);
      inside.replaceChildren(...this.texts(group, found));
    } catch (error) {
      item.shown = null;
      inside.replaceChildren(h("p", {}, error.message));
    }
  }

  texts(group, found) {
    const kind = group.outcome === "lost" ? "interrupted for reasons outside the task" : words(group.outcome);
    const when = group.count === 1 ? `at ${moment(group.last_at)}` : `from ${moment(group.first_at)} to ${moment(group.last_at)}`;
    const lines = [
      h("p", { class: "faint" }, `${plural(group.count, "attempt")}, ${kind}, ${when}.`, group.identical ? "" : " Messages differ in numbers; this is the latest."),
      h("p", {}, "Latest: ", h("button", { type: "button", class: "link", onclick: () => this.onTask(found.task_id) }, found.task_id), found.attempt > 1 ? `, attempt ${found.attempt}` : "", " · ",
        h("button", { type: "button", class: "link", onclick: () => this.onTasks(group) }, group.count === 1 ? "show in the table" : "show tasks in the table")),
    ];
    if (found.stack_trace) lines.push(h("pre", { tabindex: "0", "aria-label": "Traceback" }, found.stack_trace));
    else if (group.outcome === "exception") lines.push(h("p", { class: "faint" }, "No traceback was reported."));
    if (found.log_tail) lines.push(h("p", { class: "faint" }, "Last output:"), h("pre", { tabindex: "0", "aria-label": "Output" }, found.log_tail));
    return lines;
  }
}

// One task with its attempts, in a dialog.
export function taskDialog(dialog, task) {
  const close = h("button", { type: "button", onclick: () => dialog.close() }, "Close");
  const attempts = task.attempts.flatMap((attempt) => [
    h("h3", {}, `Attempt ${attempt.attempt}: `, h("span", { class: `status ${attempt.outcome}` }, words(attempt.outcome)), attempt.seconds === null ? "" : ` after ${span(attempt.seconds)}`),
    h("p", { class: "faint" }, `${moment(attempt.started_at)} to ${moment(attempt.ended_at)} on ${attempt.host || "?"}${attempt.instance_id ? `, instance ${attempt.instance_id}` : ""}`),
    attempt.reason && h("p", {}, h("code", {}, attempt.reason)),
    attempt.result !== null && [h("p", { class: "faint" }, "Result"), h("pre", { tabindex: "0" }, attempt.result)],
    attempt.stack_trace && [h("p", { class: "faint" }, "Traceback"), h("pre", { tabindex: "0" }, attempt.stack_trace)],
    attempt.log_tail && [h("p", { class: "faint" }, "Last output"), h("pre", { tabindex: "0" }, attempt.log_tail)],
  ]);
  dialog.replaceChildren(
    h("header", {}, h("h2", { id: "task-title" }, task.task_id), h("span", { class: `status ${task.status}` }, words(task.status)), h("span", { class: "grow" }), close),
    h("p", { class: "faint" }, "Data"), h("pre", { tabindex: "0" }, task.data),
    ...(task.more_attempts ? [h("p", { class: "faint" }, "Latest attempts:")] : []),
    ...attempts.flat().filter(Boolean),
    ...(task.attempts.length ? [] : [h("p", {}, "No attempt has started.")]),
  );
  if (!dialog.open) dialog.showModal();
}
