// The ladder: a slider over its rungs, and for each what it is made of and how it was reached.

const MOST_NAMES = 30;

function showLadder(section) {
  const { classes } = data.ladder;
  const slider = element("input", {
    type: "range",
    id: "rung-slider",
    min: 0,
    max: rungs.length - 1,
    step: 1,
    value: 0,
    "aria-label": "Rung",
  });
  const output = element("output", { for: "rung-slider" });
  const strip = rungStrip((number) => show(number));
  const plane = classes.plane && classPlane(readyPlane(classes.plane), classes.names);
  const facts = element("dl", { class: "stats" });
  const groups = element("div", { class: "groups" });
  const moves = element("div", { class: "moves" });
  // Without data nobody knows whether there are groups; with data that has none there is no block.
  const hasGroups = classes.groups || !classes.plane;
  function show(number) {
    slider.value = number;
    slider.setAttribute("aria-valuetext", `rung ${number}, FID ${distance(rungs[number].fid)}`);
    output.replaceChildren(
      element("b", {}, `Rung ${number}`),
      ` of ${rungs.length - 1}, FID ${distance(rungs[number].fid)}`,
    );
    strip.show(number);
    plane?.show(number);
    facts.replaceChildren(...rungFacts(number));
    if (hasGroups) groups.replaceChildren(...composition(number));
    moves.replaceChildren(...moveLists(number));
  }
  slider.addEventListener("input", () => show(Number(slider.value)));
  section.append(
    strip.node,
    element("div", { class: "slide" }, slider, output),
    element("p", { class: "note" }, stripNote()),
    ...data.cautions.map((words) => element("p", { class: "note caution" }, words)),
    element(
      "div",
      { class: "rung-view" },
      element("figure", {}, plane?.node ?? advice("The plane of class means"), planeKey(classes)),
      element("div", {}, facts),
    ),
    element("div", { class: "rung-view" }, hasGroups ? groups : null, moves),
  );
  show(0);
}

const stripNote = () =>
  rungs.some((rung) => rung.null_mean != null)
    ? `${stripLow() ? "The axis does not start at 0. " : ""}Dot: FID of the rung. Grey: FID of random splits of the same classes with as many a side, mean and two standard deviations; the line between is the excess.`
    : "The ladder was built without null distributions, so its excess FID is not known.";

function advice(what) {
  const source = data.source || "SOURCE";
  return element(
    "p",
    { class: "advice" },
    `${what} needs the ladder's data: `,
    element("code", {}, `oodml report DIR --data ${source}`),
  );
}

function planeKey({ plane }) {
  if (!plane) return null;
  const [first, second] = plane.axes;
  return element(
    "figcaption",
    {},
    element("span", { class: "key train" }, "training class"),
    element("span", { class: "key test" }, "test class"),
    element("span", { class: "key away" }, "removed"),
    element("span", { class: "key moved" }, "changed sides since the rung before"),
    element("span", {}, `Class means; across: ${first}, up: ${second}.`),
  );
}

function rungFacts(number) {
  const rung = rungs[number];
  const gone = data.ladder.classes.names.length - rung.train.classes - rung.test.classes;
  const pairs = [
    [
      "FID",
      distance(rung.fid),
      rung.measured
        ? `${distance(rung.mean_term)} from the means, ${distance(rung.covariance_term)} from the covariances`
        : "as published, not measured here",
    ],
    ...(rung.null_mean == null
      ? []
      : [
          [
            "null",
            `${distance(rung.null_mean)} ± ${distance(rung.null_sd)}`,
            `mean and sd of ${plural(rung.null_draws, "random split")}`,
          ],
          [
            "excess",
            distance(rung.excess),
            rung.z == null
              ? null
              : `${Math.abs(rung.z).toFixed(1)} sd ${rung.z < 0 ? "below" : "above"} the null`,
          ],
        ]),
    [
      "training",
      plural(rung.train.classes, "class", "classes"),
      `${count(rung.train.images)} images`,
    ],
    ["test", plural(rung.test.classes, "class", "classes"), `${count(rung.test.images)} images`],
    ["removed", plural(gone, "class", "classes"), "in all, up to this rung"],
    ["split", rung.split],
  ];
  return pairs.map(([name, value, note]) =>
    element(
      "div",
      {},
      element("dt", {}, name),
      element("dd", {}, value, note ? element("small", {}, note) : null),
    ),
  );
}

