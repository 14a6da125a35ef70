// The rungs side by side: each one's FID against the FID of random splits of the same classes.

const STRIP = { height: 150, left: 50, right: 16, top: 14, foot: 26 };

/** A chart in which each rung is a column that can be clicked; `pick(number)` is called with its number. */
function rungStrip(pick) {
  const svg = drawing("svg", {
    class: "strip",
    height: STRIP.height,
    role: "img",
    "aria-label": stripWords(),
  });
  const node = element("div", { class: "strip-frame" }, svg);
  let current = 0;
  const draw = () => drawStrip(svg, node.clientWidth, current, pick);
  new ResizeObserver(draw).observe(node);
  return {
    node,
    show(number) {
      current = number;
      draw();
    },
  };
}

const stripWords = () =>
  `FID by rung: ${rungs.map((rung, number) => `rung ${number} ${distance(rung.fid)}`).join(", ")}`;

/** All FIDs, and the ends of the bands of the null. */
const stripValues = () =>
  rungs.flatMap((rung) => {
    const reach = 2 * (rung.null_sd ?? 0);
    return rung.null_mean == null
      ? [rung.fid]
      : [rung.fid, rung.null_mean - reach, rung.null_mean + reach];
  });

/** Where the axis starts: at 0, or near the smallest value where all of them are far from 0. */
function stripLow() {
  const values = stripValues();
  const [least, most] = [Math.min(...values), Math.max(...values)];
  return least > most / 2 ? least - 0.1 * (most - least) : 0;
}

function drawStrip(svg, clientWidth, current, pick) {
  const width = Math.max(280, clientWidth);
  svg.setAttribute("viewBox", `0 0 ${width} ${STRIP.height}`);
  const low = stripLow();
  const high = Math.max(...stripValues());
  const y = scale([low, high + 0.06 * (high - low)], [STRIP.height - STRIP.foot, STRIP.top]);
  const step = (width - STRIP.left - STRIP.right) / rungs.length;
  const middle = (number) => STRIP.left + step * (number + 0.5);
  const up = ticks(low, high, 3);
  svg.replaceChildren(
    drawing("text", { class: "axis-name", x: 0, y: 10 }, "FID"),
    ...up.values.flatMap((value) => [
      drawing("line", {
        class: "grid",
        x1: STRIP.left,
        x2: width - STRIP.right,
        y1: y(value),
        y2: y(value),
      }),
      drawing(
        "text",
        { x: STRIP.left - 8, y: y(value) + 4, "text-anchor": "end" },
        value.toFixed(up.digits),
      ),
    ]),
    ...rungs.map((rung, number) =>
      column(rung, number, { x: middle(number), y, low, step, current, pick }),
    ),
  );
}

function column(rung, number, { x, y, low, step, current, pick }) {
  const group = drawing("g", {
    class: `column${number === current ? " current" : ""}`,
    "data-rung": number,
    onclick: () => pick(number),
  });
  group.append(
    drawing("rect", {
      class: "back",
      x: x - step / 2 + 1,
      width: step - 2,
      y: STRIP.top - 6,
      height: STRIP.height - STRIP.top + 6,
      rx: 4,
    }),
  );
  if (rung.null_mean != null) {
    const [top, foot] = [2, -2].map((side) =>
      y(Math.max(low, rung.null_mean + side * (rung.null_sd ?? 0))),
    );
    const wide = Math.min(16, step * 0.3);
    group.append(
      drawing("rect", {
        class: "null-band",
        x: x - wide,
        width: 2 * wide,
        y: top,
        height: Math.max(1.5, foot - top),
      }),
      drawing("line", {
        class: "null",
        x1: x - wide,
        x2: x + wide,
        y1: y(rung.null_mean),
        y2: y(rung.null_mean),
      }),
      drawing("line", { class: "excess", x1: x, x2: x, y1: y(rung.null_mean), y2: y(rung.fid) }),
    );
  }
  group.append(
    drawing("circle", { class: "fid", cx: x, cy: y(rung.fid), r: 5 }),
    drawing(
      "text",
      { x, y: STRIP.height - 8, "text-anchor": "middle" },
      step > 46 ? `rung ${number}` : number,
    ),
  );
  return group;
}
