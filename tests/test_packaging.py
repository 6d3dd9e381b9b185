"""What pyproject.toml says agrees with the files beside it."""

import itertools
import pathlib
import re
import runpy
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


def test_everything_is_of_one_version():
    """As `make release-check` asks, before it builds."""
    found = runpy.run_path(str(ROOT / ".ci" / "release.py"))
    assert found["version"]() == funcopt.__version__
    assert found["problems"]() == []


def test_issue_templates_are_forms():
    """Of fields that have a name of their own, and a question."""
    yaml = pytest.importorskip("yaml")
    folder = ROOT / ".github" / "ISSUE_TEMPLATE"
    forms = [path for path in sorted(folder.glob("*.yml")) if path.stem != "config"]
    assert len(forms) >= 2
    for path in forms:
        form = yaml.safe_load(path.read_text())
        assert {"name", "description"} <= form.keys(), path.name
        names = [field["id"] for field in form["body"]]
        assert len(set(names)) == len(names), path.name
        assert all(field["attributes"]["label"] for field in form["body"]), path.name


@pytest.mark.parametrize("file", ["CITATION.cff", "mkdocs.yml", "SECURITY.md"])
def test_the_repository_is_the_same_everywhere(file):
    assert PROJECT["urls"]["Homepage"] in (ROOT / file).read_text()
