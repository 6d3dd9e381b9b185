"""What pyproject.toml says agrees with the files beside it."""

import itertools
import pathlib
import re
import tomllib

import pytest

import funcopt

ROOT = pathlib.Path(__file__).parent.parent
FACTS = tomllib.loads((ROOT / "pyproject.toml").read_text())
PROJECT = FACTS["project"]
ASKED_FOR = set(
    itertools.chain(
        PROJECT["dependencies"],
        *PROJECT["optional-dependencies"].values(),
        *FACTS["dependency-groups"].values(),
    )
)


@pytest.mark.parametrize("requirement", sorted(ASKED_FOR))
def test_every_requirement_has_a_version_that_was_tested(requirement):
    name = re.match(r"[\w-]+", requirement)[0]
    assert re.search(rf"^{name}==", (ROOT / "constraints.txt").read_text(), re.MULTILINE)


@pytest.mark.parametrize("requirement", PROJECT["dependencies"])
def test_every_dependency_says_its_oldest_version(requirement):
    """`make tests-lowest` takes it from there."""
    assert re.fullmatch(r"\w+>=[\d.]+", requirement)


def test_the_citation_is_of_this_version():
    citation = (ROOT / "CITATION.cff").read_text()
    assert f"\nversion: {funcopt.__version__}\n" in citation
    assert f"\nlicense: {PROJECT['license']}\n" in citation


@pytest.mark.parametrize("file", ["CITATION.cff", "mkdocs.yml"])
def test_the_repository_is_the_same_everywhere(file):
    assert PROJECT["urls"]["Homepage"] in (ROOT / file).read_text()
