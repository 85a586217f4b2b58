/** Where a server answers: files are sent to it, and its records come back. */

import { ImageFault } from "./files";
import type { Frame } from "./heatmap";
import type { Input } from "./inputs";
import type { PageData } from "./page-data";
import { isFault, type Prediction } from "./prediction";

const TRIES = 20; // at a server that is busy
const NEIGHBOURS = 4;

/** A class activation map, and the square of the image that it covers. */
export interface MapRecord extends Frame { readonly label: string; readonly values: readonly (readonly number[])[] }

type Mapped = Prediction & { readonly activation_map?: MapRecord | null };

interface Said { readonly predictions?: readonly Mapped[]; readonly detail?: string }

/** The record of one image, from the server. */
export async function ask(input: Input, page: PageData, coverage: number | null): Promise<Prediction> {
  const query = new URLSearchParams();
  if (coverage !== null) query.set("coverage", String(coverage));
  if (page.neighbours) query.set("neighbours", String(NEIGHBOURS));
  const record = await send(input, page, query);
  return isFault(record) ? { path: input.path, error: record.error } : { ...record, path: input.path };
}

/** The class activation map of the most probable class of an image, from the server. */
export async function askMap(input: Input, page: PageData): Promise<MapRecord> {
  const record = await send(input, page, new URLSearchParams({ activation_map: "true" }));
  if (!record.activation_map) throw new ImageFault(isFault(record) ? record.error : "the model has no map of it");
  return record.activation_map;
}

async function send(input: Input, page: PageData, query: URLSearchParams): Promise<Mapped> {
  const form = new FormData();
  form.append("files", input.file, input.path);
  for (let left = TRIES; ; left--) {
    const response = await fetch(`${page.server!}?${query.toString()}`, { method: "POST", body: form });
    if (response.status === 503 && left > 0) {
      const seconds = Number(response.headers.get("Retry-After")) || 1;
      await new Promise((done) => setTimeout(done, 1000 * seconds));
      continue;
    }
    const said = (await response.json()) as Said;
    const record = said.predictions?.[0];
    if (record === undefined) throw new ImageFault(said.detail ?? `the server answered ${response.status}`);
    return record;
  }
}
