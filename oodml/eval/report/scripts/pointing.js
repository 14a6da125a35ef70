// Pointing at a chart with the mouse or the arrow keys: the point, its tooltip and its runs.

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
    element(
      "dl",
      {},
      pairs.map(([name, value]) => {
        const [extra, runs] = [
          name === "runs" ? "extra" : null,
          name === "runs" ? "runs extra" : null,
        ];
        return [element("dt", { class: extra }, name), element("dd", { class: runs }, value)];
      }),
    ),
  );
  placeTip(tip, frame, found);
  readout.replaceChildren(
    element("b", {}, data.methods[found.method].name),
    ", ",
    pairs
      .filter(([name]) => name !== "runs")
      .map(([name, value]) => `${name} ${value}`)
      .join(", "),
    "; ",
    found.runs.length === 1 ? "run " : "runs ",
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
  const away =
    py > frame.clientHeight / 2
      ? MARGIN.top
      : frame.clientHeight - MARGIN.bottom - tip.offsetHeight - 6;
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
  const first = points.reduce((best, p) =>
    p.px < best.px || (p.px === best.px && p.py < best.py) ? p : best,
  );
  point(at ? (next(points, at, event.key) ?? at) : first);
}

function next(points, at, key) {
  const across = key === "ArrowLeft" || key === "ArrowRight";
  const sign = key === "ArrowRight" || key === "ArrowDown" ? 1 : -1;
  const along = (p) => (across ? p.px - at.px : p.py - at.py) * sign;
  const same = (p) =>
    across ? p.method === at.method && p.dashed === at.dashed : p.rung === at.rung;
  const ahead = points.filter(
    (p) => same(p) && (along(p) > 1e-6 || (along(p) >= 0 && isAfter(p, at, sign))),
  );
  return ahead.sort((a, b) => along(a) - along(b))[0];
}

/** An order among points at one place, so that keys reach all of them. */
function isAfter(p, at, sign) {
  const order = (each) => each.method * 2 + each.dashed;
  return p.px === at.px && p.py === at.py && (order(p) - order(at)) * sign > 0;
}
