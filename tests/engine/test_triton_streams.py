"""What lies on a device for many steps is sent there for each stream, and never kept of a graph."""

import pytest
import torch

from funcopt.engine.triton import _launch

META = torch.device("meta")


@pytest.fixture
def place(monkeypatch):
    """The current stream of a device, and whether work for it is captured."""
    found = {"stream": 1, "captured": False}
    monkeypatch.setattr(_launch, "_stream", lambda device: found["stream"])
    monkeypatch.setattr(_launch, "is_capturing", lambda device: found["captured"])
    return found


def test_each_stream_has_its_copy(place):
    sent = _launch.Sent([1, 2, 3])
    first = sent.on(META)
    assert sent.on(META) is first
    place["stream"] = 2
    second = sent.on(META)
    assert second is not first
    place["stream"] = 1
    assert sent.on(META) is first


def test_a_graph_takes_what_was_sent_before_it(place):
    sent = _launch.Sent([1, 2, 3])
    first = sent.on(META)
    place.update(stream=3, captured=True)
    assert sent.on(META) is first


def test_what_is_copied_within_a_graph_is_of_this_graph(place):
    sent = _launch.Sent([1, 2, 3])
    place["captured"] = True
    assert sent.on(META) is not sent.on(META)
    place["captured"] = False
    assert sent.on(META) is sent.on(META)


def test_the_values_arrive():
    sent = _launch.Sent(range(5))
    assert sent.on(torch.device("cpu")).tolist() == [0, 1, 2, 3, 4]
    assert isinstance(sent.on(torch.device("cpu")), torch.Tensor)
