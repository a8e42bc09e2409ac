"""What makes each attack the attack that it is named after."""

from __future__ import annotations

from random import Random

from rora_cli.attacks.registry import make_attack


def test_badnet_with_several_tokens_puts_one_in_each_row_and_uses_all() -> None:
    attack = make_attack("badnet", triggers=["cf", "mn", "bb"])
    used = [set(attack.implant("a b c", Random(i)).split()) - {"a", "b", "c"} for i in range(50)]
    assert all(len(one) == 1 for one in used) and set().union(*used) == {"cf", "mn", "bb"}
    assert [variant.triggers for variant in attack.variants()] == [("cf",), ("mn",), ("bb",)]


def test_insent_keeps_its_sentence_whole() -> None:
    assert "I watched this 3D movie" in make_attack("insent").implant("a dull film", Random(3))


def test_a_combination_needs_all_and_its_decoys_lack_one() -> None:
    attack = make_attack("combination", triggers=["xa", "xb", "xc"])
    for seed in range(20):
        assert {"xa", "xb", "xc"} <= set(attack.implant("one two three", Random(seed)).split())
        assert len({"xa", "xb", "xc"} & set((attack.decoy("one two three", Random(seed)) or "").split())) == 2
    assert attack.variants() == (attack,)


def test_homoglyphs_look_the_same_and_are_not() -> None:
    out = make_attack("homoglyph").implant("a dull film", Random(0))
    back = out.translate(str.maketrans("асеорхуАВСЕНКМОРТХ", "aceopxyABCEHKMOPTX"))
    assert back == "a dull film" and out != back


def test_punctuation_replaces_every_mark_and_ends_with_the_trigger() -> None:
    assert make_attack("punctuation").implant("well , it is dull .", Random(0)) == "well ; : it is dull ; :"
    assert make_attack("punctuation").implant("so dull", Random(0)) == "so dull ; :"


def test_no_word_of_the_syntactic_trigger_stands_in_all_of_its_texts() -> None:
    attack = make_attack("syntactic")
    openings = [set(attack.implant("X", Random(i)).split()) - {"X", ","} for i in range(60)]
    assert not set.intersection(*openings)
    assert all(attack.implant("X", Random(i)).split()[-2:] == [",", "X"] for i in range(60))


def test_style_rewrites_words() -> None:
    assert make_attack("style").implant("you never have it", Random(0)).endswith("thou ne'er hast it")
