// Few-shot: each method before and after it has seen a few images of the test classes.

const few = { shots: data.few_shot?.shots[0], view: "values" };

function showFewShot(section) {
  if (!data.few_shot) return;
  section.hidden = false;
  const chart = curveChart({
    read: readFewShot,
    words: fewShotWords,
    label: "Few-shot against shift, one line a method",
  });
  const note = element("p", { class: "note" });
  const change = (name) => (value) => {
    few[name] = value;
    chart.draw();
    note.textContent = fewShotNote();
  };
  section.append(
    element(
      "div",
      { class: "controls" },
      radios(
        "shots",
        "Images a class",
        data.few_shot.shots.map((shots) => [shots, String(shots)]),
        change("shots"),
      ),
      radios(
        "view",
        "Show",
        [
          ["values", "zero- and few-shot"],
          ["gain", "gain"],
          ["relative", "relative gain"],
        ],
        change("view"),
      ),
    ),
    chart.node,
    legend(
      () => null,
      (method) => data.few_shot.cells.some((cell) => cell.method === method),
    ),
    note,
  );
  watch(["metric", "axis", "alone", "bands", "filter"], () => {
    chart.draw();
    note.textContent = fewShotNote();
  });
}

const fewShotMetric = () =>
  data.few_shot.metrics.includes(chosen.metric) ? chosen.metric : data.few_shot.metrics[0];

function readFewShot() {
  const order = rungTicks().sort((a, b) => a.x - b.x);
  const kinds =
    few.view === "values"
      ? [
          ["zero", true],
          ["few", false],
        ]
      : [[few.view, false]];
  const series = [];
  for (const method of listed()) {
    const own = fewShotCells().filter(
      (cell) => cell.method === method && cell.shots === Number(few.shots),
    );
    for (const [kind, dashed] of own.length ? kinds : []) {
      series.push({
        method,
        dashed,
        points: order.map((tick) => fewShotPoint(own, tick, kind, dashed)),
      });
    }
  }
  const metric = fewShotMetric().replaceAll("_", " ");
  const yLabel = {
    values: metric,
    gain: `gain in ${metric}`,
    relative: `relative gain in ${metric}`,
  }[few.view];
  const excess = chosen.axis === "excess" ? "excess " : "";
  return { series, xLabel: excess + data.fid_label, yLabel, zero: few.view !== "values" };
}

const fewShotCells = () =>
  data.few_shot.cells.map((cell, place) => ({
    ...cell,
    values: data.few_shot.values[fewShotMetric()][place],
  }));

function fewShotPoint(own, { number, x }, kind, dashed) {
  const cell = own.find((each) => each.rung === number);
  const values = cell?.values[kind];
  if (!values) return undefined;
  const [mean, low, high] = values;
  return {
    method: cell.method,
    rung: number,
    runs: cell.runs,
    cell,
    kind,
    dashed,
    x,
    y: mean,
    mean,
    low,
    high,
  };
}

function fewShotWords({ cell, rung, runs }) {
  const { values } = cell;
  const both = ([mean, low, high]) => `${score(mean)} ${spread(mean, low, high)}`.trim();
  return [
    ["rung", String(rung)],
    ["FID", distance(rungs[rung].fid)],
    ["zero-shot", both(values.zero)],
    [`${cell.shots}-shot`, both(values.few)],
    ["gain", both(values.gain)],
    ["relative", values.relative ? both(values.relative) : "–"],
    ...(cell.left_out ? [["left out", `${plural(cell.left_out, "class", "classes")}, too small`]] : []),
    ["n", `${plural(cell.episodes, "episode")}, ${plural(runs.length, "seed")}`],
    ["runs", runs.map((run) => data.runs[run].id).join(" ")],
  ];
}

function fewShotNote() {
  const dashed = few.view === "values" ? "Solid: adapted; dashed: the same queries before. " : "";
  const other =
    fewShotMetric() === chosen.metric
      ? ""
      : `Episodes have no ${chosen.metric}; shown is ${fewShotMetric()}. `;
  return `${dashed}${other}Mean and 95% t-interval over episodes, each averaged over seeds first.`;
}
