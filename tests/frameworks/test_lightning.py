"""Contract 52: Lightning."""

import csv
import logging

import pytest
import torch

import funcopt as fo
from funcopt import optim

from . import Net, batches, gap, needed

lightning = needed("lightning.pytorch")
callbacks = needed("lightning.pytorch.callbacks")
loggers = needed("lightning.pytorch.loggers")

pytestmark = [
    pytest.mark.filterwarnings("ignore:The '[a-z_]+' does not have many workers"),
    pytest.mark.filterwarnings("ignore:The number of training batches"),
    pytest.mark.filterwarnings("ignore:.*isinstance.treespec, LeafSpec.* is deprecated"),
]
logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)


def clipped(params, lr=0.05):
    return fo.Optimizer(params, fo.chain(fo.clip_by_global_norm(0.1), fo.adamw(lr)))


def adamw(params):
    return optim.AdamW(params, lr=0.05)


def sgd(params):
    return optim.SGD(params, lr=0.05, momentum=0.9)


every_optimizer = pytest.mark.parametrize("make", [adamw, sgd, clipped])


class Module(lightning.LightningModule):
    """A model with an optimizer and a scheduler that goes by steps."""

    def __init__(self, make):
        super().__init__()
        self.net, self.make = Net(), make

    def training_step(self, batch, index):
        return self.net(**batch)["loss"]

    def configure_optimizers(self):
        opt = self.make(self.net.parameters())
        cycle = torch.optim.lr_scheduler.OneCycleLR(opt, 0.1, total_steps=40)
        return {"optimizer": opt, "lr_scheduler": {"scheduler": cycle, "interval": "step"}}


def fit(module, folder, epochs=2, resume=None, **more):
    trainer = lightning.Trainer(
        accelerator="cpu",
        devices=1,
        max_epochs=epochs,
        default_root_dir=folder,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        enable_checkpointing=False,
        **{"logger": False, **more},
    )
    trainer.fit(module, batches(), ckpt_path=resume)
    return trainer


@pytest.mark.parametrize(
    ("make", "theirs", "clips"),
    [
        (adamw, lambda ps: torch.optim.AdamW(ps, lr=0.05), None),
        (sgd, lambda ps: torch.optim.SGD(ps, lr=0.05, momentum=0.9), None),
        (clipped, lambda ps: torch.optim.AdamW(ps, lr=0.05), 0.1),
    ],
    ids=["AdamW", "SGD", "chain"],
)
@pytest.mark.parametrize("every", [1, 2])
def test_fit_does_what_it_does_with_torchs(make, theirs, clips, every, tmp_path):
    """With clipping inside of the closure, and accumulated gradients."""
    mine, other = Module(make), Module(theirs)
    fit(mine, tmp_path, accumulate_grad_batches=every)
    fit(other, tmp_path, accumulate_grad_batches=every, gradient_clip_val=clips)
    assert gap(mine, Module(make)) > 0.01
    assert gap(mine, other) <= 1e-12


@every_optimizer
def test_lightnings_own_clipping_comes_before_the_step(make, tmp_path):
    mine, other = Module(make), Module(make)
    fit(mine, tmp_path, gradient_clip_val=1e9)
    fit(other, tmp_path)
    assert gap(mine, other) == 0.0


@every_optimizer
def test_resuming_is_to_the_bit_as_if_never_stopped(make, tmp_path):
    whole = Module(make)
    fit(whole, tmp_path, epochs=4)
    half = Module(make)
    trainer = fit(half, tmp_path, epochs=2)
    trainer.save_checkpoint(tmp_path / "half.ckpt")
    rest = Module(make)
    fit(rest, tmp_path, epochs=4, resume=tmp_path / "half.ckpt")
    assert gap(half, whole) > 0
    assert gap(rest, whole) == 0.0


