// A chart of lines with bands: hover and arrow keys name a point, click and Enter isolate a method.

const MARGIN = { left: 50, right: 16, top: 30, bottom: 44 };

/**
 * `read()` gives { series, xLabel, yLabel, zero } where a series is { method, dashed, points } and
 * a point { x, y, low, high, rung, runs, dashed, method }; a missing point breaks the line.
 * `words(point)` gives pairs of a name and a value for the tooltip.
 */
function curveChart({ read, words, label, height = 420 }) {
  const svg = drawing("svg", { class: "chart", role: "presentation" });
  const tip = element("div", { class: "tip", hidden: true });
  const readout = element("p", { class: "readout", "aria-live": "polite" });
  const frame = element(
    "div",
    { class: "frame", tabindex: 0, role: "application", "aria-label": `${label}. Arrow keys go from point to point, Enter shows a method alone, Escape all.` },
    svg,
    tip,
  );
  const state = { points: [], at: null };
  const draw = () => drawChart(svg, frame, read(), height, state);
  const point = (found) => pointAt({ svg, frame, tip, readout, state, words }, found);
  readout.append("Point at a line, or go through it with the arrow keys.");
  frame.addEventListener("pointermove", (event) => point(nearest(svg, state.points, event)));
  frame.addEventListener("pointerleave", () => point(null));
  frame.addEventListener("blur", () => point(null));
  frame.addEventListener("click", (event) => {
    const found = nearest(svg, state.points, event);
    if (found) isolate(found.method, event.ctrlKey || event.metaKey || event.shiftKey);
    else choose("alone", new Set());
  });
  frame.addEventListener("keydown", (event) => keyed(event, state, point));
  new ResizeObserver(() => draw()).observe(frame);
  return { node: element("div", { class: "curve-chart" }, frame, readout), draw };
}

function drawChart(svg, frame, { series, xLabel, yLabel, zero }, height, state) {
  const width = Math.max(280, frame.clientWidth);
  const points = series.flatMap((each) => each.points.filter(Boolean));
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  svg.setAttribute("height", height);
  svg.classList.toggle("many", data.methods.length > MANY && chosen.alone.size === 0);
  if (!points.length) return svg.replaceChildren();
  const named = width >= 640 && new Set(points.filter((p) => isShown(p.method)).map((p) => p.method)).size <= MANY;
  const right = width - (named ? nameRoom(series) : MARGIN.right);
  const heights = points.flatMap((p) => [p.y, chosen.bands ? p.low : null, chosen.bands ? p.high : null]);
  const tall = heights.filter((value) => value != null).concat(zero ? [0] : []);
  const x = scale(roomy(rungTicks().map((tick) => tick.x)), [MARGIN.left, right]);
  const y = scale(roomy(tall), [height - MARGIN.bottom, MARGIN.top]);
  const box = { x, y, right, width, height, xRange: roomy(rungTicks().map((t) => t.x)), yRange: roomy(tall), zero };
  state.points = points.map((p) => ({ ...p, px: x(p.x), py: y(p.y) })).filter((p) => isShown(p.method));
  state.at = null;
  const ordered = [...series].sort((a, b) => isShown(a.method) - isShown(b.method) || b.dashed - a.dashed);
  svg.replaceChildren(
    axes(box, xLabel, yLabel),
    ...ordered.map((each) => line(each, box)),
    ...(named ? [names(series, box)] : []),
  );
  return svg;
}

/** Where the rungs stand on the chosen axis. */
function rungTicks() {
  return rungs.map((rung, number) => ({ number, x: chosen.axis === "fid" ? rung.fid : rung.excess }));
}

