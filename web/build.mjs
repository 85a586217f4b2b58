// Build the page into the Python package: `node build.mjs`. With `--check [CHECKOUT]`, compare what is there with a new
// build.
import { createHash } from "node:crypto";
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { gunzipSync, gzipSync } from "node:zlib";
import { build } from "esbuild";

const here = (path) => fileURLToPath(new URL(path, import.meta.url));
const [, , check, checkout = here("..")] = process.argv;
const OUT = `${checkout}/src/headstart/prediction/exporters/page/`;
const RUNTIME = "onnxruntime-web";
const WASM = "ort-wasm-simd-threaded.wasm";

async function bundle(entry) {
  const { outputFiles } = await build({
    absWorkingDir: here("."), entryPoints: [entry], bundle: true, minify: true, format: "esm", target: "es2022", charset: "utf8",
    legalComments: "inline", write: false, logLevel: "warning",
  });
  return Buffer.from(outputFiles[0].contents);
}

const version = async (name) => JSON.parse(await readFile(here(`node_modules/${name}/package.json`), "utf8")).version;
const sha256 = (content) => createHash("sha256").update(content).digest("hex");

const wasm = await readFile(here(`node_modules/${RUNTIME}/dist/${WASM}`));
const files = {
  "page.js": await bundle("src/main.ts"),
  "page.css": await bundle("page.css"),
  "page.html": await readFile(here("page.html")),
  "service-worker.js": await bundle("src/service-worker.ts"),
};
const built = {
  runtime: { package: RUNTIME, version: await version(RUNTIME), licence: "MIT", file: WASM, sha256: sha256(wasm) },
  esbuild: await version("esbuild"),
  files: Object.fromEntries(Object.entries(files).map(([name, content]) => [name, sha256(content)])),
};
files["built.json"] = Buffer.from(`${JSON.stringify(built, null, 2)}\n`);

if (check === "--check") {
  // Another zlib packs other bytes: of the runtime, what is packed is compared.
  const there = { "runtime.wasm.gz": gunzipSync(await readFile(`${OUT}runtime.wasm.gz`)) };
  const wanted = { ...files, "runtime.wasm.gz": wasm };
  const stale = [];
  for (const [name, content] of Object.entries(wanted)) {
    const kept = there[name] ?? (await readFile(OUT + name));
    if (!kept.equals(content)) stale.push(name);
  }
  if (stale.length > 0) {
    console.error(`Not what web/ builds: ${stale.join(", ")}. Run: cd web && npm ci && npm run build`);
    process.exit(1);
  }
  console.log("The page in the package is what web/ builds.");
} else {
  await mkdir(OUT, { recursive: true });
  for (const [name, content] of Object.entries(files)) await writeFile(OUT + name, content);
  await writeFile(`${OUT}runtime.wasm.gz`, gzipSync(wasm, { level: 9 }));
}
