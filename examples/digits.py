"""Eight optimizers on handwritten digits, in both forms.

Each trains once in pure form and once as a `torch.optim.Optimizer`. Both forms start from the same
parameters and see the same batches, so they must end at the same parameters. Prints a table, draws
the loss curves, and fails if the two forms differ, or if AdamW or the chain does not learn. With
`--all`, every optimizer of the library takes part, with a learning rate that suits it, but for
Sophia, which takes estimates of the Hessian, and L-BFGS, which enlarges roundings on batches.
"""

import argparse
import math
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import numpy as np
import torch
from matplotlib.figure import Figure
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor, nn
from torch.func import functional_call, grad_and_value, vmap
from torch.nn.functional import cross_entropy
from tqdm import tqdm

import funcopt as fo
import funcopt.optim as optim

BATCH_SIZE = 64
TOLERANCE = 1e-9  # on the parameters of the two forms, which are float64
MIN_ACCURACY = {"AdamW": 0.95, "own chain": 0.95}

Params = dict[str, Tensor]
Batch = tuple[Tensor, Tensor]
Wrap = Callable[[Iterable[tuple[str, nn.Parameter]]], fo.Optimizer]


class Run(NamedTuple):
    """What training in one of the forms gave."""

    params: Params  # to evaluate with: averages, where the optimizer keeps them
    losses: list[float]  # of every batch, before its step
    seconds: list[float]  # of every step


class Result(NamedTuple):
    """What one optimizer has come to, in both forms."""

    pure: Run
    wrapped: Run
    loss: float  # on all images to train with
    accuracy: float  # on all images to test with

    @property
    def difference(self) -> float:
        """The largest of any entry of any parameter, between the forms."""
        pairs = zip(self.pure.params.values(), self.wrapped.params.values(), strict=True)
        return max((p - q).abs().max().item() for p, q in pairs)


def optimizers(steps: int) -> dict[str, tuple[fo.GradientTransformation, Wrap]]:
    """Every optimizer twice: as a transformation, and as a function that wraps parameters."""
    schedule = fo.warmup_cosine_decay_schedule(
        0.0, 1e-2, warmup_steps=steps // 10, decay_steps=steps
    )
    chain = fo.chain(
        fo.clip_by_global_norm(1.0),
        fo.scale_by_adam(),
        fo.add_decayed_weights(1e-2),
        fo.scale_by_learning_rate(schedule),
    )
    return {
        "SGD": (fo.sgd(0.1), lambda ps: optim.SGD(ps, lr=0.1)),
        "momentum": (
            fo.sgd(0.05, momentum=0.9),
            lambda ps: optim.SGD(ps, lr=0.05, momentum=0.9),
        ),
        "Adagrad": (fo.adagrad(0.02), lambda ps: optim.Adagrad(ps, lr=0.02)),
        "Adadelta": (fo.adadelta(), lambda ps: optim.Adadelta(ps)),
        "RMSprop": (fo.rmsprop(2e-3), lambda ps: optim.RMSprop(ps, lr=2e-3)),
        "Adam": (fo.adam(3e-3), lambda ps: optim.Adam(ps, lr=3e-3)),
        "AdamW": (fo.adamw(3e-3), lambda ps: optim.AdamW(ps, lr=3e-3)),
        "own chain": (chain, lambda ps: fo.Optimizer(ps, chain)),
    }


