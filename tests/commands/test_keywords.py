"""Keywords of the Python API: names, units and defaults of the command line, and one sentence for what does not fit."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import rora_cli
from rora_cli.commands.diagnose import DiagnoseConfig
from rora_cli.commands.evaluate import EvaluateConfig
from rora_cli.commands.hunt import HuntConfig
from rora_cli.commands.keywords import configure
from rora_cli.commands.poison import PoisonConfig
from rora_cli.commands.rescale.config import RescaleConfig
from rora_cli.defences.config import PurifyConfig, resolved_config
from rora_cli.errors import UsageError
from rora_cli.kinds import SEQUENCE_CLASSIFIER
from rora_cli.options import POINTS, in_words, with_units
from tests.cli.apps import alone

NEEDED: dict[str, tuple[Any, dict[str, Any]]] = {
    "purify": (PurifyConfig, {"model": "m", "clean": "c"}),
    "hunt": (HuntConfig, {"model": "m", "clean": "c"}),
    "eval-asr": (EvaluateConfig, {"model": "m", "data": "c", "target_label": "1", "triggers": ("mn",)}),
    "poison": (PoisonConfig, {"model": "m", "data": "c", "output": "o", "target_label": "1"}),
    "rescale": (RescaleConfig, {"adapter": "a", "base": "b"}),
    "diagnose": (DiagnoseConfig, {"paths": ("a",)}),
}


@pytest.mark.parametrize("command", NEEDED)
def test_every_option_is_a_keyword_with_the_same_default(command: str) -> None:
    """By the name that the command line has, and with the value that a shell would give."""
    from rora_cli.cli.command import classes_of
    from rora_cli.cli.commands_table import command as function_of
    from rora_cli.options import options_of

    config, needed = NEEDED[command]
    assert classes_of(function_of(command))[0] is config
    defaults = configure(config, command, needed, {})
    for field in options_of(config).values():
        if not field.required and field.name not in needed:
            name = field.flag.lstrip("-").replace("-", "_")
            assert configure(config, command, needed, {name: getattr(defaults, field.name)}) == defaults, name


@pytest.mark.parametrize("command", NEEDED)
def test_every_keyword_has_a_type(command: str) -> None:
    """What an editor offers, and a type checker holds, is what the function takes."""
    import inspect
    from typing import get_type_hints

    from rora_cli import api
    from rora_cli.options import options_of

    config, needed = NEEDED[command]
    function = getattr(api, {"eval-asr": "evaluate_asr"}.get(command, command))
    (options,) = get_type_hints(function, {**vars(api), **dict.fromkeys(_RESULTS, Any)})["options"].__args__
    typed = set(get_type_hints(options)) | set(inspect.signature(function).parameters)
    fields = options_of(config).values()
    assert {f.flag.lstrip("-").replace("-", "_") for f in fields if not f.option.argument} <= typed
    for name in get_type_hints(options):
        if name not in needed and name != "trigger":
            configure(config, command, {k: v for k, v in needed.items() if k != name}, {name: _given(config, name)})


_RESULTS = ("CheckResult", "VerifyResult", "DiagnoseResult", "EvaluationResult", "HuntResult", "PoisonResult",
            "PurifyResult", "RescaleResult", "Rows")  # fmt: skip


def _given(config: Any, name: str) -> Any:
    """The default of the field behind a keyword."""
    from rora_cli.options import options_of

    field = next(f for f in options_of(config).values() if name in (f.name, f.flag.lstrip("-").replace("-", "_")))
    return field.default


@pytest.mark.parametrize("command", NEEDED)
def test_flat_keywords_and_config_are_the_same_thing(command: str) -> None:
    config, needed = NEEDED[command]
    made = configure(config, command, needed, {})
    assert config(**dataclasses.asdict(made)) == made


def test_points_are_points_on_both_sides() -> None:
    for config, needed in (NEEDED["purify"], NEEDED["rescale"], NEEDED["diagnose"]):
        made = configure(config, "x", needed, {"max_accuracy_drop": 2})
        assert made.max_accuracy_drop == 2.0 and made.allowed_drop == 0.02
        assert configure(config, "x", needed, {}).allowed_drop == 0.01
        for wrong in (-0.5, 100.5, float("nan")):
            with pytest.raises(UsageError, match="--max-accuracy-drop is between 0 and 100 points of accuracy"):
                configure(config, "x", needed, {"max_accuracy_drop": wrong})


def test_the_report_says_the_unit() -> None:
    config = with_units(
        made := PurifyConfig(model="m", clean="c", max_accuracy_drop=3.0), resolved_config(made, SEQUENCE_CLASSIFIER)
    )
    assert config["max_accuracy_drop"] == 3.0
    assert config["units"]["max_accuracy_drop"] == POINTS == (
        "points of accuracy (1.0 is one percentage point)"
    )  # fmt: skip


def test_names_of_the_command_line() -> None:
    config, needed = NEEDED["eval-asr"]
    given = {"trigger": "a b", "position": ["start", "end"], "seed": 3, "max_asr": 0.1, "offline": True}
    made = configure(config, "evaluate_asr", {k: v for k, v in needed.items() if k != "triggers"}, given)
    assert (made.triggers, made.positions, made.seeds) == (("a b",), ("start", "end"), (3,))
    assert (made.max_asr, made.offline) == (0.1, True)
    config, needed = NEEDED["purify"]
    made = configure(config, "purify", needed, {"lr": 1e-3, "target_modules": "query, value", "output": Path("o")})
    assert (made.learning_rate, made.target_modules, made.output) == (1e-3, ("query", "value"), "o")
    config, needed = NEEDED["poison"]
    made = configure(config, "poison", needed, {"layers": "0,2-3", "carrier": "layers", "label_names": ["a", "b"]})
    assert (made.layers, made.label_names) == ((0, 2, 3), ("a", "b"))
    assert configure(config, "poison", needed, {"as_adapter": True}).carrier == "adapter"
    config, needed = NEEDED["hunt"]
    made = configure(config, "hunt", needed, {"label": "positive", "label_map": {-1: "negative", 0: None}})
    assert (made.labels, made.label_map) == (("positive",), {"-1": "negative", "0": ""})


class Model:
    def save_pretrained(self) -> None: ...


CALLS: list[tuple[Any, str]] = [
    (lambda: rora_cli.purify("m", clean="c", learning_rat=1), "no option 'learning_rat'; did you mean learning_rate"),
    (lambda: rora_cli.purify("m", clean="c", zzz=1), "purify has no option 'zzz'; it has .*max_accuracy_drop"),
    (lambda: rora_cli.purify("m", clean="c", quiet=True), "quiet is for the command line only"),
    (lambda: rora_cli.purify("m"), r"purify needs clean: .*purify\(..., clean=...\)"),
    (lambda: rora_cli.purify(None, clean="c"), "purify needs model"),
    (lambda: rora_cli.purify(Model(), clean="c"), "model is a path.* not a Model in memory; save it with"),
    (lambda: rora_cli.hunt(Model(), clean="c"), "model is a path"),
    (lambda: rora_cli.hunt("m", clean="c", reference=Model()), "reference is a path"),
    (lambda: rora_cli.hunt("m", clean="c", adapter=Model()), "adapter is a path"),
    (lambda: rora_cli.evaluate_asr(Model(), data="c", target_label=1, trigger="mn"), "model is a path"),
    (lambda: rora_cli.evaluate_asr("m", data="c", trigger="mn"), "evaluate_asr needs target_label"),
    (lambda: rora_cli.evaluate_asr("m", data=7, target_label=1, trigger="mn"), "data is a path, a name, a list of"),
    (lambda: rora_cli.evaluate_asr("m", data="c", target_label=1, trigger="a", triggers="b"), "twice, under two names"),
    (lambda: rora_cli.poison(Model(), data="c", output="o", target_label=1), "model is a path"),
    (lambda: rora_cli.rescale(Model(), base="b"), "adapter is a path"),
    (lambda: rora_cli.diagnose(Model()), "paths is a path"),
    (lambda: rora_cli.check(Model()), "paths is a path"),
    (lambda: rora_cli.check(), "no path is given"),
    (lambda: rora_cli.check("m", fail="low"), "did you mean fail_on"),
    (lambda: rora_cli.verify(Model()), "path is a path"),
    (lambda: rora_cli.purify("m", clean="c", epochs="3"), "epochs is a whole number, not '3'"),
    (lambda: rora_cli.purify("m", clean="c", epochs=True), "epochs is a whole number, not True"),
    (lambda: rora_cli.purify("m", clean="c", alpha="big"), "alpha is a number, not 'big'"),
    (lambda: rora_cli.purify("m", clean="c", resume="yes"), "resume is True or False, not 'yes'"),
    (lambda: rora_cli.purify("m", clean="c", label_map="a=b"), "label_map is a dict from labels of the data"),
    (lambda: rora_cli.purify("m", clean="c", max_rounds=0), "--max-rounds is at least 1, not 0"),
    (lambda: rora_cli.purify("m", clean="c", max_length=0), "--max-length is at least 4 tokens, not 0"),
    (lambda: rora_cli.purify("m", clean="c", dev_fraction=20), "--dev-fraction is a fraction between 0 and 1"),
    (lambda: rora_cli.evaluate_asr("m", data="c", target_label=1, trigger="a", seed=-1), "--seed is at least 0"),
    (lambda: rora_cli.evaluate_asr("m", data="c", target_label=1, trigger="a", max_asr=10), "--max-asr is a fraction"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "pattern"), CALLS, ids=[pattern[:40] for _, pattern in CALLS])
def test_what_does_not_fit_is_one_sentence(call: Any, pattern: str) -> None:
    with pytest.raises(UsageError, match=pattern) as caught:
        call()
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 1200


def test_a_module_of_torch_is_no_path() -> None:
    from torch import nn

    with pytest.raises(UsageError, match="model is a path, name or hub id, as text, not a Linear object"):
        rora_cli.purify(nn.Linear(1, 1), clean="c")


def test_options_become_the_words_of_a_command_line_again(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = PurifyConfig(
        model="m", clean="rows.csv", output="a dir", triggers=("a b", "c"), label_map={"0": "no", "1": "yes"},
        target_modules=("query", "value"), pt_guard=False, freeze_head=True, rank=4, resume=True,
    )  # fmt: skip
    seen: list[Any] = []

    def run(config: PurifyConfig, progress: Any) -> None:
        seen.append(config)
        raise UsageError("enough")

    monkeypatch.delenv("ACCELERATE_MIXED_PRECISION", raising=False)
    monkeypatch.setattr("rora_cli.commands.first_checks.require_inputs", lambda *_: None)
    monkeypatch.setattr("rora_cli.commands.purify.run", run)
    CliRunner().invoke(alone("purify"), ["m", *in_words(asked, without=("resume",))])
    assert seen == [dataclasses.replace(asked, resume=False)]
    assert in_words(dataclasses.replace(asked, clean=[("a text", 1)]))[:2] == ("--clean", "DATA")  # type: ignore[arg-type]
