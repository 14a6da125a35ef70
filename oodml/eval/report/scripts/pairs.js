// Two methods at a time: which differences the runs can tell, and where curves cross.

const against = { method: null };

function showPairs(section) {
  if (data.methods.length < 2) return;
  section.hidden = false;
  const table = element("table", { class: "against" });
  const crossed = element("ul", { class: "crossed" });
  const note = element("p", { class: "note" });
  const select = element(
    "select",
    {
      id: "pairs-method",
      onchange: () => {
        against.method = Number(select.value);
        fill();
      },
    },
  );
  function fill() {
    const { compared, crossings } = data.pairs[chosen.metric];
    table.replaceChildren(pairsHead(), element("tbody", {}, pairsOf(compared).map(pairRow)));
    const own = crossings.filter(
      ({ before, after }) =>
        [before, after].includes(against.method) && isListed(before) && isListed(after),
    );
    crossed.replaceChildren(...own.map((each) => element("li", {}, crossingWords(each))));
    note.textContent = pairsNote(own.length);
  }
  const frame = { class: "scroller", tabindex: 0, role: "region", "aria-label": "Table of pairs" };
  section.append(
    element("div", { class: "controls" }, element("label", {}, "Method ", select)),
    element("div", frame, table),
    crossed,
    note,
  );
  watch(["filter"], () => {
    const lines = ranked().filter(isListed);
    const options = lines.map((line) => element("option", { value: line }, data.methods[line].name));
    select.replaceChildren(...options);
    if (lines.includes(against.method)) select.value = against.method;
    against.method = select.value === "" ? null : Number(select.value);
  });
  watch(["metric", "filter"], fill);
}

/** The pairs of the chosen method, each as chosen minus other; the largest difference first. */
function pairsOf(compared) {
  return compared
    .filter(({ first, second }) => [first, second].includes(against.method))
    .filter(({ first, second }) => isListed(first) && isListed(second))
    .map((pair) => {
      const [mean, low, high] = pair.difference;
      return pair.first === against.method
        ? { ...pair, other: pair.second, mean, low, high }
        : { ...pair, other: pair.first, mean: -mean, low: turned(high), high: turned(low) };
    })
    .sort((a, b) => b.mean - a.mean || a.other - b.other);
}

const turned = (end) => (end == null ? null : -end);

function pairsHead() {
  const words = ["Other method", "What may be said", "Difference", "95% interval", "p (Holm)"];
  const heads = words.map((each) => element("th", { scope: "col" }, each));
  return element("thead", {}, element("tr", {}, heads));
}

function pairRow(pair) {
  const { other, mean, low, high, p, verdict } = pair;
  const base = `${plural(pair.rungs, "rung")} x ${plural(pair.seeds, "seed")}`;
  const left = pair.left_out ? `, ${plural(pair.left_out, "run")} without a partner` : "";
  return element(
    "tr",
    { "data-other": other, title: base + left },
    element("th", { scope: "row" }, swatch(other), breakable(data.methods[other].name)),
    element("td", { class: "verdict" }, verdict),
    element("td", {}, fine(mean)),
    element("td", {}, low == null ? "–" : `[${fine(low)}, ${fine(high)}]`),
    element("td", {}, p == null ? "–" : p < 0.001 ? "< 0.001" : p.toFixed(3)),
  );
}

/** A difference, with its sign and four digits. */
const fine = (value) => `${value < 0 ? "−" : "+"}${Math.abs(value).toFixed(4)}`;

const crossingWords = ({ before, after, fid, low, high }) =>
  `${data.methods[before].name} is above ${data.methods[after].name} at FID ${distance(low)} and ` +
  `below it at ${distance(high)}; straight lines between the rungs meet near ${distance(fid)}.`;

const pairsNote = (crossed) =>
  `Difference in ${chosen.metric}, the chosen method minus the other, paired by rung and seed. One method is called above ` +
  "another on average only where Wilcoxon's p, corrected over all pairs of methods (Holm), is below 0.05 and the " +
  "t-interval over seeds excludes zero. A crossing is stated only between rungs on which the paired t-intervals (95%, " +
  `Bonferroni over rungs) exclude zero on opposite sides${crossed ? "." : "; none is here."} ${TRAINING_ONLY}`;
