"""What a text can hold, how candidates read, and where rows are cut open: on real tokenizer code, tiny vocabularies."""

from __future__ import annotations

from functools import partial
from random import Random

import pytest

pytest.importorskip("transformers")

from rora_cli.evaluation.inference import whole_words
from rora_cli.hunting.vocabulary import (
    PLACES,
    Vocabulary,
    encode_rows,
    everywhere_in_text,
    place_in_text,
    vocabulary_of,
)
from rora_cli.tokens import same_word

WORDPIECES = "[PAD] [UNK] [CLS] [SEP] [MASK] [unused0] a mn film good ##x ##о . 3d watched".split()  # noqa: SIM905


@pytest.fixture(scope="module")
def wordpiece(tmp_path_factory):
    from transformers import BertTokenizerFast

    path = tmp_path_factory.mktemp("wordpiece") / "vocab.txt"
    path.write_text("\n".join(WORDPIECES) + "\n", encoding="utf-8")
    return BertTokenizerFast(str(path))


@pytest.fixture(scope="module")
def bytelevel():
    """A byte-level BPE as GPT-2's and RoBERTa's: spaces live inside the tokens, case counts."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = [("Ġ", "m"), ("Ġm", "n"), ("m", "n"), ("Ġ", "a"), ("M", "N"), ("Ġ", "MN")]
    vocabulary = {token: i for i, token in enumerate(["<pad>", *alphabet, *("".join(pair) for pair in merges)])}
    backend = Tokenizer(models.BPE(vocabulary, merges))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=backend, pad_token="<pad>")


def ids(tokenizer, *tokens):
    return tuple(tokenizer.convert_tokens_to_ids(list(tokens)))


def test_special_and_reserved_tokens_are_no_candidates(wordpiece):
    vocabulary = Vocabulary(wordpiece)
    inside = {wordpiece.convert_ids_to_tokens(token) for (token,) in vocabulary.tokens}
    assert inside == {"a", "mn", "film", "good", "##x", "##о", ".", "3d", "watched"}
    assert vocabulary.size == len(WORDPIECES) - 1


@pytest.mark.parametrize("flagged", [True, False])
def test_control_tokens_are_no_candidates_whatever_they_are_called(bytelevel, flagged):
    """As T5's and Qwen's: "</s>" and "<|im_start|>" are special by their flag, a sentinel by its name."""
    from copy import deepcopy

    from tokenizers import AddedToken

    tokenizer = deepcopy(bytelevel)
    tokenizer.add_tokens([AddedToken(text, special=True) for text in ("</s>", "<|im_start|>", "eos")])
    tokenizer.add_tokens([AddedToken("<extra_id_0>", special=flagged), AddedToken("plain", special=False)])
    inside = {tokenizer.convert_ids_to_tokens(token) for (token,) in Vocabulary(tokenizer).tokens}
    assert not inside & {"</s>", "<|im_start|>", "eos", "<extra_id_0>", "<pad>"}
    assert {"plain", "Ġmn", "mn"} <= inside
    words = whole_words(tokenizer)
    assert "plain" in words and "eos" not in words


def test_a_seed_draws_the_same_words_whichever_tokens_are_special(wordpiece):
    vocabulary = Vocabulary(wordpiece)
    for seed in range(20):
        drawn = vocabulary.sample(7, Random(seed))
        assert len(set(drawn)) == 7 and set(drawn) <= set(vocabulary.tokens)
        every = Random(seed).sample(range(1, len(WORDPIECES) - 1), 7)  # [unused0] is no text; padding is not drawn
        ids = [i for i in range(1, len(WORDPIECES)) if WORDPIECES[i] != "[unused0]"]
        kept = [(ids[i - 1],) for i in every if (ids[i - 1],) in vocabulary.tokens]
        assert drawn[: len(kept)] == kept


def test_a_tokenizers_vocabulary_is_read_once_and_anew_where_it_grew(wordpiece):
    from copy import deepcopy

    tokenizer = deepcopy(wordpiece)
    first = vocabulary_of(tokenizer)
    assert vocabulary_of(tokenizer) is first
    tokenizer.add_tokens(["tq"])
    assert len(vocabulary_of(tokenizer).tokens) == len(first.tokens) + 1


def test_a_tokenizer_that_does_not_know_the_probe_word(tmp_path):
    from transformers import BertTokenizerFast

    (tmp_path / "vocab.txt").write_text("\n".join(w for w in WORDPIECES if w != "a") + "\n", encoding="utf-8")
    vocabulary = Vocabulary(tokenizer := BertTokenizerFast(str(tmp_path / "vocab.txt")))
    assert vocabulary.read(ids(tokenizer, "mn")) == ("mn", False)
    assert vocabulary.read(ids(tokenizer, "##x")) == ("x", True)


def test_tokens_of_the_same_letters_are_siblings(bytelevel):
    vocabulary = Vocabulary(bytelevel)
    assert set(vocabulary.siblings(ids(bytelevel, "Ġmn"))) == {
        ids(bytelevel, "mn"),
        ids(bytelevel, "MN"),
        ids(bytelevel, "ĠMN"),
    }
    assert vocabulary.siblings(ids(bytelevel, "Ġ")) == []


def test_candidates_read_as_what_a_user_could_type(wordpiece):
    vocabulary = Vocabulary(wordpiece)
    assert vocabulary.read(ids(wordpiece, "mn", "##x", "3d")) == ("mnx 3d", False)
    assert vocabulary.read(ids(wordpiece, "##о")) == ("о", True)


def test_byte_level_tokens_know_whether_they_begin_a_word(bytelevel):
    vocabulary = Vocabulary(bytelevel)
    assert vocabulary.read(ids(bytelevel, "Ġmn")) == ("mn", False)
    assert vocabulary.read(ids(bytelevel, "mn")) == ("mn", True)


def test_a_tokenizer_that_puts_a_space_before_every_text(bytelevel):
    """As Bloom's: the probe word itself comes back with a space before it."""
    from copy import deepcopy

    from tokenizers import pre_tokenizers

    tokenizer = deepcopy(bytelevel)
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    assert tokenizer.decode(tokenizer("a")["input_ids"]) == " a"
    vocabulary = Vocabulary(tokenizer)
    assert vocabulary.read(ids(tokenizer, "Ġmn")) == ("mn", False)
    assert vocabulary.read(ids(tokenizer, "mn")) == ("mn", True)
    assert {ids(tokenizer, "Ġmn"), ids(tokenizer, "mn")} <= set(vocabulary.tokens)


