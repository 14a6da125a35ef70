// Queries whose neighbours the shift changed most: matched beside shifted, right and wrong marked.

const CHANGES = [
  ["lost", "lost to the shift"],
  ["won", "better despite it"],
  ["random", "random"],
];

// So many queries are shown until the reader asks for all.
const SHOWN_FIRST = 3;

const referenceBoard = (rung) =>
  data.gallery.compared.find(
    (board) => board.method === data.transfer.methods[studied.method].method && board.rung === rung,
  );

/** The hardest rung that has queries to show, else the hardest. */
function firstStudiedRung() {
  const own = data.transfer.methods[studied.method].rungs;
  return own.findLast((rung) => referenceBoard(rung)) ?? own.at(-1);
}

function referenceGallery() {
  const select = element("select", { onchange: () => study({ rung: Number(select.value) }) });
  const about = element("div", {});
  const rows = element("div", { class: "rows" });
  const more = element("button", {
    type: "button",
    class: "more",
    onclick: () => study({ every: !studied.every }),
  });
  const kinds = radios("change", "Queries", CHANGES, (kind) => study({ kind }));
  studying(() => {
    const board = referenceBoard(studied.rung);
    select.replaceChildren(
      ...data.transfer.methods[studied.method].rungs.map((rung) =>
        element(
          "option",
          { value: rung, selected: rung === studied.rung },
          `${rung} (FID ${distance(rungs[rung].fid)}${referenceBoard(rung) ? "" : ", none kept"})`,
        ),
      ),
    );
    kinds.hidden = !board;
    about.replaceChildren(...(board ? changeWords(board) : [noBoardAdvice()]));
    const found = board?.[studied.kind] ?? [];
    rows.replaceChildren(...found.slice(0, studied.every ? undefined : SHOWN_FIRST).map(changedRow));
    more.hidden = found.length <= SHOWN_FIRST;
    more.textContent = studied.every ? "Show fewer" : `Show ${found.length - SHOWN_FIRST} more`;
  });
  return [
    element("h3", {}, "Queries whose neighbours changed most"),
    element(
      "div",
      { class: "controls" },
      element("label", {}, "Method ", transferSelect()),
      element("label", {}, "Rung ", select),
      kinds,
    ),
    about,
    rows,
    more,
  ];
}

function changeWords(board) {
  const { nearest, candidates, queries } = board;
  const part = (name) => `${((100 * nearest[name]) / candidates).toFixed(1)}%`;
  const among = candidates < queries ? ` drawn of ${count(queries)}` : "";
  const shares = [
    ["both", `right after both, ${part("both")}`],
    ["matched", `only after matched, ${part("matched")}`],
    ["shifted", `only after shifted, ${part("shifted")}`],
    ["neither", `after neither, ${part("neither")}`],
  ];
  const bar = element("div", { class: "shares", "aria-hidden": "true" });
  for (const [name] of shares) {
    const node = element("span", { class: name });
    node.style.width = part(name);
    bar.append(node);
  }
  const words = {
    lost:
      "Shown are those that lose most in average precision from matched to shifted training, one a class: " +
      "what the shift took.",
    won:
      "Shown are those that gain most in average precision from matched to shifted training, one a class: " +
      "not all suffer.",
    random: "Shown are queries drawn at random, the same for every method on this rung.",
  };
  const empty = board[studied.kind].length ? "" : " There are none.";
  return [
    element("p", { class: "shares-words" }, `Nearest neighbour of ${count(candidates)} queries${among}:`),
    bar,
    element("ul", { class: "shares-key" }, shares.map(([name, text]) => element("li", { class: name }, text))),
    element(
      "p",
      { class: "note" },
      `The difference of the two in the middle is what the shift costs these two runs in recall at 1. Of ${board[studied.kind][0]?.matched.found.length ?? 8} neighbours ` +
        `${board.kept.toFixed(1)} are the same on average. ${words[studied.kind]}${empty} Of two runs of seed ${data.runs[board.runs.matched].seed}, matched `,
      runLink(board.runs.matched),
      " and shifted ",
      runLink(board.runs.shifted),
      ".",
    ),
  ];
}

function changedRow({ matched, shifted }) {
  const [sample, positives] = matched.query;
  const [name, classNumber] = data.gallery.samples[sample];
  return element(
    "article",
    { class: "query-row changed" },
    element(
      "p",
      {},
      element("b", {}, data.gallery.classes[classNumber]),
      ` ${name}, R = ${positives}: average precision ${score(matched.query[2])} matched, ${score(shifted.query[2])} shifted`,
    ),
    element(
      "div",
      { class: "pair" },
      element("div", { class: "tile query" }, tile(sample), element("span", { class: "mark" }, "query")),
      [
        ["matched", matched],
        ["shifted", shifted],
      ].map(([side, { found }]) => changedStrip(side, found, positives)),
    ),
  );
}

function changedStrip(side, found, positives) {
  const right = found.filter((each) => each[2]).length;
  return element(
    "div",
    { class: `strip-of ${side}` },
    element("p", { class: `side ${side}` }, sideSwatch(side), `${side}: ${right} right`),
    element(
      "ol",
      { class: "tiles" },
      found.map((each, place) => neighbor(each, place, isSpent(found, place, positives))),
    ),
  );
}

function noBoardAdvice() {
  const name = transferName(studied.method);
  const kept = data.gallery.compared.filter((board) => board.method === data.transfer.methods[studied.method].method);
  const where = kept.length
    ? `rung ${kept.map((board) => board.rung).join(" and ")} has them. `
    : "";
  return element(
    "p",
    { class: "advice" },
    `No embeddings of ${name} were kept on rung ${studied.rung}, so its queries cannot be shown; ${where}`,
    element("code", {}, "oodml run LADDER --reference --keep-embeddings -o NEW_DIR"),
    " keeps those of all runs; without an option, runs keep those of seed 0 on the first and the last rung. Runs that are finished are not done again.",
  );
}
