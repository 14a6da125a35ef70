// What the shift costs: the finding, the words that explain it, its chart, and how sure it is.

// With fewer test classes than this, one random split says little about the next.
const FEW_CLASSES = 300;

function showTransfer(section) {
  if (!data.transfer) return;
  section.hidden = false;
  [studied.method] = transferRanked();
  studied.rung = firstStudiedRung();
  watch(["filter"], studyListed);
  const found = element("p", { class: "finding" });
  const divided = element("p", { class: "divided" });
  const note = element("div", { class: "note", id: "transfer-note" });
  section.append(hatching(), found, divided, ...transferTerms(), transferChart(), note);
  section.append(...transferTables(), ...referenceGallery());
  studying(() => {
    found.textContent = transferValues().finding;
    divided.textContent = transferValues().division ?? "";
    divided.hidden = !divided.textContent;
    note.replaceChildren(...transferNotes().map((words) => element("p", {}, words)));
  });
  study({});
}

/** What the reader has to know before the chart. */
function transferTerms() {
  const terms = [
    [
      "frozen",
      "The network as it is. It learned nothing from either side, so the shift cannot harm it.",
    ],
    ["shifted", "Trained on the rung’s training classes, at the rung’s distance: what a user gets."],
    [
      "matched",
      "Trained on as many classes from where the test comes, so without shift: what no user has, " +
        "and the yardstick.",
    ],
  ];
  const read = [
    ["difficulty", "What matched loses along the ladder. It trains without shift, so the tested classes themselves are the cause."],
    ["shift cost", "Matched minus shifted, on the same test classes: the gap between the two lines."],
    ["break-even", "The distance at which shifted falls to frozen. Beyond it, training costs more than it brings."],
  ];
  return [
    element(
      "p",
      {},
      "Where the tested classes lie farther from the training classes (FID), scores are mostly lower, for two reasons: " +
        "the training was for other classes (shift), and the far classes are often harder to tell apart (difficulty). " +
        "Testing the same classes after different training tells the two apart. On every rung of the ladder, half of the " +
        "test classes are tested in three ways, then the other half, and the two are averaged:",
    ),
    element(
      "dl",
      { class: "terms" },
      terms.map(([side, words]) =>
        element("div", {}, element("dt", {}, sideSwatch(side), side), element("dd", {}, words)),
      ),
      read.map(([term, words]) =>
        element("div", {}, element("dt", {}, termSwatch(term), term), element("dd", {}, words)),
      ),
    ),
  ];
}

function transferChart() {
  const one = sidesChart();
  const all = curveChart({
    read: readTransfer,
    words: transferWords,
    label: "Gain or shift cost against shift, one line a method",
  });
  const buttons = legend(
    () => null,
    (method) => data.transfer.methods.some((each) => each.method === method),
  );
  const together = element("div", {}, all.node, buttons);
  const methods = element("label", {}, "Method ", transferSelect());
  const views = [
    ["sides", "one method"],
    ["gain", "gain of all", "Shifted minus frozen: what training brings"],
    ["shift_cost", "shift cost of all", "Matched minus shifted"],
  ];
  const caption = element("p", { class: "caption" });
  studying(() => {
    caption.textContent = captionWords();
    one.node.hidden = studied.view !== "sides";
    caption.hidden = one.node.hidden;
    together.hidden = !one.node.hidden;
    methods.hidden = one.node.hidden;
    (one.node.hidden ? all : one).draw();
  });
  return element(
    "div",
    {},
    element(
      "div",
      { class: "controls" },
      data.transfer.methods.length > 1
        ? radios("transfer-view", "Show", views, (view) => study({ view }))
        : null,
      methods,
      axisChoice("transfer-axis"),
    ),
    one.node,
    caption,
    together,
  );
}

/** The chart of one method in a sentence. */
function captionWords() {
  const own = transferOf(studied.method);
  const [first, last] = [own.rows[0], own.rows.at(-1)];
  const name = transferName(studied.method);
  const met = breakEvenPlace(own)
    ? ` Break-even ${chosen.axis === "fid" ? "FID" : "excess FID"}: ${breakEvenWords(own)}.`
    : " Its break-even is not known, as the network itself was not measured on the halves.";
  if (!last.fall || !last.difficulty || !last.cost_rise || first === last) return `${name}.${met}`;
  return (
    `${name} falls in ${metricWords()} from ${score(first.shifted[0])} to ${score(last.shifted[0])}. Of this fall of ` +
    `${whole(last.fall)}, ${whole(last.difficulty)} is difficulty and ${whole(last.cost_rise)}, the rise of the shift cost, is shift.${met}`
  );
}

/** The methods to choose from; the choice counts for chart, rungs and queries. */
function transferSelect() {
  const select = element("select", {
    onchange: () => study({ method: Number(select.value) }),
  });
  watch(["metric", "filter"], () =>
    select.replaceChildren(
      ...transferRanked().map((place) => element("option", { value: place }, transferName(place))),
    ),
  );
  studying(() => {
    select.value = studied.method;
  });
  return select;
}

/** How sure the numbers are. */
function transferNotes() {
  const counts = data.transfer.methods.map((each) => each.seeds.length);
  const [fewest, most] = [Math.min(...counts), Math.max(...counts)];
  const seeds = fewest === most ? plural(most, "seed") : `${fewest} to ${most} seeds`;
  const other =
    transferMetric() === chosen.metric
      ? ""
      : `The reference has no ${chosen.metric}; shown is ${transferMetric()}. `;
  const sure =
    most === 1
      ? "One seed, so no interval: repeat with --seeds 3 or more to know how sure these numbers are."
      : `Mean and 95% interval over ${seeds}, paired by seed. They cover the randomness of training and of ` +
        "halving the test classes, not the choice of this ladder’s classes.";
  return [other + sure, checkWords(), randomWords(), leftOutWords()].filter(Boolean);
}

/** On the easiest rung there is next to no shift, so there the cost should be none. */
function checkWords() {
  const { rows } = transferOf(studied.method);
  const [row] = rows;
  const [cost, low, high] = row.shift_cost ?? [];
  if (row.rung !== 0 || low == null) return "";
  const none = low <= 0 && high >= 0;
  return (
    `A check: on rung 0, the easiest (FID ${distance(rungs[0].fid)}), the shift cost of ${transferName(studied.method)} ` +
    `is ${score(cost)} ${interval(low, high)}: ${none ? "none that the interval tells from zero, as it should be where there is hardly any shift" : "more than zero or less, by some shift, or by chance where the rung has few classes"}.`
  );
}

function randomWords() {
  const some = transferValues().methods.some((each) => each.rows.some((row) => row.null));
  if (some) {
    return (
      "Random splits: the shift cost of a random split of the rung’s classes, without shift, lies between these with 95% " +
      "probability (one number: a single such split). A cost outside is told apart from no shift."
    );
  }
  const fewest = Math.min(...rungs.map((rung) => rung.test.classes));
  if (fewest >= FEW_CLASSES) return "";
  return [
    `With ${plural(fewest, "test class", "test classes")}, even a random split can show a cost by chance; how much is measured by `,
    element("code", {}, "oodml run LADDER --reference --reference-null 5"),
    ".",
  ];
}

function leftOutWords() {
  const left = data.transfer.methods
    .map((each, place) => [each.left_out, transferName(place)])
    .filter(([number]) => number);
  if (!left.length) return "";
  const words = left.map(([number, name]) => `${plural(number, "run")} of ${name}`).join(", ");
  return `Left out, as their seeds lack another run: ${words}.`;
}
