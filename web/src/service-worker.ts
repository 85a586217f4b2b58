/** Keeps the files of the exported folder, so that the page works without a network after the first visit. */

export {};

interface Kept { waitUntil(done: Promise<unknown>): void; respondWith(answer: Promise<Response>): void; readonly request: Request }
const worker = self as unknown as {
  addEventListener(kind: "install" | "activate" | "fetch", action: (event: Kept) => void): void;
  skipWaiting(): Promise<void>;
};

// The exporter writes the digest of the files in the place of this word.
const CACHE = "headstart-{{digest}}";
const FILES = ["./", "index.html", "model.onnx", "runtime.wasm.gz"];

worker.addEventListener("install", (event) => {
  event.waitUntil(caches.open(CACHE).then((cache) => cache.addAll(FILES)).then(() => worker.skipWaiting()));
});

worker.addEventListener("activate", (event) => {
  event.waitUntil(caches.keys().then((names) =>
    Promise.all(names.filter((name) => name.startsWith("headstart-") && name !== CACHE).map((name) => caches.delete(name)))));
});

worker.addEventListener("fetch", (event) => {
  event.respondWith(caches.open(CACHE).then((cache) => cache.match(event.request)).then((kept) => kept ?? fetch(event.request)));
});
