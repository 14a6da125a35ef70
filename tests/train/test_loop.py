"""The loop: resume, selection, warm-up, clipping, schedules, accumulation, diagnostics."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from conftest import make_features, make_spec
from torch import nn

from oodml.errors import DataError, UsageError
from oodml.runs.spec import RunSpec
from oodml.train import checkpoint, loop
from oodml.train.build import objective_of
from oodml.train.checkpoint import EpochLog, Progress
from oodml.train.data import FeatureSamples
from oodml.train.loop import Updates, diagnostics, fit, rate_factor
from oodml.train.model import EmbeddingModel, Standardize
from oodml.train.objective import (
    Batch,
    Criterion,
    Objective,
    ParameterGroup,
    Training,
    check_groups,
    make_objective,
)
from oodml.train.registry import get_method

SPEC = make_spec(
    "margin",
    embedding_dim=4,
    batch_size=24,
    steps=13,
)


@pytest.fixture
def training() -> Training:
    features = make_features(12, 6, 8)
    return Training(FeatureSamples(features.values, features.labels), seed=0)


def objective_for(spec: RunSpec, training: Training) -> Objective:
    with loop.seeded(spec.seed, "init"):
        samples = training.samples
        assert isinstance(samples, FeatureSamples)
        model = EmbeddingModel(Standardize(samples.values), 8, spec.model.embedding_dim)
        built = get_method(spec.method.name).build_with(
            12, spec.model.embedding_dim, spec.method.hyperparameters
        )
        return make_objective(built, spec, model)


def test_a_parameter_outside_the_groups_or_in_two_is_named(training: Training) -> None:
    more: list[ParameterGroup] = []

    class Forgetful(Objective):
        def parameter_groups(self) -> list[ParameterGroup]:
            return [*super().parameter_groups()[:1], *more]

    built = get_method("margin").build(3, 4)
    objective = Forgetful(SPEC, EmbeddingModel(nn.Identity(), 8, 4), built)
    with pytest.raises(ValueError, match=r"criterion\.loss\.beta .* 0 groups"):
        check_groups(objective)
    more.append(ParameterGroup(list(objective.parameters()), 1.0, 0.0))
    with pytest.raises(ValueError, match="2 groups"):
        check_groups(objective)


def test_a_batch_carries_its_step_and_the_share_of_the_run_that_is_done(
    training: Training, tmp_path: Path
) -> None:
    objective = objective_for(SPEC.with_settings(method="sphereface", steps=5), training)
    seen: list[tuple[int, float, float]] = []

    def note(training: Training, batch: Batch) -> None:
        seen.append((batch.step, batch.progress, float(objective.criterion.plain_share)))

    objective.after_step = note  # type: ignore[method-assign]
    fit(objective, training, tmp_path)
    shares = [pytest.approx(1000 / (1 + 0.12 * step)) for step in range(5)]
    assert seen == [(step, step / 5, share) for step, share in enumerate(shares)]


class KilledError(Exception):
    """Stands for a process that ends between two steps."""


@pytest.mark.parametrize("stop", [1, 3, 7, 12])
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"selection": "best_validation", "warmup_epochs": 1, "schedule": "cosine"},
        {"steps": 0, "epochs": 4, "batches": "shuffled", "schedule": "step", "decay_every": 1},
    ],
    ids=["plain", "selected", "epochs"],
)
def test_a_resumed_run_equals_an_uninterrupted_one_bit_for_bit(
    stop: int,
    changes: dict[str, object],
    training: Training,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    spec = SPEC.with_settings(**changes)  # type: ignore[arg-type]
    stop = min(stop, 11)
    monkeypatch.setattr(checkpoint, "SECONDS", 0.0)
    monkeypatch.setattr(checkpoint, "SHARE", 1e9)

    def validate(objective: Objective) -> float:
        # Neither rises nor falls throughout, so that an epoch in the middle is the best.
        return -abs(float(objective.model.head.weight.detach().norm()) - 1.2)

    chosen = validate if spec.training.selection == "best_validation" else None
    straight = objective_for(spec, training)
    (tmp_path / "straight").mkdir()
    figures = fit(straight, training, tmp_path / "straight", validate=chosen)

    broken = objective_for(spec, training)
    steps = iter(range(stop))

    def die(training: Training, batch: Batch) -> None:
        if next(steps, None) is None:
            raise KilledError

    monkeypatch.setattr(broken, "after_step", die)
    (tmp_path / "resumed").mkdir()
    with pytest.raises(KilledError):
        fit(broken, training, tmp_path / "resumed", validate=chosen)
    (tmp_path / "resumed" / "epochs.jsonl").open("a").write('{"torn')
    torch.manual_seed(12345)  # global state must not matter
    resumed = objective_for(spec, training)
    assert fit(resumed, training, tmp_path / "resumed", validate=chosen) == figures
    for key, value in straight.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[key]), key
    logs = [(tmp_path / d / "epochs.jsonl").read_text() for d in ("straight", "resumed")]
    assert logs[0] == logs[1] and len(logs[0].splitlines()) == (4 if spec.training.epochs else 5)


def test_a_run_that_was_killed_after_its_last_step_ends_its_last_epoch(
    training: Training, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoint, "SECONDS", 0.0)
    monkeypatch.setattr(checkpoint, "SHARE", 1e9)
    figures = fit(objective_for(SPEC, training), training, tmp_path)
    log = (tmp_path / "epochs.jsonl").read_text()
    assert fit(objective_for(SPEC, training), training, tmp_path) == figures
    assert (tmp_path / "epochs.jsonl").read_text() == log


class Scaled(nn.Module):
    """A loss of its own that is `factor` times the mean of the first coordinate."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, embeddings: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return self.factor * embeddings[:, 0].mean()


