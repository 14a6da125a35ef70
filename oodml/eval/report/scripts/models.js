// Several models in one report: which lines all parts of the page show, by method and by model.

const FILTERS = [
  ["method", "Method"],
  ["backbone", "Model"],
];
const severalModels = data.methods.some(({ name, method }) => name !== method);

const isListed = (line) =>
  FILTERS.every(([key]) => ["", data.methods[line][key]].includes(chosen.filter[key]));
const listed = () => [...data.methods.keys()].filter(isListed);

/** One choice of a method and one of a model, beside the metric. */
function showFilter() {
  if (!severalModels) return;
  const selects = FILTERS.map(([key, label]) => filterChoice(key, label));
  byId("metric").parentElement.before(...selects);
  byId("metric").closest(".bar").classList.add("filtered");
}

function filterChoice(key, label) {
  const names = [...new Set(data.methods.map((line) => line[key]))].sort();
  const select = element(
    "select",
    { id: `only-${key}`, onchange: () => showOnly({ ...chosen.filter, [key]: select.value }) },
    element("option", { value: "" }, "all"),
    names.map((name) => element("option", { value: name }, name)),
  );
  watch(["filter"], () => {
    select.value = chosen.filter[key];
  });
  return element("label", {}, `${label} `, select);
}

/** Shows the lines of this method and model; those that stood alone stay so if they are among them. */
function showOnly(filter) {
  choose("filter", filter);
  choose("alone", new Set([...chosen.alone].filter(isListed)));
}

const showEveryLine = () => showOnly({ method: "", backbone: "" });
