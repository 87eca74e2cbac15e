// What the map computes from sentence vectors: cosines, two principal components, groups, near-duplicates.
// Vectors are rows of one Float32Array; sizes up to a thousand rows take well under a second.

/** Rows of numbers as one array of unit rows: {rows, width, values}. */
export function unitRows(vectors) {
  const rows = vectors.length;
  const width = vectors[0].length;
  const values = new Float32Array(rows * width);
  vectors.forEach((vector, row) => {
    const length = Math.hypot(...vector) || 1;
    for (let at = 0; at < width; at++) values[row * width + at] = vector[at] / length;
  });
  return { rows, width, values };
}

/** Subtract the mean row. */
export function centred({ rows, width, values }) {
  const mean = new Float64Array(width);
  for (let at = 0; at < values.length; at++) mean[at % width] += values[at] / rows;
  return { rows, width, values: values.map((value, at) => value - mean[at % width]) };
}

/** Products of the rows of a with the rows of b, Float32Array [a.rows * b.rows]: cosines where both are unit rows. */
export function products(a, b) {
  const out = new Float32Array(a.rows * b.rows);
  for (let i = 0; i < a.rows; i++) {
    for (let j = 0; j < b.rows; j++) {
      let sum = 0;
      for (let at = 0; at < a.width; at++) sum += a.values[i * a.width + at] * b.values[j * a.width + at];
      out[i * b.rows + j] = sum;
    }
  }
  return out;
}

/** The first two principal components by power iteration: {points: [[x, y]], share: of the variance}. */
export function principalPlane(matrix) {
  const { rows, width, values } = centred(matrix);
  const total = values.reduce((sum, value) => sum + value * value, 0);
  const axes = [];
  let caught = 0;
  for (let component = 0; component < 2; component++) {
    const { axis, variance } = leadingAxis(values, rows, width, axes);
    axes.push(axis);
    caught += variance;
  }
  const points = Array.from({ length: rows }, (_, row) =>
    axes.map((axis) => axis.reduce((sum, weight, at) => sum + weight * values[row * width + at], 0)),
  );
  return { points, share: total > 0 ? caught / total : 0 };
}

function leadingAxis(values, rows, width, earlier) {
  // A start that no symmetry of the data makes orthogonal to the answer, the same on every run.
  let axis = Float64Array.from({ length: width }, (_, at) => Math.cos(1 + at * 0.7) + 0.01);
  let variance = 0;
  for (let round = 0; round < 400; round++) {
    for (const other of earlier) {
      const along = axis.reduce((sum, value, at) => sum + value * other[at], 0);
      axis = axis.map((value, at) => value - along * other[at]);
    }
    const length = Math.hypot(...axis);
    if (length < 1e-12) return { axis: new Float64Array(width), variance: 0 };
    axis = axis.map((value) => value / length);
    const next = new Float64Array(width);
    let seen = 0;
    for (let row = 0; row < rows; row++) {
      let score = 0;
      for (let at = 0; at < width; at++) score += values[row * width + at] * axis[at];
      seen += score * score;
      for (let at = 0; at < width; at++) next[at] += score * values[row * width + at];
    }
    const settled = Math.abs(seen - variance) <= 1e-9 * seen;
    variance = seen;
    if (settled) break;
    axis = next;
  }
  const length = Math.hypot(...axis) || 1;
  const unit = axis.map((value) => value / length);
  // The sign is free: the largest weight is positive, so that the map does not flip.
  const top = unit.reduce((best, value) => (Math.abs(value) > Math.abs(best) ? value : best), 0);
  return { axis: top < 0 ? unit.map((value) => -value) : unit, variance };
}

