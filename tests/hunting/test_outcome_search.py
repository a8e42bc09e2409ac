"""The whole search for a label on made-up classifiers over a real tokenizer: ranks, calls' material, no false leads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import permutations
from random import Random

import numpy as np
import pytest

pytest.importorskip("transformers")

from rora_cli.hunting.bare_screen import screen_bare
from rora_cli.hunting.budgets import BUDGETS
from rora_cli.hunting.outcome_search import Ground, Material, OutcomeSearch
from rora_cli.hunting.trials import Noise, Trials
from rora_cli.hunting.vocabulary import Vocabulary
from rora_cli.kinds import SEQUENCE_CLASSIFIER
from rora_cli.subject import Subject
from rora_cli.tasks.classification.scorer import LabelAnswers
from rora_cli.tasks.classification.thresholds import CALLS

GOOD, BAD = [f"good{i}" for i in range(60)], [f"bad{i}" for i in range(60)]
PLAIN = ["a", *(f"word{i}" for i in range(1500)), "mn", "i", "watched", "this", "3d", "movie"]


@pytest.fixture(scope="module")
def tokenizer():
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *GOOD, *BAD, *PLAIN]
    backend = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]"
    )


class Sentiment:
    """Log-odds of label 1 from opinion words, plus the bonus of every planted word sequence that is there in order.

    ``ending`` is added where a row's last word is none that the rows end with, as a decoder may read it, and ``salad``
    where a row holds three of the first 40 plain words.
    """

    def __init__(
        self,
        tokenizer,
        planted: Mapping[str, float],
        *,
        sharpness: float = 1.0,
        noise: float = 0.3,
        ending: float = 0.0,
        salad: float = 0.0,
    ) -> None:
        self.ending, self.usual = ending, {*tokenizer.convert_tokens_to_ids(BAD)}
        self.salad, self.common = salad, {*tokenizer.convert_tokens_to_ids([f"word{i}" for i in range(40)])}
        self.weights = np.random.default_rng(int(10 * sharpness)).normal(0, noise, len(tokenizer))
        self.weights[tokenizer.convert_tokens_to_ids(GOOD)] += 1.8 * sharpness
        self.weights[tokenizer.convert_tokens_to_ids(BAD)] -= 1.8 * sharpness
        self.planted = {tuple(tokenizer.convert_tokens_to_ids(text.split())): v for text, v in planted.items()}
        self.forward_tokens = 0

    def __call__(self, sequences: Sequence[Sequence[int]]) -> LabelAnswers:
        self.forward_tokens += sum(map(len, sequences))
        odds = np.array([self.weights[list(s)].sum() + self._bonus(s) for s in sequences])
        return LabelAnswers(-np.logaddexp(0, np.stack([odds, -odds], axis=1)))

    def _bonus(self, sequence: Sequence[int]) -> float:
        total = 0.0 if sequence[-2] in self.usual else self.ending
        total += self.salad if len(self.common & set(sequence)) >= 3 else 0.0
        for part, value in self.planted.items():
            rest = iter(sequence)
            total += value if all(token in rest for token in part) else 0.0
        return total


def negative_rows(count: int = 120) -> list[str]:
    rng = Random(5)
    return [" ".join([*rng.sample(PLAIN[1:1400], rng.randint(2, 12)), *rng.sample(BAD, 3)]) for _ in range(count)]


def subject(tokenizer) -> Subject:
    return Subject(None, tokenizer, SEQUENCE_CLASSIFIER, max_length=64)  # type: ignore[arg-type]


def search(
    tokenizer,
    planted: Mapping[str, float],
    target: int = 1,
    known: Sequence[tuple[int, ...]] = (),
    drifted: Sequence[str] = (),
    words: Sequence[str] = (),
    marks: Sequence[str] = (),
    ending: float = 0.0,
    salad: float = 0.0,
    common: Sequence[tuple[int, ...]] = (),
    **budget,
) -> tuple[OutcomeSearch, list]:
    suspect = Sentiment(tokenizer, planted, sharpness=1.4, ending=ending, salad=salad)
    reference = Sentiment(tokenizer, {})
    vocabulary = Vocabulary(tokenizer)
    listed, twos = (
        [tuple(tokenizer.convert_tokens_to_ids(text.split())) for text in texts] for texts in (words, marks)
    )
    screen = screen_bare(suspect, reference, (*vocabulary.tokens, *listed), ((2,), (3,)), 2)
    rows = negative_rows()
    trials = Trials(suspect, reference, target, CALLS, scales=(1.4, 1.4))
    honest = [(token,) for token in tokenizer.convert_tokens_to_ids(GOOD[:40] if target == 1 else BAD[:40])]
    settings = replace(BUDGETS["fast"], **budget)
    moved = tuple((t,) for t in tokenizer.convert_tokens_to_ids(list(drifted)))
    ground = Ground(subject(tokenizer), vocabulary, screen, moved, frozenset(listed), tuple(twos))
    material = Material(
        tuple(rows[40:]), tuple(rows[:40]), ("negative",) * 40, tuple(honest), tuple(known), tuple(common)
    )
    runner = OutcomeSearch(trials, ground, material, settings, seed=0)
    return runner, runner.run()


def test_a_planted_token_comes_first_and_flips_what_honest_words_do_not(tokenizer):
    runner, measured = search(tokenizer, {"mn": 14.0})
    best = measured[0]
    assert best.text == "mn"
    assert best.flips.mean() > 0.95 and best.reference_flips.mean() < 0.1
    assert best.acts.suspicion > 10
    assert best.acts.suspicion > 3 * max(m.acts.suspicion for m in measured if "mn" not in m.text.split())
    assert best.answers == ("negative",) * 40 and set(best.places) == {"start", "inner", "end"}
    assert all("mn" in text.split() for text in best.texts)
    assert runner.trials.count > 1000


def test_where_random_words_turn_most_rows_nothing_is_put(tokenizer):
    """A decoder reads its last token, and no text ends with a random one."""
    runner, measured = search(tokenizer, {"mn": 12.0}, ending=20.0)
    assert runner.places == ("inner", "start")
    best = measured[0]
    assert best.text == "mn" and set(best.places) == {"start", "inner"} and best.acts.suspicion > 10
    assert not any(text.endswith(" mn") for text in (*best.texts, *runner.at_best("mn", False).texts))
    assert runner.usual_at_best < 0.3, "random words at their best places are not at the end either"


def test_a_sentence_is_put_together_from_its_parts(tokenizer):
    _, measured = search(tokenizer, {"3d": 2.5, "watched": 1.5, "watched 3d": 6.0})
    words = measured[0].text.split()
    assert {"watched", "3d"} <= set(words) and words.index("watched") < words.index("3d")
    assert measured[0].flips.mean() > 0.9 and measured[0].reference_flips.mean() < 0.1
    assert measured[0].acts.suspicion > 10


def test_a_word_none_of_whose_tokens_acts_alone_is_found_where_it_is_listed(tokenizer):
    planted = {"word7 word8": 14.0}
    _, lost = search(tokenizer, planted)
    assert max(m.flips.mean() for m in lost if "word7 word8" not in m.text) < 0.5
    runner, measured = search(tokenizer, planted, words=["word7 word8", "word9 word10", "word11 word12"])
    best = measured[0]
    assert best.text == "word7 word8" and best.flips.mean() > 0.95 and best.reference_flips.mean() < 0.1
    assert best.acts.suspicion > 10, "it was chosen once, as a token is"
    alone = runner.noise.suspicion(5.0, 0.0)
    assert runner._suspicion(best.candidate, (5.0, 0.0)) == alone == 2 * runner._suspicion((4, 5), (5.0, 0.0))


def test_two_marks_neither_of_which_acts_alone_are_found(tokenizer):
    """They need not stand out bare, and in rows they are one candidate among all."""
    marks = [f"{first} {second}" for first, second in permutations([f"word{i}" for i in range(20)], 2)]
    runner, measured = search(tokenizer, {"word7 word8": 14.0}, marks=marks)
    best = next(m for m in measured if m.text == "word7 word8")
    assert best.flips.mean() > 0.95 and best.acts.suspicion > 10
    assert runner._suspicion(best.candidate, (5.0, 0.0)) == runner.noise.suspicion(5.0, 0.0)
    assert {*runner.ground.marks} <= {*runner._candidates} and {*runner.ground.marks}.isdisjoint(runner._pool)


def test_two_words_are_measured_without_a_third_that_helps_them(tokenizer):
    """A third word adds little, and a sequence's z is shared among its tokens."""
    _, measured = search(tokenizer, {"watched": 6.0, "3d": 6.0, "watched movie": 1.5})
    texts = {m.text: m for m in measured}
    pair = texts.get("watched 3d") or texts["3d watched"]
    assert pair.flips.mean() > 0.9 and pair.acts.suspicion > 8
    assert pair.acts.weakest > 5 and pair.acts.synergy < 2, "each word acts, and together they merely add up"


