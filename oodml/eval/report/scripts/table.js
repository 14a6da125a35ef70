// The table: every method on every rung, sorted by any column.

const sorting = { column: "ags", falling: true };

function showTable(section) {
  const scroller = element("div", {
    class: "scroller",
    tabindex: 0,
    role: "region",
    "aria-label": "Table of scores",
  });
  const note = element("p", { class: "note" });
  section.append(scroller, note, missingList() ?? "");
  watch(["metric", "filter"], () => {
    scroller.replaceChildren(scoreTable());
    note.textContent =
      `${chosen.metric}, mean ± half of the 95% interval. Lost: easiest minus hardest rung. Bold: the best mean of a column, ` +
      "which is no claim that it differs from the next; compare intervals. Point at a value for its runs.";
  });
}

function columns() {
  const all = cells(chosen.metric);
  const rungColumns = rungs.map((rung, number) => ({
    id: `rung-${number}`,
    title: `FID ${distance(rung.fid)}`,
    above: `rung ${number}`,
    cell: (method) => all.find((each) => each.method === method && each.rung === number),
  }));
  const scores = {
    id: "ags",
    title: "AGS",
    above: "score",
    cell: (method) => data.scores[chosen.metric].find((each) => each.method === method),
  };
  const lost = {
    id: "lost",
    title: "Lost",
    above: `rung 0 to ${rungs.length - 1}`,
    least: true,
    cell: (method) => {
      const own = scores.cell(method);
      return own?.lost && { mean: own.lost[0], low: own.lost[1], high: own.lost[2], n: own.n };
    },
  };
  return [...rungColumns, scores, ...(rungs.length > 1 ? [lost] : [])];
}

function scoreTable() {
  const table = element("table", { class: "scores" });
  const fill = () => table.replaceChildren(head(fill), body());
  fill();
  return table;
}

function head(fill) {
  const seeds = { id: "seeds", title: "Seeds", above: "" };
  const all = [{ id: "method", title: "Method", above: "" }, ...columns(), seeds];
  return element(
    "thead",
    {},
    element(
      "tr",
      {},
      all.map((column) => heading(column, fill)),
    ),
  );
}

function heading({ id, title, above }, fill) {
  const direction = sorting.column === id ? (sorting.falling ? "descending" : "ascending") : "none";
  const sort = () => {
    sorting.falling = sorting.column === id ? !sorting.falling : id !== "method";
    sorting.column = id;
    fill();
    document.querySelector(`#table th[data-column="${id}"] button`).focus();
  };
  return element(
    "th",
    { scope: "col", "aria-sort": direction, "data-column": id },
    element("button", { type: "button", onclick: sort }, element("small", {}, above), title),
  );
}

/** What a row is sorted by; gaps go last whichever way. */
function sortKey(method, all) {
  if (sorting.column === "method") return data.methods[method].name;
  if (sorting.column === "seeds") return Math.max(...seedCounts(method));
  const cell = all.find((column) => column.id === sorting.column)?.cell(method);
  return cell?.mean ?? null;
}

function compared(a, b) {
  if (a === null || b === null) return (a === null) - (b === null);
  const order = typeof a === "string" ? a.localeCompare(b) : a - b;
  return sorting.falling ? -order : order;
}

const seedCounts = (method) =>
  data.cells
    .filter((cell) => cell.method === method)
    .map((cell) => cell.runs.length)
    .concat(data.cells.some((cell) => cell.method === method) ? [] : [0]);

function body() {
  const all = columns();
  const keys = data.methods.map((_, method) => sortKey(method, all));
  const order = listed().sort((a, b) => compared(keys[a], keys[b]) || a - b);
  const best = all.map((column) => {
    const found = order.map((method) => column.cell(method)?.mean).filter((mean) => mean != null);
    return column.least ? Math.min(...found) : Math.max(...found);
  });
  return element(
    "tbody",
    {},
    order.map((method) => row(method, all, best)),
  );
}

function row(method, all, best) {
  const counts = seedCounts(method);
  const [fewest, most] = [Math.min(...counts), Math.max(...counts)];
  return element(
    "tr",
    { "data-method": method },
    element("th", { scope: "row" }, swatch(method), breakable(data.methods[method].name)),
    all.map((column, place) => valueCell(column, column.cell(method), best[place])),
    element("td", { class: "seeds" }, fewest === most ? String(most) : `${fewest}–${most}`),
  );
}

function valueCell(column, cell, best) {
  if (cell?.mean == null) return element("td", { class: "gap", "data-column": column.id }, "–");
  const runs = cell.runs?.map((run) => data.runs[run].id).join(", ");
  const note = runs
    ? `${interval(cell.low, cell.high)}, n = ${cell.runs.length}: runs ${runs}`
    : `${interval(cell.low, cell.high)}, n = ${cell.n}`;
  return element(
    "td",
    { title: note, "data-column": column.id, class: cell.mean === best ? "best" : null },
    score(cell.mean),
    element("small", {}, spread(cell.mean, cell.low, cell.high)),
  );
}

/** Runs that a full grid would have and this one has not. */
function missingList() {
  const gaps = data.scores[data.metric].filter((each) => each.missing.length);
  if (!gaps.length) return null;
  return element(
    "details",
    { class: "missing" },
    element(
      "summary",
      {},
      `Missing runs: seeds with a gap have no AGS (${plural(gaps.length, "method")})`,
    ),
    element(
      "ul",
      {},
      gaps.map((each) =>
        element(
          "li",
          {},
          `${data.methods[each.method].name}: `,
          each.missing.map(([rung, seed]) => `rung ${rung} seed ${seed}`).join(", "),
        ),
      ),
    ),
  );
}
