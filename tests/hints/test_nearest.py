"""How far two names are apart, and which one was meant."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from funcopt._hints.nearest import edits, nearest, one_edit_away

WORDS = st.text("abc", max_size=5)
FIELDS = ["lr", "betas", "eps", "weight_decay", "warmup_steps", "state_dtype"]


@pytest.mark.parametrize(
    ("a", "b", "count"),
    [
        ("", "", 0),
        ("lr", "lr", 0),
        ("lrr", "lr", 1),  # one too many
        ("l", "lr", 1),  # one too few
        ("lx", "lr", 1),  # a wrong one
        ("rl", "lr", 1),  # two swapped
        ("weight_deacy", "weight_decay", 1),
        ("wieght_deacy", "weight_decay", 2),
        ("kitten", "sitting", 3),
        ("ca", "abc", 3),  # what was swapped is not edited again
    ],
)
def test_edits_are_counted(a, b, count):
    assert edits(a, b) == count


def all_of_one_edit(word):
    letters = "abc"
    for i in range(len(word) + 1):
        for x in letters:
            yield word[:i] + x + word[i:]
    for i in range(len(word)):
        yield word[:i] + word[i + 1 :]
        yield from (word[:i] + x + word[i + 1 :] for x in letters)
        yield word[:i] + word[i : i + 2][::-1] + word[i + 2 :]


@given(WORDS, WORDS)
def test_one_edit_is_an_insertion_a_deletion_another_letter_or_a_swap(a, b):
    assert (edits(a, b) <= 1) == (b in {a, *all_of_one_edit(a)})
    assert edits(a, b) == edits(b, a)


@given(WORDS, WORDS)
def test_two_words_are_no_farther_apart_than_the_longer_is_long(a, b):
    assert abs(len(a) - len(b)) <= edits(a, b) <= max(len(a), len(b))


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("weight_deacy", "weight_decay"),
        ("wieght_deacy", "weight_decay"),
        ("Weight_Decay", "weight_decay"),
        ("beta", "betas"),
        ("lrr", "lr"),
        ("epss", "eps"),
        ("warmup", "warmup_steps"),  # the beginning
        ("state", "state_dtype"),
        ("b1", None),
        ("momentum", None),
        ("", None),
        ("w", None),  # of too many the beginning
    ],
)
def test_the_nearest_name_is_found_if_it_is_near(name, meant):
    assert nearest(name, FIELDS) == meant


def test_among_no_names_none_is_near():
    assert nearest("lr", []) is None


def test_short_names_are_not_near_by_chance():
    assert one_edit_away("lrr", "lr")
    assert one_edit_away("rl", "lr")
    assert not one_edit_away("lr", "lr")
    pairs = itertools.product("abklrz", repeat=2)
    assert {a + b for a, b in pairs if one_edit_away(a + b, "lr")} == {"rl"}
    assert not one_edit_away("k", "lr")
    assert not one_edit_away("rs", "r")
    assert one_edit_away("epx", "eps")
