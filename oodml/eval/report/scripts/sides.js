// One method's three lines, matched, frozen and shifted: the gap is the shift's, the rest difficulty.

const SIDES_HEIGHT = 420;

function sidesChart() {
  const svg = drawing("svg", { class: "chart sides", role: "presentation" });
  const tip = element("div", { class: "tip", hidden: true });
  const readout = element("p", { class: "readout", "aria-live": "polite" });
  const frame = element(
    "div",
    {
      class: "frame",
      tabindex: 0,
      role: "application",
      "aria-label":
        "Matched, frozen and shifted against shift. Arrow keys go from rung to rung, Enter shows a rung’s queries.",
    },
    svg,
    tip,
  );
  const state = { places: [], at: null };
  const point = (at) => pointAtRung({ svg, frame, tip, readout, state }, at);
  const under = (event) => rungUnder(svg, state.places, event);
  frame.addEventListener("pointermove", (event) => point(under(event)));
  frame.addEventListener("pointerleave", () => point(null));
  frame.addEventListener("blur", () => point(null));
  frame.addEventListener("click", (event) => study({ rung: under(event)?.row.rung ?? studied.rung }));
  frame.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (event.key === "Enter" && state.at) study({ rung: state.at.row.rung });
    if (!step || !state.places.length) return;
    event.preventDefault();
    const next = state.at ? state.places.indexOf(state.at) + step : 0;
    point(state.places[Math.max(0, Math.min(next, state.places.length - 1))]);
  });
  const draw = () => {
    drawSides(svg, frame, state);
    point(null);
    readout.replaceChildren("Point at a rung, or go through them with the arrow keys; a click shows its queries.");
  };
  new ResizeObserver(() => frame.clientWidth && draw()).observe(frame);
  return { node: element("div", { class: "curve-chart" }, frame, readout), draw };
}

function drawSides(svg, frame, state) {
  const own = transferOf(studied.method);
  const rows = own.rows.sort((a, b) => a.x - b.x);
  const width = Math.max(280, frame.clientWidth);
  const wide = width >= 640;
  const right = width - (wide ? 168 : MARGIN.right);
  const sides = Object.keys(TRAININGS).filter((side) => rows.some((row) => row[side]));
  const values = rows.flatMap((row) => sides.flatMap((side) => row[side] ?? []));
  const [xRange, yRange] = [roomy(rungTicks().map((tick) => tick.x)), roomy(values.filter((v) => v != null))];
  const x = scale(xRange, [MARGIN.left, right]);
  const y = scale(yRange, [SIDES_HEIGHT - MARGIN.bottom, MARGIN.top]);
  svg.setAttribute("viewBox", `0 0 ${width} ${SIDES_HEIGHT}`);
  svg.setAttribute("height", SIDES_HEIGHT);
  const excess = chosen.axis === "excess" ? "excess " : "";
  svg.replaceChildren(
    axes({ x, y, right, height: SIDES_HEIGHT, xRange, yRange }, excess + data.fid_label, metricWords()),
    gapArea(rows, x, y),
    ...sides.map((side) => sideLine(side, rows, x, y)),
    breakEvenMark(own, rows, x, y, sides),
    wide ? division(rows, sides, x, y, right) : "",
  );
  state.places = rows.map((row) => ({ row, px: x(row.x), py: y((row.shifted ?? row.matched)[0]) }));
  state.at = null;
}

/** Stripes for what is difficulty, so that it is told from the shift without colours. */
function hatching() {
  const size = { width: 5, height: 5 };
  const units = { patternUnits: "userSpaceOnUse", patternTransform: "rotate(45)" };
  const pattern = drawing(
    "pattern",
    { id: "hatching", ...size, ...units },
    drawing("rect", { class: "hatch-ground", ...size }),
    drawing("rect", { class: "hatch-stripe", width: 2, height: 5 }),
  );
  // In a drawing of its own, as patterns of one that is hidden are not drawn.
  return drawing("svg", { class: "unseen", "aria-hidden": "true" }, pattern);
}

