"""What the commands that do runs share: the plan, its resources, its runs and their outcome."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from oodml.commands.opening import check_measured, ladder_images, open_for_ladder
from oodml.commands.options import RETRIES, in_bytes
from oodml.commands.results import keep_ladder
from oodml.commands.tables import echo
from oodml.errors import DataError, UsageError
from oodml.progress import progress_bar
from oodml.train.settings import SETTINGS

if TYPE_CHECKING:
    from oodml.data.dataset import Dataset
    from oodml.features.backbones.registry import Backbone
    from oodml.launch import GridOutcome
    from oodml.runs.spec import RunSpec
    from oodml.runs.store import Store
    from oodml.splits.ladder import Ladder
    from oodml.train.build import Resources
    from oodml.train.cached_views import Views
    from oodml.train.models import Model


def plan_of(
    ladder: Ladder,
    seeds: Sequence[int],
    rungs: Sequence[int],
    options: dict[str, Any],
) -> list[RunSpec]:
    """The run specs that the grid options ask for."""
    from oodml.train.plan import plan
    from oodml.train.registry import all_methods, load_plugin

    if not options["backbones"]:
        check_measured(ladder)
    if not options["methods"]:
        raise UsageError("name a method with -m, or -m all; `oodml list methods` names them.")
    for path in options["plugins"]:
        load_plugin(path)
    methods = [
        name
        for method in options["methods"]
        for name in (all_methods() if method == "all" else [method])
    ]
    given = {name: options[setting.parameter] for name, setting in SETTINGS.items()}
    settings = {name: value for name, value in given.items() if value is not None}
    specs = plan(
        ladder,
        methods,
        seeds,
        backbone=options["backbones"] or None,
        weights=weights_of(options),
        train=options["trained"] or "",
        preset=options["preset"] or "",
        recipe=options["recipe"],
        rungs=rungs or None,
        reference=options.get("reference", False),
        reference_null=options.get("reference_null", 0),
        **settings,
    )
    return _possible(specs, ladder, options)


def print_protocol(options: dict[str, Any]) -> None:
    """Print what a published protocol sets, and where ours differs."""
    if not options["preset"]:
        return
    from oodml.train.published_protocols import get_preset

    preset = get_preset(options["preset"])
    set_to = ", ".join(f"{name} {value}" for name, value in preset.settings.items())
    echo(f"protocol {options['preset']} ({preset.source}) sets {set_to}")
    for note in preset.notes:
        echo(f"note: {note}")


def print_plan(
    specs: Sequence[RunSpec], store: Store, *, retries: int = RETRIES, workers: int = 1
) -> None:
    """Print how many runs there are, how many are done, and what the rest will cost."""
    from oodml.runs.outlook import outlook

    now = outlook([spec.id for spec in specs], store, retries)
    plain = [spec for spec in specs if not spec.is_reference]
    for line in (_plain_line(plain), _reference_line(specs)):
        if line:
            echo(line)
    given_up = (
        f"{len(now.given_up)} given up after more than {retries} retries (--retries tries again), "
        if now.given_up
        else ""
    )
    held = f"{len(now.held)} claimed elsewhere, " if now.held else ""
    echo(f"{now.done} done, {len(now.failed)} failed before, {given_up}{held}{now.to_go} to go")
    if now.to_go:
        open_runs = {*now.failed, *now.missing}
        echo(_cost_line([s for s in specs if s.id in open_runs], specs, store, workers))


def gallery_runs(specs: Sequence[RunSpec], ladder: Ladder) -> set[str]:
    """The ids of the runs whose embeddings a report shows: seed 0, first and last rung."""
    ends = {ladder.rungs[0].id, ladder.rungs[-1].id}
    return {
        spec.id
        for spec in specs
        if spec.seed == 0 and spec.data.split in ends and not spec.data.null_draw
    }


def do_grid(
    specs: Sequence[RunSpec],
    ladder: Ladder,
    store: Store,
    options: dict[str, Any],
    **how: Any,
) -> GridOutcome:
    """Do the runs that the store lacks; `how` are further arguments of `run_grid`."""
    resources = resources_for(ladder, options, specs)
    keep_ladder(ladder, store)
    return run_with_progress(
        specs,
        ladder,
        resources,
        store,
        plugins=options["plugins"],
        keep_embeddings=_kept(specs, ladder, options["keep_embeddings"]),
        keep_pair_weights=options["keep_pair_weights"],
        **how,
    )


def run_with_progress(
    specs: Sequence[RunSpec],
    ladder: Ladder,
    resources: Resources | Sequence[Resources],
    store: Store,
    **how: Any,
) -> GridOutcome:
    """Do the grid under a progress bar; `how` are further arguments of `run_grid`."""
    from oodml.launch import run_grid

    done = len(store.done_of(spec.id for spec in specs))
    with progress_bar(total=len(specs), initial=done, desc="runs", unit="run") as bar:

        def show(count: int) -> None:
            if count != bar.n:
                bar.update(count - bar.n)

        return run_grid(specs, ladder, resources, store, on_progress=show, **how)


def print_outcome(outcome: GridOutcome, store: Store) -> None:
    """Print where the results are; raise `DataError` if runs failed or are missing."""
    left = len(outcome.failed) + len(outcome.missing)
    if outcome.stopped and left:
        raise _Interrupted(
            f"stopped: {outcome.done} runs done, {left} left, in {store.directory}; start it again "
            "to go on from there."
        )
    if left:
        first = (outcome.failed or outcome.missing)[0]
        raise DataError(
            f"{outcome.done} runs done, {len(outcome.failed)} failed, {len(outcome.missing)} "
            f"missing; see {store.run_directory(first) / 'error.txt'} and start again to go on."
        )
    echo(f"{outcome.done} runs done, in {store.directory}")


def weights_of(options: dict[str, Any]) -> Path | dict[str, Path] | None:
    """The weights that were typed: one file, or files by the backbone's name; None without any."""
    given = options["weights"]
    if len(given) == 1 and not given[0][0]:
        return Path(given[0][1])
    for at, (name, file) in enumerate(given):
        if not name:
            raise UsageError(f"--weights {file}: of several files say whose they are, NAME={file}.")
        if name in [other for other, _ in given[:at]]:
            raise UsageError(f"--weights {name}={file}: {name} has weights already.")
    return dict(given) or None


