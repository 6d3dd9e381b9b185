"""Lowered graphs are interpreted here: to compile them is a matter of `test_compiled`."""

import pytest


@pytest.fixture(autouse=True)
def interpreted(monkeypatch):
    monkeypatch.setenv("FUNCOPT_KERNELS", "interpreted")
    monkeypatch.delenv("FUNCOPT_ENGINE", raising=False)
