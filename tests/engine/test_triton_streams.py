"""What lies on a device for many steps is sent there for each stream, and never kept of a graph."""

import pytest
import torch

from funcopt.engine.triton import _launch, _pinned

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


# Memory that replays copy from again.


@pytest.fixture
def reserve(monkeypatch):
    """A reserve, and how much memory has been allocated for it."""
    found = []

    def allocated(numbers):
        found.append(numbers)
        return torch.zeros(numbers, dtype=torch.int64)

    monkeypatch.setattr(_pinned, "allocated", allocated)
    monkeypatch.setattr(_pinned, "LEAST", 8)
    return _pinned.Reserve(), found


def test_nothing_is_allocated_within_a_capture(reserve):
    made, allocated = reserve
    made.make_room(8)
    taken = [made.take(torch.tensor([k, k + 1])) for k in range(4)]
    assert allocated == [8]
    assert [x.tolist() for x in taken] == [[0, 1], [1, 2], [2, 3], [3, 4]]


def test_what_was_taken_is_not_used_again(reserve):
    made, allocated = reserve
    made.make_room(4)
    first = made.take(torch.tensor([1, 2, 3, 4, 5]))
    made.make_room(4)
    second = made.take(torch.tensor([6, 7, 8, 9]))
    assert allocated == [8, 8]
    assert first.tolist() == [1, 2, 3, 4, 5]
    assert second.tolist() == [6, 7, 8, 9]


def test_without_a_step_before_there_is_room_all_the_same(reserve):
    made, allocated = reserve
    assert made.take(torch.tensor([1, 2, 3])).tolist() == [1, 2, 3]
    assert allocated == [3]


@pytest.mark.parametrize("captured", [False, True])
def test_a_step_makes_room_for_captures_after_it(captured, monkeypatch, reserve):
    made, allocated = reserve
    monkeypatch.setattr(_pinned, "_reserve", made)
    monkeypatch.setattr(_pinned, "is_capturing", lambda device: captured)
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda x: x)
    assert _pinned.pinned(torch.tensor([1, 2]), META).tolist() == [1, 2]
    assert allocated == ([2] if captured else [32])
