/** What is known of the model: what it was made of, and how good it was on images that it had not seen. */

import { byId, el } from "./dom";
import type { PageData, Section } from "./page-data";

export function showCard(page: PageData): void {
  byId("card").append(...page.card.map(part));
}

function part({ title, sentences, facts, table }: Section): HTMLElement {
  const section = el("section", {}, el("h3", {}, title), ...sentences.map((one) => el("p", {}, one)));
  if (facts.length > 0) {
    section.append(el("dl", { class: "facts" },
      ...facts.map(([name, value]) => el("div", {}, el("dt", {}, name), el("dd", {}, value)))));
  }
  if (table !== null) {
    section.append(el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": title }, el("table", {},
      el("thead", {}, el("tr", {}, ...table.head.map((one, i) => el("th", { scope: "col", ...(i === 0 ? {} : { class: "number" }) }, one)))),
      el("tbody", {}, ...table.rows.map((cells) =>
        el("tr", {}, ...cells.map((one, i) => (i === 0 ? el("th", { scope: "row" }, one) : el("td", { class: "number" }, one)))))))));
  }
  return section;
}