/** Average-linkage merges of all rows by distance 1 - cosine (nearest-neighbour chain), lowest first. */
export function linkage(cosines, rows) {
  const distance = cosines.map((value) => 1 - value);
  const size = new Array(rows).fill(1);
  const alive = new Set(Array.from({ length: rows }, (_, row) => row));
  const merges = [];
  const chain = [];
  while (alive.size > 1) {
    if (chain.length === 0) chain.push(alive.values().next().value);
    const last = chain[chain.length - 1];
    const before = chain[chain.length - 2];
    // Ties go to the one before, or the chain would run in a circle.
    let nearest = before;
    let least = before === undefined ? Infinity : distance[last * rows + before];
    for (const other of alive) {
      if (other !== last && distance[last * rows + other] < least) {
        nearest = other;
        least = distance[last * rows + other];
      }
    }
    if (nearest !== before) {
      chain.push(nearest);
      continue;
    }
    chain.length -= 2;
    alive.delete(last);
    for (const other of alive) {
      if (other === nearest) continue;
      const mean =
        (size[last] * distance[last * rows + other] + size[nearest] * distance[nearest * rows + other]) /
        (size[last] + size[nearest]);
      distance[nearest * rows + other] = mean;
      distance[other * rows + nearest] = mean;
    }
    size[nearest] += size[last];
    merges.push({ kept: nearest, gone: last, height: least });
  }
  return merges.sort((a, b) => a.height - b.height);
}

/** The group of each row when the merges stop at `count` groups; the largest group is 0. */
export function cut(merges, rows, count) {
  const parent = Array.from({ length: rows }, (_, row) => row);
  const root = (row) => (parent[row] === row ? row : (parent[row] = root(parent[row])));
  for (const { kept, gone } of merges.slice(0, Math.max(0, rows - count))) parent[root(gone)] = root(kept);
  const members = new Map();
  for (let row = 0; row < rows; row++) members.set(root(row), (members.get(root(row)) ?? 0) + 1);
  const order = [...members.keys()].sort((a, b) => members.get(b) - members.get(a) || a - b);
  return parent.map((_, row) => order.indexOf(root(row)));
}

/** The number of groups from 2 to `most` whose mean silhouette is highest. */
export function likelyGroups(cosines, merges, rows, most) {
  let best = { count: 1, score: -Infinity };
  for (let count = 2; count <= Math.min(most, rows - 1); count++) {
    const score = silhouette(cosines, cut(merges, rows, count), rows, count);
    if (score > best.score + 1e-9) best = { count, score };
  }
  return best.count;
}

function silhouette(cosines, groups, rows, count) {
  const sizes = new Array(count).fill(0);
  for (const group of groups) sizes[group]++;
  let total = 0;
  for (let row = 0; row < rows; row++) {
    const own = groups[row];
    if (sizes[own] === 1) continue; // a group of one has silhouette 0
    const sums = new Float64Array(count);
    for (let other = 0; other < rows; other++) {
      if (other !== row) sums[groups[other]] += 1 - cosines[row * rows + other];
    }
    const inside = sums[own] / (sizes[own] - 1);
    let outside = Infinity;
    for (let group = 0; group < count; group++) {
      if (group !== own) outside = Math.min(outside, sums[group] / sizes[group]);
    }
    total += (outside - inside) / Math.max(outside, inside, 1e-12);
  }
  return total / rows;
}

/** The row of each group with the highest mean cosine to the others of its group. */
export function middles(cosines, groups, rows, count) {
  const best = new Array(count).fill(-1);
  const height = new Array(count).fill(-Infinity);
  for (let row = 0; row < rows; row++) {
    let sum = 0;
    for (let other = 0; other < rows; other++)
      if (groups[other] === groups[row]) sum += cosines[row * rows + other];
    if (sum > height[groups[row]] + 1e-9) {
      best[groups[row]] = row;
      height[groups[row]] = sum;
    }
  }
  return best;
}

/** Pairs of rows with a cosine of at least `least`, nearest first: [{a, b, cosine}]. */
export function nearPairs(cosines, rows, least) {
  const pairs = [];
  for (let a = 0; a < rows; a++) {
    for (let b = a + 1; b < rows; b++) {
      if (cosines[a * rows + b] >= least) pairs.push({ a, b, cosine: cosines[a * rows + b] });
    }
  }
  return pairs.sort((one, other) => other.cosine - one.cosine);
}
