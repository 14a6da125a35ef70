// A chart of lines with bands: hover and arrow keys name a point, click and Enter isolate a method.

/**
 * `read()` gives { series, marks, xLabel, yLabel, zero } where a series is { method, dashed, points }
 * and a point { x, y, low, high, rung, runs, dashed, method }; a missing point breaks the line. The
 * `marks`, if any, are diamonds at { x, y, method }.
 * `words(point)` gives pairs of a name and a value for the tooltip.
 */
function curveChart({ read, words, label, height = 420 }) {
  const svg = drawing("svg", { class: "chart", role: "presentation" });
  const tip = element("div", { class: "tip", hidden: true });
  const readout = element("p", { class: "readout", "aria-live": "polite" });
  const frame = element(
    "div",
    {
      class: "frame",
      tabindex: 0,
      role: "application",
      "aria-label": `${label}. Arrow keys go from point to point, Enter shows a method alone, Escape all.`,
    },
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

function drawChart(svg, frame, { series, marks = [], xLabel, yLabel, zero }, height, state) {
  const width = Math.max(280, frame.clientWidth);
  const points = series.flatMap((each) => each.points.filter(Boolean));
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  svg.setAttribute("height", height);
  svg.classList.toggle("many", listed().length > MANY && chosen.alone.size === 0);
  if (!points.length) return svg.replaceChildren();
  const shown = points.filter((p) => isShown(p.method));
  const named = width >= 640 && new Set(shown.map((p) => p.method)).size <= MANY;
  const right = width - (named ? nameRoom(series) : MARGIN.right);
  const box = { zero, right, height, ...scales(points, right, height, zero) };
  state.points = shown.map((p) => ({ ...p, px: box.x(p.x), py: box.y(p.y) }));
  state.at = null;
  // Those that stand alone are drawn over the others, and lines over dashes.
  const ordered = [...series].sort(
    (a, b) => isShown(a.method) - isShown(b.method) || b.dashed - a.dashed,
  );
  svg.replaceChildren(
    axes(box, xLabel, yLabel),
    ...ordered.map((each) => line(each, box)),
    ...marks.filter((mark) => isShown(mark.method)).map((mark) => diamond(mark, box)),
    ...(named ? [names(series, box)] : []),
  );
}

function diamond({ x, y, method }, box) {
  const place = `translate(${cut(box.x(x))} ${cut(box.y(y))})`;
  const dot = drawing("path", { class: "met-dot", d: marker("D", 5), transform: place });
  return tinted(drawing("g", { class: "series", "data-method": method }, dot), method);
}

/** Both axes with room for every point, its band and, if wanted, zero. */
function scales(points, right, height, zero) {
  const ends = chosen.bands ? points.flatMap((p) => [p.low, p.high]) : [];
  const tall = [...points.map((p) => p.y), ...ends].filter((value) => value != null);
  const xRange = roomy(rungTicks().map((tick) => tick.x));
  const yRange = roomy(zero ? [...tall, 0] : tall);
  return {
    xRange,
    yRange,
    x: scale(xRange, [MARGIN.left, right]),
    y: scale(yRange, [height - MARGIN.bottom, MARGIN.top]),
  };
}
