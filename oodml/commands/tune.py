"""`oodml tune`: the best settings of methods on one rung's validation classes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from oodml.commands.grid import plan_of, print_protocol, resources_for
from oodml.commands.opening import open_ladder
from oodml.commands.options import FILE, format_option, workers_option
from oodml.commands.results import check_writable, keep_ladder, output_option
from oodml.commands.run_options import grid_options, workers_for
from oodml.commands.tables import Table, echo
from oodml.errors import DataError, UsageError, unknown_name
from oodml.files import atomic_write
from oodml.progress import progress_bar
from oodml.train.settings import SETTINGS

if TYPE_CHECKING:
    from oodml.runs.spec import RunSpec
    from oodml.runs.store import Store
    from oodml.splits.ladder import Ladder
    from oodml.train.build import Resources
    from oodml.tune import Domain, Search, Tuned


@click.command()
@click.argument("ladder", type=FILE)
@output_option
@click.option("--rung", type=int, required=True, help="Rung whose training classes are tuned on.")
@click.option(
    "--trials", type=click.IntRange(1, 100_000), default=20, help="Number of trials per method."
)
@click.option("--seed", type=int, default=0, help="Seed of the search and its runs.")
@click.option(
    "--metric",
    default="mean_average_precision_at_r",
    help="Metric on the validation classes that is maximised.",
)
@click.option(
    "--space",
    "domains",
    multiple=True,
    help="What to search, as beta=0.5..2 or soft=true|false; repeatable.",
)
@workers_option
@click.option(
    "--grid-file", type=FILE, show_default="best.toml in DIR", help="Grid file for the best."
)
@format_option
@grid_options
def tune_command(
    ladder: Path,
    output: Path,
    rung: int,
    trials: int,
    seed: int,
    metric: str,
    domains: Sequence[str],
    workers: int | None,
    grid_file: Path | None,
    table_format: str,
    **options: Any,
) -> None:
    """Search settings on one rung's validation classes.

    Writes the best settings of every method as a grid file. No test class is read. The trials are
    runs, kept in DIR/trials, so start it again to resume.
    """
    from oodml.commands.grid_file import grid_tables
    from oodml.runs.store import Store
    from oodml.tune import check_ready

    check_ready(metric)
    if options["keep_embeddings"] is not None:
        raise UsageError("trials keep no embeddings; leave out --keep-embeddings.")
    if options["keep_pair_weights"]:
        raise UsageError("trials keep no pair weights; leave out --keep-pair-weights.")
    if len(options["backbones"]) > 1:
        raise UsageError("settings are tuned for one model at a time; give one --backbone.")
    built = open_ladder(ladder, options)
    searches = _searches(built, rung, seed, domains, options)
    say = _teller(table_format)
    print_protocol(options)
    say(f"{len(searches)} methods x {trials} trials on rung {rung}'s validation classes")
    specs = [search.spec for search in searches]
    check_writable(output)
    resources, store = resources_for(built, options, specs), Store(output / "trials")
    keep_ladder(built, store)
    tuned = _with_progress(
        searches,
        built,
        resources,
        store,
        trials=trials,
        seed=seed,
        metric=metric,
        workers=workers or workers_for(specs),
        plugins=options["plugins"],
    )
    _print(_table(tuned, metric), table_format)
    path = grid_file or output / "best.toml"
    chosen = f"Chosen by {metric} on the validation classes of rung {rung}; no test class was read."
    with atomic_write(path) as file:
        file.write(grid_tables(_grids(tuned, options), comment=chosen).encode())
    say(f"wrote {path}")
    _check_all_have_a_best(tuned, store)


def _teller(table_format: str) -> Callable[[str], None]:
    """Prints text beside a table, to stderr where stdout is read by a program."""
    return lambda text: echo(text, err=table_format != "text")


def _searches(
    ladder: Ladder, rung: int, seed: int, domains: Sequence[str], options: dict[str, Any]
) -> list[Search]:
    """One search a method; what was typed stays as it was typed unless --space names it."""
    from oodml.tune import Search, default_space, parse_domain, searchable, with_domains

    given = dict(parse_domain(text) for text in domains)
    found, left_out = [], []
    for spec, fixed in _settings(ladder, rung, seed, options):
        own = {name: domain for name, domain in given.items() if name in searchable(spec)}
        space = default_space(spec, len(ladder.rungs[rung].train_classes), fixed=fixed)
        space = with_domains(space, spec, own)
        found += [Search(spec, space)] if space else []
        left_out += [] if space else [spec.method.name]
    _check_searched(given, found)
    if left_out:
        echo(f"left out: {', '.join(left_out)} (nothing to tune)", err=True)
    if not found:
        raise UsageError("there is nothing to tune; name another method, or a --space of it.")
    return found


def _settings(
    ladder: Ladder, rung: int, seed: int, options: dict[str, Any]
) -> list[tuple[RunSpec, set[str]]]:
    """The untuned spec of every method, and the names of what was typed."""
    typed = _typed(options)
    return [
        (spec, {*typed, *(pair.partition("=")[0].strip() for pair in pairs.split(","))})
        for text in options["methods"]
        for pairs in [text.partition(":")[2]]
        for spec in plan_of(ladder, [seed], [rung], {**options, "methods": (text,)})
    ]


def _typed(options: dict[str, Any]) -> list[str]:
    return [name for name, s in SETTINGS.items() if options[s.parameter] is not None]


def _check_searched(given: Mapping[str, Domain], searches: Sequence[Search]) -> None:
    from oodml.tune import searchable

    known = {name for search in searches for name in searchable(search.spec)}
    for name in given:
        if name not in known:
            raise unknown_name("name to search", name, known)


def _with_progress(
    searches: Sequence[Search],
    ladder: Ladder,
    resources: Sequence[Resources],
    store: Store,
    *,
    trials: int,
    **options: Any,
) -> list[Tuned]:
    from oodml.tune import tune

    with progress_bar(total=len(searches) * trials, desc="trials", unit="trial") as bar:
        return tune(
            searches,
            ladder,
            resources,
            store,
            trials=trials,
            on_progress=lambda ended: bar.update(ended - bar.n),
            **options,
        )


def _table(tuned: Sequence[Tuned], metric: str) -> list[list[Any]]:
    """Per method the metric by default and at best, then every setting that was searched."""
    from oodml.tune import settings_of

    rows: list[list[Any]] = []
    for each in tuned:
        method, space, best = each.search.spec.method.name, each.search.space, each.best
        failed = sum(trial.value is None for trial in each.trials)
        tried = f"{len(each.trials)} trials" + (f", {failed} failed" if failed else "")
        rows.append([method, metric, tried, each.default.value, best.value if best else None])
        before = settings_of(each.search.spec, space)
        after = settings_of(best.spec, space) if best else dict.fromkeys(space)
        rows += [[method, name, str(space[name]), before[name], after[name]] for name in space]
    return rows


def _print(rows: list[list[Any]], table_format: str) -> None:
    """The table; in formats for people with settings of four digits."""
    if table_format not in ("csv", "json"):
        rows = [[*row[:3], *map(_digits, row[3:])] for row in rows]
    columns = ["method", "setting", "searched", "default", "best"]
    echo(Table(columns, rows).render(table_format), exact=table_format == "csv")


def _digits(value: Any) -> Any:
    return f"{value:.4g}" if isinstance(value, float) else value


def _grids(tuned: Sequence[Tuned], options: dict[str, Any]) -> list[dict[str, Any]]:
    """The best setting of every method that has one, in the words of a grid file."""
    shared = {"train": options["trained"], "protocol": options["preset"]}
    shared |= {"backbone": [*options["backbones"]]}
    shared |= {"recipe": options["recipe"] if options["recipe"] != "auto" else None}
    shared = {word: value for word, value in shared.items() if value}
    return [
        {**_grid(each.best.spec, each.search, _typed(options)), **shared}
        for each in tuned
        if each.best
    ]


def _grid(best: RunSpec, search: Search, typed: Sequence[str]) -> dict[str, Any]:
    """A spec's method, hyperparameters, and the settings that were typed or searched."""
    from oodml.tune import is_setting, settings_of

    searched = settings_of(best, search.space)
    own = {name: value for name, value in searched.items() if not is_setting(name, best)}
    settings = dict.fromkeys([*typed, *(name for name in searched if name not in own)])
    return {
        "methods": [best.method.name],
        "hyperparameters": {**best.method.hyperparameters, **own},
        **{SETTINGS[name].flag.removeprefix("--"): best.setting(name) for name in settings},
    }


def _check_all_have_a_best(tuned: Sequence[Tuned], store: Store) -> None:
    """`DataError` naming a method all of whose trials failed."""
    for each in tuned:
        if each.best is None:
            run = store.run_directory(each.default.spec.id)
            raise DataError(
                f"all {len(each.trials)} trials of {each.search.spec.method.name} failed; "
                f"see {run / 'error.txt'}."
            )
