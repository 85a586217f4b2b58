/** Where on an image the evidence for its class is, by the model in the page or by the server. */

import { activationMap, type Evidence, frame } from "./heatmap";
import type { Input } from "./inputs";
import type { Model } from "./model";
import type { PageData } from "./page-data";
import { decode } from "./pixels";
import { askMap } from "./server";

/** Whether there are class activation maps. */
export const mapped = (model: Model | null, page: PageData): boolean => (model === null ? page.maps : model.mapped);

/** The evidence for a class; a server gives that for the most probable one. */
export async function evidence(label: string, input: Input, model: Model | null, page: PageData): Promise<Evidence> {
  if (model === null) {
    const found = await askMap(input, page);
    if (found.label !== label) throw new Error("the server gives maps of the most probable class alone");
    const grid = { data: Float64Array.from(found.values.flat()), rows: found.values.length, columns: found.values[0]!.length };
    return { grid, where: found };
  }
  const pixels = await decode(input.file, page);
  const result = await model.run(pixels, true);
  const grid = activationMap(result, model.weights!, page, page.classes.indexOf(label));
  return { grid, where: frame(page.preprocess, pixels.height, pixels.width) };
}
