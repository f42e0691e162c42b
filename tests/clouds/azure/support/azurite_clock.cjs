// Loaded before azurite: its clock is as far ahead of the machine's as the file CLOUD_TASKS_CLOCK says, in milliseconds.
const fs = require("fs");
const Machine = Date;
function ahead() {
  try {
    return Number(fs.readFileSync(process.env.CLOUD_TASKS_CLOCK, "utf8")) || 0;
  } catch {
    return 0;
  }
}
globalThis.Date = class extends Machine {
  constructor(...parts) {
    parts.length ? super(...parts) : super(Machine.now() + ahead());
  }
  static now() {
    return Machine.now() + ahead();
  }
};
