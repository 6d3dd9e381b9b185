"""A step that is captured in a CUDA graph has its step counts on the device."""

import pytest
import torch

import funcopt as fo
from funcopt.errors import ModeError
from funcopt.optim import _capture


def optimizer(tx, capturable, devices=("meta",)):
    params = [torch.nn.Parameter(torch.zeros(3, device=device)) for device in devices]
    opt = fo.Optimizer(params, tx, capturable=capturable)

    def step():
        for p in params:
            p.grad = torch.empty_like(p)
        opt.step()

    step()
    return opt, step


@pytest.mark.parametrize("tx", [fo.adamw(), fo.sgd(fo.linear_schedule(0.1, 0.0, 10))], ids=str)
def test_counts_on_the_host_are_refused(tx, monkeypatch):
    opt, step = optimizer(tx, capturable=False)
    before = opt.state_dict()["state"][0]["step"].clone()
    monkeypatch.setattr(_capture, "is_capturing", lambda device: device.type == "meta")
    with pytest.raises(ModeError, match=r"`Optimizer`: `step` is captured .* `capturable=True`"):
        step()
    assert torch.equal(opt.state_dict()["state"][0]["step"], before)
    monkeypatch.undo()
    step()


def test_counts_on_the_device_may_be_captured(monkeypatch):
    _, step = optimizer(fo.adamw(), capturable=True)
    monkeypatch.setattr(_capture, "is_capturing", lambda device: True)
    step()


def test_a_parameter_on_the_cpu_beside_hides_nothing(monkeypatch):
    _, step = optimizer(fo.sgd(0.1, momentum=0.9), False, devices=("cpu", "meta"))
    monkeypatch.setattr(_capture, "is_capturing", lambda device: device.type == "meta")
    with pytest.raises(ModeError, match="is captured"):
        step()


def test_nothing_is_captured_on_a_cpu(monkeypatch):
    assert not _capture.is_capturing(torch.device("cpu"))


@pytest.mark.parametrize("tx", [fo.accumulate(fo.sgd(0.1), 2), fo.schedule_free_sgd(0.1)], ids=str)
def test_so_are_shared_scalars(tx, monkeypatch):
    """They begin there; those of a state that was put together otherwise are refused."""
    opt, step = optimizer(tx, capturable=True)
    monkeypatch.setattr(_capture, "is_capturing", lambda device: device.type == "meta")
    step()
    own = next(iter(opt.state.values()))
    key = "micro_step" if "micro_step" in own else "lr_max"
    own[key] = torch.zeros((), dtype=own[key].dtype)
    with pytest.raises(ModeError, match="counts are on the host"):
        step()
