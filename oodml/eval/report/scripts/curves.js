// The curves: a metric against FID or excess FID, one line a method.

const TRAINING_ONLY =
  "Intervals cover the randomness of training on this ladder, not the choice of its classes.";

const hasExcess = rungs.every((rung) => rung.excess != null);

function showCurves(section) {
  const chart = curveChart({
    read: readCurves,
    words: curveWords,
    label: "Metric against shift, one line a method",
  });
  section.append(
    element(
      "div",
      { class: "controls" },
      axisChoice(),
      checkbox("bands", "95% bands"),
    ),
    chart.node,
    legend((method) => data.scores[chosen.metric].find((each) => each.method === method)?.mean),
    element("p", { class: "note", id: "curves-note" }),
  );
  watch(["metric", "axis", "alone", "bands", "filter"], () => {
    chart.draw();
    byId("curves-note").textContent = curvesNote();
  });
}

/** FID or excess FID, for all charts; `name` tells the choices of several charts apart. */
function axisChoice(name = "axis") {
  const missing = "The ladder has no null distribution on every rung.";
  const choice = radios(
    name,
    "Against",
    [
      ["fid", "FID"],
      hasExcess
        ? ["excess", "excess FID", "FID minus the mean of random splits of the same classes"]
        : [null, "excess FID", missing],
    ],
    (value) => choose("axis", value),
  );
  watch(["axis"], () => {
    for (const input of choice.querySelectorAll("input")) input.checked = input.value === chosen.axis;
  });
  return choice;
}

function readCurves() {
  const all = cells(chosen.metric);
  const order = rungTicks().sort((a, b) => a.x - b.x);
  const series = [];
  for (const method of listed()) {
    const own = all.filter((cell) => cell.method === method);
    const points = order.map(({ number, x }) => {
      const cell = own.find((each) => each.rung === number);
      return cell && { ...cell, x, y: cell.mean, dashed: false };
    });
    if (own.length) series.push({ method, dashed: false, points });
  }
  const excess = chosen.axis === "excess" ? "excess " : "";
  return { series, xLabel: excess + data.fid_label, yLabel: chosen.metric.replaceAll("_", " ") };
}

function curveWords(point) {
  const rung = rungs[point.rung];
  const pairs = [
    ["rung", String(point.rung)],
    ["FID", distance(rung.fid)],
  ];
  if (rung.excess != null) pairs.push(["excess", distance(rung.excess)]);
  pairs.push(
    [chosen.metric.replaceAll("_", " "), score(point.mean)],
    ["95% interval", interval(point.low, point.high)],
    ["n", plural(point.runs.length, "seed")],
    ["runs", point.runs.map((run) => data.runs[run].id).join(" ")],
  );
  return pairs;
}

function curvesNote() {
  const shown = data.cells.filter((cell) => isListed(cell.method));
  const counts = shown.map((cell) => cell.runs.length).filter((each) => each > 1);
  const [fewest, most] = [Math.min(...counts), Math.max(...counts)];
  const seeds = fewest === most ? plural(most, "seed") : `${fewest} to ${most} seeds`;
  const single = new Set(
    shown.filter((cell) => cell.runs.length === 1).map((cell) => data.methods[cell.method].name),
  );
  const without = `One seed, no interval: ${[...single].join(", ")}. `;
  return (
    (counts.length ? `Mean and 95% t-interval over ${seeds}. ` : "") +
    (single.size ? without : "") +
    `${TRAINING_ONLY} ` +
    `Score beside a name: AGS, the area under ${chosen.metric} against FID scaled to [0, 1]. ` +
    data.cautions.join(" ")
  );
}

/** One button a method, the best score first, with its `value`; a pressed one is shown alone. */
function legend(value, wanted = () => true) {
  const list = element("div", {
    class: "legend",
    role: "group",
    "aria-label": "Show a method alone",
  });
  const all = element(
    "button",
    { type: "button", class: "all", onclick: () => choose("alone", new Set()) },
    "show all",
  );
  watch(["metric", "filter"], () =>
    list.replaceChildren(
      ...ranked()
        .filter((method) => isListed(method) && wanted(method))
        .map((method) => legendButton(method, value(method))),
      all,
    ),
  );
  watch(["metric", "alone", "filter"], () => {
    for (const button of list.querySelectorAll("[data-method]")) {
      button.setAttribute("aria-pressed", String(chosen.alone.has(Number(button.dataset.method))));
    }
    all.hidden = chosen.alone.size === 0;
  });
  return list;
}

function legendButton(method, value) {
  return element(
    "button",
    {
      type: "button",
      "data-method": method,
      "aria-pressed": "false",
      title: "Click: alone. Ctrl or Shift click: together with others.",
      onpointerenter: () =>
        document.querySelectorAll("svg.chart").forEach((svg) => standOut(svg, method)),
      onpointerleave: () =>
        document.querySelectorAll("svg.chart").forEach((svg) => standOut(svg, null)),
      onclick: (event) => isolate(method, event.ctrlKey || event.metaKey || event.shiftKey),
    },
    swatch(method),
    element("span", { class: "name" }, data.methods[method].name),
    element("span", { class: "value" }, value == null ? "" : score(value)),
  );
}
