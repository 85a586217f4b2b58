/** The page: read what the exporter wrote, start the model, classify what comes. */

import { byId, counted, el } from "./dom";
import { ImageFault } from "./files";
import { evidence } from "./evidence";
import { connect, type Input } from "./inputs";
import { showCard } from "./model-card";
import { Model, type Result } from "./model";
import { readPageData } from "./page-data";
import { decode } from "./pixels";
import { isFault, isLabels, type ClassAnswer, type Prediction, record } from "./prediction";
import { card, row, summary } from "./results";
import { ask } from "./server";
import { csv } from "./table";

interface Item { readonly input: Input; readonly result: Result | null; readonly prediction: Prediction }

const MOST_CARDS = 60; // of thousands of images, the table shows all and the cards show the first
const page = readPageData();
// A server classifies by itself, so that the page needs no model.
const loading: Promise<Model | null> = page.server === null ? Model.load(page) : Promise.resolve(null);
const waiting: Input[] = [];
const items: Item[] = [];
let busy = false;
let coverage: number | null = null;
let stopped = false;

const status = (text: string) => { byId("status").textContent = text; };

async function work(): Promise<void> {
  if (busy) return;
  busy = true;
  byId("results").hidden = false;
  const model = await loading; // where that fails, the status says so
  let shown = 0;
  for (let input = waiting.shift(); input !== undefined; input = waiting.shift()) {
    const item = await classify(input, model);
    if (stopped) break;
    items.push(item);
    show(item, model);
    if (performance.now() - shown > 200) {
      status(waiting.length > 0 ? `Classifying: ${counted(waiting.length, "image")} to go.` : "");
      await new Promise((done) => setTimeout(done)); // the page stays awake
      shown = performance.now();
    }
  }
  stopped = false;
  busy = false;
  if (waiting.length > 0) return work(); // what came after a clearing
  status(items.length > 0 ? `Done. ${summary(items.map(({ prediction }) => prediction))}` : "");
}

async function classify(input: Input, model: Model | null): Promise<Item> {
  try {
    while (model === null) {
      const wanted = coverage;
      const prediction = await ask(input, page, wanted);
      if (wanted === coverage) return { input, result: null, prediction }; // else the set that it holds is of another one
    }
    const result = await model.run(await decode(input.file, page));
    return { input, result, prediction: record(input.path, result, page, coverage) };
  } catch (error) {
    const words = error instanceof ImageFault ? error.message : `${model === null ? "the server cannot be reached" : "the browser failed on it"}: ${String(error)}`;
    return { input, result: null, prediction: { path: input.path, error: words } };
  }
}

function show(item: Item, model: Model | null): void {
  const { prediction, input } = item;
  if (items.length <= MOST_CARDS) byId("cards").append(card(prediction, input, model, page));
  byId("rows").append(row(prediction, coverage !== null));
  byId("more").textContent = items.length > MOST_CARDS ? `The first ${MOST_CARDS} are shown; the table below has all.` : "";
  byId("summary").textContent = summary(items.map((one) => one.prediction));
}

/** Show all results anew, with the prediction sets that are asked for now. */
async function showAgain(): Promise<void> {
  const model = await loading;
  byId("cards").replaceChildren();
  byId("rows").replaceChildren();
  byId("set-column").hidden = coverage === null;
  const all = items.splice(0);
  if (model === null) {
    waiting.unshift(...all.map(({ input }) => input));
    return work();
  }
  for (const { input, result, prediction } of all) {
    const again = result === null ? prediction : record(input.path, result, page, coverage);
    items.push({ input, result, prediction: again });
    show(items.at(-1)!, model);
  }
}

function clear(): void {
  waiting.length = 0;
  stopped = busy;
  items.length = 0;
  byId("cards").replaceChildren();
  byId("rows").replaceChildren();
  byId("results").hidden = true;
  status("");
  byId("choose-files").focus();
}

function save(): void {
  const text = csv(items.map(({ prediction }) => prediction), coverage !== null, page);
  const address = URL.createObjectURL(new Blob(["\ufeff", text], { type: "text/csv" }));
  el("a", { href: address, download: "predictions.csv" }).click();
  setTimeout(() => URL.revokeObjectURL(address), 60_000);
}

function start(): void {
  showCard(page);
  if (page.thresholds !== null) {
    byId("class-column").textContent = "Labels";
    byId("probability-column").hidden = true;
  }
  connect((inputs) => {
    if (inputs.length === 0) return status("No image files were selected.");
    waiting.push(...inputs);
    void work();
  });
  byId("save").addEventListener("click", save);
  byId("clear").addEventListener("click", clear);
  const chooser = byId<HTMLSelectElement>("coverage");
  byId("sets").hidden = page.sets === null;
  chooser.addEventListener("change", () => {
    coverage = chooser.value === "" ? null : Number(chooser.value);
    void showAgain();
  });
  loading.then(
    async (model) => {
      if (!busy) status("Ready.");
      if (model === null) return;
      const { images, difference, passed } = await model.verify();
      byId("verified").textContent = passed
        ? `Checked in this browser: ${counted(images, "test image")} inside the model gave the same probabilities as on the machine that trained it (largest difference ${difference < 1e-6 ? "below 0.000001" : difference.toPrecision(1)}).`
        : `WARNING: in this browser the model gives different probabilities than on the machine that trained it (difference ${difference.toPrecision(2)}). Do not rely on it here.`;
      byId("verified").classList.toggle("wrong", !passed);
    },
    (error: unknown) => {
      status(`The model cannot be started in this browser: ${String(error)}. Use a current version of Chrome, Edge, Firefox or Safari.`);
      byId("status").classList.add("wrong");
    },
  );
}

// What scripts may ask: the public record with all probabilities, and the class activation map.
declare global {
  interface Window {
    headstart?: {
      classify(file: Blob, path: string): Promise<Prediction | (ClassAnswer & { probabilities: number[] })>;
      activationMap(file: Blob, label: string): Promise<number[][]>;
    };
  }
}
window.headstart = {
  async classify(file, path) {
    const { prediction, result } = await classify({ path, file }, await loading);
    return isFault(prediction) || result === null || isLabels(prediction) ? prediction : { ...prediction, probabilities: [...result.probabilities] };
  },
  async activationMap(file, label) {
    const model = await loading;
    const { data, rows, columns } = (await evidence(label, { path: "image", file }, model, page)).grid;
    return Array.from({ length: rows }, (_, row) => [...data.slice(row * columns, (row + 1) * columns)]);
  },
};
if (page.server === null && "serviceWorker" in navigator && document.getElementById("model.onnx") === null) void navigator.serviceWorker.register("service-worker.js");
start();
