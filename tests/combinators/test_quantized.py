"""Slots in 8 and 4 bits."""

import copy

import pytest
import torch

import funcopt as fo
from funcopt import optim
from funcopt.errors import HyperparameterError, LabelError

from ..frameworks import needed

FORMATS = ["8bit", "4bit", "fp8", "bf16+8", "bf16"]
BYTES = {"8bit": 1 + 4 / 256, "4bit": 0.5 + 4 / 128, "fp8": 1 + 4 / 256, "bf16+8": 3, "bf16": 2}
THEIRS = {"8bit": "AdamW8bit", "4bit": "AdamW4bit", "fp8": "AdamWFp8"}


def grads_of(w, k):
    return w.detach() + torch.randn(w.shape, generator=torch.manual_seed(k))


@pytest.mark.parametrize("form", FORMATS)
def test_state_has_as_many_bytes(form):
    params = {"w": torch.zeros(64, 256)}
    state = fo.quantized(fo.adamw(), form).init(params)
    found = sum(x.numel() * x.element_size() for x in fo.tree.leaves(state.slots))
    assert found / params["w"].numel() / 2 == BYTES[form]


@pytest.mark.parametrize("engine", ["eager", "fused"])
@pytest.mark.parametrize("form", THEIRS)
def test_steps_are_those_of_torchao(form, engine, monkeypatch):
    """Uncompiled; from the same state in each step, as a code may fall to either side."""
    theirs_of = getattr(needed("torchao").optim, THEIRS[form])
    monkeypatch.setattr(torch, "compile", lambda f, **kwargs: f)
    torch.manual_seed(0)
    start = torch.randn(64, 128)
    ours, theirs = (torch.nn.Parameter(start.clone()) for _ in range(2))
    options = {"lr": 1e-2, "weight_decay": 0.1}
    mine = optim.AdamW([ours], quantized=form, engine=engine, **options)
    other = theirs_of([theirs], **options)
    for k in range(60):
        ours.grad = theirs.grad = grads_of(start, k)
        mine.step()
        other.step()
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-6 if k == 0 else 2e-3)
        off = (ours - theirs).abs()
        assert (off > 1e-5).float().mean() < 0.02, k


@pytest.mark.parametrize("engine", ["eager", "fused"])
@pytest.mark.parametrize("form", FORMATS)
def test_it_resumes_to_the_bit(form, engine, tmp_path):
    def start():
        w = torch.nn.Parameter(torch.randn(70, 83, generator=torch.manual_seed(0)))
        return w, fo.Optimizer([("w", w)], fo.quantized(fo.adamw(0.01), form), engine=engine)

    w, opt = start()
    for k in range(6):
        if k == 3:
            torch.save({"opt": opt.state_dict(), "w": w.detach()}, tmp_path / "saved")
        w.grad = grads_of(w, k)
        opt.step()
    v, again = start()
    saved = torch.load(tmp_path / "saved", weights_only=True)
    again.load_state_dict(saved["opt"])
    v.data.copy_(saved["w"])
    for k in range(3, 6):
        v.grad = grads_of(v, k)
        again.step()
    assert torch.equal(v, w)


def test_small_chosen_and_other_slots_stay_as_they_are():
    params = {
        "small": torch.zeros(63, 64),
        "large": torch.zeros(64, 64),
        "embed": torch.zeros(64, 64),
    }
    tx = fo.quantized(fo.adamw(), slots={"exp_avg": "bf16"}, keep="embed")
    slots = tx.init(params).slots
    adam = {name: own[0] for name, own in slots.items()}
    assert adam["small"].exp_avg.dtype == adam["embed"].exp_avg_sq.dtype == torch.float32
    assert adam["large"].exp_avg.dtype == torch.bfloat16
    assert adam["large"].exp_avg_sq.codes.dtype == torch.uint8
    assert adam["large"].exp_avg_sq.book == "dynamic8unsigned"
    assert fo.quantized(fo.lion()).init(params).slots["large"][0].exp_avg.book == "dynamic8"


