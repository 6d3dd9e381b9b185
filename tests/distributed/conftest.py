"""The processes of these tests."""

import pytest

from .ranks import Ranks


@pytest.fixture(scope="session")
def two(tmp_path_factory):
    """Runs a function in two processes that form a group, and returns what they return."""
    with Ranks(2, tmp_path_factory.mktemp("ranks")) as ranks:
        yield ranks


@pytest.fixture(scope="session")
def four(tmp_path_factory):
    """The same in four processes, whose groups may cross."""
    with Ranks(4, tmp_path_factory.mktemp("ranks")) as ranks:
        yield ranks
