// Puts the page together.

function showHead() {
  const hardest = rungs.at(-1).fid;
  const easiest = rungs[0].fid;
  const seeds = new Set(data.runs.map((run) => run.seed)).size;
  byId("lead").textContent =
    `${lineWords()} on ${plural(rungs.length, "class split")}, ` +
    `whose shift between training and test classes rises from FID ${distance(easiest)} to ${distance(hardest)}.`;
  const first = rungs[0];
  const facts = [
    ["dataset", data.features.dataset, `fingerprint ${data.features.fingerprint}`],
    [
      "pool",
      plural(data.ladder.classes.names.length, "class", "classes"),
      first.train.images == null
        ? null
        : `${count(first.train.images + first.test.images)} images on rung 0`,
    ],
    [
      "shift",
      data.fid_label,
      `${data.features.precision}, weights ${data.features.weights.slice(0, 12)}`,
    ],
    ["runs", plural(data.runs.length, "finished run"), plural(seeds, "seed")],
  ];
  byId("facts").append(
    ...facts.map(([name, value, note]) =>
      element(
        "div",
        {},
        element("dt", {}, name),
        element("dd", {}, value, note ? element("small", {}, note) : null),
      ),
    ),
  );
  byId("footer").textContent =
    `Written by oodml ${data.version}. Every number leads to a run's id and its file.`;
}

/** How many methods, and how many models if there are several. */
function lineWords() {
  const different = (key) => new Set(data.methods.map((line) => line[key])).size;
  if (!severalModels) return plural(data.methods.length, "method");
  return `${plural(different("method"), "method")} and ${plural(different("backbone"), "model")}`;
}

function showBar() {
  const sections = [...document.querySelectorAll("section")].filter((section) => !section.hidden);
  byId("nav").append(
    ...sections.map((section) => element("a", { href: `#${section.id}` }, section.dataset.title)),
  );
  const select = byId("metric");
  select.append(
    ...data.metrics.map((name) =>
      element("option", { value: name, selected: name === data.metric }, name),
    ),
  );
  select.addEventListener("change", () => choose("metric", select.value));
}

/** Light or dark: as the system says until the button is pressed, then as it was left. */
function showTheme() {
  const button = byId("theme");
  const system = matchMedia("(prefers-color-scheme: dark)");
  const root = document.documentElement;
  const isDark = () => (root.dataset.theme ? root.dataset.theme === "dark" : system.matches);
  const tell = () => {
    button.setAttribute("aria-pressed", String(isDark()));
    document.dispatchEvent(new Event("themed"));
  };
  button.addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    tell();
  });
  system.addEventListener("change", tell);
  tell();
}

showHead();
showFilter();
showTransfer(byId("transfer"));
showCurves(byId("curves"));
showTable(byId("table"));
showPairs(byId("pairs"));
showFewShot(byId("few-shot"));
showLadder(byId("ladder"));
showGallery(byId("gallery"));
showRuns(byId("runs"));
showBar();
showTheme();