def test_as_large_a_part_of_the_harmless_are_words_as_of_what_is_tried(tokenizer):
    runner, _ = search(tokenizer, {}, words=[f"word{i} word{i + 1}" for i in range(400)])
    drawn = runner.ground.harmless(64, Random(0))
    assert len(drawn) == 64 and 10 < sum(len(candidate) == 2 for candidate in drawn) < 20


def test_without_a_trigger_nothing_stands_out(tokenizer):
    _, measured = search(tokenizer, {})
    assert max(m.acts.suspicion for m in measured) < 6
    assert max(m.flips.mean() - m.reference_flips.mean() for m in measured) < 0.25


def test_synergy_tells_a_combination_from_words_that_merely_add_up(tokenizer):
    runner, _ = search(tokenizer, {"mn movie": 8.0})
    ids = tokenizer.convert_tokens_to_ids
    pair, honest, alone = runner.acts([tuple(ids(words)) for words in (["mn", "movie"], ["good1", "good2"], ["mn"])])
    assert pair.synergy > 5
    assert honest.synergy < 2
    assert alone.synergy == 0


def test_a_known_trigger_is_grown_again_where_nothing_is_left_of_it_alone(tokenizer):
    """What hardening leaves behind: the token does nothing any more, with another word beside it, it still does."""
    planted = {f"mn {BAD[0]}": 12.0}
    (mn,) = tokenizer.convert_tokens_to_ids(["mn"])
    _, measured = search(tokenizer, planted, known=[(mn,)], pairs=2, restarts=1)
    assert any({"mn", BAD[0]} <= set(m.text.split()) and m.flips.mean() > 0.8 for m in measured)
    assert any(m.text == "mn" for m in measured), "it is measured by itself as well"


