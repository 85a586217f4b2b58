/** Results as CSV, with the columns of `headstart predict --format csv`. */

import type { PageData } from "./page-data";
import { isFault, isLabels, type LabelsAnswer, type Prediction } from "./prediction";

// Controls, line and paragraph separators, and halves of characters.
const HIDDEN = /[\p{Cc}\p{Zl}\p{Zp}\p{Cs}]/u;
const HEADER = ["path", "label", "probability", "error", "familiar", "distance"];
const HEADER_OF_LABELS = ["path", "labels", "probabilities", "error", "familiar", "distance"];

/** The text of a CSV file (RFC 4180); `sets` adds the column `labels`. */
export function csv(predictions: readonly Prediction[], sets: boolean, page: PageData): string {
  const rows = predictions.map((one) => {
    const cells = isFault(one)
      ? [cell(one.path), "", "", cell(one.error), "", ""]
      : isLabels(one)
        ? [cell(one.path), `[${one.labels.map((name) => JSON.stringify(name)).join(", ")}]`, probabilities(one, page), "", text(one.familiar), text(one.distance)]
        : [cell(one.path), cell(one.label), String(one.probability), "", text(one.familiar), text(one.distance)];
    if (sets) cells.push(isFault(one) || isLabels(one) ? "" : JSON.stringify(one.labels ?? []));
    return cells;
  });
  const head = page.thresholds !== null ? HEADER_OF_LABELS : sets ? [...HEADER, "labels"] : HEADER;
  return [head, ...rows].map((row) => row.map(quoted).join(",") + "\n").join("");
}

/** All probabilities as JSON, in the order of the model: an object of JavaScript would put names like 7 first. */
const probabilities = (one: LabelsAnswer, page: PageData) =>
  `{${page.classes.map((name) => `${JSON.stringify(name)}: ${one.probabilities[name] ?? null}`).join(", ")}}`;

/** A name as a cell: what a spreadsheet would take for a formula, or a reader would change, as a JSON string. */
export function cell(name: string): string {
  const plain = name === name.trim() && !/^[=+\-@"＝＋－＠]/.test(name) && !HIDDEN.test(name);
  if (plain) return name;
  const escaped = (one: string) => `\\u${one.charCodeAt(0).toString(16).padStart(4, "0")}`;
  return JSON.stringify(name).replace(/[\u007f-\u009f\u2028\u2029]/g, escaped);
}

const quoted = (value: string) => (/[",\r\n]/.test(value) ? `"${value.replaceAll('"', '""')}"` : value);
const text = (value: boolean | number | null) =>
  value === null ? "" : typeof value === "boolean" ? (value ? "yes" : "no") : String(value);
