"""`log_to` with the loggers of frameworks, as they are installed."""

import csv
import json

import pytest
import torch

from funcopt import optim

from . import Net, batches, needed

KEYS = {"lr", "grad_norm", "update_norm", "param_norm", "clip_factor"}


def adamw(params):
    return optim.AdamW(params, lr=0.05, max_grad_norm=0.1)


def trained(opt, net, steps=6):
    data = list(batches())
    for t in range(steps):
        opt.zero_grad()
        net(**data[t % len(data)])["loss"].backward()
        opt.step()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_tensorboard(tmp_path):
    summaries = needed("torch.utils.tensorboard")
    reader = needed("tensorboard.backend.event_processing.event_accumulator")
    net = Net()
    opt = adamw(net.named_parameters())
    with summaries.SummaryWriter(tmp_path) as writer:
        opt.log_to(writer, every=2, per="layer")
        trained(opt, net)
        last = {key: float(x) for key, x in opt.metrics("layer").items()}
    events = reader.EventAccumulator(str(tmp_path))
    events.Reload()
    tags = set(events.Tags()["scalars"])
    assert tags >= KEYS | {"grad_norm/first.weight"}
    for tag in tags:
        found = events.Scalars(tag)
        assert [x.step for x in found] == [2, 4, 6]
        assert found[-1].value == pytest.approx(last[tag], rel=1e-6)


@pytest.mark.filterwarnings("ignore:The '[a-z_]+' does not have many workers")
@pytest.mark.filterwarnings("ignore:The number of training batches")
@pytest.mark.filterwarnings("ignore:.*isinstance.treespec, LeafSpec.* is deprecated")
@pytest.mark.filterwarnings("ignore:Experiment logs directory")
def test_lightning(tmp_path):
    lightning = needed("lightning.pytorch")
    loggers = needed("lightning.pytorch.loggers")

    class Module(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.net = Net()

        def training_step(self, batch, index):
            return self.net(**batch)["loss"]

        def configure_optimizers(self):
            opt = adamw(self.net.named_parameters())
            opt.log_to(self.logger, every=2, prefix="optimizer/")
            return opt

    trainer = lightning.Trainer(
        accelerator="cpu",
        devices=1,
        max_epochs=2,
        logger=loggers.CSVLogger(tmp_path, flush_logs_every_n_steps=1),
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
    )
    trainer.fit(Module(), batches())
    with open(f"{trainer.logger.log_dir}/metrics.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["step"]) for row in rows] == [2, 4, 6, 8]
    for row in rows:
        assert {key for key, value in row.items() if value} == {
            "step",
            *(f"optimizer/{key}" for key in KEYS),
        }
        assert float(row["optimizer/grad_norm"]) > 0


def test_transformers(tmp_path):
    transformers = needed("transformers")
    needed("accelerate")
    from . import Points

    arguments = transformers.TrainingArguments(
        output_dir=str(tmp_path),
        use_cpu=True,
        num_train_epochs=2,
        per_device_train_batch_size=4,
        report_to=[],
        disable_tqdm=True,
        logging_strategy="no",
        save_strategy="no",
        max_grad_norm=0.0,
    )
    trainer = transformers.Trainer(
        model=Net(),
        args=arguments,
        train_dataset=Points(),
        optimizer_cls_and_kwargs=(optim.AdamW, {"lr": 0.05, "max_grad_norm": 0.1}),
    )
    trainer.remove_callback(transformers.PrinterCallback)
    trainer.create_optimizer().log_to(trainer, every=3)
    trainer.train()
    logged = [row for row in trainer.state.log_history if "grad_norm" in row]
    assert [row["step"] for row in logged] == [3, 6]
    assert all(row.keys() >= KEYS - {"lr"} | {"lr/0", "lr/1"} for row in logged)
    assert json.dumps(logged)


def test_accelerate(tmp_path):
    accelerate = needed("accelerate")
    tracking = needed("accelerate.tracking")

    class Tracker(tracking.GeneralTracker):
        name, requires_logging_directory = "list", False

        def __init__(self):
            super().__init__()
            self.rows = {}

        @property
        def tracker(self):
            return self.rows

        def store_init_configuration(self, values): ...

        def log(self, values, step=None, **kwargs):
            self.rows[step] = values

    tracker = Tracker()
    accelerator = accelerate.Accelerator(cpu=True, log_with=tracker)
    accelerator.init_trackers("run")
    net = Net()
    made = adamw(net.parameters())
    made.log_to(accelerator, every=2)
    net, opt = accelerator.prepare(net, made)
    trained(opt, net)
    assert list(tracker.rows) == [2, 4, 6]
    assert tracker.rows[6].keys() == KEYS
    torch.testing.assert_close(tracker.rows[6]["lr"], 0.05)
