"""Public text is in the field's terms, in PyTorch's spelling."""

import pathlib

import pytest

from .words import used

ROOT = pathlib.Path(__file__).parent.parent
TEXTS = [  # a line for each place
    *sorted(ROOT.glob("*.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
]


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_words_that_are_not_used(path):
    lines = path.read_text().splitlines()
    assert not [f"line {n}: {word}" for n, line in enumerate(lines, 1) for word in used(line)]


@pytest.mark.parametrize(
    ("text", "instead"),
    [
        ("It stands still.", "keeps its value"),
        ("Synchronisation with a device", "-ization"),
        ("it is initialised", "-ize"),
        ("restored to the bit", "exactly"),
        ("a look-ahead of `sgd`, in code `anew`, [link](anew.md)", None),
    ],
)
def test_a_word_says_what_to_say(text, instead):
    assert [word.split(": ")[1] for word in used(text)] == [instead] * (instead is not None)