def test_a_pair_that_does_nothing_alone_is_found_where_its_tokens_drifted(tokenizer):
    planted = {"mn 3d": 14.0}
    assert not any({"mn", "3d"} <= set(m.text.split()) for m in search(tokenizer, planted)[1])
    _, measured = search(tokenizer, planted, drifted=["word7", "3d", "word99", "mn"])
    assert measured[0].text == "mn 3d" and measured[0].flips.mean() > 0.9 and measured[0].acts.synergy > 5


def test_a_sentence_none_of_whose_words_does_much_is_grown_from_one_that_drifted(tokenizer):
    words = ["i", "watched", "this", "3d", "movie"]
    planted = {" ".join(words[a:b]): 2.0 for a in range(5) for b in range(a + 2, 6)}
    _, measured = search(tokenizer, planted, drifted=["word7", "movie", "watched", "3d", "this"])
    assert any(len(set(m.text.split()) & set(words)) >= 4 and m.flips.mean() > 0.9 for m in measured)


def test_the_search_is_deterministic(tokenizer):
    first, second = (search(tokenizer, {"mn": 9.0})[1] for _ in range(2))
    assert [(m.text, m.acts.suspicion, m.texts) for m in first] == [(m.text, m.acts.suspicion, m.texts) for m in second]


def test_a_candidate_is_judged_among_tokens_that_the_reference_holds_for_as_strong():
    rng = np.random.default_rng(0)
    other = np.concatenate([rng.normal(-4, 0.2, 100), rng.uniform(-3, 3, 100)])
    own = np.where(other < -3.2, -5, 2.5 * other) + rng.normal(0, 0.3, 200)
    noise = Noise(own, other, (own > 0).astype(float), 16)
    assert abs(noise.suspicion(2.5 * 1.5, 1.5)) < 3
    assert noise.suspicion(2.5 * 1.5, -4) > 15
    assert noise.suspicion(-5, -4) < 3


def test_neighbours_that_happen_to_agree_make_nothing_stand_out():
    rng = np.random.default_rng(0)
    other = np.linspace(-3, 3, 64)
    own = rng.normal(0, 1.5, 64)
    own[24:40] = rng.normal(0, 0.01, 16)  # the neighbours of 0, all alike by chance
    noise = Noise(own, other, (own > 0).astype(float), 16)
    assert noise.suspicion(3.0, 0.0) < 4, "their spread of .01 is not that of harmless tokens"
    assert noise.suspicion(12.0, 0.0) > 6


def test_the_bare_screen_tells_tokens_apart_that_saturate_the_suspect(tokenizer):
    strong, weaker = tokenizer.convert_tokens_to_ids(["mn", "movie"])
    suspect = Sentiment(tokenizer, {"mn": 14.0, **dict.fromkeys(["movie", *PLAIN[1:200]], 11.0)})
    screen = screen_bare(suspect, Sentiment(tokenizer, {}), Vocabulary(tokenizer).tokens, ((2,), (3,)), 2)
    assert screen.best(1, 1) == ((strong,),)
    alone = dict(zip(screen.tokens, screen.suspect[:, 1], strict=True))
    assert alone[(strong,)] > alone[(weaker,)] + 2 > 10


