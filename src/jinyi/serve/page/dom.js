// Elements from JavaScript. Texts become text nodes: nothing a user types is ever read as markup.

const SVG = "http://www.w3.org/2000/svg";

/** el("p", {class: "note", onclick: f}, "text", child, null): null children are left out. */
export function el(tag, attributes = {}, ...children) {
  return filled(document.createElement(tag), attributes, children);
}

export function svg(tag, attributes = {}, ...children) {
  return filled(document.createElementNS(SVG, tag), attributes, children);
}

function filled(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (name.startsWith("--")) node.style.setProperty(name, value);
    else if (name === "value") node.value = value;
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return node;
}

export function replace(node, ...children) {
  node.replaceChildren(...children.flat().filter((child) => child !== null && child !== undefined));
}

/** The lines of a text area that have something on them. */
export function linesOf(text) {
  return text
    .split(/\r?\n/)
    .map((line) => line.trim())
    .filter(Boolean);
}

/** A text area that grows with its content up to a height the style sheet sets. */
export function area(id, rows, attributes = {}) {
  return el("textarea", { id, rows, spellcheck: "false", lang: "zh", ...attributes });
}
