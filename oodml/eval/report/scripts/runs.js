// Every run with its settings: the way from a number to its file.

const LEFT_OUT = new Set(["method", "hyperparameters"]);

function showRuns(section) {
  section.append(sharedSettings(), element("h3", {}, "Every run"), runList());
  addEventListener("hashchange", openNamed);
  openNamed();
}

const text = (value) =>
  value !== null && typeof value === "object"
    ? JSON.stringify(value)
    : String(value === "" ? "–" : (value ?? "–"));

const isDefault = (name) =>
  name in data.defaults && text(data.defaults[name]) === text(data.settings[0][name]);

/** What all runs have in common, what differs by method, and what they were made with. */
function sharedSettings() {
  const names = Object.keys(data.settings[0]).filter((name) => !LEFT_OUT.has(name));
  const same = names.filter((name) =>
    data.settings.every((each) => text(each[name]) === text(data.settings[0][name])),
  );
  const different = [...names.filter((name) => !same.includes(name)), "hyperparameters"];
  return element(
    "div",
    {},
    element(
      "p",
      {},
      "Each run is a file, ",
      element("code", {}, "runs/ID/run.json"),
      " in the results' directory. Settings that all runs share:",
    ),
    pairList(same.filter((name) => !isDefault(name)).map((name) => [name, data.settings[0][name]])),
    element(
      "details",
      {},
      element("summary", {}, "Settings that all runs leave at their default"),
      pairList(same.filter(isDefault).map((name) => [name, data.settings[0][name]])),
    ),
    element(
      "details",
      {},
      element("summary", {}, "Settings that differ by method"),
      element(
        "div",
        { class: "scroller", tabindex: 0, role: "region", "aria-label": "Settings by method" },
        settingsTable(different),
      ),
    ),
    element(
      "details",
      {},
      element("summary", {}, `Made with (${plural(data.environments.length, "environment")})`),
      data.environments.map((each) => pairList(Object.entries(each))),
    ),
  );
}

function pairList(pairs) {
  return element(
    "dl",
    { class: "pairs" },
    pairs.map(([name, value]) =>
      element("div", {}, element("dt", {}, name), element("dd", {}, text(value))),
    ),
  );
}

function settingsTable(names) {
  const byMethod = new Map(data.runs.map((run) => [run.method, data.settings[run.settings]]));
  return element(
    "table",
    { class: "plain" },
    element(
      "thead",
      {},
      element(
        "tr",
        {},
        ["method", ...names].map((name) => element("th", { scope: "col" }, name)),
      ),
    ),
    element(
      "tbody",
      {},
      [...byMethod]
        .sort((a, b) => a[0] - b[0])
        .map(([method, settings]) =>
          element(
            "tr",
            {},
            element("th", { scope: "row" }, data.methods[method].name),
            names.map((name) => element("td", {}, text(usedSetting(settings, name)))),
          ),
        ),
    ),
  );
}

/** A run that trains nothing uses none of the settings of training. */
const usedSetting = (settings, name) =>
  settings.train === "none" && data.training_settings.includes(name) ? null : settings[name];

function runList() {
  const wanted = element("input", {
    type: "search",
    id: "run-filter",
    placeholder: data.transfer ? "method, rung 3, seed 1, matched" : "method, run id, rung 3, seed 1",
    "aria-label": "Filter runs",
  });
  const told = element("span", { class: "note", "aria-live": "polite" });
  const metric = element("th", { scope: "col" });
  const order = data.runs.map((_, run) => run).sort((a, b) => place(a) - place(b));
  const rows = order.map(runRow);
  const filter = () => {
    const words = wanted.value.toLowerCase().trim();
    for (const row of rows) {
      const { method } = data.runs[row.dataset.run];
      row.hidden = !isListed(method) || !row.dataset.words.includes(words);
    }
    told.textContent = `${count(rows.filter((row) => !row.hidden).length)} of ${plural(rows.length, "run")}`;
  };
  wanted.addEventListener("input", filter);
  watch(["filter"], filter);
  watch(["metric"], () => {
    metric.textContent = chosen.metric;
    for (const row of rows)
      row.querySelector(".metric").textContent = score(
        data.runs[row.dataset.run].metrics[chosen.metric],
      );
  });
  return element(
    "div",
    {},
    element("div", { class: "controls" }, element("label", {}, "Filter ", wanted), told),
    element(
      "div",
      { class: "scroller runs", tabindex: 0, role: "region", "aria-label": "Runs" },
      element(
        "table",
        { class: "plain" },
        element(
          "thead",
          {},
          element(
            "tr",
            {},
            ["run", "method", "rung", "seed", ...(data.transfer ? ["trained on"] : [])].map((name) => element("th", { scope: "col" }, name)),
            metric,
            element("th", { scope: "col" }, "seconds"),
          ),
        ),
        element("tbody", {}, rows),
      ),
    ),
  );
}