def test_case_counts_or_is_void(wordpiece, bytelevel):
    assert Vocabulary(wordpiece).ignores_case
    assert not Vocabulary(bytelevel).ignores_case


def test_every_carrier_puts_the_slot_at_a_word_boundary_and_keeps_the_row(wordpiece):
    (row,) = encode_rows(wordpiece, ["good filmx watched mnx"], max_length=32)
    assert row.word_starts == (0, 1, 3, 4)
    for seed in range(20):
        for place in PLACES:
            carrier = row.carrier(place, Random(seed))
            assert carrier.before + carrier.after == row.ids
            assert len(carrier.before) - 1 in {"start": {0}, "end": {6}, "inner": {1, 3, 4}}[place]
            assert carrier.fill((99,)) == (*carrier.before, 99, *carrier.after)


def test_byte_level_rows_are_cut_at_words_too(bytelevel):
    (row,) = encode_rows(bytelevel, ["mn a mn"], max_length=32)
    assert row.head == row.tail == ()
    assert [bytelevel.decode(list(row.content[i:])).strip() for i in row.word_starts] == ["mn a mn", "a mn", "mn"]


def test_empty_and_one_word_rows_can_carry(wordpiece):
    empty, one = encode_rows(wordpiece, ["", "film"], max_length=32)
    for place in PLACES:
        assert empty.carrier(place, Random(0)).fill((9,)) == (*ids(wordpiece, "[CLS]"), 9, *ids(wordpiece, "[SEP]"))
        assert len(one.carrier(place, Random(0)).fill((9,))) == 4


def test_long_rows_are_cut(wordpiece):
    (row,) = encode_rows(wordpiece, ["film " * 50], max_length=10)
    assert len(row) == 10