@every_optimizer
def test_the_learning_rate_monitor_sees_rates_and_momenta(make, tmp_path):
    monitor = callbacks.LearningRateMonitor(logging_interval="step", log_momentum=True)
    logger = loggers.CSVLogger(tmp_path)
    module = Module(make)
    fit(module, tmp_path, logger=logger, callbacks=[monitor], log_every_n_steps=1)
    opt = make(Net().parameters())
    cycle = torch.optim.lr_scheduler.OneCycleLR(opt, 0.1, total_steps=40)
    expected = []
    for _ in range(8):
        group = opt.param_groups[0]
        expected.append((group["lr"], group.get("momentum", group.get("betas", [0])[0])))
        opt.step()
        cycle.step()
    name = f"lr-{type(opt).__name__}"
    with open(f"{logger.log_dir}/metrics.csv", encoding="utf-8") as file:
        rows = [(float(r[name]), float(r[f"{name}-momentum"])) for r in csv.DictReader(file)]
    assert len(rows) == len(expected)
    assert all(row == pytest.approx(pair) for row, pair in zip(rows, expected, strict=True))


class TwoPlayers(lightning.LightningModule):
    """Two optimizers that take turns."""

    def __init__(self, make):
        super().__init__()
        self.automatic_optimization = False
        self.nets, self.make = torch.nn.ModuleList([Net(), Net()]), make

    def training_step(self, batch, index):
        for net, opt in zip(self.nets, self.optimizers(), strict=True):
            self.toggle_optimizer(opt)
            opt.zero_grad()
            self.manual_backward(sum(each(**batch)["loss"] for each in self.nets))
            opt.step()
            self.untoggle_optimizer(opt)
            assert net is not None

    def configure_optimizers(self):
        return [self.make(net.parameters()) for net in self.nets]


@every_optimizer
def test_optimizers_that_take_turns_leave_each_other_alone(make, tmp_path):
    both, one = TwoPlayers(make), Module(make)
    one.configure_optimizers = lambda: make(one.net.parameters())
    fit(both, tmp_path)
    fit(one, tmp_path)
    assert gap(both.nets[0], one.net) == 0.0
    assert gap(both.nets[1], one.net) == 0.0


class ByHand(Module):
    """Manual optimization: the step is given the closure, and the scheduler is stepped by hand."""

    def __init__(self, make):
        super().__init__(make)
        self.automatic_optimization = False

    def training_step(self, batch, index):
        opt = self.optimizers()

        def closure():
            opt.zero_grad()
            loss = self.net(**batch)["loss"]
            self.manual_backward(loss)
            return loss

        opt.step(closure=closure)
        self.lr_schedulers().step()


@every_optimizer
def test_optimizing_by_hand_is_what_lightning_does_itself(make, tmp_path):
    by_hand, itself = ByHand(make), Module(make)
    fit(by_hand, tmp_path)
    fit(itself, tmp_path)
    assert gap(by_hand, Module(make)) > 0.01
    assert gap(by_hand, itself) == 0.0


def test_by_hand_a_closure_may_be_called_twice(tmp_path):
    sharp = ByHand(lambda ps: fo.Optimizer(ps, fo.sam(fo.sgd(0.05, momentum=0.9), rho=1e-9)))
    plain = ByHand(sgd)
    fit(sharp, tmp_path)
    fit(plain, tmp_path)
    assert 0.0 < gap(sharp, plain) < 1e-6


def in_backward(params):
    opt = adamw(params)
    opt.step_in_backward()
    return opt


def test_steps_in_backward_are_those_of_the_usual_loop(tmp_path):
    """Lightning calls `backward` in the closure of `step`; also where it is resumed."""
    mine, other, rest = Module(in_backward), Module(adamw), Module(in_backward)
    trainer = fit(mine, tmp_path)
    assert all(p.grad is None for p in mine.parameters())
    fit(other, tmp_path)
    assert gap(mine, other) == 0.0
    trainer.save_checkpoint(tmp_path / "half.ckpt")
    fit(rest, tmp_path, epochs=4, resume=tmp_path / "half.ckpt")
    whole = Module(adamw)
    fit(whole, tmp_path, epochs=4)
    assert gap(rest, whole) == 0.0
