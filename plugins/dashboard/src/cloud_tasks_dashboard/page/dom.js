// Creation of elements. Text is always set as text; no code of this page creates markup from strings.

const SVG = "http://www.w3.org/2000/svg";

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "width%") element.style.width = `${value}%`;
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

export const h = (tag, attributes, ...children) => fill(document.createElement(tag), attributes, children);
export const s = (tag, attributes, ...children) => fill(document.createElementNS(SVG, tag), attributes, children);
export const byId = (id) => document.getElementById(id);

// Replace the content of an element only if its data changed, so that selections, open details and focus remain.
const shown = new WeakMap();
export function show(element, facts, make) {
  const text = JSON.stringify(facts);
  if (shown.get(element) === text) return false;
  shown.set(element, text);
  element.replaceChildren(...[make()].flat());
  return true;
}
export const forget = (element) => shown.delete(element);

const tip = () => byId("tip");
export function showTip(event, text) {
  const box = tip();
  box.textContent = text;
  box.hidden = false;
  const { offsetWidth: width, offsetHeight: height } = box;
  const x = Math.min(event.clientX + 14, innerWidth - width - 8);
  const y = event.clientY + 18 + height > innerHeight ? event.clientY - height - 10 : event.clientY + 18;
  box.style.transform = `translate(${Math.max(x, 4)}px, ${y}px)`;
}
export const hideTip = () => { tip().hidden = true; };
