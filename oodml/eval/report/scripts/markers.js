// How a method looks: its marker, its dashes, and a piece of its line for legends.

// matplotlib's names of markers, as polygons: number of corners, of them every second at `inner`.
const MARKERS = {
  s: [4, 45],
  D: [4, 0],
  d: [4, 0],
  "^": [3, 0],
  v: [3, 180],
  "<": [3, 270],
  ">": [3, 90],
  p: [5, 0],
  h: [6, 0],
  H: [6, 30],
  8: [8, 22.5],
  "*": [10, 0, 0.45],
  P: [8, 22.5, 1],
  X: [8, 0, 0.4],
};

/** The path of a marker around 0, 0. */
function marker(code, size) {
  if (code === "P" || code === "X") return cross(size, code === "X" ? 45 : 0);
  const [corners, turn, inner = 1] = MARKERS[code] ?? [0, 0];
  if (!corners)
    return `M${-size},0a${size},${size} 0 1 0 ${2 * size},0a${size},${size} 0 1 0 ${-2 * size},0z`;
  const reach = corners === 3 ? size * 1.25 : size * 1.12;
  const points = Array.from({ length: corners }, (_, place) =>
    polar(reach * (place % 2 ? inner : 1), turn + (360 / corners) * place),
  );
  return `M${points.join("L")}z`;
}

function cross(size, turn) {
  const arm = size * 0.42;
  const outline = [
    [-arm, -1],
    [arm, -1],
    [arm, -arm],
    [1, -arm],
    [1, arm],
    [arm, arm],
    [arm, 1],
    [-arm, 1],
    [-arm, arm],
    [-1, arm],
    [-1, -arm],
    [-arm, -arm],
  ];
  const points = outline.map(([x, y]) => {
    const [wide, high] = [
      Math.abs(x) === 1 ? x * size * 1.15 : x,
      Math.abs(y) === 1 ? y * size * 1.15 : y,
    ];
    return polar(Math.hypot(wide, high), (Math.atan2(wide, -high) * 180) / Math.PI + turn);
  });
  return `M${points.join("L")}z`;
}

function polar(radius, degrees) {
  const angle = (degrees * Math.PI) / 180;
  return [radius * Math.sin(angle), -radius * Math.cos(angle)]
    .map((each) => each.toFixed(2))
    .join(",");
}

const DASHES = { "-": null, "--": "6 3.5", "-.": "8 3 2 3", ":": "2 3" };

/** The dashes of a line: by name, or as lengths in widths of the line. */
function dashes(method) {
  const { dashes: own } = data.methods[method];
  return Array.isArray(own) ? own.map((length) => 1.8 * length).join(" ") : (DASHES[own] ?? null);
}

/** A short piece of a method's line with its marker, for legends. */
function swatch(method) {
  const { dashes: own } = data.methods[method];
  return tinted(
    drawing(
      "svg",
      { class: "swatch", viewBox: "-15 -7 30 14", width: 30, height: 14, "aria-hidden": "true" },
      drawing("path", {
        class: "line",
        d: "M-14,0H14",
        "stroke-dasharray": dashes(method),
        // Half of the first dash, so that its gap is not behind the marker.
        "stroke-dashoffset": Array.isArray(own) ? 0.9 * own[0] : null,
      }),
      drawing("path", { class: "dot", d: marker(data.methods[method].marker, 4) }),
    ),
    method,
  );
}
