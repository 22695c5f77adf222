// Returns everything that is wrong with the page, as a list of texts. Runs as the body of a function in the page.

const wrong = [];
const visible = (element) => {
  const box = element.getBoundingClientRect();
  if (box.width <= 1 || box.height <= 1) return false;
  return element.checkVisibility({ contentVisibilityAuto: false, visibilityProperty: true });
};
const check = (is, text) => is || wrong.push(text);

check(document.title.trim().length > 5, "no title");
check(document.documentElement.lang === "en", "no language");
check(document.doctype?.name === "html" && document.characterSet === "UTF-8", "no doctype or charset");
const viewport = document.querySelector("meta[name=viewport]")?.content ?? "";
check(viewport.includes("width=device-width"), "no viewport");
check(!/user-scalable=no|maximum-scale/.test(viewport), "zooming is forbidden");

for (const landmark of ["header", "main"]) {
  check(document.querySelectorAll(landmark).length === 1, `not one <${landmark}>`);
}
check(document.querySelectorAll("h1").length === 1, "not one <h1>");
let level = 1;
for (const heading of document.querySelectorAll("h1, h2, h3")) {
  const next = Number(heading.tagName[1]);
  check(next <= level + 1, `heading "${heading.textContent}" skips a level`);
  level = next;
}

const ids = [...document.querySelectorAll("[id]")].map((element) => element.id);
check(new Set(ids).size === ids.length, `an id is used twice: ${ids}`);
for (const attribute of ["aria-labelledby", "aria-describedby"]) {
  for (const element of document.querySelectorAll(`[${attribute}]`)) {
    check(document.getElementById(element.getAttribute(attribute)), `${attribute} names nobody`);
  }
}
for (const control of document.querySelectorAll("a[href], button, input, select, summary, nav, section, aside, [role=img], [role=region]")) {
  const labelled = document.getElementById(control.getAttribute("aria-labelledby"));
  const heading = control.tagName === "SECTION" ? control.querySelector("h1, h2") : null;
  const name =
    control.getAttribute("aria-label") ?? labelled?.textContent ?? control.labels?.[0]?.textContent ?? heading?.textContent ?? control.textContent;
  check(name.trim() !== "", `no name: ${control.outerHTML.slice(0, 100)}`);
}
for (const image of document.querySelectorAll("svg")) {
  check(image.closest("[aria-hidden=true], [role=img]"), "a picture that is neither described nor hidden");
}
check(document.querySelector("#tiles, .machine") === null || document.querySelector("[aria-live=polite]") || document.querySelector(".empty"), "no live region");
// Check the page as served: scripts may set styles of elements later.
const served = new DOMParser().parseFromString(await (await fetch(location.href)).text(), "text/html");
check(served.querySelectorAll("[style], script:not([src]), style").length === 0, "inline style or script");
for (const element of served.querySelectorAll("*")) {
  for (const { name } of element.attributes) check(!name.startsWith("on"), `inline handler ${name}`);
}

check(document.documentElement.scrollWidth <= innerWidth, `wider than the screen: ${document.documentElement.scrollWidth} of ${innerWidth}`);
if (innerWidth < 500) {
  for (const control of document.querySelectorAll("button, input, select, .tile, .ranges a")) {
    if (visible(control)) check(control.getBoundingClientRect().height >= 24, `too small to touch: ${control.outerHTML.slice(0, 80)}`);
  }
}

// Contrast (WCAG 2) of every text with each background that may be behind it.
const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
const rgba = (colour) => {
  canvas.clearRect(0, 0, 1, 1);
  canvas.fillStyle = colour;
  canvas.fillRect(0, 0, 1, 1);
  return [...canvas.getImageData(0, 0, 1, 1).data];
};
const luminance = ([red, green, blue]) => {
  const linear = [red, green, blue].map((part) => {
    const value = part / 255;
    return value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2];
};
const contrast = (a, b) => {
  const [light, dark] = [luminance(a), luminance(b)].sort((one, other) => other - one);
  return (light + 0.05) / (dark + 0.05);
};
const backgrounds = (element) => {
  for (let at = element; at; at = at.parentElement) {
    const style = getComputedStyle(at);
    const painted = style.backgroundImage.match(/rgba?\([^)]*\)/g);
    if (painted) return painted.map(rgba);
    const colour = rgba(style.backgroundColor);
    if (colour[3] > 0) return [colour];
  }
  return [[255, 255, 255, 255]];
};
const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
const seen = new Set();
let checked = 0;
while (texts.nextNode()) {
  const element = texts.currentNode.parentElement;
  if (!texts.currentNode.data.trim() || seen.has(element) || !visible(element)) continue;
  if (element.closest("script, template, noscript, option, .only-spoken, .skip")) continue;
  seen.add(element);
  checked += 1;
  const style = getComputedStyle(element);
  const ink = rgba(element instanceof SVGElement ? style.fill : style.color);
  const size = parseFloat(style.fontSize);
  const large = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700);
  for (const ground of backgrounds(element)) {
    const ratio = contrast(ink, ground);
    check(ratio >= (large ? 3 : 4.5), `contrast ${ratio.toFixed(2)} of "${texts.currentNode.data.trim().slice(0, 40)}" (${style.color} on ${ground})`);
  }
}
check(checked >= 3, "no texts were checked");
return wrong;
