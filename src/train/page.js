// SPDX-License-Identifier: Apache-2.0
// What the scripts of every page of Hone's share.
// ---- elements: all text goes in as text, never as markup ---------------------------------------
function el(name, attributes, ...children) {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(attributes || {}))
    if (value !== null && value !== undefined) node.setAttribute(key, value);
  node.append(...children.filter(child => child !== null && child !== undefined).map(child => child instanceof Node ? child : String(child)));
  return node;
}
function svg(name, attributes, ...children) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes || {})) node.setAttribute(key, value);
  node.append(...children);
  return node;
}

// ---- numbers in words --------------------------------------------------------------------------
const known = value => typeof value === "number" && isFinite(value);
const short = (value, digits = 4) => !known(value) ? "–"
  : value === 0 ? "0"
  : Math.abs(value) >= 1e5 || Math.abs(value) < 1e-3 ? value.toExponential(2).replace("e+", "e")
  : String(+value.toPrecision(digits));
const fixed = value => known(value) ? value.toFixed(4) : "–";
const whole = value => known(value) ? Math.round(value).toLocaleString("en") : "–";
const bytes = value => !known(value) ? "–" : value < 1e6 ? (value / 1e3).toFixed(0) + " kB"
  : value < 1e9 ? (value / 1e6).toFixed(0) + " MB" : (value / 1e9).toFixed(2) + " GB";
function span(seconds) {
  if (!known(seconds)) return "–";
  const s = Math.round(seconds);
  return seconds < 10 ? seconds.toFixed(1) + " s" : s < 60 ? s + " s"
    : s < 3600 ? Math.floor(s / 60) + " min " + String(s % 60).padStart(2, "0") + " s"
    : Math.floor(s / 3600) + " h " + String(Math.floor(s / 60) % 60).padStart(2, "0") + " min";
}