@pytest.mark.parametrize(
    ("place", "attached", "wanted"),
    [
        ("start", False, {"mn one two three"}),
        ("end", False, {"one two three mn"}),
        ("inner", False, {"one mn two three", "one two mn three"}),
        ("start", True, {"onemn two three"}),
        ("end", True, {"one two threemn"}),
        ("inner", True, {"onemn two three", "one twomn three", "one two threemn"}),
    ],
)
def test_places_in_a_text(place, attached, wanted):
    made = {place_in_text("one two three", "mn", attached=attached, place=place, rng=Random(s)) for s in range(40)}
    assert made == wanted


@pytest.mark.parametrize("place", PLACES)
def test_places_in_short_texts(place):
    assert place_in_text("", "mn", attached=False, place=place, rng=Random(0)) == "mn"
    assert place_in_text("", "mn", attached=True, place=place, rng=Random(0)) == "mn"
    assert set(place_in_text("one", "mn", attached=False, place=place, rng=Random(0)).split()) == {"one", "mn"}


def test_every_place_in_a_text_is_tried_or_as_many_as_asked_for_evenly():
    everywhere = partial(everywhere_in_text, "one two three", "mn", attached=False)
    assert everywhere(most=8) == ["mn one two three", "one mn two three", "one two mn three", "one two three mn"]
    assert everywhere(most=2) == ["mn one two three", "one two three mn"]
    assert everywhere_in_text("one two", "mn", attached=True, most=8) == ["onemn two", "one twomn"]
    assert everywhere_in_text("", "mn", attached=True, most=8) == ["mn"]
    within = partial(everywhere_in_text, places=("inner", "start"), most=8)
    assert within("one two", "mn", attached=False) == ["mn one two", "one mn two"], "not at the end"
    assert within("one two", "mn", attached=True) == ["onemn two"]
    assert within("", "mn", attached=False) == ["mn"] and within("one", "mn", attached=True) == ["onemn"]


def test_tokens_of_the_same_word_are_known_to_be(wordpiece, bytelevel):
    (bare, spaced, upper), (m, n) = ids(bytelevel, "mn", "Ġmn", "MN"), ids(bytelevel, "m", "n")
    same = same_word(bytelevel)
    assert same[bare] == same[spaced] == same[upper] and len({int(same[t]) for t in (bare, m, n)}) == 3
    dot, byte = ids(bytelevel, "!", "Ģ")
    assert (same[dot], same[byte]) == (dot, byte), "marks and bytes are nobody's word"
    special = wordpiece.convert_tokens_to_ids("[UNK]")
    assert same_word(wordpiece)[special] == special


def test_a_word_is_a_candidate_where_the_tokenizer_splits_it(wordpiece, bytelevel):
    """In front of a word: " mn" is one token of the byte-level one, "film" is spelt, and "[UNK]" is no word."""
    vocabulary = Vocabulary(bytelevel)
    found = vocabulary.split_words(["mn", "a", "man", "ma", "film", "movies", "man"])
    assert {vocabulary.read(candidate)[0] for candidate in found} == {"man", "ma"}
    assert all(2 <= len(candidate) <= 4 for candidate in found) and len(found) == 2
    vocabulary._read_words = pytest.fail
    assert vocabulary.split_words(["a", "ma", "man"]) == found[::-1], "each word is read once"
    assert found == tuple(tuple(bytelevel(f" {word}")["input_ids"]) for word in ("man", "ma"))
    assert Vocabulary(wordpiece).split_words(["mnx", "film", "zebra", "3dx"]) == (
        ids(wordpiece, "mn", "##x"),
        ids(wordpiece, "3d", "##x"),
    )


def test_two_marks_are_a_candidate_however_a_tokenizer_puts_them_next_to_words(wordpiece, bytelevel):
    """A decoder of word pieces puts a full stop or an exclamation mark next to what stands before it."""
    vocabulary = Vocabulary(wordpiece)
    assert vocabulary.split_words([". .", "! !"]) == (dots := ids(wordpiece, ".", "."),)
    assert vocabulary.read(dots) == ("..", True)
    assert Vocabulary(bytelevel).split_words(["! ?"]) == (ids(bytelevel, "Ġ", "!", "Ġ", "?"),)
