// What the shift costs: the values of a method, in numbers and in words.

// The three ways to come to a network, as every part of this section shows them.
const TRAININGS = {
  matched: { marker: "s", dash: "6 3.5" },
  frozen: { marker: "o", dash: "2 3" },
  shifted: { marker: "D", dash: null },
};
const studied = { method: 0, rung: 0, view: "sides", kind: "lost", every: false };
const studiers = [];

/** Tells the section's parts of another method, rung or view. */
function study(changes) {
  Object.assign(studied, changes);
  studyListed();
  for (const act of studiers) act();
}

/** Keeps to a method that is listed, and to a rung that it has. */
function studyListed() {
  if (!transferPlaces().includes(studied.method)) [studied.method] = transferRanked();
  const own = data.transfer.methods[studied.method].rungs;
  if (!own.includes(studied.rung)) studied.rung = own.at(-1);
}

/** Does a part of the section again whenever its choices change. */
function studying(act) {
  studiers.push(act);
  watch(["metric", "axis", "alone", "bands", "filter"], act);
}

const transferMetric = () =>
  data.transfer.metrics.includes(chosen.metric) ? chosen.metric : data.transfer.metrics[0];
const transferValues = () => data.transfer.values[transferMetric()];
const metricWords = () => transferMetric().replaceAll("_", " ");

/** A method of the section: its line's number, and on each of its rungs values and runs. */
function transferOf(place) {
  const { method, seeds, rungs: own, runs } = data.transfer.methods[place];
  const values = transferValues().methods[place];
  const rows = values.rows.map((row, at) => ({
    ...row,
    rung: own[at],
    runs: runs[at],
    x: chosen.axis === "fid" ? rungs[own[at]].fid : rungs[own[at]].excess,
  }));
  return { ...values, method, seeds, rows };
}

const transferName = (place) => data.methods[data.transfer.methods[place].method].name;

/** The methods that are listed, by their place in the section; all, if no listed one has a reference. */
function transferPlaces() {
  const all = [...data.transfer.methods.keys()];
  const own = all.filter((place) => isListed(data.transfer.methods[place].method));
  return own.length ? own : all;
}

/** The methods, the best after shifted training on the hardest rung first. */
function transferRanked() {
  const last = (place) => transferValues().methods[place].rows.at(-1).shifted?.[0] ?? -Infinity;
  return transferPlaces().sort((a, b) => last(b) - last(a) || a - b);
}

/** The gain or the shift cost of all methods, for a chart of lines. */
function readTransfer() {
  const kind = studied.view === "sides" ? "gain" : studied.view;
  const order = rungTicks().sort((a, b) => a.x - b.x);
  const series = [];
  const marks = [];
  for (const place of transferPlaces()) {
    const own = transferOf(place);
    const points = order.map(({ number, x }) => {
      const row = own.rows.find((each) => each.rung === number);
      if (!row?.[kind]) return undefined;
      const [mean, low, high] = row[kind];
      const runs = [...(row.runs.shifted ?? []), ...(row.runs.matched ?? [])];
      return { method: own.method, rung: number, runs, row, dashed: false, x, y: mean, mean, low, high };
    });
    if (points.some(Boolean)) series.push({ method: own.method, dashed: false, points });
    const met = breakEvenPlace(own);
    if (kind === "gain" && met?.at != null) marks.push({ method: own.method, x: met.at, y: 0 });
  }
  const excess = chosen.axis === "excess" ? "excess " : "";
  const yLabel = { gain: `gain in ${metricWords()}`, shift_cost: `shift cost in ${metricWords()}` };
  return { series, marks, xLabel: excess + data.fid_label, yLabel: yLabel[kind], zero: true };
}

const transferWords = ({ row, runs }) => [
  ...rowWords(row),
  ["runs", runs.map((run) => data.runs[run].id).join(" ")],
];

/** The values of a rung in pairs of a name and words. */
function rowWords(row) {
  const { null: random } = row;
  const pairs = [
    ["rung", String(row.rung)],
    ["FID", distance(rungs[row.rung].fid)],
    ...["matched", "shifted", "frozen"].map((side) => [side, whole(row[side])]),
    ["shift cost", whole(row.shift_cost)],
    ["gain", whole(row.gain)],
    ["retained", share(row.retained_gain)],
  ];
  if (random) pairs.push(["random splits", nullWords(random)]);
  return pairs.filter(([, words]) => words !== "–");
}

/** "0.034 ±0.012"; the value alone for one seed. */
const whole = (value) => (value ? `${score(value[0])} ${spread(...value)}`.trim() : "–");

/** "26% [−3, 45]". */
function share(value) {
  if (!value || value[1] == null || value[2] == null) return "–";
  const [mean, low, high] = value.map((each) => (100 * each).toFixed(0).replace("-", "−"));
  return `${mean}% [${low}, ${high}]`;
}

const nullWords = ({ mean, low, high }) =>
  low == null ? score(mean) : `${score(low)} to ${score(high)}`;

/** Where the break-even lies on the chosen axis, and the ends of its interval; null if unknown. */
function breakEvenPlace({ break_even: met, rows, seeds }) {
  const on = met?.[chosen.axis];
  if (!on) return null;
  const [at, pays, costs] = on;
  const ends = rows.map((row) => row.x);
  const [first, last] = [Math.min(...ends), Math.max(...ends)];
  return { kind: met.kind, at, pays, costs, first, last, told: seeds.length > 1 };
}

/** "190 [142, 275]"; "> 588" or "< 43" where an end lies outside the ladder. */
function breakEvenWords(own) {
  const met = breakEvenPlace(own);
  if (!met) return "–";
  const [before, beyond] = [`< ${met.first.toFixed(0)}`, `> ${met.last.toFixed(0)}`];
  const value = { before, beyond, within: met.at?.toFixed(0) }[met.kind];
  const [low, high] = [met.pays?.toFixed(0) ?? before, met.costs?.toFixed(0) ?? beyond];
  return met.told ? `${value} [${low}, ${high}]` : value;
}