/** By method, then rung, then what was trained on, then seed. */
function place(number) {
  const run = data.runs[number];
  const side = ["train", "nothing", "shifted", "matched"].indexOf(run.trained_on);
  const rung = run.method * rungs.length + run.rung;
  return (rung * 4 + side) * 1e9 + run.null_draw * 1e6 + run.seed;
}

function runRow(number) {
  const run = data.runs[number];
  const rung = String(run.rung);
  const { name } = data.methods[run.method];
  const open = element(
    "button",
    { type: "button", "aria-expanded": "false", onclick: () => unfold(row, number) },
    run.id,
  );
  const row = element(
    "tr",
    {
      id: `run-${run.id}`,
      "data-run": number,
      "data-words": `${run.id} ${name} rung ${rung} seed ${run.seed} ${trainedOn(run)}`.toLowerCase(),
    },
    element("th", { scope: "row" }, open),
    element("td", {}, name),
    element("td", {}, rung),
    element("td", {}, String(run.seed)),
    data.transfer ? element("td", {}, trainedOn(run)) : null,
    element("td", { class: "metric" }),
    element("td", {}, run.seconds.toFixed(1)),
  );
  return row;
}

/** Which classes a run was trained on: the rung's training classes, or a side of the reference. */
function trainedOn(run) {
  if (run.trained_on === "train") return "rung";
  return run.null_draw ? `${run.trained_on}, random split ${run.null_draw}` : run.trained_on;
}

/** Opens or closes the full record under a run's row. */
function unfold(row, number, keep = false) {
  const button = row.querySelector("button");
  if (button.getAttribute("aria-expanded") === "true") {
    if (keep) return;
    button.setAttribute("aria-expanded", "false");
    row.nextElementSibling.remove();
    return;
  }
  button.setAttribute("aria-expanded", "true");
  row.after(
    element(
      "tr",
      { class: "unfolded" },
      element("td", { colspan: row.cells.length }, fullRecord(data.runs[number])),
    ),
  );
}

function fullRecord(run) {
  const { split, seed, trained_on, null_draw } = run;
  const settings = { ...data.settings[run.settings], split, seed, trained_on, null_draw };
  const parts = [
    ["Metrics", run.metrics],
    ["Training", run.training],
    ["Geometry", flat(run.geometry)],
    ["Settings", settings],
    ["Environment", data.environments[run.environment]],
  ];
  return [
    element("p", {}, element("code", {}, `runs/${run.id}/run.json`)),
    ...parts
      .filter(([, values]) => Object.keys(values).length)
      .map(([title, values]) =>
        element("div", {}, element("h4", {}, title), pairList(Object.entries(values))),
      ),
  ];
}

/** Nested values under names with dots. */
function flat(values, before = "") {
  return Object.fromEntries(
    Object.entries(values).flatMap(([name, value]) =>
      value !== null && typeof value === "object"
        ? Object.entries(flat(value, `${before}${name}.`))
        : [[before + name, value]],
    ),
  );
}

/** Unfolds the run that the address names. */
function openNamed() {
  const row = location.hash.startsWith("#run-") ? byId(location.hash.slice(1)) : null;
  if (!row) return;
  if (!isListed(data.runs[row.dataset.run].method)) showEveryLine();
  byId("run-filter").value = "";
  byId("run-filter").dispatchEvent(new Event("input"));
  unfold(row, Number(row.dataset.run), true);
  row.scrollIntoView({ block: "center" });
  row.querySelector("button").focus({ preventScroll: true });
}
