"""Public text is in the field's terms, in PyTorch's spelling."""

import pathlib
import re
import tokenize

import pytest

from .words import used

ROOT = pathlib.Path(__file__).parent.parent
PACKAGES = [
    *("optim", "training", "sweeps", "meta", "testing", "engine", "cli"),
    *("_core", "_numerics", "_hints"),
    *("transforms", "aliases", "schedules", "combinators"),
]
TEXTS = [  # a line for each place
    *sorted(ROOT.glob("*.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
    *(path for place in PACKAGES for path in sorted((ROOT / "funcopt" / place).rglob("*.py"))),
    *(ROOT / "funcopt" / f"{name}.py" for name in ("__init__", "errors", "tree", "typing")),
    *sorted((ROOT / "examples").glob("*.py")),
]


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_words_that_are_not_used(path):
    lines = texts(path) if path.suffix == ".py" else path.read_text().splitlines()
    assert not [f"line {n}: {word}" for n, line in enumerate(lines, 1) for word in used(line)]


def texts(path):
    """The strings and comments of each line: names in code are no public text."""
    kinds = {tokenize.STRING, tokenize.COMMENT, getattr(tokenize, "FSTRING_MIDDLE", None)}
    with tokenize.open(path) as file:
        tokens = list(tokenize.generate_tokens(file.readline))
    lines = [""] * tokens[-1].start[0]
    for token in tokens:
        if token.type in kinds:
            text = re.sub(r"\{[^{}\n]*\}", " ", token.string)
            for n, part in enumerate(text.splitlines(), token.start[0] - 1):
                lines[n] += f" {part}"
    return lines


def test_of_code_strings_and_comments_are_read(tmp_path):
    path = tmp_path / "code.py"
    path.write_text('anew = f"{anew} besides"  # alike\n"""One.\n\nDear.\n"""\n')
    found = [(n, word) for n, line in enumerate(texts(path), 1) for word in used(line)]
    assert [(n, word[:6]) for n, word in found] == [(1, "'besid"), (1, "'alike"), (4, "'Dear'")]


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
