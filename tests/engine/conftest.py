"""Lowered graphs are interpreted here: to compile them is a matter of `test_compiled`."""

import pytest

from funcopt.engine import _tracer


@pytest.fixture(autouse=True)
def interpreted(monkeypatch):
    monkeypatch.setenv("FUNCOPT_KERNELS", "interpreted")
    monkeypatch.delenv("FUNCOPT_ENGINE", raising=False)


@pytest.fixture
def traces(monkeypatch):
    """The tracers that are made."""
    found, known = [], _tracer.Tracer.__init__

    def made(self, *given):
        found.append(self)
        known(self, *given)

    monkeypatch.setattr(_tracer.Tracer, "__init__", made)
    return found
