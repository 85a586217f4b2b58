/** From an image file to the pixels that the model takes: 8 bits, RGB, upright, transparency on white. */

import { checkWhole, ImageFault, kindOf, reason } from "./files";

export interface Pixels {
  /** RGB, rows from the top: height x width x 3. */
  readonly data: Uint8Array<ArrayBuffer>;
  readonly height: number;
  readonly width: number;
}

/** How much of a large image is decoded; see `PageData`. */
export interface Limits {
  readonly enough_px: number;
  readonly max_megapixels: number;
  readonly white_level: boolean;
}

const MEGAPIXEL = 1_000_000;
// A JPEG that is reduced may be stored with this many times the limit, as in Python.
const STORED_TIMES = 4;
// The largest canvas of iOS; what is larger is reduced while it is drawn.
const CANVAS_PIXELS = 16_777_216;

/** Throws an ImageFault that says why where the file cannot be decoded whole. */
export async function decode(file: Blob, limits: Limits): Promise<Pixels> {
  const bytes = new Uint8Array(await file.arrayBuffer());
  if (bytes.length === 0) throw new ImageFault("empty file");
  const kind = kindOf(bytes);
  checkWhole(bytes, kind);
  if (limits.white_level && kind === "PNG" && bytes[24] === 16) {
    throw new ImageFault("16 bits per channel: the model has a white level, which browsers cannot apply. Use `headstart predict`.");
  }
  let bitmap: ImageBitmap;
  try {
    // The type counts for what is told apart by nothing else; the orientation is that of EXIF.
    bitmap = await createImageBitmap(file, { imageOrientation: "from-image", colorSpaceConversion: "none" });
  } catch {
    throw new ImageFault(reason(kind));
  }
  try {
    return read(bitmap, kind === "JPEG", limits);
  } finally {
    bitmap.close();
  }
}

function read(bitmap: ImageBitmap, isJpeg: boolean, limits: Limits): Pixels {
  const { width, height } = bitmap;
  const scale = isJpeg ? reduction(width, height, limits.enough_px) : 1;
  const small = { width: Math.ceil(width / scale), height: Math.ceil(height / scale) };
  const limit = limits.max_megapixels * MEGAPIXEL;
  if (small.width * small.height > limit || width * height > limit * (scale > 1 ? STORED_TIMES : 1)) {
    throw new ImageFault(`${width} x ${height} pixels, more than the limit of ${limits.max_megapixels} megapixels`);
  }
  if (width * height <= CANVAS_PIXELS) return reduce(draw(bitmap, width, height), scale);
  return reduce(draw(bitmap, small.width, small.height), 1);
}

/** How many times smaller a JPEG is decoded: 1, 2, 4 or 8, as libjpeg does it for Python. */
export function reduction(width: number, height: number, enough: number): number {
  const most = Math.min(Math.floor(width / enough), Math.floor(height / enough));
  return [8, 4, 2].find((scale) => most >= scale) ?? 1;
}

function draw(bitmap: ImageBitmap, width: number, height: number): ImageData {
  const canvas = document.createElement("canvas");
  canvas.width = width;
  canvas.height = height;
  const context = canvas.getContext("2d", { willReadFrequently: true, alpha: false });
  if (context === null) throw new ImageFault(`${width} x ${height} pixels: the browser does not have enough memory for it`);
  context.fillStyle = "#fff";
  context.fillRect(0, 0, width, height);
  context.imageSmoothingQuality = "high";
  context.drawImage(bitmap, 0, 0, width, height);
  const data = context.getImageData(0, 0, width, height);
  canvas.width = canvas.height = 0; // gives its memory back at once
  return data;
}

/** RGB of RGBA, each pixel the mean of a square of `scale` pixels. */
function reduce(image: ImageData, scale: number): Pixels {
  const { data: rgba, width, height } = image;
  const wide = Math.ceil(width / scale);
  const high = Math.ceil(height / scale);
  const data = new Uint8Array(wide * high * 3);
  if (scale === 1) {
    for (let from = 0, to = 0; to < data.length; from += 4, to += 3) {
      data[to] = rgba[from]!;
      data[to + 1] = rgba[from + 1]!;
      data[to + 2] = rgba[from + 2]!;
    }
    return { data, height, width };
  }
  for (let row = 0, to = 0; row < high; row++) {
    const bottom = Math.min((row + 1) * scale, height);
    for (let column = 0; column < wide; column++, to += 3) {
      const right = Math.min((column + 1) * scale, width);
      let red = 0, green = 0, blue = 0;
      for (let y = row * scale; y < bottom; y++) {
        for (let from = (y * width + column * scale) * 4, end = (y * width + right) * 4; from < end; from += 4) {
          red += rgba[from]!;
          green += rgba[from + 1]!;
          blue += rgba[from + 2]!;
        }
      }
      const count = (bottom - row * scale) * (right - column * scale);
      data[to] = Math.round(red / count);
      data[to + 1] = Math.round(green / count);
      data[to + 2] = Math.round(blue / count);
    }
  }
  return { data, height: high, width: wide };
}
