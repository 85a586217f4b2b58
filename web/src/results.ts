/** What is shown of each image: its class, the bars of the probabilities, the reasons to doubt, and where the evidence is. */

import { button, counted, el, percent } from "./dom";
import { evidence, mapped } from "./evidence";
import { paint } from "./heatmap";
import type { Input } from "./inputs";
import type { Model } from "./model";
import type { PageData } from "./page-data";
import { type Answer, type ClassAnswer, isFault, isLabels, type LabelsAnswer, type Prediction } from "./prediction";

const PICTURE_PX = 480;
const THUMB_PX = 320; // dozens of photos at their own size are more than a phone can hold

/** A card of one image. */
export function card(prediction: Prediction, input: Input, model: Model | null, page: PageData): HTMLElement {
  const figure = el("div", { class: "picture" });
  if (isFault(prediction)) {
    return el("li", { class: "result fault" }, figure,
      el("div", {}, name(prediction.path), el("p", { class: "label" }, "Not classified"), el("p", {}, prediction.error)));
  }
  const picture = el("canvas", { class: "thumb", "aria-hidden": "true" });
  const toggles = mapped(model, page) ? mapButtons(explained(prediction, model), input, model, page, figure) : null;
  drawPicture(picture, input.file, THUMB_PX).catch(() => {
    picture.replaceWith(el("p", { class: "soft" }, "This browser cannot display files of this format."));
    toggles?.remove(); // a map lies on a picture
  });
  figure.append(picture);
  const said = isLabels(prediction)
    ? el("p", { class: "label" }, prediction.labels.join(", ") || NO_LABEL)
    : el("p", { class: "label" }, prediction.label, " ", el("span", {}, percent(prediction.probability)));
  const details = el("div", {}, name(prediction.path), said, doubts(prediction),
    isLabels(prediction) ? labelBars(prediction, page) : bars(prediction), neighbours(prediction), toggles);
  return el("li", { class: "result" }, figure, details);
}

const NO_LABEL = "No label";
const MOST_MAPS = 6; // labels of an image whose evidence can be shown
const MOST_BARS = 30; // of hundreds of labels the card shows the most probable ones

const name = (path: string) => el("p", { class: "path" }, path);

function doubts(answer: Answer): HTMLElement {
  const list = el("ul", { class: "doubts" });
  if (answer.familiar === false) {
    list.append(el("li", { class: "unfamiliar" },
      el("strong", {}, "Unfamiliar: "), `unlike the training images. Do not rely on the ${isLabels(answer) ? "labels" : "class"}.`));
  }
  if (!isLabels(answer) && answer.labels !== undefined) {
    list.append(el("li", {}, el("strong", {}, "Prediction set: "), answer.labels.join(", ")));
  }
  return list;
}

/** The training images that are most like it. */
function neighbours({ path, neighbours }: Answer): HTMLElement | null {
  if (neighbours === undefined || neighbours.length === 0) return null;
  const items = neighbours.map((one) => {
    const words = `${one.label}, similarity ${one.similarity.toFixed(2)}: ${one.path}`;
    const picture =
      one.picture === null ? null : el("img", { src: `data:image/jpeg;base64,${one.picture}`, alt: words, title: words });
    return el("li", {}, picture, el("span", picture === null ? {} : { "aria-hidden": "true" }, one.label));
  });
  return el("div", { class: "neighbours" }, el("p", { class: "soft" }, "The most similar training images"),
    el("ul", { "aria-label": `Training images like ${path}` }, ...items));
}

function bar(label: string, probability: number, threshold: number | null): HTMLElement {
  const fill = el("span", {});
  fill.style.width = `${100 * probability}%`;
  const box = el("div", {}, fill);
  if (threshold !== null) {
    const mark = el("i", {});
    mark.style.left = `${100 * threshold}%`;
    box.append(mark);
  }
  const found = threshold !== null && probability >= threshold;
  return el("tr", found ? { class: "found" } : {},
    el("th", { scope: "row" }, label),
    el("td", { class: "bar", "aria-hidden": "true" }, box),
    el("td", { class: "number" }, percent(probability)));
}

/** The labels from the most probable on, with a mark at the threshold of each. */
function labelBars(answer: LabelsAnswer, page: PageData): HTMLElement {
  const named = page.classes.map((label, i) => ({
    label, probability: answer.probabilities[label] ?? 0, threshold: page.thresholds![i]!,
  }));
  const found = new Set(answer.labels);
  const order = named.sort((a, b) => Number(found.has(b.label)) - Number(found.has(a.label)) || b.probability - a.probability);
  const rows = order.slice(0, MOST_BARS).map(({ label, probability, threshold }) => bar(label, probability, threshold));
  const table = el("table", { class: "bars", "aria-label": `The labels of ${answer.path} with their probabilities` },
    el("tbody", {}, ...rows));
  return el("div", {}, table, el("p", { class: "soft" }, "The mark on a bar is the label's threshold.",
    order.length > MOST_BARS ? ` ${counted(order.length - MOST_BARS, "label")} of lower probability not shown.` : ""));
}

function bars(answer: ClassAnswer): HTMLElement {
  const rows = answer.top.map(({ label, probability }) => bar(label, probability, null));
  return el("table", { class: "bars", "aria-label": `The most probable classes of ${answer.path}` },
    el("tbody", {}, ...rows));
}