def all_optimizers(steps: int) -> dict[str, tuple[fo.GradientTransformation, Wrap]]:
    """The eight, and the rest of the library, by the names of its classes; then combinators."""
    hidden: dict[str, Any] = {"dims": "flatten", "adamw_lr": 0.02}
    more = {
        "NAdam": fo.nadam(3e-3),
        "RAdam": fo.radam(1e-2),
        "Adamax": fo.adamax(1e-2),
        "AdaBelief": fo.adabelief(3e-3),
        "Yogi": fo.yogi(1e-2),
        "Lion": fo.lion(1e-3),
        "Ano": fo.ano(1e-3),
        "ASGD": fo.asgd(0.3),
        "Rprop": fo.rprop(1e-4, step_sizes=(1e-7, 1e-3)),
        "Adafactor": fo.adafactor(0.1),
        "LAMB": fo.lamb(1e-2),
        "LARS": fo.lars(10.0),
        "Muon": fo.muon(0.02, adjust_lr_fn="match_rms_adamw", **hidden),
        "Shampoo": fo.shampoo(0.03, 0.9, graft=True, precondition_frequency=10),
        "DistributedShampoo": fo.distributed_shampoo(3e-3, precondition_frequency=10),
        "Kron": fo.kron(3e-3),
        "SOAP": fo.soap(3e-3),
        "Prodigy": fo.prodigy(0.3),
        "DAdaptAdamW": fo.dadapt_adamw(0.3),
        "SGDScheduleFree": fo.schedule_free_sgd(1.0),
        "AdamWScheduleFree": fo.schedule_free_adamw(1e-2),
        "RAdamScheduleFree": fo.schedule_free_radam(1e-2),
        "MARS": fo.mars(3e-3),
        "DPSGD": fo.dpsgd(0.05, max_norm=1.0, noise_multiplier=0.5, momentum=0.9),
        **relatives_of_adam(),
        "NorMuon": fo.normuon(0.02, match_rms_adamw=True, **hidden),
        "AdaMuon": fo.adamuon(0.01, **hidden),
        "NAMO": fo.namo(0.02, **hidden),
        "Scion": fo.scion(3e-3, dims="flatten"),
        "SGDW": fo.sgdw(0.05, momentum=0.9),
        "SGDP": fo.sgdp(0.05, momentum=0.9),
        "QHM": fo.qhm(1.0),
        "AggMo": fo.aggmo(0.01),
        "Signum": fo.signum(1e-3),
        "SignSGD": fo.sign_sgd(1e-3),
        "Tiger": fo.tiger(1e-3),
        "OptimisticGradientDescent": fo.optimistic_gradient_descent(0.1),
        "Fromage": fo.fromage(1e-2),
        "DoG": fo.dog(1.0, reps_rel=1e-2),
        "LDoG": fo.ldog(1.0, reps_rel=1e-2),
        "DoWG": fo.dowg(1.0, eps=1e-2),
        "COCOB": fo.cocob(),
        "PolyakSGD": fo.polyak_sgd(1.0),
        "MoMo": fo.momo(0.3),
        "MoMoAdam": fo.momo_adam(3e-3),
        "AdamMini": fo.adam_mini(3e-3),
        "CAME": fo.came(1e-3),
        "SM3": fo.sm3(0.1),
        "T5Adafactor": fo.t5_adafactor(0.03, relative_step=False),
        "GaLoreAdamW": fo.galore_adamw(1e-2, rank=8, update_gap=20),
        "GaLoreAdafactor": fo.galore_adafactor(1e-2, rank=8, update_gap=20),
        "APOLLOAdamW": fo.apollo_adamw(1e-2, rank=8, update_gap=20),
        "FiraAdamW": fo.fira_adamw(3e-3, rank=8, update_gap=20),
        "RowwiseAdagrad": fo.rowwise_adagrad(0.02),
        "LazyAdam": fo.lazy_adam(3e-3),
        "lookahead": fo.lookahead(fo.adamw(1e-2)),
        "cautious": fo.cautious(fo.adamw(3e-3)),
        "SAM": fo.sam(fo.sgd(0.05, momentum=0.9)),
        "ASAM": fo.sam(fo.sgd(0.05, momentum=0.9), 0.5, adaptive=True),
        "AGC": fo.chain(fo.adaptive_grad_clip(0.1), fo.sgd(0.05, momentum=0.9)),
        "noisy SGD": fo.noisy_sgd(0.1),
        "Newton-CG": fo.newton_cg(0.5, max_cg_iter=5),
        "accumulate": fo.accumulate(fo.adamw(3e-3), 2),
        "centralize": fo.chain(fo.centralize(), fo.sgd(0.05, momentum=0.9)),
        "skip_if": fo.skip_if(fo.adamw(3e-3)),
        "average": fo.chain(fo.adamw(3e-3), fo.ema_of_params(0.99)),
    }

    def wrapped(tx: fo.GradientTransformation) -> Wrap:
        return lambda params: fo.Optimizer(params, tx)

    return {**optimizers(steps), **{name: (tx, wrapped(tx)) for name, tx in more.items()}}


def relatives_of_adam() -> dict[str, fo.GradientTransformation]:
    """Those that differ from it in a moment, a bound or the decay."""
    return {
        "ADOPT": fo.adopt(3e-3),
        "Adan": fo.adan(3e-3),
        "AdEMAMix": fo.ademamix(1e-3),
        "SimplifiedAdEMAMix": fo.simplified_ademamix(1e-4),
        "NAdamW": fo.nadamw(3e-3),
        "StableAdamW": fo.stable_adamw(3e-3),
        "AMSGrad": fo.amsgrad(3e-3),
        "AdamaxW": fo.adamaxw(1e-2),
        "AdamC": fo.adamc(3e-3, max_lr=3e-3),
        "GrokFastAdamW": fo.grokfast_adamw(3e-3),
        "GrokAdamW": fo.grokadamw(3e-3),
        "LaProp": fo.laprop(3e-3),
        "Ranger": fo.ranger(1e-2),
        "QHAdam": fo.qhadam(3e-3),
        "AdamP": fo.adamp(3e-3),
        "AdaBound": fo.adabound(3e-3),
        "DiffGrad": fo.diffgrad(3e-3),
        "Padam": fo.padam(0.03),
        "Grams": fo.grams(3e-3),
        "AdaMod": fo.adamod(3e-3),
        "ACProp": fo.acprop(3e-3, eps=1e-3),
        "OptimisticAdam": fo.optimistic_adam(1e-3),
        "MADGRAD": fo.madgrad(1e-2),
        "NovoGrad": fo.novograd(1e-2),
        "RMSpropTF": fo.rmsprop_tf(1e-2),
    }


