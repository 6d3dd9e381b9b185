"""Contract 54: the Trainer of Hugging Face."""

import copy

import pytest
import torch

import funcopt as fo
from funcopt import optim

from . import Net, Points, gap, needed

transformers = needed("transformers")
needed("accelerate")

Clipped = optim.optimizer_class(
    "Clipped",
    lambda lr=0.05, weight_decay=0.1, max_norm=0.1: fo.chain(
        fo.clip_by_global_norm(max_norm), fo.adamw(lr, weight_decay=weight_decay)
    ),
)

CLASSES = {
    "AdamW": (optim.AdamW, {"lr": 0.05, "betas": (0.8, 0.99)}),
    "SGD": (optim.SGD, {"lr": 0.05, "momentum": 0.9}),
    "chain": (Clipped, {"lr": 0.05}),
}
every_class = pytest.mark.parametrize(("cls", "options"), CLASSES.values(), ids=CLASSES)


def trainer(cls, options, folder, epochs=2, **more):
    arguments = transformers.TrainingArguments(
        output_dir=str(folder),
        use_cpu=True,
        num_train_epochs=epochs,
        per_device_train_batch_size=4,
        weight_decay=0.1,
        report_to=[],
        disable_tqdm=True,
        logging_strategy="no",
        **{
            "save_strategy": "no",
            "max_grad_norm": 0.0,
            "lr_scheduler_type": "constant",
            **more,
        },
    )
    made = transformers.Trainer(
        model=Net(),
        args=arguments,
        train_dataset=Points(),
        eval_dataset=Points(),
        optimizer_cls_and_kwargs=(cls, options),
    )
    made.remove_callback(transformers.PrinterCallback)
    return made


@every_class
def test_two_groups_with_and_without_decay_are_trained(cls, options, tmp_path):
    done = trainer(cls, options, tmp_path)
    done.train()
    decayed, others = done.optimizer.param_groups
    assert (decayed["weight_decay"], others["weight_decay"]) == (0.1, 0.0)
    assert (len(decayed["params"]), len(others["params"])) == (2, 4)
    assert decayed["lr"] == 0.05
    assert gap(done.model, Net()) > 0.01


@pytest.mark.parametrize(
    ("cls", "theirs", "options", "max_norm"),
    [
        (optim.AdamW, torch.optim.AdamW, {"lr": 0.05}, 0.0),
        (optim.SGD, torch.optim.SGD, {"lr": 0.05, "momentum": 0.9}, 0.0),
        (Clipped, torch.optim.AdamW, {"lr": 0.05}, 0.1),
    ],
    ids=["AdamW", "SGD", "a norm that spans both groups"],
)
def test_training_is_that_with_torchs(cls, theirs, options, max_norm, tmp_path):
    mine = trainer(cls, options, tmp_path)
    other = trainer(theirs, options, tmp_path, max_grad_norm=max_norm)
    mine.train()
    other.train()
    assert gap(mine.model, other.model) <= 1e-12


@every_class
def test_resuming_is_to_the_bit_as_if_never_stopped(cls, options, tmp_path):
    more = {"epochs": 3, "save_strategy": "epoch", "lr_scheduler_type": "cosine"}
    whole = trainer(cls, options, tmp_path, **more)
    whole.train()
    rest = trainer(cls, options, tmp_path, **more)
    rest.train(resume_from_checkpoint=str(tmp_path / "checkpoint-4"))
    assert gap(rest.model, Net()) > 0.01
    assert gap(rest.model, whole.model) == 0.0


def test_averages_are_evaluated_and_saved_and_the_parameters_are_trained(tmp_path):
    """The Trainer calls `eval` and `train`, and saves in between."""
    more = {"epochs": 3, "save_strategy": "epoch", "eval_strategy": "epoch"}
    given = optim.AdamWScheduleFree, {"lr": 0.05}, tmp_path
    whole = trainer(*given, **more)
    whole.train()
    rest = trainer(*given, **more)
    rest.train(resume_from_checkpoint=str(tmp_path / "checkpoint-4"))
    assert not whole.optimizer.param_groups[0]["train_mode"]
    assert gap(rest.model, whole.model) == 0.0
    averages = copy.deepcopy(whole.model)
    whole.optimizer.train()
    rest.optimizer.train()
    assert gap(rest.model, whole.model) == 0.0
    assert gap(whole.model, averages) > 0.0
    plain = trainer(*given, epochs=3)
    plain.train()
    assert gap(plain.model, whole.model) == 0.0


class InBackward(optim.AdamW):
    """AdamW that steps in `backward`."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.step_in_backward()


def test_steps_in_backward_are_those_of_the_usual_loop(tmp_path):
    """Also where it is resumed."""
    more = {"epochs": 3, "save_strategy": "epoch", "lr_scheduler_type": "cosine"}
    mine = trainer(InBackward, {"lr": 0.05}, tmp_path, **more)
    other = trainer(optim.AdamW, {"lr": 0.05}, tmp_path, **more)
    rest = trainer(InBackward, {"lr": 0.05}, tmp_path, **more)
    mine.train()
    rest.train(resume_from_checkpoint=str(tmp_path / "checkpoint-4"))
    other.train()
    assert gap(mine.model, other.model) == 0.0
    assert gap(rest.model, other.model) == 0.0
