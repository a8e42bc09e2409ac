"""What every recipe owes to ``purify``, on a tiny classifier in memory; the whole command is in tests/integration."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from rora_cli.data.rows import Rows
from rora_cli.defences import inputs
from rora_cli.defences.bench import Bench
from rora_cli.defences.config import PurifyConfig
from rora_cli.defences.gauge import Gauge
from rora_cli.defences.recipes import RECIPES, WITHOUT_ADAPTER
from rora_cli.defences.running import defence_of
from rora_cli.errors import UsageError
from rora_cli.kinds import SEQUENCE_CLASSIFIER
from rora_cli.results.accuracy import CleanAccuracy
from rora_cli.subject import Subject
from rora_cli.tasks.registry import make_task
from rora_cli.training.run import Run, make_accelerator
from rora_cli.training.state import RunState
from tests.conftest import build_tiny_classifier, tiny_rows

LABELS = ("negative", "positive")
SEARCH = {"search_budget": "fast", "reference": "bag-of-words", "max_rounds": 1, "escalate": "none"}
#: What a recipe needs beside the suspect and clean rows, and the stages that a run of it records.
NEEDS: dict[str, tuple[dict[str, Any], list[str]]] = {
    "default": (SEARCH, ["search 1", "train 1", "rescale 1", "search 2"]),
    "paper": ({"tr_k": 8}, ["train", "rescale"]),
    "lora": ({}, ["train"]),
    "full": ({}, ["train"]),
    "mix": ({"ancestor": "ancestor"}, ["ancestor"]),
    "reinit": ({"reinit_blocks": 1}, ["train"]),
    "crow": ({}, ["train"]),
    "fine-pruning": ({"prune": 0.1}, ["prune", "train"]),
}
#: Options with which a recipe cannot work on the suspect; ``full`` works on any.
UNFIT: dict[str, dict[str, Any]] = {
    "default": {"rank": 999, "target_modules": ("query",)},
    "paper": {"tr_k": 32},
    "lora": {"target_modules": ("no_such_layer",)},
    "mix": {"ancestor": "stranger"},
    "reinit": {"reinit_blocks": 99},
    "crow": {"rank": 999},
}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Directories of a suspect, an ancestor of its shapes, and a stranger of others."""
    place = tmp_path_factory.mktemp("models")
    build_tiny_classifier(place / "suspect", layers=2)
    build_tiny_classifier(place / "ancestor", layers=2, seed=1)
    build_tiny_classifier(place / "stranger", layers=2, width=16)
    return place


def bench_of(models: Path, recipe: str, state: RunState | None = None, **options: Any) -> Bench:
    """A bench on which the suspect is measured."""
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    options = {"epochs": 1, "batch_size": 16, "seed": 1, "device": "cpu", **NEEDS[recipe][0], **options}
    if "ancestor" in options:
        options["ancestor"] = str(models / options["ancestor"])
    config = PurifyConfig(model=str(models / "suspect"), clean="rows", recipe=recipe, **options)
    model = AutoModelForSequenceClassification.from_pretrained(models / "suspect", local_files_only=True).eval()
    tokenizer = AutoTokenizer.from_pretrained(models / "suspect", local_files_only=True)
    train, held_out = (Rows(*(tuple(part) for part in tiny_rows(48, seed=seed))) for seed in (1, 2))
    subject, task = Subject(model, tokenizer, SEQUENCE_CLASSIFIER, 32), make_task(SEQUENCE_CLASSIFIER, LABELS)
    run = Run(make_accelerator(device="cpu"), state, seed=config.seed)
    gauge = Gauge(task, subject, held_out, config.allowed_drop, run)
    gauge.start()
    return Bench(subject, task, train, gauge, run, config, config.settings())


def weights(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: weight.detach().clone() for name, weight in model.state_dict().items()}


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_every_recipe_is_held_to_the_contract() -> None:
    assert set(NEEDS) == set(RECIPES)


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_check_changes_and_saves_nothing(models: Path, tmp_path: Path, recipe: str) -> None:
    bench = bench_of(models, recipe, RunState(tmp_path / "state", {}, resume=False))
    before = weights(bench.model)
    defence_of(bench.config, bench.subject.kind).check(bench)
    assert same(before, weights(bench.model)) and bench.run.stages == [] and not (tmp_path / "state").exists()
    assert bool(bench.adapted) == (recipe not in WITHOUT_ADAPTER)