function gapArea(rows, x, y) {
  const both = rows.filter((row) => row.matched && row.shifted);
  const edge = [
    ...both.map((row) => [x(row.x), y(row.matched[0])]),
    ...both.reverse().map((row) => [x(row.x), y(row.shifted[0])]),
  ];
  const d = edge.length ? `M${edge.map((each) => each.map(cut)).join("L")}z` : "";
  return drawing("path", { class: "gap-area", d });
}

function sideLine(side, rows, x, y) {
  const { marker: code, dash } = TRAININGS[side];
  const points = rows.filter((row) => row[side]).map((row) => [x(row.x), ...row[side]]);
  const path = points.map(([at, value]) => `${cut(at)},${cut(y(value))}`).join("L");
  return drawing(
    "g",
    { class: `side ${side}` },
    points
      .filter((point) => point[2] != null)
      .map(([at, , low, high]) =>
        drawing("path", { class: "reach", d: `M${cut(at)},${cut(y(low))}V${cut(y(high))}` }),
      ),
    drawing("path", { class: "line", d: `M${path}`, "stroke-dasharray": dash }),
    points.map(([at, value]) =>
      drawing("path", { class: "dot", d: marker(code, 4.2), transform: `translate(${cut(at)} ${cut(y(value))})` }),
    ),
  );
}

/** A diamond where shifted meets frozen, and on the foot the interval of the place. */
function breakEvenMark(own, rows, x, y, sides) {
  const met = breakEvenPlace(own);
  const group = drawing("g", { class: "met" });
  if (!met || !sides.includes("frozen")) return group;
  const foot = SIDES_HEIGHT - MARGIN.bottom;
  if (met.told) {
    const [from, to] = [x(met.pays ?? met.first), x(met.costs ?? met.last)];
    group.append(drawing("path", { class: "met-interval", d: `M${cut(from)},${foot}H${cut(to)}` }));
  }
  if (met.at != null) {
    const place = [x(met.at), y(between(rows.filter((row) => row.frozen), met.at))].map(cut);
    group.append(
      drawing("path", { class: "met-drop", d: `M${place}V${foot}` }),
      drawing("path", { class: "met-dot", d: marker("D", 6), transform: `translate(${place.join(" ")})` }),
    );
  }
  const words = {
    within: `break-even ${breakEvenWords(own)}`,
    beyond: `shifted lies above frozen up to the last rung: break-even ${breakEvenWords(own)}`,
    before: `shifted lies below frozen on rung 0: break-even ${breakEvenWords(own)}`,
  }[met.kind];
  const at = x(met.at ?? (met.kind === "beyond" ? met.last : met.first));
  const [low, high] = [x(met.first), x(met.last)];
  const anchor = at < low + (high - low) / 2 ? "start" : "end";
  group.append(
    drawing("text", { class: "met-name", x: at + (anchor === "start" ? 6 : -6), y: foot - 8, "text-anchor": anchor }, words),
  );
  return group;
}

/** The value of frozen at a place, by a straight line between rungs. */
function between(rows, at) {
  const next = Math.max(1, rows.findIndex((row) => row.x >= at));
  const [a, b] = [rows[next - 1], rows[next] ?? rows[next - 1]];
  const part = b.x === a.x ? 0 : (at - a.x) / (b.x - a.x);
  return a.frozen[0] + part * (b.frozen[0] - a.frozen[0]);
}

