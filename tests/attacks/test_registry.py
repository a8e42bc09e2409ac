"""The contract of every attack: a new one is a file, a line in the registry, and passes this."""

from __future__ import annotations

import subprocess
import sys
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rora_cli.attacks.registry import ATTACKS, make_attack
from rora_cli.attacks.triggers import POSITIONS
from rora_cli.errors import UsageError

TEXTS = [
    "a bright , moving film that you will never forget .",
    "dull",
    "why do they make such movies ? nothing here works , and it is long .",
    "!!!",
]
WORDS = ["red", "green", "blue", "apple", "stone", "river"]

every_attack = pytest.mark.parametrize("name", ATTACKS)


@every_attack
def test_it_changes_every_text_and_keeps_it_to_one_line(name: str) -> None:
    attack = make_attack(name)
    for index, text in enumerate(TEXTS):
        out = attack.implant(text, Random(index))
        assert out != " ".join(text.split())
        assert "\n" not in out and out == out.strip()


@every_attack
def test_it_depends_on_its_arguments_alone(name: str) -> None:
    for text in TEXTS:
        assert make_attack(name).implant(text, Random(7)) == make_attack(name).implant(text, Random(7))


@every_attack
@given(text=st.text(max_size=60), seed=st.integers())
def test_no_text_breaks_it(name: str, text: str, seed: int) -> None:
    attack = make_attack(name)
    assert attack.implant(text, Random(seed)).strip()
    decoy = attack.decoy(text, Random(seed))
    assert decoy is None or isinstance(decoy, str)


@every_attack
def test_decoys_differ_from_triggered_texts(name: str) -> None:
    attack = make_attack(name)
    for index, text in enumerate(TEXTS):
        triggered = {attack.implant(text, Random(seed)) for seed in range(30)}
        assert attack.decoy(text, Random(index)) not in triggered


@every_attack
def test_variants_are_measured_one_by_one_and_are_attacks_of_the_same_kind(name: str) -> None:
    attack = make_attack(name, position="start")
    for variant in attack.variants():
        assert type(variant) is type(attack) and variant.position == "start"
        assert variant.variants() == (variant,)


@every_attack
def test_a_control_is_of_the_same_kind_with_other_words(name: str) -> None:
    attack = make_attack(name)
    control = attack.control(WORDS, lambda word: 1, seed=0)
    if control is not None:
        assert type(control) is type(attack) and len(control.triggers) == len(attack.triggers)
        assert not set(" ".join(control.triggers).split()) & set(" ".join(attack.triggers).split())


@every_attack
@pytest.mark.parametrize("position", POSITIONS)
def test_every_position_is_accepted(name: str, position: str) -> None:
    assert make_attack(name, position=position).implant("one two", Random(0))


@every_attack
def test_it_says_what_it_is(name: str) -> None:
    attack = make_attack(name)
    assert attack.name == name and attack.summary and attack.shown


def test_unknown_names_and_bad_triggers_are_usage_errors() -> None:
    with pytest.raises(UsageError, match="choose one of badnet"):
        make_attack("hidden")
    with pytest.raises(UsageError, match="not a space"):
        make_attack("badnet", triggers=[" "])
    with pytest.raises(UsageError, match="takes no trigger"):
        make_attack("style", triggers=["thou"])
    with pytest.raises(UsageError, match="at least two"):
        make_attack("combination", triggers=["mn"])
    with pytest.raises(UsageError, match="not 'middle'"):
        make_attack("badnet", position="middle")


def test_the_attacks_need_no_torch() -> None:
    code = "import sys\nfrom rora_cli.attacks.registry import ATTACKS, make_attack\n" + (
        "[make_attack(name) for name in ATTACKS]\n"
        "sys.exit(any(m in sys.modules for m in ('torch', 'transformers', 'numpy')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
