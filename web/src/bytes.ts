/** The model and the runtime: inside the page, or beside it on the same host. */

/** The bytes called `name`, which lie in the page as base64 of gzip, or else in a file of that name. */
export async function bytesOf(name: string): Promise<Uint8Array<ArrayBuffer>> {
  const element = document.getElementById(name);
  if (element !== null) {
    const packed = fromBase64(element.textContent ?? "");
    element.remove(); // some megabytes of text
    return inflate(packed);
  }
  const response = await fetch(name);
  if (!response.ok) throw new Error(`${name} cannot be fetched: ${response.status} ${response.statusText}`);
  const bytes = new Uint8Array(await response.arrayBuffer());
  return bytes[0] === 0x1f && bytes[1] === 0x8b ? inflate(bytes) : bytes; // some hosts unpack it themselves
}

export function fromBase64(text: string): Uint8Array<ArrayBuffer> {
  const binary = atob(text.trim());
  const bytes = new Uint8Array(binary.length);
  for (let i = 0; i < binary.length; i++) bytes[i] = binary.charCodeAt(i);
  return bytes;
}

async function inflate(packed: BufferSource): Promise<Uint8Array<ArrayBuffer>> {
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}