def objective_with(loss: nn.Module | Criterion, spec: RunSpec = SPEC) -> Objective:
    with loop.seeded(0, "init"):
        model = EmbeddingModel(nn.Linear(8, 6), 6, spec.model.embedding_dim)
    return make_objective(loss, spec, model)


def test_a_loss_that_is_not_finite_is_an_error(training: Training, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nan at step 0"):
        fit(objective_with(Scaled(float("nan"))), training, tmp_path)


def test_selection_keeps_the_best_epoch_and_patience_ends_the_run(
    training: Training, tmp_path: Path
) -> None:
    values = iter([0.1, 0.5, 0.3, 0.2, 0.4])
    seen: list[torch.Tensor] = []

    def validate(objective: Objective) -> float:
        seen.append(objective.model.head.weight.detach().clone())
        return next(values)

    spec = SPEC.with_settings(steps=0, epochs=10, selection="best_validation", patience=2)
    objective = objective_with(Scaled(1.0), spec)
    figures = fit(objective, training, tmp_path, validate=validate)
    assert len(seen) == 4 and figures["epochs"] == 4
    assert torch.equal(objective.model.head.weight, seen[1])
    lines = [json.loads(line) for line in (tmp_path / "epochs.jsonl").read_text().splitlines()]
    assert [line["validation"] for line in lines] == [0.1, 0.5, 0.3, 0.2]


def test_validation_comes_every_so_many_epochs_and_at_the_end(
    training: Training, tmp_path: Path
) -> None:
    calls: list[int] = []
    spec = SPEC.with_settings(steps=0, epochs=5, evaluate_every=2)
    objective = objective_with(Scaled(1.0), spec)
    fit(objective, training, tmp_path, validate=lambda _: float(calls.append(1) or len(calls)))
    lines = [json.loads(line) for line in (tmp_path / "epochs.jsonl").read_text().splitlines()]
    assert ["validation" in line for line in lines] == [False, True, False, True, True]


def test_a_warm_up_leaves_the_trunk_as_it_was(training: Training, tmp_path: Path) -> None:
    spec = SPEC.with_settings(steps=0, epochs=2, warmup_epochs=2, weight_decay=0.1)
    objective = objective_with(Scaled(1.0), spec)
    trunk = {k: v.clone() for k, v in objective.model.trunk.state_dict().items()}
    head = objective.model.head.weight.detach().clone()
    fit(objective, training, tmp_path)
    assert all(torch.equal(trunk[k], v) for k, v in objective.model.trunk.state_dict().items())
    assert not torch.equal(head, objective.model.head.weight)
    longer = objective_with(Scaled(1.0), spec.with_settings(epochs=3))
    (tmp_path / "longer").mkdir()
    fit(longer, training, tmp_path / "longer")
    assert not torch.equal(trunk["weight"], longer.model.trunk.weight)


def test_a_schedule_of_steps_says_how_long_they_are(training: Training, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="decay_every"):
        fit(objective_with(Scaled(1.0), SPEC.with_settings(schedule="step")), training, tmp_path)


@pytest.mark.parametrize("clip", [{"clip_value": 1e-3}, {"clip_norm": 1e-3}])
def test_clipping_bounds_what_the_optimiser_sees(
    clip: dict[str, float], training: Training, tmp_path: Path
) -> None:
    spec = SPEC.with_settings(steps=1, optimizer="sgd", learning_rate=1.0, **clip)  # type: ignore[arg-type]
    objective = objective_with(Scaled(1e3), spec)
    before = [p.detach().clone() for p in objective.parameters()]
    figures = fit(objective, training, tmp_path)
    moved = torch.cat(
        [(p - b).flatten() for p, b in zip(objective.parameters(), before, strict=True)]
    )
    assert figures["gradient_norm"] > 1.0  # noted before clipping
    size = moved.detach().abs().max() if "clip_value" in clip else moved.detach().norm()
    assert float(size) == pytest.approx(1e-3, rel=1e-3)


def test_schedules_have_their_closed_forms() -> None:
    cosine = SPEC.with_settings(schedule="cosine").training
    assert rate_factor(cosine, 0, 0, 100) == 1.0
    assert rate_factor(cosine, 50, 0, 100) == pytest.approx(0.5)
    assert rate_factor(cosine, 100, 0, 100) == pytest.approx(0.0)
    step = SPEC.with_settings(schedule="step", decay=0.5, decay_every=3)
    assert [rate_factor(step.training, 0, epoch, 9) for epoch in range(7)] == [
        1,
        1,
        1,
        0.5,
        0.5,
        0.5,
        0.25,
    ]
    assert rate_factor(SPEC.training, 7, 3, 9) == 1.0


def test_the_schedule_reaches_the_optimiser(training: Training) -> None:
    spec = SPEC.with_settings(schedule="step", decay=0.5, decay_every=1, optimizer="sgd")
    updates = Updates(objective_with(Scaled(1.0), spec), 10)
    updates.step(0, 3)
    rates = {group["lr"] for group in updates.optimizer.param_groups}
    assert rates == {spec.training.learning_rate / 8}


def test_an_unknown_optimiser_gets_the_closest_match(training: Training) -> None:
    with pytest.raises(UsageError, match="adamw"):
        Updates(objective_with(Scaled(1.0), SPEC.with_settings(optimizer="adamv")), 1)


def test_accumulated_parts_of_a_samplewise_loss_equal_the_whole_batch(
    training: Training, tmp_path: Path
) -> None:
    def trained(parts: int) -> Objective:
        spec = SPEC.with_settings(steps=3, optimizer="sgd", learning_rate=0.1, accumulation=parts)
        with loop.seeded(0, "weights"):
            built = get_method("arcface").build(12, 4)
        objective = objective_with(built, spec)
        (tmp_path / str(parts)).mkdir()
        fit(objective, training, tmp_path / str(parts))
        return objective

    whole, divided = trained(1), trained(5)
    for a, b in zip(whole.parameters(), divided.parameters(), strict=True):
        assert torch.allclose(a, b, atol=1e-6)


def test_diagnostics_of_four_points_on_a_circle() -> None:
    points = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, -1.0]], requires_grad=True)
    (points[0, 0] * 2).backward()
    figures = diagnostics(points, torch.tensor([0, 0, 1, 1]))
    assert figures["positive_distance"] == pytest.approx(2**0.5)
    assert figures["negative_distance"] == pytest.approx((2 + 2**0.5) / 2)
    assert figures["variance"] == pytest.approx(1.0)
    assert figures["active_fraction"] == 0.25


