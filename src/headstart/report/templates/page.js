"use strict";
// Tables that sort by a column. Without this script they are as they were written.
for (const table of document.querySelectorAll("table[data-sortable]")) {
  const heads = [...table.tHead.rows[0].cells], body = table.tBodies[0];
  const key = (row, i) => row.cells[i].dataset.sort ?? row.cells[i].textContent.trim();
  heads.forEach((head, i) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const up = head.getAttribute("aria-sort") !== "ascending";
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", up ? "ascending" : "descending");
      const rows = [...body.rows].sort((a, b) => {
        const x = key(a, i), y = key(b, i);
        const both = x !== "" && y !== "" && !isNaN(x) && !isNaN(y);
        return both ? x - y : x.localeCompare(y);
      });
      body.append(...(up ? rows : rows.reverse()));
    });
  });
}

// The images behind a cell of the matrix. Without this script the link shows them by :target.
for (const link of document.querySelectorAll("a[data-dialog]")) {
  link.addEventListener("click", (event) => {
    event.preventDefault();
    document.getElementById(link.hash.slice(1)).showModal();
  });
}
for (const link of document.querySelectorAll("a[data-close]")) {
  const dialog = link.closest("dialog");
  link.addEventListener("click", (event) => {
    if (!dialog.open) return;
    event.preventDefault();
    dialog.close();
  });
}
for (const dialog of document.querySelectorAll("dialog")) {
  dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
}

// The threshold of a label: what it finds, misses and adds, wherever it is put.
for (const curve of document.querySelectorAll("details[data-curve]")) {
  const slide = curve.querySelector(".slide"), range = slide.querySelector("input"), rule = curve.querySelector("line.rule");
  const axis = curve.querySelector("line.axis"), [start, end] = ["x1", "x2"].map((x) => Number(axis.getAttribute(x)));
  const [cuts, correct, found] = ["cuts", "correct", "found"].map((name) => curve.dataset[name].split(" ").map(Number));
  const positives = Number(curve.dataset.positives), own = range.value;
  const set = (name, text) => curve.querySelector(`[data-at=${name}]`).textContent = text;
  const share = (part, all) => (all ? (100 * part / all).toFixed(1) + "\u00a0%" : "–");
  const draw = () => {
    const i = Number(range.value), missed = positives - correct[i], added = found[i] - correct[i];
    const cut = String(Math.round(1000 * cuts[i]) / 1000);
    rule.setAttribute("x1", start + cuts[i] * (end - start));
    rule.setAttribute("x2", start + cuts[i] * (end - start));
    set("cut", cut);
    set("correct", correct[i].toLocaleString("en"));
    set("missed", missed.toLocaleString("en"));
    set("added", added.toLocaleString("en"));
    set("precision", share(correct[i], found[i]));
    set("recall", share(correct[i], positives));
    range.setAttribute("aria-valuetext", `${cut}: ${missed} missed, ${added} added`);
  };
  slide.hidden = false;
  range.addEventListener("input", draw);
  slide.querySelector("button").addEventListener("click", () => { range.value = own; draw(); });
  draw();
}
const unfold = () => {
  const aim = location.hash && document.getElementById(location.hash.slice(1));
  if (aim && aim.matches("details")) aim.open = true;
};
addEventListener("hashchange", unfold);
unfold();

// The map: a picture beside the point that is pointed at or focused; arrow keys move to the nearest point that way.
for (const map of document.querySelectorAll("[data-map]")) {
  const svg = map.querySelector("svg"), tip = map.querySelector(".tip"), image = tip.querySelector("img");
  const words = tip.querySelector("p"), points = [...svg.querySelectorAll("g[data-key]")];
  const pictures = JSON.parse(map.parentElement.querySelector("script[data-pictures]").textContent);
  const place = new Map(points.map((point) => [point, point.transform.baseVal.consolidate().matrix]));
  const show = (point) => {
    for (const other of svg.querySelectorAll("g.at")) other.classList.remove("at");
    tip.hidden = !point;
    if (!point) return;
    point.classList.add("at");
    const key = point.dataset.key;
    const source = pictures[key] ?? document.querySelector(`img[data-key="${key}"]`)?.src;
    image.hidden = !source;
    if (source) image.src = source;
    words.textContent = point.getAttribute("aria-label");
    const at = point.getBoundingClientRect(), box = map.getBoundingClientRect();
    const left = at.left + at.width / 2 - box.left - tip.offsetWidth / 2;
    const below = at.top - box.top < tip.offsetHeight + 8 && at.top < tip.offsetHeight + 8;
    tip.style.left = Math.max(0, Math.min(left, box.width - tip.offsetWidth)) + "px";
    tip.style.top = (below ? at.bottom - box.top + 8 : at.top - box.top - tip.offsetHeight - 8) + "px";
  };
  const focus = (point) => {
    for (const other of points) other.tabIndex = other === point ? 0 : -1;
    point.focus({ preventScroll: true });
  };
  const next = (from, x, y) => {
    let best = null, least = Infinity;
    for (const other of points) {
      const ahead = (place.get(other).e - place.get(from).e) * x + (place.get(other).f - place.get(from).f) * y;
      const aside = Math.abs((place.get(other).e - place.get(from).e) * y) + Math.abs((place.get(other).f - place.get(from).f) * x);
      const cost = ahead + 3 * aside;
      if (ahead > 0.05 && cost < least) [best, least] = [other, cost];
    }
    return best;
  };
  const ways = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
  const point = (event) => event.target.closest("g[data-key]");
  svg.addEventListener("pointerover", (event) => point(event) && show(point(event)));
  svg.addEventListener("pointerleave", () => show(svg.contains(document.activeElement) ? document.activeElement : null));
  svg.addEventListener("click", (event) => point(event) ? focus(point(event)) : show(null));
  svg.addEventListener("focusin", (event) => show(point(event)));
  svg.addEventListener("focusout", () => show(null));
  svg.addEventListener("keydown", (event) => {
    const from = point(event);
    if (!from) return;
    if (event.key === "Escape") show(null);
    const to = event.key === "Home" ? points[0] : event.key === "End" ? points.at(-1) : ways[event.key] && next(from, ...ways[event.key]);
    if (to || ways[event.key]) event.preventDefault();
    if (to) focus(to);
  });
}
