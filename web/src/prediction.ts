/** The public record of a prediction, with the very keys that `headstart predict --format jsonl` prints. */

import type { Result } from "./model";
import type { PageData, Sets } from "./page-data";

export interface Named { readonly label: string; readonly probability: number }

interface Common {
  readonly path: string;
  readonly familiar: boolean | null;
  readonly distance: number | null;
  /** From a server that knows them. */
  readonly neighbours?: readonly Neighbour[];
}

/** Of a model that knows one class of an image. */
export interface ClassAnswer extends Common {
  readonly label: string;
  readonly probability: number;
  readonly top: readonly Named[];
  /** The prediction set, where it is asked for. */
  readonly labels?: readonly string[];
}

/** Of a model that knows any number of labels of an image. */
export interface LabelsAnswer extends Common {
  /** Those whose probability reaches their threshold, in the order of the model. */
  readonly labels: readonly string[];
  readonly probabilities: Readonly<Record<string, number>>;
}

export type Answer = ClassAnswer | LabelsAnswer;

/** A training image that is like the image. */
export interface Neighbour {
  readonly path: string;
  readonly label: string;
  readonly similarity: number;
  /** A small JPEG file in base64; null where it cannot be read any more. */
  readonly picture: string | null;
}

export interface Fault { readonly path: string; readonly error: string }

export type Prediction = Answer | Fault;

export const isLabels = (answer: Answer): answer is LabelsAnswer => !("label" in answer);

export const isFault = (prediction: Prediction): prediction is Fault => "error" in prediction;

/** The record of one image. `coverage` asks for the set of classes that holds the true one with this probability. */
export function record(path: string, result: Result, page: PageData, coverage: number | null, top = 5): Answer {
  const seen = ofDistance(result.distance, page);
  if (page.thresholds !== null) {
    const { thresholds } = page;
    const probabilities = [...result.probabilities];
    return {
      path,
      labels: page.classes.filter((_, i) => probabilities[i]! >= thresholds[i]!),
      probabilities: Object.fromEntries(page.classes.map((name, i) => [name, rounded(probabilities[i]!)])),
      ...seen,
    };
  }
  const order = [...result.probabilities.keys()].sort(
    (a, b) => result.probabilities[b]! - result.probabilities[a]! || a - b,
  );
  const named = order.slice(0, top).map((i) => ({
    label: page.classes[i]!,
    probability: rounded(result.probabilities[i]!),
  }));
  const answer = { path, label: named[0]!.label, probability: named[0]!.probability, ...seen, top: named };
  if (coverage === null || page.sets === null) return answer;
  const most = limit(page.sets, coverage);
  const size = result.probabilities.reduce((count, value) => count + Number(1 - value <= most), 0);
  return { ...answer, labels: order.slice(0, Math.max(size, 1)).map((i) => page.classes[i]!) };
}

const ofDistance = (distance: number | null, page: PageData) => ({
  familiar: distance === null || page.threshold === null ? null : distance <= page.threshold,
  distance: distance === null ? null : rounded(distance),
});

/** The largest score of a class in the sets of a coverage; see `modelfile/prediction_sets.py`. */
export function limit(sets: Sets, coverage: number): number {
  const rank = Math.ceil(coverage * (sets.images + 1) - 1e-9);
  if (rank > sets.images) return Infinity;
  return sets.scores[Math.floor(((rank - 1) * sets.scores.length) / sets.images)]!;
}

const rounded = (value: number) => Math.round(value * 1e6) / 1e6;