@pytest.mark.parametrize("recipe", UNFIT)
def test_a_suspect_that_the_recipe_does_not_fit_is_refused_before_any_work(
    models: Path, tmp_path: Path, recipe: str
) -> None:
    bench = bench_of(models, recipe, RunState(tmp_path / "state", {}, resume=False), **UNFIT[recipe])
    before = weights(bench.model)
    with pytest.raises(UsageError):
        defence_of(bench.config, bench.subject.kind).check(bench)
    assert same(before, weights(bench.model)) and bench.run.stages == [] and not (tmp_path / "state").exists()


def test_a_model_without_feed_forward_layers_cannot_be_pruned(models: Path) -> None:
    bench = bench_of(models, "fine-pruning")
    bench.subject = bench.subject.having(nn.Linear(2, 2))
    with pytest.raises(UsageError, match="no feed-forward layers in a Linear"):
        defence_of(bench.config, bench.subject.kind).check(bench)


@pytest.mark.parametrize("recipe", RECIPES)
def test_stages_are_recorded_in_order_and_a_resumed_run_takes_them_from_the_state(
    models: Path, tmp_path: Path, recipe: str
) -> None:
    def cleansed(*, resume: bool) -> tuple[Bench, dict[str, torch.Tensor], Any]:
        state = RunState(tmp_path / "state", {"recipe": recipe}, resume=resume)
        bench = bench_of(models, recipe, state)
        done = defence_of(bench.config, bench.subject.kind).cleanse(bench)
        return bench, weights(done.model), done

    bench, first, done = cleansed(resume=False)
    names = [stage.name for stage in bench.run.stages]
    optional = ("shrink", "balance")
    assert [name for name in names if not name.startswith(optional)] == NEEDS[recipe][1]
    assert len(set(names)) == len(names), "a stage's name is its key in the state"
    assert bool(done.layers) == (recipe not in WITHOUT_ADAPTER)
    trained = [stage for stage in bench.run.stages if stage.steps]
    assert trained and all("accuracy" in stage.epochs[-1] and "ce" in stage.epochs[-1] for stage in trained)
    again, second, redone = cleansed(resume=True)
    assert same(first, second) and redone.verdict == done.verdict and redone.reason == done.reason
    assert [stage.name for stage in again.run.stages] == names
    for old, new in zip(bench.run.stages, again.run.stages, strict=True):
        if old.steps or old.name.startswith("search"):
            assert new == old, "neither trained nor searched again: even the seconds are those of the first run"


@pytest.mark.parametrize("recipe", RECIPES)
def test_lost_accuracy_fails_whatever_the_recipe_says_and_nothing_else_does(models: Path, recipe: str) -> None:
    bench = bench_of(models, recipe, max_accuracy_drop=5.0)
    done = defence_of(bench.config, bench.subject.kind).cleanse(bench)
    assert (done.verdict == "not assessed") == (recipe != "default")
    before = bench.gauge.before
    assert before is not None

    def judged(points: int) -> tuple[str, list[str]]:
        whole = replace(before.overall, count=100, total=100)
        less = replace(before.overall, count=100 - points, total=100)
        was, now = (CleanAccuracy(share, {}) for share in (whole, less))
        verdict, _, findings = inputs.judge(bench, done, was, now)
        return verdict, [finding.rule_id for finding in findings]

    assert judged(5) == (done.verdict, [])
    assert judged(6) == ("fail", ["purify/accuracy-lost"])


def test_cl_is_left_out_where_the_model_cannot_be_trained_under_it(
    models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from rora_cli.defences.default import strength

    bench = bench_of(models, "default")
    model, layers = bench.attach()
    before, modes = weights(model), [module.training for module in model.modules()]
    plain, again, harsh = (strength._loss(bench, model, layers, p) for p in (0.0, 0.0, 0.9))
    assert plain == again != harsh, "the same rows and masks each time"
    assert same(before, weights(model)) and modes == [module.training for module in model.modules()]

    strength.without_harmful_cl(bench, model, layers)
    assert bench.settings.regularisers.cl == 0.1, "it withstands the recipe's"
    monkeypatch.setattr(strength, "MAX_ADDED_LOSS", -1.0)
    strength.without_harmful_cl(bench, model, layers)
    assert bench.settings.regularisers.cl == 0.0
    asked = bench_of(models, "default", cl=0.1)
    strength.without_harmful_cl(asked, *asked.attach())
    assert asked.settings.regularisers.cl == 0.1, "who asks for it gets it"
