// The frame of a chart: ticks, grid, and where the rungs stand.

const MARGIN = { left: 50, right: 16, top: 30, bottom: 44 };

/** Where the rungs stand on the chosen axis. */
function rungTicks() {
  return rungs.map((rung, number) => ({
    number,
    x: chosen.axis === "fid" ? rung.fid : rung.excess,
  }));
}

function axes({ x, y, right, height, xRange, yRange, zero }, xLabel, yLabel) {
  const group = drawing("g", { class: "axes" });
  const across = ticks(...xRange, (right - MARGIN.left) / 80);
  const up = ticks(...yRange, (height - 80) / 55);
  const foot = height - MARGIN.bottom;
  for (const value of up.values) {
    group.append(
      drawing("line", {
        class: zero && Math.abs(value) < 1e-12 ? "zero" : "grid",
        x1: MARGIN.left,
        x2: right,
        y1: y(value),
        y2: y(value),
      }),
      drawing(
        "text",
        { x: MARGIN.left - 8, y: y(value) + 4, "text-anchor": "end" },
        value.toFixed(up.digits).replace("-", "−"),
      ),
    );
  }
  for (const value of across.values) {
    group.append(
      drawing(
        "text",
        { x: x(value), y: foot + 18, "text-anchor": "middle" },
        value.toFixed(across.digits).replace("-", "−"),
      ),
    );
  }
  let last = -Infinity;
  for (const tick of rungTicks()) {
    group.append(
      drawing("line", { class: "rung", x1: x(tick.x), x2: x(tick.x), y1: MARGIN.top, y2: foot }),
    );
    if (Math.abs(x(tick.x) - last) < 14) continue;
    last = x(tick.x);
    group.append(
      drawing(
        "text",
        { class: "rung-name", x: last, y: MARGIN.top - 6, "text-anchor": "middle" },
        tick.number,
      ),
    );
  }
  group.append(
    drawing("line", { class: "foot", x1: MARGIN.left, x2: right, y1: foot, y2: foot }),
    drawing(
      "text",
      { class: "axis-name", x: (MARGIN.left + right) / 2, y: height - 6, "text-anchor": "middle" },
      xLabel,
    ),
    drawing("text", { class: "axis-name", x: 0, y: 12 }, yLabel),
    drawing("text", { class: "rung-name", x: right, y: 12, "text-anchor": "end" }, "rung"),
  );
  return group;
}
