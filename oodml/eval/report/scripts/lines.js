// The lines of a chart, with their bands, markers and names.

function line(series, { x, y }) {
  const { method, dashed, points } = series;
  const group = tinted(
    drawing("g", {
      class: `series${dashed ? " dashed" : ""}${isShown(method) ? "" : " away"}`,
      "data-method": method,
    }),
    method,
  );
  for (const piece of pieces(points)) {
    const bands = piece.filter((p) => p.low != null);
    if (chosen.bands && !dashed && bands.length > 1) {
      const edge = [
        ...bands.map((p) => [x(p.x), y(p.high)]),
        ...bands.reverse().map((p) => [x(p.x), y(p.low)]),
      ];
      group.append(
        drawing("path", { class: "band", d: `M${edge.map((each) => each.map(cut)).join("L")}z` }),
      );
    } else if (chosen.bands && !dashed && bands.length) {
      const at = cut(x(bands[0].x));
      group.append(
        drawing("path", {
          class: "whisker",
          d: `M${at},${cut(y(bands[0].low))}L${at},${cut(y(bands[0].high))}`,
        }),
      );
    }
    const path = piece.map((p) => `${cut(x(p.x))},${cut(y(p.y))}`).join("L");
    group.append(
      drawing("path", {
        class: "line",
        d: `M${path}`,
        "stroke-dasharray": dashed ? "3 3" : dashes(method),
      }),
    );
  }
  for (const p of points.filter(Boolean)) {
    const place = `translate(${cut(x(p.x))} ${cut(y(p.y))})`;
    group.append(
      drawing("path", {
        class: "dot",
        d: marker(data.methods[method].marker, 4),
        transform: place,
        "data-rung": p.rung,
      }),
    );
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
  const longest = Math.max(
    ...series.map((each) => Math.min(28, data.methods[each.method].name.length)),
  );
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
    apart(
      ends.filter((each) => each.x === end),
      15,
      MARGIN.top,
      height - MARGIN.bottom - 10,
    );
  }
  for (const each of ends) {
    const { name } = data.methods[each.method];
    group.append(
      tinted(
        drawing("path", {
          class: "leader",
          d: `M${cut(each.x + 6)},${cut(each.y)}L${cut(each.x + 14)},${cut(each.at)}`,
        }),
        each.method,
      ),
      drawing(
        "text",
        { x: each.x + 18, y: each.at + 4, "data-method": each.method },
        name.length > 28 ? `${name.slice(0, 27)}…` : name,
      ),
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
