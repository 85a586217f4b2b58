/** The model at work in the browser, by ONNX Runtime's WebAssembly. */

import * as ort from "onnxruntime-web/wasm";
import { bytesOf, fromBase64 } from "./bytes";
import type { PageData } from "./page-data";
import { decode, type Pixels } from "./pixels";

export interface Result {
  readonly probabilities: Float32Array;
  readonly distance: number | null;
  /** (embedding, rows, columns); null where it was not asked for, or the network has none. */
  readonly featureMap: { readonly data: Float32Array; readonly rows: number; readonly columns: number } | null;
}

export interface Verification {
  readonly images: number;
  readonly difference: number;
  readonly passed: boolean;
}

export class Model {
  private constructor(
    private readonly session: ort.InferenceSession,
    private readonly page: PageData,
    /** The head's weights, (embedding, class), divided by the temperature; null where there is no linear head. */
    readonly weights: Float32Array | null,
  ) {}

  static async load(page: PageData): Promise<Model> {
    ort.env.wasm.numThreads = 1; // threads need headers that a file has not
    ort.env.wasm.wasmBinary = await bytesOf("runtime.wasm.gz");
    ort.env.logLevel = "error";
    const content = await bytesOf("model.onnx");
    let weights: Float32Array | null = null;
    if (page.head !== null) {
      const { at, width, temperature } = page.head;
      weights = new Float32Array(content.slice(at, at + 4 * width * page.classes.length).buffer);
      weights = weights.map((value) => value / temperature);
    }
    const session = await ort.InferenceSession.create(content, { executionProviders: ["wasm"] });
    return new Model(session, page, weights);
  }

  get mapped(): boolean {
    return this.weights !== null && this.session.outputNames.includes("feature_map");
  }

  async run(pixels: Pixels, withMap = false): Promise<Result> {
    const outputs = ["probabilities"];
    if (this.page.threshold !== null) outputs.push("distance");
    if (withMap) outputs.push("feature_map");
    const image = new ort.Tensor("uint8", pixels.data, [1, pixels.height, pixels.width, 3]);
    const values = await this.session.run({ image }, outputs);
    const floats = (name: string) => values[name]!.data as Float32Array;
    const probabilities = Float32Array.from(floats("probabilities"));
    if (!probabilities.every(Number.isFinite)) throw new Error("the model gives values that are not finite");
    const map = withMap ? values["feature_map"]! : null;
    const result: Result = {
      probabilities,
      distance: this.page.threshold === null ? null : floats("distance")[0]!,
      featureMap:
        map === null ? null : {
          data: Float32Array.from(map.data as Float32Array),
          rows: Number(map.dims[2]),
          columns: Number(map.dims[3]),
        },
    };
    for (const value of Object.values(values)) value.dispose();
    return result;
  }

  /** Run the images that travel with the model, and compare with what the training machine computed. */
  async verify(): Promise<Verification> {
    let difference = 0;
    for (const golden of this.page.golden) {
      const pixels = await decode(new Blob([fromBase64(golden.png)]), { enough_px: Infinity, max_megapixels: 1, white_level: false });
      const { probabilities } = await this.run(pixels);
      probabilities.forEach((value, i) => { difference = Math.max(difference, Math.abs(value - golden.probabilities[i]!)); });
    }
    const images = this.page.golden.length;
    return { images, difference, passed: images > 0 && difference <= this.page.tolerance };
  }
}