/** How many classes of each group stand on either side. */
function composition(number) {
  const { groups } = data.ladder.classes;
  const title = element("h3", {}, "Groups of classes");
  if (!groups) return [title, advice("The composition")];
  const counts = groups.names.map(() => [0, 0]);
  groups.of.forEach((group, place) => {
    const side = rungs[number].sides[place];
    if (side !== "2") counts[group][side] += 1;
  });
  const most = Math.max(1, ...counts.flat());
  const rows = groups.names.map((name, group) => groupRow(name, counts[group], most));
  return [
    title,
    element(
      "table",
      { class: "bars" },
      element(
        "thead",
        {},
        element(
          "tr",
          {},
          element("th", { scope: "col" }, "group"),
          element("th", { scope: "col" }, "training"),
          element("th", { scope: "col" }, "test"),
        ),
      ),
      element("tbody", {}, rows),
    ),
  ];
}

function groupRow(name, [train, test], most) {
  return element(
    "tr",
    {},
    element("th", { scope: "row" }, name),
    [
      ["train", train],
      ["test", test],
    ].map(([side, value]) => {
      const bar = element("span", { class: `fill ${side}` });
      bar.style.width = `${(value / most) * 100}%`;
      return element(
        "td",
        {},
        element("span", { class: "track" }, bar),
        element("span", { class: "amount" }, String(value)),
      );
    }),
  );
}

function moveLists(number) {
  const { moved } = rungs[number];
  const title = element("h3", {}, number ? `Since rung ${number - 1}` : "Moved classes");
  if (!number)
    return [
      title,
      element("p", { class: "note" }, `${startWords()} Moves are counted from rung to rung.`),
    ];
  const kinds = [
    ["to_test", "to test", "test"],
    ["to_train", "to training", "train"],
    ["removed", "removed", "away"],
  ];
  const lists = kinds
    .filter(([kind]) => moved[kind]?.length)
    .map(([kind, words, side]) => moveList(moved[kind], words, side));
  return [
    title,
    ...(lists.length
      ? lists
      : [element("p", { class: "note" }, "No class changed sides or was removed.")]),
  ];
}

/** Where the walk began whose splits became the rungs; it may have gone to easier ones too. */
function startWords() {
  const { start } = data.ladder;
  if (!start) return "The easiest rung.";
  if (start.rung === 0) return "The ladder was started here.";
  if (start.rung != null) return `The easiest rung; the ladder was started at rung ${start.rung}.`;
  const place =
    start.after < 0
      ? "below rung 0"
      : start.after + 1 < rungs.length
        ? `between rungs ${start.after} and ${start.after + 1}`
        : `above rung ${start.after}`;
  return `The easiest rung; the ladder was started at FID ${distance(start.fid)}, ${place}.`;
}

function moveList(places, words, side) {
  const list = element("ul", { class: "class-names" });
  const name = (place) => element("li", {}, data.ladder.classes.names[place]);
  list.append(...places.slice(0, MOST_NAMES).map(name));
  const rest = places.slice(MOST_NAMES);
  const more = element(
    "button",
    { type: "button", class: "more" },
    `and ${count(rest.length)} more`,
  );
  more.addEventListener("click", () => {
    list.append(...rest.map(name));
    more.remove();
  });
  return element(
    "details",
    { class: `move ${side}`, open: true },
    element("summary", {}, element("b", {}, count(places.length)), ` ${words}`),
    list,
    rest.length ? more : null,
  );
}
