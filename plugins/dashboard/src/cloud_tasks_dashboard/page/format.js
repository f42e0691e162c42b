// Formatting of quantities.

const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
export const count = (value) => whole.format(value);
export const plural = (value, noun) => `${count(value)} ${noun}${value === 1 ? "" : "s"}`;

export function short(value) {
  if (value >= 1e6) return `${trim(value / 1e6)}M`;
  if (value >= 1e4) return `${trim(value / 1e3)}k`;
  return trim(value);
}
const trim = (value) => (value >= 100 ? count(value) : String(Number(value.toPrecision(3))));

export function percent(part, all) {
  if (!all) return "0%";
  const share = (100 * part) / all;
  if (share > 0 && share < 0.1) return "< 0.1%";
  // Round down to 99.9 unless all are included.
  return `${share >= 99.95 && part < all ? "99.9" : share.toFixed(share < 10 || (share > 99 && share < 100) ? 1 : 0)}%`;
}

export function money(value) {
  if (value === null || value === undefined) return "—";
  const size = Math.abs(value);
  // An amount that is not zero never reads as zero.
  const places = value !== 0 && size < 0.1 ? Math.min(Math.max(4, -Math.floor(Math.log10(size))), 20) : 2;
  return `$${value.toLocaleString("en", { minimumFractionDigits: places, maximumFractionDigits: places })}`;
}

export function span(seconds) {
  if (seconds === null || seconds === undefined) return "—";
  if (seconds < 1) return `${Math.round(seconds * 1000)} ms`;
  if (seconds < 60) return `${seconds < 10 ? seconds.toFixed(2) : seconds.toFixed(1)} s`;
  const parts = [[86400, "d"], [3600, "h"], [60, "m"], [1, "s"]];
  let left = Math.round(seconds);
  const texts = [];
  for (const [size, unit] of parts) {
    const number = Math.floor(left / size);
    left -= number * size;
    if (number || texts.length) texts.push(`${number}${unit}`);
  }
  return texts.slice(0, 2).join(" ");
}

// Ticks of an axis from 0 with a round step: at most `maximum` + 1 values, the last one at or above `high`.
export function steps(high, maximum, round = [1, 2, 2.5, 5, 10]) {
  if (!(high > 0)) return [0, 1];
  const power = 10 ** Math.floor(Math.log10(high / maximum));
  const step = round.map((each) => each * power).find((each) => Math.ceil(high / each - 1e-9) <= maximum) ?? 20 * power;
  const found = [];
  for (let index = 0; index === 0 || found.at(-1) < high - step * 1e-9; index += 1) found.push(Number((index * step).toPrecision(12)));
  return found;
}

const UNITS = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]];
const ROUND = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400, 172800, 432000, 864000];

// Ticks of a time axis from 0 to `whole` seconds: [[seconds, text], ...].
export function timeMarks(whole, maximum = 6) {
  const step = ROUND.find((each) => whole / each <= maximum) ?? 864000 * Math.ceil(whole / 864000 / maximum);
  const [size, unit] = UNITS.find(([each]) => step % each === 0);
  if (whole < 2) return steps(whole, maximum).filter((at) => at <= whole).map((at) => [at, `${at} s`]);
  return Array.from({ length: Math.floor(whole / step) + 1 }, (_, index) => [index * step, index ? `${count((index * step) / size)} ${unit}` : "0"]);
}

export const clock = (unix) => (unix === null || unix === undefined ? "—" : new Date(unix * 1000).toLocaleTimeString("en-GB"));
export function moment(unix) {
  if (unix === null || unix === undefined) return "—";
  const day = new Date(unix * 1000).toLocaleDateString("en-CA");
  return `${day} ${clock(unix)}`;
}
export const shortMoment = (unix) => moment(unix).slice(5, 16);
export const words = (name) => (name === "lost" ? "interrupted" : name.replaceAll("_", " "));