def test_a_collapse_is_named_in_the_log_and_in_the_figures(
    training: Training, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    class Constant(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.bias = nn.Parameter(torch.ones(6))

        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            return self.bias.expand(len(inputs), 6)

    model = EmbeddingModel(Constant(), 6, 4)
    objective = make_objective(Scaled(1.0), SPEC.with_settings(steps=2), model)
    figures = fit(objective, training, tmp_path)
    assert figures["collapsed"] == 1.0 and "has collapsed" in caplog.text
    caplog.clear()
    (tmp_path / "fine").mkdir()
    assert "collapsed" not in fit(objective_with(Scaled(1.0)), training, tmp_path / "fine")
    assert "has collapsed" not in caplog.text


@pytest.mark.parametrize("damage", [b"", b"junk\n", b"PK\x03\x04 half a file"])
def test_a_damaged_checkpoint_starts_the_run_again(
    damage: bytes, training: Training, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    expected = fit(objective_for(SPEC, training), training, tmp_path / "a")
    (tmp_path / "b" / "last.pt").write_bytes(damage)
    assert fit(objective_for(SPEC, training), training, tmp_path / "b") == expected
    assert "damaged" in caplog.text


def test_training_in_bfloat16_gives_the_loss_float32_values(
    training: Training, tmp_path: Path
) -> None:
    seen: list[torch.dtype] = []

    class Watching(Scaled):
        def forward(self, embeddings: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
            seen.append(embeddings.dtype)
            return super().forward(embeddings, labels)

    kinds: list[torch.dtype] = []
    objective = objective_with(
        Watching(1.0), SPEC.with_settings(steps=2, training_precision="bf16")
    )
    objective.model.head.register_forward_hook(lambda _m, _i, output: kinds.append(output.dtype))
    fit(objective, training, tmp_path)
    assert set(seen) == {torch.float32} and set(kinds) == {torch.bfloat16}


def test_the_objective_of_a_spec_starts_from_its_seed(training: Training) -> None:
    from oodml.train.build import Resources

    resources = Resources(make_features(12, 6, 8))
    make: Callable[[int], Objective] = lambda seed: objective_of(  # noqa: E731
        SPEC, training.samples, 12, resources, seed
    )
    torch.manual_seed(3)
    one = make(0).model.head.weight
    assert torch.equal(one, make(0).model.head.weight)
    assert not torch.equal(one, make(1).model.head.weight)


@pytest.mark.parametrize(
    "damage", [b"[1]\n", b'{"epochs": 0}\n', b'{"epoch": "x"}\n', b"\xff\n", b'{"epoch": 1, "lo']
)
def test_the_log_of_epochs_is_read_up_to_its_first_damaged_line(
    damage: bytes, tmp_path: Path
) -> None:
    path = tmp_path / "epochs.jsonl"
    path.write_bytes(b'{"epoch": 0, "loss": 2.0}\n' + damage + b'{"epoch": 1, "loss": 1.0}\n')
    EpochLog(path, Progress(epoch=5))
    assert path.read_text() == '{"epoch": 0, "loss": 2.0}\n'
