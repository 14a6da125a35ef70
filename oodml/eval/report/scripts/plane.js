// The class means in a plane, coloured by side, on a canvas: pools may have 20,000 classes.

const ROOM = 14;
const SIDES = ["train", "test", "away"];

function classPlane(plane, classNames) {
  const canvas = element("canvas", {
    class: "plane",
    role: "img",
    "aria-label": "Class means in a plane, coloured by side; the numbers stand beside it",
  });
  const tip = element("div", { class: "tip", hidden: true });
  const node = element("div", { class: "plane-frame" }, canvas, tip);
  const state = { rung: 0 };
  const draw = () => drawPlane(canvas, plane, state);
  new ResizeObserver(draw).observe(node);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
  document.addEventListener("themed", draw);
  canvas.addEventListener("pointermove", (event) =>
    nameClass(canvas, tip, plane, classNames, state, event),
  );
  canvas.addEventListener("pointerleave", () => (tip.hidden = true));
  return {
    node,
    show(rung) {
      state.rung = rung;
      draw();
    },
  };
}

function placed(canvas, plane) {
  const [width, height] = [canvas.clientWidth, canvas.clientHeight];
  const [wide, high] = [plane.widest, plane.highest];
  const unit = Math.min((width - 2 * ROOM) / (wide || 1), (height - 2 * ROOM) / (high || 1));
  const [left, top] = [(width - wide * unit) / 2, (height - high * unit) / 2];
  return {
    x: (place) => left + plane.x[place] * unit,
    y: (place) => height - top - plane.y[place] * unit,
  };
}

function drawPlane(canvas, plane, state) {
  if (!canvas.clientWidth) return;
  const dense = window.devicePixelRatio || 1;
  canvas.width = canvas.clientWidth * dense;
  canvas.height = canvas.clientHeight * dense;
  const pen = canvas.getContext("2d");
  pen.scale(dense, dense);
  const at = placed(canvas, plane);
  const rung = rungs[state.rung];
  const size = Math.max(1.3, Math.min(4, 90 / Math.sqrt(plane.x.length)));
  const moved = new Set([...(rung.moved.to_test ?? []), ...(rung.moved.to_train ?? [])]);
  const color = (name) => getComputedStyle(canvas).getPropertyValue(`--${name}`).trim();
  const tones = SIDES.map((side) => resolved(canvas, color(side)));
  for (const place of plane.order) {
    const side = Number(rung.sides[place]);
    pen.globalAlpha = side === 2 ? 0.5 : 0.85;
    pen.fillStyle = tones[side];
    shape(pen, side, at.x(place), at.y(place), side === 2 ? size * 0.6 : size);
    pen.fill();
  }
  pen.globalAlpha = 1;
  pen.lineWidth = 1.2;
  pen.strokeStyle = resolved(canvas, "var(--ink)");
  for (const place of moved) {
    pen.beginPath();
    pen.arc(at.x(place), at.y(place), size + 2.2, 0, 2 * Math.PI);
    pen.stroke();
  }
}

/** Circles are training classes and squares test classes, so that colour is not needed. */
function shape(pen, side, x, y, size) {
  pen.beginPath();
  if (side === 1) pen.rect(x - size * 0.88, y - size * 0.88, size * 1.76, size * 1.76);
  else pen.arc(x, y, size, 0, 2 * Math.PI);
}

/** What a colour of the style sheet is on this page, as the canvas understands it. */
function resolved(canvas, color) {
  canvas.style.color = color;
  const found = getComputedStyle(canvas).color;
  canvas.style.color = "";
  return found;
}

function nameClass(canvas, tip, plane, classNames, state, event) {
  const box = canvas.getBoundingClientRect();
  const [x, y] = [event.clientX - box.left, event.clientY - box.top];
  const at = placed(canvas, plane);
  let [best, far] = [-1, 12];
  for (const place of plane.order) {
    const away = Math.hypot(at.x(place) - x, at.y(place) - y);
    if (away < far) [best, far] = [place, away];
  }
  tip.hidden = best < 0;
  if (best < 0) return;
  const side = ["training class", "test class", "removed"][Number(rungs[state.rung].sides[best])];
  tip.replaceChildren(element("strong", {}, classNames[best]), side);
  tip.style.left = `${Math.max(0, Math.min(at.x(best) + 12, canvas.clientWidth - tip.offsetWidth))}px`;
  tip.style.top = `${Math.max(0, at.y(best) - tip.offsetHeight - 8)}px`;
}

/** The plane with its extent and an order of drawing in which neither side hides the other. */
function readyPlane(plane) {
  const widest = plane.x.reduce((most, value) => Math.max(most, value), 0);
  const highest = plane.y.reduce((most, value) => Math.max(most, value), 0);
  const mixed = (place) => (place * 2654435761) % 4294967296;
  const order = plane.x.map((_, place) => place).sort((a, b) => mixed(a) - mixed(b));
  return { ...plane, widest, highest, order };
}