function axes({ x, y, right, height, xRange, yRange, zero }, xLabel, yLabel) {
  const group = drawing("g", { class: "axes" });
  const across = ticks(...xRange, (right - MARGIN.left) / 80);
  const up = ticks(...yRange, (height - 80) / 55);
  const foot = height - MARGIN.bottom;
  for (const value of up.values) {
    group.append(
      drawing("line", { class: zero && Math.abs(value) < 1e-12 ? "zero" : "grid", x1: MARGIN.left, x2: right, y1: y(value), y2: y(value) }),
      drawing("text", { x: MARGIN.left - 8, y: y(value) + 4, "text-anchor": "end" }, value.toFixed(up.digits).replace("-", "−")),
    );
  }
  for (const value of across.values) {
    group.append(drawing("text", { x: x(value), y: foot + 18, "text-anchor": "middle" }, value.toFixed(across.digits).replace("-", "−")));
  }
  let last = -Infinity;
  for (const tick of rungTicks()) {
    group.append(drawing("line", { class: "rung", x1: x(tick.x), x2: x(tick.x), y1: MARGIN.top, y2: foot }));
    if (Math.abs(x(tick.x) - last) < 14) continue;
    last = x(tick.x);
    group.append(drawing("text", { class: "rung-name", x: last, y: MARGIN.top - 6, "text-anchor": "middle" }, tick.number));
  }
  group.append(
    drawing("line", { class: "foot", x1: MARGIN.left, x2: right, y1: foot, y2: foot }),
    drawing("text", { class: "axis-name", x: (MARGIN.left + right) / 2, y: height - 6, "text-anchor": "middle" }, xLabel),
    drawing("text", { class: "axis-name", x: 0, y: 12 }, yLabel),
    drawing("text", { class: "rung-name", x: right, y: 12, "text-anchor": "end" }, "rung"),
  );
  return group;
}

function line(series, { x, y }) {
  const { method, dashed, points } = series;
  const group = tinted(
    drawing("g", { class: `series${dashed ? " dashed" : ""}${isShown(method) ? "" : " away"}`, "data-method": method }),
    method,
  );
  for (const piece of pieces(points)) {
    const bands = piece.filter((p) => p.low != null);
    if (chosen.bands && !dashed && bands.length > 1) {
      const edge = [...bands.map((p) => [x(p.x), y(p.high)]), ...bands.reverse().map((p) => [x(p.x), y(p.low)])];
      group.append(drawing("path", { class: "band", d: `M${edge.map((each) => each.map(cut)).join("L")}z` }));
    } else if (chosen.bands && !dashed && bands.length) {
      const at = cut(x(bands[0].x));
      group.append(drawing("path", { class: "whisker", d: `M${at},${cut(y(bands[0].low))}L${at},${cut(y(bands[0].high))}` }));
    }
    const path = piece.map((p) => `${cut(x(p.x))},${cut(y(p.y))}`).join("L");
    group.append(drawing("path", { class: "line", d: `M${path}`, "stroke-dasharray": dashed ? "3 3" : dashes(method) }));
  }
  for (const p of points.filter(Boolean)) {
    const place = `translate(${cut(x(p.x))} ${cut(y(p.y))})`;
    group.append(drawing("path", { class: "dot", d: marker(data.methods[method].marker, 4), transform: place, "data-rung": p.rung }));
  }
  return group;
}

const cut = (value) => value.toFixed(2);

/** Runs of points without a gap. */
function pieces(points) {
  const found = [[]];
  for (const point of points) {
    if (point) found.at(-1).push(point);
    else found.push([]);
  }
  return found.filter((piece) => piece.length);
}

function nameRoom(series) {
  const longest = Math.max(...series.map((each) => Math.min(28, data.methods[each.method].name.length)));
  return 26 + longest * 6.6;
}

/** Methods' names at the ends of their lines, moved apart where they would overlap. */
function names(series, { x, y, height }) {
  const group = drawing("g", { class: "names" });
  const ends = series
    .filter((each) => !each.dashed && isShown(each.method) && each.points.some(Boolean))
    .map((each) => ({ method: each.method, end: each.points.filter(Boolean).at(-1) }))
    .map(({ method, end }) => ({ method, x: x(end.x), y: y(end.y), at: y(end.y) }))
    .sort((a, b) => a.y - b.y);
  // Lines that end on one rung share a column of names.
  for (const end of new Set(ends.map((each) => each.x))) {
    apart(ends.filter((each) => each.x === end), 15, MARGIN.top, height - MARGIN.bottom - 10);
  }
  for (const each of ends) {
    const { name } = data.methods[each.method];
    group.append(
      tinted(drawing("path", { class: "leader", d: `M${cut(each.x + 6)},${cut(each.y)}L${cut(each.x + 14)},${cut(each.at)}` }), each.method),
      drawing("text", { x: each.x + 18, y: each.at + 4, "data-method": each.method }, name.length > 28 ? `${name.slice(0, 27)}…` : name),
    );
  }
  return group;
}

