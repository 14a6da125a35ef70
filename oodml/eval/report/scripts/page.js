"use strict";
// What every part of the page uses: the data, elements, numbers in words, and what is chosen.

const data = JSON.parse(document.getElementById("content").textContent);
const rungs = data.ladder.rungs;

/** An element; children are text or nodes, so that no name is ever read as markup. */
function element(tag, attributes = {}, ...children) {
  return dressed(document.createElement(tag), attributes, children);
}

function drawing(tag, attributes = {}, ...children) {
  return dressed(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);
}

function dressed(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === false || value == null) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.flat(Infinity).filter((child) => child != null));
  return node;
}

const byId = (id) => document.getElementById(id);

/** A score with three digits; a dash where there is none. Zero has no sign. */
const score = (value) =>
  value == null ? "–" : value.toFixed(3).replace(/^-(?=[0.]+$)/, "").replace("-", "−");

/** A distance: four digits that say something. */
function distance(value) {
  if (value == null) return "–";
  const text = Math.abs(value) >= 10 || value === 0 ? value.toFixed(1) : value.toPrecision(3);
  return text.replace("-", "−");
}

const count = (value) => (value == null ? "unknown" : value.toLocaleString("en-US"));
const plural = (value, one, many = `${one}s`) => `${count(value)} ${value === 1 ? one : many}`;

/** "±0.007", or both sides where they differ, or nothing for a single seed. */
function spread(mean, low, high) {
  if (low == null || high == null) return "";
  const [below, above] = [score(mean - low), score(high - mean)];
  return below === above ? `±${below}` : `−${below} +${above}`;
}

const interval = (low, high) =>
  low == null || high == null ? "no interval (one seed)" : `[${score(low)}, ${score(high)}]`;

/** Gives a node a method's colour, as --tone in light and in dark, and the fill of its markers. */
function tinted(node, method) {
  const { light, dark, pale } = data.methods[method];
  node.style.setProperty("--tone", `light-dark(${light}, ${dark})`);
  if (pale) node.style.setProperty("--pale", `${100 * pale}%`);
  node.classList.toggle("pale", pale > 0);
  return node;
}

/** A name that may be broken after its underscores. */
const breakable = (name) =>
  name.split(/(?<=_)/).flatMap((part, place) => (place ? [element("wbr"), part] : [part]));

/** A link to a run's row, by the run's number. */
const runLink = (run) =>
  element("a", { href: `#run-${data.runs[run].id}`, class: "run-id" }, data.runs[run].id);

// What the reader has chosen; parts of the page ask to be told when it changes.
// Among many lines bands are drawn for those alone that the reader points at or isolates.
const MANY = 10;
const chosen = {
  metric: data.metric,
  axis: "fid",
  alone: new Set(),
  filter: { method: "", backbone: "" },
  bands: true,
};
const watchers = [];

function choose(name, value) {
  chosen[name] = value;
  for (const [names, act] of watchers) if (names.includes(name)) act();
}

function watch(names, act) {
  watchers.push([names, act]);
  act();
}

/** Shows this method alone, or all again; with `also` it joins those that are shown. */
function isolate(method, also = false) {
  const alone = new Set(also ? chosen.alone : []);
  if (chosen.alone.has(method) && (also || chosen.alone.size === 1)) alone.delete(method);
  else alone.add(method);
  choose("alone", alone);
}

const isShown = (method) => chosen.alone.size === 0 || chosen.alone.has(method);

/** Radio buttons in a row; `act` gets the value of the one that is taken. */
function radios(name, title, options, act) {
  return element(
    "fieldset",
    { class: "radios" },
    element("legend", {}, title),
    options.map(([value, label, note], place) =>
      element(
        "label",
        { title: note },
        element("input", {
          type: "radio",
          name,
          value,
          checked: place === 0,
          disabled: value == null,
          onchange: () => act(value),
        }),
        element("span", {}, label),
      ),
    ),
  );
}

function checkbox(name, label) {
  const input = element("input", {
    type: "checkbox",
    checked: chosen[name],
    onchange: () => choose(name, input.checked),
  });
  return element("label", { class: "check" }, input, label);
}

/** The cells of a metric with their values, for curves and table. */
function cells(metric) {
  return data.cells.map((cell, place) => {
    const [mean, low, high] = data.values[metric][place];
    return { ...cell, mean, low, high };
  });
}

/** Methods, the highest aggregated score first; then the highest mean. */
function ranked() {
  const own = new Map(data.scores[chosen.metric].map((each) => [each.method, each.mean]));
  const height = (method) => own.get(method) ?? -Infinity;
  return data.methods.map((_, method) => method).sort((a, b) => height(b) - height(a) || a - b);
}