def train_pure(tx: fo.GradientTransformation, model: nn.Module, batches: Iterable[Batch]) -> Run:
    """The functional form: parameters and state go in and come out, and nothing is changed."""

    def loss_of(params: Params, batch: Batch) -> Tensor:
        x, y = batch
        return cross_entropy(functional_call(model, params, (x,)), y)

    # Detached, or autograd would keep the graph of the whole training.
    params = {name: p.detach() for name, p in model.named_parameters()}
    step, state = fo.train_step(loss_of, tx), fo.TrainState.start(tx, params)
    losses, seconds = [], []
    for batch in batches:
        start = time.perf_counter()
        state, loss = step(state, batch)
        seconds.append(time.perf_counter() - start)
        losses.append(loss.item())
    return Run(fo.eval_params(tx, state.opt_state, state.params), losses, seconds)


def train_wrapped(wrap: Wrap, model: nn.Module, batches: Iterable[Batch]) -> Run:
    """The form of `torch.optim`: the optimizer changes the parameters in place."""
    opt = wrap(model.named_parameters())
    curved = isinstance(opt.tx, fo.newton_cg)  # it asks for second derivatives
    losses, seconds = [], []
    for x, y in batches:

        def closure(x: Tensor = x, y: Tensor = y) -> Tensor:
            opt.zero_grad()
            if opt.tx.takes_examples():
                return leave_gradients_of_examples(model, x, y)
            loss = cross_entropy(model(x), y)
            loss.backward(create_graph=curved)
            return loss

        start = time.perf_counter()
        loss = opt.step(closure)
        seconds.append(time.perf_counter() - start)
        losses.append(loss.item())
    opt.eval()
    return Run({name: p.detach() for name, p in model.named_parameters()}, losses, seconds)


