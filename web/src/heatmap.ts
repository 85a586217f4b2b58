/** The class activation map (Zhou et al. 2016): which regions of an image are evidence for a class; as `prediction/explanation.py`. */

import type { Result } from "./model";
import type { PageData, Preprocess } from "./page-data";

/** Edges of the network's square, as shares of the image's sides. */
export interface Frame { readonly top: number; readonly left: number; readonly bottom: number; readonly right: number }

export interface Grid { readonly data: Float64Array; readonly rows: number; readonly columns: number }

/** A map, and where on the image it lies. */
export interface Evidence { readonly grid: Grid; readonly where: Frame }

const COLOURS = [
  [68, 1, 84], [72, 40, 120], [62, 74, 137], [49, 104, 142], [38, 130, 142],
  [31, 158, 137], [53, 183, 121], [109, 205, 89], [180, 222, 44], [253, 231, 37],
] as const;
const OPACITY = 0.75;
const UNSEEN = 0.4;

/** The map of the log-odds of a class against the others, or of a label, beside which others can be true; (rows, columns). */
export function activationMap(result: Result, weights: Float32Array, page: PageData, number: number): Grid {
  const { data, rows, columns } = result.featureMap!;
  const classes = page.classes.length;
  const width = weights.length / classes;
  const places = rows * columns;
  const share = page.thresholds === null ? shareOfOthers(result, weights, page, number) : [];
  const grid = new Float64Array(places);
  for (let d = 0; d < width; d++) {
    let weight = weights[d * classes + number]!;
    share.forEach((one, i) => { weight -= weights[d * classes + i]! * one; });
    for (let at = 0; at < places; at++) grid[at]! += data[d * places + at]! * weight;
  }
  return { data: grid, rows, columns };
}

/** What each of the other classes has of the probability that a class leaves. */
function shareOfOthers(result: Result, weights: Float32Array, page: PageData, number: number): number[] {
  const { data, rows, columns } = result.featureMap!;
  const classes = page.classes.length;
  const width = weights.length / classes;
  const places = rows * columns;
  const { bias, temperature } = page.head!;
  const scores = Array.from({ length: classes }, (_, i) => bias[i]! / temperature);
  for (let d = 0; d < width; d++) {
    let mean = 0;
    for (let at = 0; at < places; at++) mean += data[d * places + at]!;
    mean /= places;
    for (let i = 0; i < classes; i++) scores[i]! += mean * weights[d * classes + i]!;
  }
  const highest = Math.max(...scores.filter((_, i) => i !== number));
  const share = scores.map((score, i) => (i === number ? 0 : Math.exp(score - highest)));
  const total = share.reduce((sum, value) => sum + value, 0);
  return share.map((value) => value / total);
}

/** Paint a picture in grey with the map in colours over it; what the network does not see is dark. */
export function paint(picture: ImageData, { grid, where }: Evidence): void {
  const highest = Math.max(...grid.data);
  const down = shares(picture.height, where.top, where.bottom, grid.rows);
  const across = shares(picture.width, where.left, where.right, grid.columns);
  for (let row = 0, at = 0; row < picture.height; row++) {
    const y = down[row]!;
    for (let column = 0; column < picture.width; column++, at += 4) {
      const x = across[column]!;
      const grey = 0.299 * picture.data[at]! + 0.587 * picture.data[at + 1]! + 0.114 * picture.data[at + 2]!;
      let colour: readonly number[] = [grey * UNSEEN, grey * UNSEEN, grey * UNSEEN];
      if (y.seen && x.seen) {
        const of = (i: number, j: number) => grid.data[i * grid.columns + j]!;
        const upper = of(y.first, x.first) * (1 - x.share) + of(y.first, x.second) * x.share;
        const lower = of(y.second, x.first) * (1 - x.share) + of(y.second, x.second) * x.share;
        const value = highest <= 0 ? 0 : Math.min(Math.max((upper * (1 - y.share) + lower * y.share) / highest, 0), 1);
        colour = colourOf(value).map((one) => grey + (one - grey) * OPACITY * value);
      }
      for (let i = 0; i < 3; i++) picture.data[at + i] = colour[i]!;
    }
  }
}

function colourOf(value: number): number[] {
  const place = value * (COLOURS.length - 1);
  const below = Math.min(Math.floor(place), COLOURS.length - 2);
  const share = place - below;
  return COLOURS[below]!.map((one, i) => one * (1 - share) + COLOURS[below + 1]![i]! * share);
}

/** The square that the network sees of an image; as `preprocess/frame.py`, number by number. */
export function frame(spec: Preprocess, height: number, width: number): Frame {
  if (spec.fit === "squash") return { top: 0, left: 0, bottom: 1, right: 1 };
  const [top, bottom] = edges(spec, height, Math.min(height, width), Math.max(height, width));
  const [left, right] = edges(spec, width, Math.min(height, width), Math.max(height, width));
  return { top, left, bottom, right };
}

function edges(spec: Preprocess, length: number, short: number, long: number): [number, number] {
  const whole = (a: number, b: number) => Math.floor(a / b);
  if (spec.fit === "pad") {
    const size = Math.max(whole(length * spec.resize_px, long), 1);
    const before = whole(spec.size_px - size, 2);
    return [-before / size, (spec.size_px - before) / size];
  }
  const kept = Math.min(length, short * spec.max_aspect);
  const cut = whole(length - kept, 2);
  const size = Math.max(whole(kept * spec.resize_px, short), 1);
  const spare = size - spec.size_px;
  const half = whole(spare, 2);
  const start = whole(spare + (((half % 2) + 2) % 2), 2);
  return [(cut + (start * kept) / size) / length, (cut + ((start + spec.size_px) * kept) / size) / length];
}

/** Between which cells each pixel lies, and how near the second one. */
function shares(length: number, low: number, high: number, cells: number) {
  return Array.from({ length }, (_, pixel) => {
    const at = ((pixel + 0.5) / length - low) / (high - low);
    const place = Math.min(Math.max(at * cells - 0.5, 0), cells - 1);
    const first = Math.min(Math.floor(place), Math.max(cells - 2, 0));
    return { first, second: Math.min(first + 1, cells - 1), share: place - first, seen: at >= 0 && at <= 1 };
  });
}