def test_a_slot_that_does_not_change_is_not_stored_again():
    """Where an update is skipped, codes stay what they are."""
    tx = fo.quantized(fo.skip_if(fo.adamw(0.1)), "4bit")
    w = torch.nn.Parameter(torch.randn(64, 64, generator=torch.manual_seed(0)))
    opt = fo.Optimizer([w], tx)
    w.grad = grads_of(w, 0)
    opt.step()
    before = copy.deepcopy(opt.state_dict()["state"][0])
    w.grad = torch.full_like(w, float("nan"))
    opt.step()
    after = opt.state_dict()["state"][0]
    for key in before:
        if "codes" in key or "scale" in key:
            assert torch.equal(before[key], after[key]), key


@pytest.mark.parametrize("form", FORMATS)
def test_it_learns_nearly_as_well(form):
    def loss_after(tx):
        w = torch.nn.Parameter(torch.zeros(64, 64))
        target = torch.randn(64, 64, generator=torch.manual_seed(3))
        opt = fo.Optimizer([w], tx)
        for k in range(200):
            w.grad = grads_of(w - target, k)
            opt.step()
        return (w - target).square().mean().item()

    bound = 1.7 if form == "4bit" else 1.3
    assert loss_after(fo.quantized(fo.adamw(0.02), form)) < bound * loss_after(fo.adamw(0.02))


def test_averages_are_read_in_full():
    tx = fo.quantized(fo.chain(fo.sgd(0.1), fo.ema_of_params(0.5)), "bf16+8")
    params = torch.randn(64, 64, generator=torch.manual_seed(0))
    state = tx.init(params)
    found = fo.eval_params(tx, state, params)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, params, rtol=2e-5, atol=1e-6)


def test_what_does_not_fit_is_refused():
    with pytest.raises(HyperparameterError, match="'bf16', got '3bit'"):
        fo.quantized(fo.adam(), "3bit")
    with pytest.raises(HyperparameterError, match="'fp32', got '3bit'"):
        fo.quantized(fo.adam(), slots={"exp_avg": "3bit"})
    params = {"w": torch.zeros(64, 64)}
    with pytest.raises(
        HyperparameterError, match=r"no parameter has a slot `avg`; there are \['exp"
    ):
        fo.quantized(fo.adam(), slots={"avg": "fp32"}).init(params)
    with pytest.raises(LabelError, match="fits none"):
        fo.quantized(fo.adam(), keep="embed").init(params)


@pytest.mark.parametrize(
    "tx", [fo.adamw(), fo.ademamix(), fo.adopt(), fo.adan(), fo.nadam(), fo.rmsprop(), fo.yogi()]
)
def test_every_average_of_squares_has_codes_without_a_sign(tx):
    slots = fo.quantized(tx).init(torch.zeros(64, 64)).slots
    found = {part.book for part in _books(slots)}
    assert "dynamic8unsigned" in found


def _books(slots):
    return [_Book(slots.book)] if hasattr(slots, "book") else [x for s in slots for x in _books(s)]


class _Book:
    def __init__(self, book):
        self.book = book


@pytest.mark.parametrize("engine", ["eager", "fused"])
@pytest.mark.parametrize("form", FORMATS)
def test_a_first_step_knows_that_it_is_the_first(form, engine):
    """A sum that is not set yet begins with minus zero."""
    for tx in (fo.sgd(0.1, momentum=0.9, dampening=0.5), fo.adopt(), fo.accumulate(fo.sgd(0.1), 1)):
        found = []
        for one in (tx, fo.quantized(tx, form)):
            w = torch.nn.Parameter(torch.ones(64, 64))
            opt = fo.Optimizer([w], one, engine=engine)
            w.grad = torch.full_like(w, 0.5)
            opt.step()
            found.append(w.detach())
        torch.testing.assert_close(*found, rtol=0, atol=1e-6)