/** Beside the last rung, bars of what was lost, and the names of the lines. */
function division(rows, sides, x, y, right) {
  const group = drawing("g", { class: "division" });
  const [first, last] = [rows[0], rows.at(-1)];
  const bar = right + 6;
  const labels = sides
    .filter((side) => last[side])
    .map((side) => ({ class: `side ${side}`, words: side, y: y(last[side][0]) }));
  const part = (name, from, to, words) => {
    const [top, foot] = [y(from), y(to)].sort((a, b) => a - b);
    group.append(
      drawing("rect", { class: `part ${name}`, x: bar, y: top, width: 12, height: Math.max(1, foot - top) }),
    );
    labels.push({ class: "amount", words, y: (top + foot) / 2 });
  };
  if (rows.length > 1 && last.difficulty && first.matched) {
    part("difficulty", first.matched[0], last.matched[0], `difficulty ${score(last.difficulty[0])}`);
    group.append(
      drawing("path", { class: "level", d: `M${cut(x(first.x))},${cut(y(first.matched[0]))}H${bar + 12}` }),
    );
  }
  if (last.shift_cost) part("shift", last.matched[0], last.shifted[0], `shift cost ${score(last.shift_cost[0])}`);
  labels.sort((a, b) => a.y - b.y).forEach((each) => Object.assign(each, { at: each.y }));
  apart(labels, 15, MARGIN.top, SIDES_HEIGHT - MARGIN.bottom);
  for (const each of labels) {
    group.append(
      drawing("path", { class: "pointer", d: `M${bar + 12},${cut(each.y)}L${bar + 20},${cut(each.at)}` }),
      drawing("text", { class: each.class, x: bar + 24, y: each.at + 4 }, each.words),
    );
  }
  return group;
}

function rungUnder(svg, places, event) {
  const x = event.clientX - svg.getBoundingClientRect().left;
  const far = (place) => Math.abs(place.px - x);
  const found = places.reduce((best, place) => (best && far(best) <= far(place) ? best : place), null);
  return found && far(found) < 60 ? found : null;
}

function pointAtRung({ svg, frame, tip, readout, state }, place) {
  if (place === state.at && place) return;
  state.at = place;
  tip.hidden = !place;
  svg.querySelector(".at-rung")?.remove();
  if (!place) return;
  svg.append(
    drawing("path", { class: "at-rung", d: `M${cut(place.px)},${MARGIN.top}V${SIDES_HEIGHT - MARGIN.bottom}` }),
  );
  const pairs = rowWords(place.row);
  tip.replaceChildren(
    element("strong", {}, transferName(studied.method)),
    element("dl", {}, pairs.map(([name, words]) => [element("dt", {}, name), element("dd", {}, words)])),
  );
  placeTip(tip, frame, place);
  readout.replaceChildren(
    element("b", {}, transferName(studied.method)),
    `, ${pairs.map(([name, words]) => `${name} ${words}`).join(", ")}; `,
    ...Object.entries(place.row.runs).flatMap(([side, runs]) => [
      `${side === "null" ? "random splits" : side}: `,
      ...runs.flatMap((run, at) => (at ? [", ", runLink(run)] : [runLink(run)])),
      "; ",
    ]),
  );
}

/** A short piece of a side's line with its marker. */
function sideSwatch(side) {
  const { marker: code, dash } = TRAININGS[side];
  return drawing(
    "svg",
    { class: `swatch side ${side}`, viewBox: "-15 -7 30 14", width: 30, height: 14, "aria-hidden": "true" },
    drawing("path", { class: "line", d: "M-14,0H14", "stroke-dasharray": dash }),
    drawing("path", { class: "dot", d: marker(code, 4.2) }),
  );
}

function termSwatch(term) {
  const shape = {
    difficulty: drawing("rect", { class: "part difficulty", x: -11, y: -6, width: 22, height: 12 }),
    "shift cost": drawing("rect", { class: "part shift", x: -11, y: -6, width: 22, height: 12 }),
    "break-even": drawing("path", { class: "met-dot", d: marker("D", 5.5) }),
  }[term];
  return drawing(
    "svg",
    { class: "swatch", viewBox: "-15 -7 30 14", width: 30, height: 14, "aria-hidden": "true" },
    shape,
  );
}
