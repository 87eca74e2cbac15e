// Token-to-token alignment: a grid of cosines, the pairs that are nearest both ways ringed.

import { centred, products, unitRows } from "./algebra.js";
import { el } from "./dom.js";
import { post } from "./server.js";
import { say } from "./words.js";

const MOST = 48; // tokens of a side that are drawn
const WEAK = 0.4; // a pair below this is not ringed: being nearest to each other means little there

/** The tokens of two texts with the vectors of a model's last layer, control tokens left out. */
export async function tokenStates(model, texts, signal) {
  const body = { model: model.name, inputs: texts };
  const [vectors, tokens] = await Promise.all([
    post("embed_all", body, signal),
    post("tokenize", body, signal),
  ]);
  const sides = texts.map((_, side) => {
    const rows = vectors.data[side];
    const read = tokens.data[side];
    // A text that was cut has fewer vectors than tokens; both end with [SEP].
    const all = [...read.slice(0, rows.length - 1), read[read.length - 1]];
    return all
      .map((token, at) => ({ text: token.text, vector: rows[at], special: token.special }))
      .filter((token) => !token.special);
  });
  return { sides, cut: vectors.cut, ms: vectors.ms };
}

/** Cosines of the tokens of two sides. Every vector of the last layer carries its whole sentence too: the mean of the
 *  sentence is taken off, where it has more than one token. */
export function alignment([a, b]) {
  const centre = a.length > 1 && b.length > 1;
  const rows = [a, b].map((side) => {
    const vectors = side.map((token) => token.vector);
    return centre ? unitRows(spread(centred(flat(vectors)))) : unitRows(vectors);
  });
  return { cosines: products(rows[0], rows[1]), centre };
}

function flat(vectors) {
  return { rows: vectors.length, width: vectors[0].length, values: Float64Array.from(vectors.flat()) };
}

function spread({ rows, width, values }) {
  return Array.from({ length: rows }, (_, row) => values.slice(row * width, (row + 1) * width));
}

export function heatCard(model, sides) {
  const { cosines, centre } = alignment(sides);
  const width = sides[1].length;
  const [a, b] = sides.map((side) => side.slice(0, MOST));
  const at = (row, column) => cosines[row * width + column];
  const columnBest = b.map((_, column) => argmax(a.length, (row) => at(row, column)));
  const rowBest = a.map((_, row) => argmax(b.length, (column) => at(row, column)));

  const readout = el("p", { class: "readout", "aria-live": "polite" }, say("heat.hint"));
  const head = el(
    "tr",
    {},
    el("td", {}),
    b.map((token) => el("th", { scope: "col" }, token.text)),
  );
  const rows = a.map((token, row) =>
    el(
      "tr",
      {},
      el("th", { scope: "row" }, token.text),
      b.map((other, column) => {
        const value = at(row, column);
        const mutual = rowBest[row] === column && columnBest[column] === row && value >= WEAK;
        return el(
          "td",
          {
            "--heat-at": `${(100 * Math.max(0, Math.min(1, value))).toFixed(1)}%`,
            class: mutual ? "mutual" : null,
            tabindex: row + column === 0 ? 0 : -1,
          },
          el("span", { class: "visually-hidden" }, value.toFixed(2)),
        );
      }),
    ),
  );
  const table = el(
    "table",
    { class: "heat", "--columns": b.length, "aria-label": say("heat.title") },
    el("thead", {}, head),
    el("tbody", {}, rows),
  );

  const tell = (cell) => {
    const row = cell.parentNode.rowIndex - 1;
    const column = cell.cellIndex - 1;
    readout.textContent = say("heat.read", {
      a: a[row].text,
      b: b[column].text,
      value: at(row, column).toFixed(2),
    });
    table.querySelectorAll(".here").forEach((node) => node.classList.remove("here"));
    head.cells[column + 1].classList.add("here");
    rows[row].cells[0].classList.add("here");
  };
  table.addEventListener(
    "pointerover",
    ({ target }) => target.closest("tbody td") && tell(target.closest("tbody td")),
  );
  table.addEventListener("focusin", ({ target }) => tell(target));
  table.addEventListener("keydown", (event) => {
    const step = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
    if (!step) return;
    event.preventDefault();
    const next =
      rows[event.target.parentNode.rowIndex - 1 + step[0]]?.cells[event.target.cellIndex + step[1]];
    if (!next || next.tagName === "TH") return;
    event.target.tabIndex = -1;
    next.tabIndex = 0;
    next.focus();
  });

  const cutSides = sides.some((side) => side.length > MOST);
  return el(
    "section",
    { class: "card heat-card" },
    el("h2", {}, say("heat.title")),
    el("div", { class: "scroll" }, table),
    el(
      "div",
      { class: "legend" },
      el("span", { class: "ramp" }, el("i", {}, "0"), el("i", {}, "1")),
      el("span", { class: "ring" }, say("heat.mutual")),
      readout,
    ),
    el("p", { class: "detail" }, say(centre ? "heat.note" : "heat.note.raw", { model: model.name })),
    cutSides ? el("p", { class: "detail" }, say("heat.part", { n: MOST })) : null,
  );
}

function argmax(count, value) {
  let best = 0;
  for (let at = 1; at < count; at++) if (value(at) > value(best)) best = at;
  return best;
}
