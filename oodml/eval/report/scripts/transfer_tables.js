// What the shift costs in tables: the rungs of the chosen method, and every method in a row.

const transferSorting = { column: "shifted", falling: true };

function transferTables() {
  const title = element("h3", {});
  const rungTable = element("div", {
    class: "scroller",
    tabindex: 0,
    role: "region",
    "aria-label": "The chosen method on every rung",
  });
  studying(() => {
    title.textContent = `${transferName(studied.method)} on every rung`;
    rungTable.replaceChildren(transferRungs([studied.method]));
  });
  const parts = [title, rungTable];
  if (data.transfer.methods.length > 1) parts.push(...methodTables());
  return parts;
}

function methodTables() {
  const methods = element("div", {
    class: "scroller methods",
    tabindex: 0,
    role: "region",
    "aria-label": "What every method loses",
  });
  const all = element("div", { class: "scroller", tabindex: 0, role: "region", "aria-label": "Every method on every rung" });
  const details = element(
    "details",
    { class: "every-rung" },
    element("summary", {}, "Every method on every rung"),
    all,
  );
  const fill = () => details.open && all.replaceChildren(transferRungs(transferRanked()));
  details.addEventListener("toggle", fill);
  studying(() => {
    methods.replaceChildren(methodTable());
    fill();
  });
  return [element("h3", {}, "What every method loses"), methods, details];
}

/** The rungs of these methods, with a name before each if there are several. */
function transferRungs(places) {
  const one = places.length === 1;
  const random = places.some((place) => transferOf(place).rows.some((row) => row.null));
  const heads = ["Rung", "FID", "Frozen", "Shifted", "Matched", "Shift cost"];
  if (random) heads.push("Random splits");
  heads.push("Gain", "Matched gain", "Retained");
  return element(
    "table",
    { class: "scores transfer" },
    element("thead", {}, element("tr", {}, heads.map((each) => element("th", { scope: "col" }, each)))),
    places.map((place) => {
      const own = transferOf(place);
      const name = element("tr", {}, element("th", { scope: "rowgroup", colspan: heads.length }, swatch(own.method), transferName(place)));
      return element("tbody", {}, one ? null : name, own.rows.map((row) => transferRow(place, row, random, one)));
    }),
  );
}

function transferRow(place, row, random, pick) {
  const current = pick && row.rung === studied.rung;
  const words = `Rung ${row.rung} of ${transferName(place)}: show its queries`;
  const name = pick
    ? element(
        "button",
        { type: "button", "aria-pressed": String(current), title: words, onclick: () => pickRung(row.rung) },
        String(row.rung),
      )
    : String(row.rung);
  const runs = ["frozen", "shifted", "matched"].map((side) => runsWords(row.runs[side]));
  return element(
    "tr",
    { "data-rung": row.rung, class: current ? "current" : null },
    element("th", { scope: "row" }, name),
    element("td", {}, distance(rungs[row.rung].fid)),
    ["frozen", "shifted", "matched"].map((side, at) => amount(row[side], runs[at])),
    amount(row.shift_cost, `matched: ${runs[2]}; shifted: ${runs[1]}`, "cost"),
    random ? nullCell(row.null) : null,
    amount(row.gain),
    amount(row.matched_gain),
    element("td", {}, retainedCell(row.retained_gain)),
  );
}

/** Chooses a rung by its button, and keeps the keyboard on it. */
function pickRung(rung) {
  study({ rung });
  document.querySelector(`#transfer tr[data-rung="${rung}"] button`)?.focus();
}

const runsWords = (runs) => (runs ?? []).map((run) => data.runs[run].id).join(", ");

function amount(value, runs, name) {
  if (!value) return element("td", { class: "gap" }, "–");
  const note = interval(value[1], value[2]) + (runs ? `: runs ${runs}` : "");
  return element("td", { title: note, class: name }, score(value[0]), element("small", {}, spread(...value)));
}

function retainedCell(value) {
  const [mean, ...ends] = share(value).split(" ");
  return [mean, element("small", {}, ends.join(" "))];
}

function nullCell(random) {
  if (!random) return element("td", { class: "gap" }, "–");
  const apart = { true: "cost outside", false: "cost within" }[random.told_apart] ?? "";
  return element(
    "td",
    { title: plural(random.draws, "random split") },
    nullWords(random),
    element("small", {}, apart),
  );
}

