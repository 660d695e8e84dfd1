/** The few lines that stand in for a framework. */

type Props<T> = { [K in keyof T]?: T[K] } & { class?: string; data?: Record<string, string>; aria?: Record<string, string> };

/** Makes an element: properties, `class`, `data-*` and `aria-*`, then children. */
export function h<K extends keyof HTMLElementTagNameMap>(
  tag: K,
  props: Props<HTMLElementTagNameMap[K]> = {},
  ...children: (Node | string)[]
): HTMLElementTagNameMap[K] {
  const element = document.createElement(tag);
  const { class: className, data, aria, ...rest } = props as Props<HTMLElement>;
  if (className) element.className = className;
  for (const [name, value] of Object.entries(data ?? {})) element.dataset[name] = value;
  for (const [name, value] of Object.entries(aria ?? {})) element.setAttribute(`aria-${name}`, value);
  Object.assign(element, rest);
  element.append(...children);
  return element;
}

/** Our own drawings, by name; 24 by 24, in the colour of the text. */
const ICONS = {
  microphone: "M12 15a3.5 3.5 0 0 0 3.5-3.5v-5a3.5 3.5 0 0 0-7 0v5A3.5 3.5 0 0 0 12 15Zm-6.5-3.5a6.5 6.5 0 0 0 13 0M12 18v3.5",
  speaker: "M4 9.5v5h3.5L12 18.5v-13L7.5 9.5H4ZM16 9a4.2 4.2 0 0 1 0 6M18.8 6.2a8.2 8.2 0 0 1 0 11.6",
  muted: "M4 9.5v5h3.5L12 18.5v-13L7.5 9.5H4ZM16.5 9.5l5 5M21.5 9.5l-5 5",
  close: "M6 6l12 12M18 6 6 18",
  plus: "M12 5v14M5 12h14",
  leave: "M14 4H6v16h8M10.5 12H21M17.5 8.5 21 12l-3.5 3.5",
} as const;

export function icon(name: keyof typeof ICONS): SVGSVGElement {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("class", "icon");
  svg.setAttribute("aria-hidden", "true");
  const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
  path.setAttribute("d", ICONS[name]);
  svg.append(path);
  return svg;
}

/** A round picture of a name: initials on a colour that is always the same for it. */
export function avatar(name: string): HTMLElement {
  const words = name.trim().split(/\s+/);
  const initials = words.length > 1 ? first(words[0]) + first(words.at(-1)) : [...name.trim()].slice(0, 2).join("");
  let hue = 0;
  for (const character of name) hue = (hue * 31 + (character.codePointAt(0) ?? 0)) % 360;
  const element = h("span", { class: "avatar", aria: { hidden: "true" } }, initials.toUpperCase());
  element.style.setProperty("--hue", String(hue));
  return element;
}

function first(word = ""): string {
  return [...word][0] ?? "";
}
