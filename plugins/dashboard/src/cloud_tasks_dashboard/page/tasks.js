// The task table: filter and pages.

import { byId, h } from "./dom.js";
import { count, moment, span, words } from "./format.js";

const ROWS = 25;

export class Tasks {
  // request(parameters): a page; onTask(id): show a task
  constructor({ request, onTask }) {
    Object.assign(this, { request, onTask, group: null, after: 0, next: null, turn: 0 });
    this.form = byId("filter");
    this.body = byId("tasks").tBodies[0];
    let timer = 0;
    this.form.addEventListener("submit", (event) => { event.preventDefault(); this.begin(); });
    // Only for the select: a text field fires "change" when it loses focus, which would reload the table under a click.
    this.form.elements.status.addEventListener("change", () => this.begin());
    this.form.elements.text.addEventListener("input", () => { clearTimeout(timer); timer = setTimeout(() => this.begin(), 250); });
    byId("first").addEventListener("click", () => this.begin());
    byId("next").addEventListener("click", () => { this.after = this.next; this.load(); });
  }

  reset() {
    this.form.reset();
    this.setReason(null);
    this.begin();
  }

  // group: failure group, or null for all tasks
  setReason(group) {
    this.group = group;
    const chip = byId("reason");
    chip.hidden = !group;
    chip.replaceChildren(`failure: ${group?.summary}`, h("button", { type: "button", "aria-label": "Remove this filter", onclick: () => { this.setReason(null); this.begin(); } }, "✕"));
  }

  showReason(group) {
    this.form.reset();
    this.setReason(group);
    this.begin();
    byId("h-tasks").scrollIntoView({ block: "start" });
  }

  begin() {
    this.after = 0;
    return this.load();
  }

  // Reload the current page, unless a filter or keyboard focus is active.
  refresh() {
    const filtered = this.form.elements.status.value || this.form.elements.text.value.trim() || this.group;
    if (!filtered && !this.body.contains(document.activeElement)) return this.load();
    return null;
  }

  async load() {
    this.turn += 1;
    const turn = this.turn;
    const { status, text } = this.form.elements;
    const filter = { status: status.value, text: text.value.trim(), reason: this.group?.summary ?? "", outcome: this.group?.outcome ?? "" };
    let { after } = this;
    const rows = [];
    // A scan over several requests shows its progress.
    for (;;) {
      let page;
      try {
        page = await this.request({ ...filter, after, rows: ROWS - rows.length });
      } catch (error) {
        if (turn === this.turn) byId("where").textContent = error.message;
        return;
      }
      if (turn !== this.turn) return;
      rows.push(...page.rows);
      const more = page.after !== null && rows.length < ROWS;
      this.render(rows, page, more);
      if (!more) return;
      after = page.after;
    }
  }

  render(rows, page, more) {
    this.next = page.after;
    byId("first").disabled = this.after === 0;
    byId("next").disabled = page.after === null || more;
    const position = `${count(page.scanned)} of ${count(page.total)} tasks`;
    byId("where").textContent = more ? `Searching: ${position} …` : page.after === null ? `End of ${count(page.total)} tasks` : `Up to task ${position}`;
    if (!rows.length && !more) {
      this.body.replaceChildren(h("tr", {}, h("td", { colspan: 7, class: "empty" }, "No matching task.")));
      return;
    }
    this.body.replaceChildren(...rows.map((row) => h("tr", {},
      h("td", {}, h("button", { type: "button", class: "link", onclick: () => this.onTask(row.task_id) }, row.task_id)),
      h("td", {}, h("span", { class: `status ${row.status}` }, words(row.status))),
      h("td", { class: "number" }, row.attempt),
      h("td", { class: "number tight" }, span(row.seconds)),
      h("td", { class: "tight" }, moment(row.ended_at)),
      h("td", {}, row.host),
      h("td", {}, row.reason && h("code", {}, row.reason)),
    )));
  }
}