const METHOD_COLUMNS = [
  ["method", "Method", ""],
  ["break_even", "Break-even", "pays up to"],
  ["shifted", "Shifted", "hardest rung"],
  ["fall", "Fall", "rung 0 to last"],
  ["parts", "of which", ""],
  ["difficulty", "Difficulty", "of the fall"],
  ["cost_rise", "Shift", "of the fall"],
  ["area", "Area", "of the cost"],
  ["seeds", "Seeds", ""],
];

function methodTable() {
  const own = transferPlaces().map((place) => ({ ...transferOf(place), place }));
  own.sort((a, b) => inOrder(methodKey(a), methodKey(b)) || a.place - b.place);
  const falls = own.map(({ rows }) =>
    [rows.at(-1).difficulty, rows.at(-1).cost_rise].reduce((sum, part) => sum + Math.max(0, part?.[0] ?? 0), 0),
  );
  const longest = Math.max(...falls, 1e-9);
  return element(
    "table",
    { class: "scores transfer-methods" },
    element("thead", {}, element("tr", {}, METHOD_COLUMNS.map(methodHead))),
    element("tbody", {}, own.map((each) => methodRow(each, longest))),
  );
}

function methodHead([id, title, above]) {
  const { column, falling } = transferSorting;
  if (id === "parts") return element("th", { scope: "col", class: "parts" }, element("small", {}, above), title);
  const sort = () => {
    transferSorting.falling = column === id ? !falling : id !== "method";
    transferSorting.column = id;
    study({});
    document.querySelector(`#transfer th[data-column="${id}"] button`).focus();
  };
  const shown = id === "break_even" ? `${title} ${chosen.axis === "fid" ? "FID" : "excess"}` : title;
  return element(
    "th",
    { scope: "col", "aria-sort": column === id ? (falling ? "descending" : "ascending") : "none", "data-column": id },
    element("button", { type: "button", onclick: sort }, element("small", {}, above), shown),
  );
}

function methodKey(own) {
  const last = own.rows.at(-1);
  const met = breakEvenPlace(own);
  const keys = {
    method: () => data.methods[own.method].name,
    break_even: () => met && (met.at ?? { beyond: Infinity, before: -Infinity }[met.kind]),
    area: () => own.area?.[0],
    seeds: () => own.seeds.length,
  };
  return (keys[transferSorting.column] ?? (() => last[transferSorting.column]?.[0]))() ?? null;
}

function inOrder(a, b) {
  if (a === null || b === null) return (a === null) - (b === null);
  const order = typeof a === "string" ? a.localeCompare(b) : a < b ? -1 : Number(a > b);
  return transferSorting.falling ? -order : order;
}

function methodRow(own, longest) {
  const last = own.rows.at(-1);
  const current = own.place === studied.method;
  const choose = () => {
    study({ method: own.place });
    document.querySelector(`#transfer tr[data-place="${own.place}"] button`).focus();
  };
  return element(
    "tr",
    { "data-place": own.place, class: current ? "current" : null },
    element(
      "th",
      { scope: "row" },
      element(
        "div",
        { class: "named" },
        swatch(own.method),
        element(
          "button",
          { type: "button", "aria-pressed": String(current), title: "Show its chart, rungs and queries", onclick: choose },
          breakable(transferName(own.place)),
        ),
      ),
    ),
    element("td", {}, breakEvenCell(own)),
    amount(last.shifted),
    amount(last.fall),
    element("td", { class: "parts" }, fallBar(last, longest)),
    amount(last.difficulty),
    amount(last.cost_rise),
    amount(own.area),
    element("td", { class: "seeds" }, String(own.seeds.length)),
  );
}

function breakEvenCell(own) {
  const [value, ends] = breakEvenWords(own).split(" [");
  return [value, element("small", {}, ends ? `[${ends}` : "")];
}

/** A bar as long as the fall, difficulty before shift; parts below zero are in the numbers alone. */
function fallBar(last, longest) {
  const bar = element("span", { class: "fall-bar", "aria-hidden": "true" });
  for (const [name, part] of [
    ["difficulty", last.difficulty],
    ["shift", last.cost_rise],
  ]) {
    const node = element("span", { class: `part ${name}` });
    node.style.width = `${(100 * Math.max(0, part?.[0] ?? 0)) / longest}%`;
    bar.append(node);
  }
  return bar;
}