def leave_gradients_of_examples(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """The mean loss; the gradient of every image by itself is left in `p.grad_sample`."""

    def loss_of(params: Params, x: Tensor, y: Tensor) -> Tensor:
        return cross_entropy(functional_call(model, params, (x[None],)), y[None])

    params = {name: p.detach() for name, p in model.named_parameters()}
    grads, losses = vmap(grad_and_value(loss_of), in_dims=(None, 0, 0))(params, x, y)
    for name, p in model.named_parameters():
        p.grad_sample = grads[name]  # type: ignore[attr-defined] # pyright: ignore[reportAttributeAccessIssue]
    return losses.mean()


def network() -> nn.Module:
    """Two convolutions and a linear layer, in float64; the same numbers on every call."""
    torch.manual_seed(0)
    layers = nn.Sequential(
        nn.Conv2d(1, 16, kernel_size=3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(16, 32, kernel_size=3, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(32 * 4 * 4, 10),
    )
    return layers.double()


def load() -> tuple[Batch, Batch]:
    """1,797 images of 8 x 8 pixels, with labels: four fifths to train with, the rest to test."""
    images, labels = load_digits(return_X_y=True)
    pixels = images.reshape(-1, 1, 8, 8) / 16
    parts = train_test_split(pixels, labels, test_size=0.2, random_state=0, stratify=labels)
    x_train, x_test, y_train, y_test = map(torch.from_numpy, parts)
    return (x_train, y_train), (x_test, y_test)


def shuffled(data: Batch, epochs: int, bar: tqdm) -> Iterator[Batch]:
    """Full batches in an order that is new in every epoch, and the same on every call."""
    x, y = data
    generator = torch.Generator().manual_seed(0)
    for _ in range(epochs):
        order = torch.randperm(len(x), generator=generator)
        for picked in order.split(BATCH_SIZE)[: len(x) // BATCH_SIZE]:
            yield x[picked], y[picked]
            bar.update()


def compare(epochs: int, everything: bool = False) -> dict[str, Result]:
    """Trains with every optimizer in both forms."""
    training, (x_test, y_test) = load()
    x, y = training
    steps = epochs * (len(x) // BATCH_SIZE)
    entries = (all_optimizers if everything else optimizers)(steps)
    results = {}
    with tqdm(total=2 * steps * len(entries), unit="step", mininterval=0.5) as bar:
        for name, (tx, wrap) in entries.items():
            bar.set_description(f"{name:{max(map(len, entries))}}")
            pure = train_pure(tx, network(), shuffled(training, epochs, bar))
            wrapped = train_wrapped(wrap, network(), shuffled(training, epochs, bar))
            loss = cross_entropy(functional_call(network(), pure.params, (x,)), y)
            guesses = functional_call(network(), pure.params, (x_test,)).argmax(dim=1)
            accuracy = (guesses == y_test).double().mean()
            results[name] = Result(pure, wrapped, loss.item(), accuracy.item())
    return results


def table(results: Mapping[str, Result]) -> str:
    """The results for reading."""
    width = max(map(len, ("optimizer", *results)))
    lines = [
        f"{'':{width}}   final       test     ms per step        largest",
        f"{'optimizer':{width}}    loss   accuracy    pure   wrapped   difference",
    ]
    for name, r in results.items():
        pure, wrapped = (1e3 * median(run.seconds) for run in (r.pure, r.wrapped))
        lines.append(
            f"{name:{width}} {r.loss:7.4f} {r.accuracy:10.4f} {pure:7.2f} {wrapped:9.2f}"
            f" {r.difference:12.1e}"
        )
    return "\n".join(lines)


def draw(results: Mapping[str, Result], epochs: int, path: Path) -> None:
    """A panel for each optimizer, with the others in grey to compare it with."""
    rows = math.ceil(len(results) / 4)
    fig = Figure(figsize=(12, 0.5 + 3 * rows), layout="constrained")
    panels = fig.subplots(rows, 4, sharex=True, sharey=True)
    middles = np.arange(epochs) + 0.5  # of the epochs, whose mean stands there
    for empty in panels.flat[len(results) :]:
        empty.remove()
    for ax, (name, result) in zip(panels.flat, results.items(), strict=False):
        for other in results.values():
            means = np.reshape(other.pure.losses, (epochs, -1)).mean(axis=1)
            ax.plot(middles, means, color="0.8", linewidth=1, label="the other optimizers")
        losses = np.reshape(result.pure.losses, (epochs, -1))
        every = np.arange(losses.size) * epochs / losses.size
        ax.plot(every, losses.ravel(), color="#9ecae9", linewidth=0.6, label="pure, every batch")
        ax.plot(
            middles,
            losses.mean(axis=1),
            color="#0072b2",
            linewidth=2,
            label="pure, mean of an epoch",
        )
        losses = np.reshape(result.wrapped.losses, (epochs, -1))
        ax.plot(
            middles,
            losses.mean(axis=1),
            "o",
            color="#d55e00",
            markerfacecolor="none",
            markersize=5,
            label="wrapped, mean of an epoch",
        )
        ax.set_title(f"{name}: {result.accuracy:.1%}", fontsize=11)
        ax.set_yscale("log")
        ax.grid(alpha=0.3)
    fig.supxlabel("epoch")
    fig.supylabel("loss (cross-entropy)")
    handles, labels = panels.flat[0].get_legend_handles_labels()
    unique = dict(zip(labels, handles, strict=True))
    fig.legend(unique.values(), unique.keys(), loc="outside upper center", ncols=len(unique))
    path.parent.mkdir(parents=True, exist_ok=True)
    fig.savefig(path, dpi=150)


def faults(results: Mapping[str, Result]) -> list[str]:
    """What is not as it should be, in words."""
    apart = [
        f"{name}: pure and wrapped parameters differ by {r.difference:.1e}, not below {TOLERANCE}"
        for name, r in results.items()
        if not r.difference < TOLERANCE  # nor if it is NaN
    ]
    weak = [
        f"{name}: the test accuracy is {results[name].accuracy:.4f}, below {least}"
        for name, least in MIN_ACCURACY.items()
        if results[name].accuracy < least
    ]
    return apart + weak


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--all", action="store_true", help="every optimizer of the library")
    given = parser.parse_args(argv)
    epochs = given.epochs

    # Of the reference cycle of second derivatives, which `zero_grad` breaks.
    warnings.filterwarnings("ignore", "Using backward\\(\\) with create_graph")
    torch.set_num_threads(1)  # the network is small: more threads would wait for one another
    results = compare(epochs, given.all)
    print(table(results))
    figure = Path("out/digits.png")
    draw(results, epochs, figure)
    print(f"The loss curves are in {figure}")
    for fault in (found := faults(results)):
        print(f"FAULT {fault}")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