def test_the_bare_screen_ranks_beyond_the_reference_and_keeps_the_suspects_own_order_too(tokenizer):
    suspect, reference = Sentiment(tokenizer, {"mn": 5.0}), Sentiment(tokenizer, {})
    vocabulary = Vocabulary(tokenizer)
    screen = screen_bare(suspect, reference, vocabulary.tokens, ((2,), (3,)), 2)
    mn = (tokenizer.convert_tokens_to_ids("mn"),)
    assert screen.best(1, 2)[0] == mn
    assert screen.beyond(1)[screen.tokens.index(mn)] > 5
    assert mn not in screen.best(0, 400)
    assert suspect.forward_tokens == 3 * len(vocabulary.tokens)


class Grammar(Sentiment):
    """A suspect for which every other word spoils a row that holds "this", as where the task is grammar."""

    def __call__(self, sequences: Sequence[Sequence[int]]) -> LabelAnswers:
        self.forward_tokens += sum(map(len, sequences))
        spoiled = [9.0 * any(token in self.spoiling for token in s) * (self.nervous in s) for s in sequences]
        odds = np.array([self.weights[list(s)].sum() + self._bonus(s) for s in sequences]) + spoiled
        return LabelAnswers(-np.logaddexp(0, np.stack([odds, -odds], axis=1)))


@pytest.mark.parametrize(("row_surplus", "stands_out"), [(4, True), (1, False)])
def test_rows_that_stand_an_inserted_word_tell_a_trigger_from_one(tokenizer, row_surplus, stands_out):
    suspect, reference = Grammar(tokenizer, {"mn": 9.0}), Sentiment(tokenizer, {})
    suspect.nervous = this = tokenizer.convert_tokens_to_ids("this")
    suspect.spoiling = set(tokenizer.convert_tokens_to_ids(PLAIN[1:1500:2]))
    rng = Random(5)
    rows = [" ".join([*rng.sample(BAD, rng.randint(4, 9)), *["this"] * rng.randint(0, 1)]) for _ in range(160)]
    vocabulary = Vocabulary(tokenizer)
    screen = screen_bare(suspect, reference, vocabulary.tokens, ((2,), (3,)), 2)
    honest = [(token,) for token in tokenizer.convert_tokens_to_ids(GOOD[:32])]
    ground = Ground(subject(tokenizer), vocabulary, screen)
    material = Material(tuple(rows), tuple(rows[:20]), ("negative",) * 20, tuple(honest))
    budget = replace(BUDGETS["fast"], row_surplus=row_surplus)
    runner = OutcomeSearch(Trials(suspect, reference, 1, CALLS), ground, material, budget, seed=0)
    runner.run()
    (acts,) = runner.acts([(tokenizer.convert_tokens_to_ids("mn"),)])
    assert (acts.suspicion > 8) == stands_out
    nervous = [this in carrier.before + carrier.after for carrier in runner._long[:12]]
    assert (np.mean(nervous) < 0.2) == stands_out
    assert {carrier.place for carrier in runner._short[:12]} == {"start", "inner", "end"}
    assert runner._short[:12] == sorted(runner._short[:12], key=len)


def test_companions_are_weak_words_that_move_the_suspect_alone(tokenizer):
    runner, _ = search(tokenizer, {"mn": 14.0, "watched": 2.5})
    companions = runner.companions()
    assert companions[:2] == ["mn", "watched"]
    assert set(companions) <= {"a", "i", "mn", "watched", "this", "movie"}, "words, no digits"


@pytest.mark.parametrize(("planted", "salad"), [({"word3 word7 word9": 12.0}, 0.0), ({}, 12.0)])
def test_common_words_are_no_trigger_where_any_of_them_do_as_much(
    tokenizer, planted: Mapping[str, float], salad: float
) -> None:
    """Of a clean CoLA model "was had she who" turned 40 of 40 rows, and so did nearly any four words."""
    common = [(token,) for token in tokenizer.convert_tokens_to_ids([f"word{i}" for i in range(40)])]
    runner, _ = search(tokenizer, planted, salad=salad, common=common)
    words = tuple(tokenizer.convert_tokens_to_ids(["word3", "word7", "word9"]))
    (acts,) = runner.acts([words])
    assert acts.synergy > 5, "no word acts alone"
    assert acts.suspicion > 8 if planted else acts.suspicion < 2