function apart(ends, gap, low, high) {
  for (let place = 1; place < ends.length; place += 1) {
    ends[place].at = Math.max(ends[place].at, ends[place - 1].at + gap);
  }
  if (ends.length) ends.at(-1).at = Math.min(ends.at(-1).at, high);
  for (let place = ends.length - 2; place >= 0; place -= 1) {
    ends[place].at = Math.max(low, Math.min(ends[place].at, ends[place + 1].at - gap));
  }
}

/** The point within reach of the pointer, or null. */
function nearest(svg, points, event) {
  const box = svg.getBoundingClientRect();
  const [x, y] = [event.clientX - box.left, event.clientY - box.top];
  const far = (p) => Math.hypot(p.px - x, p.py - y);
  const found = points.reduce((best, p) => (best && far(best) <= far(p) ? best : p), null);
  return found && far(found) < 48 ? found : null;
}

function pointAt({ svg, frame, tip, readout, state, words }, found) {
  state.at = found;
  standOut(svg, found ? found.method : null);
  tip.hidden = !found;
  svg.querySelector(".halo")?.remove();
  if (!found) return;
  const halo = drawing("circle", { class: "halo", cx: found.px, cy: found.py, r: 9 });
  svg.append(tinted(halo, found.method));
  const pairs = words(found);
  tip.replaceChildren(
    element("strong", {}, swatch(found.method), data.methods[found.method].name),
    element("dl", {}, pairs.map(([name, value]) => {
      const [extra, runs] = [name === "runs" ? "extra" : null, name === "runs" ? "runs extra" : null];
      return [element("dt", { class: extra }, name), element("dd", { class: runs }, value)];
    })),
  );
  placeTip(tip, frame, found);
  readout.replaceChildren(
    element("b", {}, data.methods[found.method].name), ", ",
    pairs.filter(([name]) => name !== "runs").map(([name, value]) => `${name} ${value}`).join(", "),
    "; ", found.runs.length === 1 ? "run " : "runs ",
    ...found.runs.flatMap((run, place) => (place ? [", ", runLink(run)] : [runLink(run)])),
  );
}

/** Draws one method's line before all others, or none. */
function standOut(svg, method) {
  svg.classList.toggle("pointed", method !== null);
  for (const group of svg.querySelectorAll(".series")) {
    group.classList.toggle("hot", Number(group.dataset.method) === method && method !== null);
  }
}

/** Beside the point; where there is no room for that, in the half of the chart that it is not in. */
function placeTip(tip, frame, { px, py }) {
  const wide = frame.clientWidth;
  tip.classList.toggle("narrow", wide < 560);
  const left = px + 18 + tip.offsetWidth > wide ? px - tip.offsetWidth - 18 : px + 18;
  const beside = py - tip.offsetHeight / 2;
  const away = py > frame.clientHeight / 2 ? MARGIN.top : frame.clientHeight - MARGIN.bottom - tip.offsetHeight - 6;
  tip.style.left = `${Math.max(0, Math.min(left, wide - tip.offsetWidth))}px`;
  tip.style.top = `${Math.max(0, wide < 560 ? away : beside)}px`;
}

/** Arrow keys: left and right along a line, up and down between the lines at a rung. */
function keyed(event, state, point) {
  const { points, at } = state;
  if (event.key === "Escape") choose("alone", new Set());
  if (event.key === "Enter" && at) isolate(at.method, event.shiftKey);
  if (!event.key.startsWith("Arrow") || !points.length) return;
  event.preventDefault();
  const first = points.reduce((best, p) => (p.px < best.px || (p.px === best.px && p.py < best.py) ? p : best));
  point(at ? next(points, at, event.key) ?? at : first);
}

function next(points, at, key) {
  const across = key === "ArrowLeft" || key === "ArrowRight";
  const sign = key === "ArrowRight" || key === "ArrowDown" ? 1 : -1;
  const along = (p) => (across ? p.px - at.px : p.py - at.py) * sign;
  const same = (p) => (across ? p.method === at.method && p.dashed === at.dashed : p.rung === at.rung);
  const ahead = points.filter((p) => same(p) && (along(p) > 1e-6 || (along(p) >= 0 && isAfter(p, at, sign))));
  return ahead.sort((a, b) => along(a) - along(b))[0];
}

/** An order among points at one place, so that keys reach all of them. */
function isAfter(p, at, sign) {
  const order = (each) => each.method * 2 + each.dashed;
  return p.px === at.px && p.py === at.py && (order(p) - order(at)) * sign > 0;
}
