// The plane of the map as SVG: points by group, near-duplicates joined, as many labels as fit.

import { replace, svg } from "./dom.js";

const COLOURS = 8;
const EDGE = 28;
const LONGEST = 12; // characters of a label

/** Draw into `place` under an accessible name; returns mark(...rows), which points out rows, or none of them. */
export function scatter(place, name, { points, texts, groups, centres, pairs }) {
  const width = Math.max(280, place.clientWidth);
  const height = Math.round(Math.min(560, Math.max(380, width * 0.62)));
  const at = placed(points, width, height);
  const radius = points.length > 300 ? 3 : points.length > 80 ? 4.2 : 5.5;
  const double = new Set(pairs.flatMap(({ a, b }) => [a, b]));
  const dots = points.map((_, row) =>
    svg(
      "circle",
      {
        cx: at[row][0],
        cy: at[row][1],
        r: radius,
        class: `point g${groups[row] % COLOURS}${double.has(row) ? " double" : ""}`,
      },
      svg("title", {}, texts[row]),
    ),
  );
  const joins = pairs
    .slice(0, 500)
    .map(({ a, b }) =>
      svg("line", { class: "join", x1: at[a][0], y1: at[a][1], x2: at[b][0], y2: at[b][1] }),
    );
  const marks = svg("g", { class: "marks" });
  const picture = svg(
    "svg",
    {
      viewBox: `0 0 ${width} ${height}`,
      width,
      height,
      role: "img",
      "aria-label": name,
      class: points.length > 300 ? "dense" : null,
    },
    grid(width, height),
    joins,
    labels(at, texts, groups, centres, width, height),
    dots,
    marks,
  );
  replace(place, picture);

  const mark = (...rows) => {
    picture.classList.toggle("marking", rows.length > 0);
    dots.forEach((dot, row) => dot.classList.toggle("marked", rows.includes(row)));
    const fromTop = [...rows].sort((one, other) => at[one][1] - at[other][1]);
    replace(
      marks,
      fromTop.map((row, order) => tag(at[row], texts[row], width, height, order)),
    );
  };
  picture.addEventListener("pointerover", ({ target }) => {
    const row = dots.indexOf(target.closest("circle"));
    mark(...(row < 0 ? [] : [row]));
  });
  picture.addEventListener("pointerleave", () => mark());
  return mark;
}

/** Both axes by one scale: distances in the picture are those of the plane. */
function placed(points, width, height) {
  const span = [0, 1].map((axis) => {
    const values = points.map((point) => point[axis]);
    return [Math.min(...values), Math.max(...values)];
  });
  const scale = Math.min(
    (width - 2 * EDGE) / (span[0][1] - span[0][0] || 1),
    (height - 2 * EDGE) / (span[1][1] - span[1][0] || 1),
  );
  const middle = span.map(([low, high]) => (low + high) / 2);
  return points.map(([x, y]) => [
    Math.round((width / 2 + (x - middle[0]) * scale) * 10) / 10,
    Math.round((height / 2 - (y - middle[1]) * scale) * 10) / 10,
  ]);
}

function grid(width, height) {
  const lines = [];
  for (let x = 0.5; x < width; x += 32) lines.push(`M${x} 0V${height}`);
  for (let y = 0.5; y < height; y += 32) lines.push(`M0 ${y}H${width}`);
  return svg("path", { class: "grid", d: lines.join("") });
}

/** Labels beside their points, middles of groups first, none over another label or another point. */
function labels(at, texts, groups, centres, width, height) {
  const order = [...centres, ...at.map((_, row) => row).filter((row) => !centres.includes(row))];
  const taken = at.map(([x, y]) => box(x - 6, y - 6, 12, 12));
  const shown = [];
  for (const row of order.slice(0, 200)) {
    const words = shortened(texts[row]);
    const long = textWidth(words, 12);
    const [x, y] = at[row];
    for (const [left, top] of [
      [x + 9, y - 8],
      [x - 9 - long, y - 8],
      [x - long / 2, y - 25],
      [x - long / 2, y + 9],
    ]) {
      const room = box(left, top, long, 16);
      const inside = left > 2 && top > 2 && left + long < width - 2 && top + 16 < height - 2;
      if (!inside || taken.some((other) => overlap(room, other))) continue;
      taken.push(room);
      const class_ = `label g${groups[row] % COLOURS}${centres.includes(row) ? " centre" : ""}`;
      shown.push(svg("text", { class: class_, x: left, y: top + 12, lang: "zh" }, words));
      break;
    }
  }
  return shown;
}

/** The whole text of a marked point, on a plate inside the picture: above its point, for the lower of two below it. */
function tag([x, y], text, width, height, order) {
  const words = text.length > 40 ? `${text.slice(0, 39)}…` : text;
  const long = Math.min(width - 8, textWidth(words, 13) + 16);
  const left = Math.max(4, Math.min(width - long - 4, x - long / 2));
  const above = order === 0 ? y > 44 : y > height - 44;
  const top = above ? y - 38 : y + 12;
  return svg(
    "g",
    { class: "tag" },
    svg("rect", { x: left, y: top, width: long, height: 26, rx: 4 }),
    svg("text", { x: left + 8, y: top + 18, lang: "zh" }, words),
  );
}

function shortened(text) {
  const characters = [...text];
  return characters.length > LONGEST ? `${characters.slice(0, LONGEST - 1).join("")}…` : text;
}

/** Width of a text in pixels, near enough for placing: Chinese characters are square, others about half of it. */
function textWidth(text, size) {
  return [...text].reduce(
    (sum, character) => sum + (character.codePointAt(0) > 0x2e7f ? size : size * 0.58),
    0,
  );
}

function box(left, top, width, height) {
  return { left, top, right: left + width, bottom: top + height };
}

function overlap(one, other) {
  return one.left < other.right && other.left < one.right && one.top < other.bottom && other.top < one.bottom;
}