def resources_for(
    ladder: Ladder, options: dict[str, Any], specs: Sequence[RunSpec]
) -> list[Resources]:
    """What the runs read of every model that they name: features, cached views, images, network."""
    from oodml.train.models import Model, is_of, models_of

    ruler = ladder.features
    models = models_of(ruler, options["backbones"], weights_of(options))
    if all(model.source != ruler for model in models):
        models.append(Model(ruler))
    wanted = [
        (model, own)
        for model in models
        if (own := [spec for spec in specs if is_of(spec.model, model.source)])
    ]
    device = options["device"] or _device(any(spec.model.train == "all" for spec in specs))
    if [model.source for model, _ in wanted] == [ruler]:
        return [_of_ruler(ladder, options, specs, wanted[0][0], device)]
    data = {key: options[key] for key in ("root", "skip_broken")}
    dataset = ladder_images(ladder, options["data"], **data)
    return [_of_model(dataset, options, own, model, device) for model, own in wanted]


def _of_ruler(
    ladder: Ladder,
    options: dict[str, Any],
    specs: Sequence[RunSpec],
    ruler: Model,
    device: str,
) -> Resources:
    """The resources of the network that measured the ladder, whose features a file may hold."""
    from oodml.train.build import Resources, check_network
    from oodml.train.cached_views import views_wanted

    whole = any(spec.model.train == "all" for spec in specs)
    machine = {key: options[key] for key in ("batch_size", "device", "cache")}
    features, dataset = open_for_ladder(
        ladder,
        options["data"],
        root=options["root"],
        skip_broken=options["skip_broken"],
        images=whole or views_wanted(specs) > 0,
        weights=ruler.weights,
        **machine,
    )
    backbone = ruler.load() if dataset is not None and (whole or views_wanted(specs)) else None
    if backbone is not None:
        check_network(specs, backbone)
    return Resources(
        features,
        dataset if whole else None,
        backbone if whole else None,
        device,
        in_bytes(options["memory"]),
        views_for(specs, backbone, dataset, precision=ruler.source.precision, **machine),
    )