/** The class or labels whose evidence can be shown: of labels those that the image has, and else the most probable one. */
function explained(answer: Answer, model: Model | null): readonly string[] {
  if (!isLabels(answer)) return [answer.label];
  const order = Object.keys(answer.probabilities).sort((a, b) => answer.probabilities[b]! - answer.probabilities[a]!);
  const found = order.filter((label) => answer.labels.includes(label)).slice(0, MOST_MAPS);
  return model === null || found.length === 0 ? order.slice(0, 1) : found; // a server gives that of the most probable one
}

/** Show and hide the class activation maps, each of which is computed when it is first asked for. */
function mapButtons(labels: readonly string[], input: Input, model: Model | null, page: PageData, figure: HTMLElement): HTMLElement {
  const drawn = new Map<string, HTMLCanvasElement>();
  let shown: string | null = null;
  const words = (label: string) => (label === shown ? "Show the image" : `Show the evidence for ${label}`);
  const update = () => {
    figure.querySelector(".map")?.remove();
    const canvas = shown === null ? undefined : drawn.get(shown);
    if (canvas !== undefined) figure.append(canvas);
    figure.classList.toggle("mapped", shown !== null);
    buttons.forEach((one, i) => { one.textContent = words(labels[i]!); });
  };
  const press = (label: string, pressed: HTMLButtonElement) => {
    shown = shown === label ? null : label;
    update();
    if (shown === null || drawn.has(label)) return;
    pressed.disabled = true;
    draw(label, input, model, page).then(
      (canvas) => {
        drawn.set(label, canvas);
        pressed.disabled = false;
        update();
      },
      (error: unknown) => {
        if (shown === label) shown = null;
        update();
        pressed.replaceWith(el("p", { class: "soft" }, `No map can be shown: ${error instanceof Error ? error.message : String(error)}.`));
      },
    );
  };
  const buttons = labels.map((label) => {
    const one: HTMLButtonElement = button(words(label), () => { press(label, one); }, { class: "link" });
    return one;
  });
  return el("div", { class: "maps" }, ...buttons);
}

async function draw(label: string, input: Input, model: Model | null, page: PageData): Promise<HTMLCanvasElement> {
  const found = await evidence(label, input, model, page);
  const words = `Class activation map: bright regions are evidence for ${label}`;
  const canvas = el("canvas", { class: "map", role: "img", "aria-label": words });
  const context = await drawPicture(canvas, input.file, PICTURE_PX);
  const picture = context.getImageData(0, 0, canvas.width, canvas.height);
  paint(picture, found);
  context.putImageData(picture, 0, 0);
  return canvas;
}

/** Draw a file on a canvas, its longer side at most so many pixels. */
async function drawPicture(canvas: HTMLCanvasElement, file: Blob, most: number): Promise<CanvasRenderingContext2D> {
  const bitmap = await createImageBitmap(file, { imageOrientation: "from-image", colorSpaceConversion: "none" });
  const scale = Math.min(1, most / Math.max(bitmap.width, bitmap.height));
  canvas.width = Math.max(1, Math.round(bitmap.width * scale));
  canvas.height = Math.max(1, Math.round(bitmap.height * scale));
  const context = canvas.getContext("2d", { willReadFrequently: true })!;
  context.imageSmoothingQuality = "high";
  context.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  bitmap.close();
  return context;
}

/** The rows of the table of all results. */
export function row(prediction: Prediction, sets: boolean): HTMLElement {
  if (isFault(prediction)) {
    return el("tr", { class: "fault" }, el("th", { scope: "row" }, prediction.path),
      el("td", { colspan: sets ? "4" : "3" }, `Not classified: ${prediction.error}`));
  }
  const said = isLabels(prediction)
    ? [el("td", {}, prediction.labels.join(", ") || NO_LABEL)]
    : [el("td", {}, prediction.label), el("td", { class: "number" }, percent(prediction.probability))];
  return el("tr", {}, el("th", { scope: "row" }, prediction.path), ...said,
    el("td", {}, prediction.familiar === null ? "" : prediction.familiar ? "yes" : "NO"),
    sets && !isLabels(prediction) ? el("td", {}, prediction.labels?.join(", ") ?? "") : null);
}

/** How many images are of which class, or have which label. */
export function summary(predictions: readonly Prediction[]): string {
  const counts = new Map<string, number>();
  let unfamiliar = 0, unread = 0, several = false;
  for (const one of predictions) {
    if (isFault(one)) { unread += 1; continue; }
    several ||= isLabels(one);
    const names = !isLabels(one) ? [one.label] : one.labels.length > 0 ? one.labels : [NO_LABEL];
    for (const label of names) counts.set(label, (counts.get(label) ?? 0) + 1);
    unfamiliar += Number(one.familiar === false);
  }
  const shown = [...counts].sort((a, b) => b[1] - a[1]).slice(0, 8).map(([label, count]) => `${label} ${count}`);
  const more = counts.size > shown.length ? `, and ${several ? counted(counts.size - shown.length, "more label") : counted(counts.size - shown.length, "more class", "more classes")}` : "";
  return [
    `${counted(predictions.length, "image")}${shown.length > 0 ? `: ${shown.join(", ")}${more}` : ""}.`,
    unfamiliar > 0 ? `${unfamiliar} unfamiliar.` : "",
    unread > 0 ? `${unread} not classified.` : "",
  ].filter(Boolean).join(" ");
}
