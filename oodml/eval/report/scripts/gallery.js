// Galleries: a query and its eight nearest, right and wrong by sign, frame and words.

const KINDS = ["best", "worst", "random"];
const looking = { method: null, rung: null, kind: "best" };
let pictures = null;

function showGallery(section) {
  const { boards } = data.gallery;
  if (!boards.length) return section.append(galleryAdvice());
  const withBoards = ranked().filter((method) => boards.some((board) => board.method === method));
  const methods = element(
    "select",
    { id: "gallery-method", onchange: () => see("method", Number(methods.value)) },
  );
  const rungChoice = element("select", {
    id: "gallery-rung",
    onchange: () => see("rung", Number(rungChoice.value)),
  });
  const rows = element("div", { class: "rows" });
  const none = element("p", { class: "note" }, "These methods and models have no gallery.");
  const about = element("p", { class: "note" });
  function see(name, value) {
    looking[name] = value;
    methods.value = looking.method;
    fillRungs(rungChoice, boards);
    const board = boards.find(
      (each) => each.method === looking.method && each.rung === looking.rung,
    );
    about.replaceChildren(...boardWords(board));
    rows.replaceChildren(...board[looking.kind].map(queryRow));
  }
  section.append(
    element(
      "div",
      { class: "controls" },
      element("label", {}, "Method ", methods),
      element("label", {}, "Rung ", rungChoice),
      radios(
        "kind",
        "Queries",
        KINDS.map((kind) => [kind, kind]),
        (kind) => see("kind", kind),
      ),
    ),
    none,
    about,
    rows,
    withBoards.length < data.methods.length ? keepAdvice(withBoards) : "",
  );
  watch(["filter"], () => {
    const lines = withBoards.filter(isListed);
    const options = lines.map((line) => element("option", { value: line }, data.methods[line].name));
    methods.replaceChildren(...options);
    none.hidden = lines.length > 0;
    about.hidden = rows.hidden = lines.length === 0;
    if (lines.length) see("method", lines.includes(looking.method) ? looking.method : lines[0]);
  });
}

/** The rungs that the method has boards on; the one chosen stays if it is among them. */
function fillRungs(select, boards) {
  const own = boards.filter((board) => board.method === looking.method).map((board) => board.rung);
  if (!own.includes(looking.rung)) looking.rung = own.at(-1);
  select.replaceChildren(
    ...own.map((rung) =>
      element(
        "option",
        { value: rung, selected: rung === looking.rung },
        `${rung} (FID ${distance(rungs[rung].fid)})`,
      ),
    ),
  );
}

function boardWords(board) {
  const words = {
    best: "The best queries by average precision over the first min(R, 8) ranks, one a class.",
    worst:
      "The worst queries by average precision over the first min(R, 8) ranks, the surest mistakes first, one a class.",
    random: "Queries drawn at random, the same for every method on this rung.",
  };
  const among =
    board.candidates < board.queries
      ? ` Chosen among ${count(board.candidates)} of ${count(board.queries)} queries, drawn by seed.`
      : "";
  return [
    `${words[looking.kind]}${among} A neighbour is pale where all images of the query's class stand before it. Embeddings of run `,
    runLink(board.run),
    ".",
  ];
}

function queryRow({ query: [sample, positives, average], found }) {
  const right = found.filter((each) => each[2]).length;
  const [name, classNumber] = data.gallery.samples[sample];
  return element(
    "article",
    { class: "query-row" },
    element(
      "p",
      {},
      element("b", {}, data.gallery.classes[classNumber]),
      ` ${name}: ${right} of its R = ${positives} among the ${found.length} nearest, average precision ${score(average)}`,
    ),
    element(
      "ol",
      { class: "tiles" },
      element(
        "li",
        { class: "tile query" },
        tile(sample),
        element("span", { class: "mark" }, "query"),
      ),
      found.map((each, place) => neighbor(each, place, isSpent(found, place, positives))),
    ),
  );
}

/** Whether all there was to be found stands before this place, so that no miss is a mistake. */
const isSpent = (found, place, positives) =>
  found.slice(0, place).filter((each) => each[2]).length === positives;

function neighbor([sample, similarity, right], place, spent) {
  const [name, classNumber] = data.gallery.samples[sample];
  const words = `${right ? "right" : "wrong"}: ${data.gallery.classes[classNumber]}, ${name}, similarity ${similarity.toFixed(3)}`;
  return element(
    "li",
    { class: `tile ${right ? "right" : "wrong"}${spent ? " spent" : ""}`, title: words },
    tile(sample),
    element(
      "span",
      { class: "mark" },
      element("span", { "aria-hidden": "true" }, right ? "✓" : "✗"),
      element("span", { class: "unseen" }, `${right ? "right" : "wrong"}, rank ${place + 1}`),
    ),
    element("span", { class: "label" }, data.gallery.classes[classNumber]),
  );
}

/** The picture of a sample, or its name where there is none. */
function tile(sample) {
  const [name, classNumber, picture] = data.gallery.samples[sample];
  pictures ??= JSON.parse(byId("pictures").textContent);
  if (picture < 0) return element("span", { class: "no-picture" }, name);
  return element("img", {
    src: pictures[picture],
    alt: `${data.gallery.classes[classNumber]}, ${name}`,
  });
}

function galleryAdvice() {
  return element(
    "p",
    { class: "advice" },
    "No embeddings are at hand. Keep those of trained methods with ",
    element("code", {}, "oodml run LADDER --keep-embeddings -o NEW_DIR"),
    ", and name the images with ",
    element("code", {}, `oodml report DIR --data ${data.source || "SOURCE"}`),
    ", which also shows the frozen features.",
  );
}

function keepAdvice(withBoards) {
  const without = data.methods.length - withBoards.length;
  return element(
    "p",
    { class: "advice" },
    `${plural(without, "method")} kept no embeddings; keep them with `,
    element("code", {}, "oodml run LADDER --keep-embeddings -o NEW_DIR"),
    ".",
  );
}
