/** What a file is by its first bytes, and whether all of it is there: browsers show half a JPEG without a word. */

export class ImageFault extends Error {}

export type Kind = "JPEG" | "PNG" | "WebP" | "GIF" | "BMP" | "AVIF" | "HEIC" | "TIFF" | "JPEG XL" | "PDF" | "unknown";

const HEIC_BRANDS = ["heic", "heix", "hevc", "hevx", "heim", "heis", "mif1", "msf1"];

export function kindOf(bytes: Uint8Array): Kind {
  const text = (from: number, to: number) => String.fromCharCode(...bytes.subarray(from, to));
  if (bytes[0] === 0xff && bytes[1] === 0xd8) return "JPEG";
  if (text(1, 4) === "PNG") return "PNG";
  if (text(0, 4) === "RIFF" && text(8, 12) === "WEBP") return "WebP";
  if (text(0, 4) === "GIF8") return "GIF";
  if (text(0, 2) === "BM") return "BMP";
  if (text(4, 8) === "ftyp") {
    const size = Math.min(new DataView(bytes.buffer, bytes.byteOffset).getUint32(0), bytes.length, 256);
    const brands = [text(8, 12)];
    for (let at = 16; at + 4 <= size; at += 4) brands.push(text(at, at + 4));
    if (brands.includes("avif") || brands.includes("avis")) return "AVIF";
    if (brands.some((brand) => HEIC_BRANDS.includes(brand))) return "HEIC";
  }
  if (["II*\0", "MM\0*", "II+\0", "MM\0+"].includes(text(0, 4))) return "TIFF";
  if ((bytes[0] === 0xff && bytes[1] === 0x0a) || text(4, 8) === "JXL ") return "JPEG XL";
  if (text(0, 4) === "%PDF") return "PDF";
  return "unknown";
}

/** Throws an ImageFault where the end of the file is missing. */
export function checkWhole(bytes: Uint8Array, kind: Kind): void {
  const whole =
    kind === "JPEG" ? jpegEnds(bytes)
    : kind === "PNG" ? endsWith(bytes, [0x49, 0x45, 0x4e, 0x44, 0xae, 0x42, 0x60, 0x82])
    : kind === "WebP" ? new DataView(bytes.buffer, bytes.byteOffset).getUint32(4, true) + 8 <= bytes.length
    : true;
  if (!whole) throw new ImageFault(`${kind} that ends early`);
}

/** Why the browser could not decode a file, in words. */
export function reason(kind: Kind): string {
  const elsewhere = "Save it as JPEG or PNG, or use `headstart predict`, which reads it.";
  if (kind === "unknown") return "not an image in a known format";
  if (kind === "PDF") return "a PDF document, not an image";
  if (kind === "HEIC" || kind === "TIFF" || kind === "JPEG XL") return `this browser does not decode ${kind}. ${elsewhere}`;
  return `damaged ${kind}, or a variant that this browser does not decode`;
}

/** Whether the first picture in a JPEG file has an end; a preview in its metadata has one too. */
function jpegEnds(bytes: Uint8Array): boolean {
  for (let at = 2; at + 2 <= bytes.length; ) {
    const marker = bytes[at + 1]!;
    if (bytes[at] !== 0xff || marker === 0xff) at += 1; // between markers lie the bytes of a scan, or padding
    else if (marker === 0xd9) return true;
    else if (marker <= 0x01 || (marker >= 0xd0 && marker <= 0xd8)) at += 2; // these have no length
    else at += 2 + (((bytes[at + 2] ?? 0) << 8) | (bytes[at + 3] ?? 0));
  }
  return false;
}

function endsWith(bytes: Uint8Array, pattern: readonly number[]): boolean {
  for (let at = bytes.length - pattern.length; at >= 8; at--) {
    if (pattern.every((value, i) => bytes[at + i] === value)) return true;
  }
  return false;
}
