/** Elements of the page, made without markup: what people write can only ever be text. */

/**
 * Make an element.
 * @param {string} tag its name, and classes behind dots: "p.note"
 * @param {Object} [attributes] its attributes; null and false are left out, true is empty
 * @param {...(Node|string)} children
 */
export function make(tag, attributes = {}, ...children) {
  const [name, ...classes] = tag.split(".");
  const element = document.createElement(name);
  if (classes.length) element.className = classes.join(" ");
  for (const [key, value] of Object.entries(attributes)) {
    if (value !== null && value !== false) element.setAttribute(key, value === true ? "" : value);
  }
  element.append(...children);
  return element;
}

/** The round sign of a person: an initial, in a colour that belongs to the name. */
export function badge(name) {
  const element = make("span.badge", { "aria-hidden": "true" }, [...name][0].toUpperCase());
  let hash = 0;
  for (const character of name) hash = Math.imul(hash ^ character.codePointAt(0), 0x9e3779b1) >>> 4;
  element.style.setProperty("--hue", hash % 360);
  return element;
}
