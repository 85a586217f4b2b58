/** Elements of the page. Text is always text: no name of a file or class can become markup. */

type Child = Node | string | null;

export function el<K extends keyof HTMLElementTagNameMap>(
  tag: K,
  attributes: Readonly<Record<string, string>> = {},
  ...children: readonly Child[]
): HTMLElementTagNameMap[K] {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children.filter((child) => child !== null));
  return element;
}

export function button(label: string, action: () => void, attributes: Readonly<Record<string, string>> = {}): HTMLButtonElement {
  const element = el("button", { type: "button", ...attributes }, label);
  element.addEventListener("click", action);
  return element;
}

/** The element of page.html with this id. */
export function byId<T extends HTMLElement = HTMLElement>(id: string): T {
  const element = document.getElementById(id);
  if (element === null) throw new Error(`the page has no #${id}`);
  return element as T;
}

/** `0.954` is `95.4 %`; what is not quite all or nothing is not rounded to it. */
export function percent(share: number): string {
  const shown = share > 0.9995 && share < 1 ? "> 99.9" : share < 0.0005 && share > 0 ? "< 0.1" : (100 * share).toFixed(1);
  return `${shown}\u00a0%`;
}

export const counted = (number: number, noun: string, plural = `${noun}s`) =>
  `${number.toLocaleString("en")} ${number === 1 ? noun : plural}`;