def _of_model(
    dataset: Dataset,
    options: dict[str, Any],
    specs: Sequence[RunSpec],
    model: Model,
    device: str,
) -> Resources:
    from oodml.features.extraction import extract_features
    from oodml.train.build import Resources, check_network

    whole = any(spec.model.train == "all" for spec in specs)
    machine = {key: options[key] for key in ("batch_size", "device", "cache")}
    backbone, precision = model.load(), model.source.precision
    check_network(specs, backbone)
    return Resources(
        extract_features(dataset, backbone, precision=precision, progress=True, **machine),
        dataset if whole else None,
        backbone if whole else None,
        device,
        in_bytes(options["memory"]),
        views_for(specs, backbone, dataset, precision=precision, **machine),
    )


def views_for(
    specs: Sequence[RunSpec],
    backbone: Backbone | None,
    dataset: Dataset | None,
    **options: Any,
) -> Views | None:
    """The cached views that the runs ask for, under one network; None if no run does."""
    from oodml.train.cached_views import cached_views, views_wanted

    count = views_wanted(specs)
    if not count or dataset is None or backbone is None:
        return None
    return cached_views(dataset, backbone, count, progress=True, **options)


def _possible(specs: list[RunSpec], ladder: Ladder, options: dict[str, Any]) -> list[RunSpec]:
    """The specs without those that need images where the data are features.

    Raises `DataError` if one of them was named, and not only meant by `all`.
    """
    source = options["data"] or ladder.source or ""
    needing = sorted({spec.method.name for spec in specs if spec.training.cached_views})
    if not needing or not source.endswith(".npz"):
        return specs
    named = {text.partition(":")[0].strip() for text in options["methods"]}
    asked_for = needing if options["cached_views"] else sorted(named.intersection(needing))
    if asked_for:
        raise DataError(
            f"{', '.join(asked_for)}: augmented views are made of images and {source} holds "
            "features; name the images with --data FOLDER."
        )
    echo(f"left out: {', '.join(needing)} (augmented views are made of images)")
    return [spec for spec in specs if not spec.training.cached_views]


def _plain_line(plain: Sequence[RunSpec]) -> str:
    single = sorted({spec.label for spec in plain if spec.model.train == "none"})
    models = len({(s.model.backbone, s.model.weights, s.model.preprocessing) for s in plain})
    return (
        f"{len(plain)} runs: {len({s.label for s in plain})} methods x "
        + (f"{models} backbones x " if models > 1 else "")
        + f"{len({s.data.split for s in plain})} splits x {len({s.seed for s in plain})} seeds"
        + (f" (one seed for {', '.join(single)}: nothing is random there)" if single else "")
    )


def _reference_line(specs: Sequence[RunSpec]) -> str:
    """How many runs the matched reference adds, by what they are trained on; empty for none."""
    sides = Counter(spec.data.trained_on for spec in specs if not spec.data.null_draw)
    del sides["train"]
    parts = [f"{count} {_TRAINED_ON[side]}" for side, count in sides.items()]
    null = sum(spec.data.null_draw > 0 for spec in specs)
    if null:
        parts.append(f"{null} on random splits")
    total = sides.total() + null
    return f"{total} more on halves of the test classes: {', '.join(parts)}" if total else ""


def _kept(specs: Sequence[RunSpec], ladder: Ladder, asked: bool | None) -> set[str]:
    if asked is None:
        return gallery_runs(specs, ladder)
    return {spec.id for spec in specs} if asked else set()


def _cost_line(
    left: Sequence[RunSpec], specs: Sequence[RunSpec], store: Store, workers: int
) -> str:
    from oodml.runs.outlook import cost_of, in_words

    cost = cost_of([spec.id for spec in left], store.asked_for(specs), store)
    if cost is None:
        return "how long it takes is not known before the first finished run"
    beside = f"{workers} workers" if workers > 1 else "one worker"
    unknown = f"; {len(cost.unknown)} methods without one count as the mean" if cost.unknown else ""
    return (
        f"about {in_words(cost.seconds / workers)} with {beside}, by the times of {cost.known} "
        f"finished runs{unknown}"
    )


# What a plan calls the runs of a matched reference.
_TRAINED_ON = {"matched": "matched", "shifted": "shifted", "nothing": "of frozen features"}


class _Interrupted(click.ClickException):
    """Ctrl-C ended the command."""

    exit_code = 130


def _device(whole: bool) -> str:
    """Heads train on the CPU, where they are exact and quick; networks on a GPU if there is one."""
    import torch

    return "cuda" if whole and torch.cuda.is_available() else "cpu"
