/** What the exporter writes into the page; `prediction/exporters/page.py` is its other half. */

export interface PageData {
  /** Where a server classifies what is sent to it; null where the page itself does. */
  readonly server: string | null;
  /** Whether the server knows the nearest training images. */
  readonly neighbours: boolean;
  /** Whether the server gives class activation maps. */
  readonly maps: boolean;
  readonly name: string;
  readonly version: string;
  readonly classes: readonly string[];
  /** From what probability on each of `classes` is true of an image, any number of them; null where exactly one is. */
  readonly thresholds: readonly number[] | null;
  readonly preprocess: Preprocess;
  /** A JPEG may be reduced as long as both sides keep this many pixels. */
  readonly enough_px: number;
  readonly max_megapixels: number;
  /** Whether 16-bit images are decoded with a white level, which browsers cannot do. */
  readonly white_level: boolean;
  /** Of the distance to the training images: what is farther is unfamiliar. Null where the model cannot tell. */
  readonly threshold: number | null;
  readonly sets: Sets | null;
  readonly head: Head | null;
  readonly golden: readonly Golden[];
  /** How far a probability of a golden image may differ. */
  readonly tolerance: number;
  readonly card: readonly Section[];
}

export interface Preprocess {
  readonly size_px: number;
  readonly resize_px: number;
  readonly fit: "crop" | "squash" | "pad";
  readonly max_aspect: number;
}

/** Scores of held-out images in ascending order; of many images, some are kept. */
export interface Sets {
  readonly images: number;
  readonly scores: readonly number[];
}

/** A linear head: where its weights, float32 (embedding, class), lie in the model file, and the rest of it. */
export interface Head {
  readonly at: number;
  readonly width: number;
  readonly bias: readonly number[];
  readonly temperature: number;
}

export interface Golden {
  readonly png: string;
  readonly probabilities: readonly number[];
}

/** A part of the model card. */
export interface Section {
  readonly title: string;
  readonly sentences: readonly string[];
  readonly facts: readonly (readonly [string, string])[];
  readonly table: { readonly head: readonly string[]; readonly rows: readonly (readonly string[])[] } | null;
}

export function readPageData(): PageData {
  const element = document.getElementById("page-data");
  return JSON.parse(element?.textContent ?? "") as PageData;
}
