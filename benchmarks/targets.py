"""What funcopt is held to: ours / theirs, at most."""

from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from typing import NamedTuple

from .duel import IN_TRAINING, SCHEDULED, WARM, Result

LARGE = ("1 x 20M", "GPT 22M")
MANY = ("1,000 x 64", "200 x 1,000")
GPT = ("GPT 22M",)
FEW = ("4 tensors",)
TORCHOPT_HAS = ("sgd momentum", "adagrad", "radam", "adadelta", "rmsprop", "adamax")


class Target(NamedTuple):
    """The fastest of those whose names fit the pattern is who counts."""

    problems: Sequence[str]
    chains: Sequence[str]
    against: str
    at_most: float
    form: str = "optimizer"  # of ours
    mode: str = IN_TRAINING


TORCH_HAS = ("sgd momentum", "adamw", "adagrad", "nadam", "radam", "adadelta", "rmsprop", "adamax")
DECIDING = ("skip_if(adamw)", "accumulate(adamw, 4)", "lookahead(adamw)")
FUNCTIONAL = ("sgd momentum", "adamw", "clip + adamw")

TARGETS = (
    Target(LARGE[:1], ("adamw",), "torch AdamW(fused=True)", 1.0),
    Target(GPT, ("adamw",), "torch AdamW(fused=True)", 0.95),
    Target(LARGE, ("adamw",), "torch._fused_adamw_", 1.05),
    Target(MANY[:1], ("adamw",), "torch AdamW(fused=True)", 0.15),
    Target(MANY[1:], ("adamw",), "torch AdamW(fused=True)", 0.25),
    Target(MANY[:1], ("adamw",), "torch AdamW(fused=True)", 0.12, mode=WARM),
    Target(MANY[1:], ("adamw",), "torch AdamW(fused=True)", 0.18, mode=WARM),
    Target(FEW, TORCH_HAS, "torch [!.]*", 1.0),
    Target(FEW, TORCH_HAS, "torch [!.]*", 1.0, mode=SCHEDULED),
    Target(FEW, ("lion",), "lists by hand", 1.0),
    Target(FEW, ("clip + adamw + ema",), "clip_grad_norm_*", 1.0),
    Target(GPT, ("sgd momentum", "adagrad"), "torch *(fused=True)", 1.0),
    Target(GPT, ("nadam", "radam", "adadelta"), "torch *", 0.35),
    Target(GPT, ("rmsprop",), "torch *", 0.5),
    Target(GPT, ("adamax",), "torch *", 0.55),
    Target(GPT, ("lion",), "pytorch_optimizer Lion*", 0.35),
    Target(GPT, ("lion",), "loop by hand", 0.35),
    Target(GPT, ("clip + adamw + ema",), "clip_grad_norm_*", 0.75),
    Target(GPT, ("lion",), "torch._fused_sgd_*", 1.05),
    Target(("GPT 7M, matrices",), ("muon", "muon, gram"), "torch Muon()", 0.9),
    Target(GPT, ("adafactor",), "torch Adafactor*", 1.0),
    Target((*GPT, *FEW), DECIDING, "the chain inside", 1.3),
    Target((*LARGE, *MANY), ("adamw",), "TorchOpt *", 0.2),
    Target(GPT, TORCHOPT_HAS, "TorchOpt *", 0.2),
    Target(FEW, ("adamw",), "TorchOpt *", 0.3),
    Target(GPT, ("adamw",), "Optax *", 0.8, "donated"),
    *(
        target
        for form in ("pure", "one pass")  # by two functions, and by one
        for target in (
            Target(GPT, FUNCTIONAL, "TorchOpt *", 0.5, form),
            Target(FEW, FUNCTIONAL, "TorchOpt *", 0.7, form),
            Target(GPT, (*FUNCTIONAL, "lion"), "Optax *", 1.1, form),
        )
    ),
)


class Row(NamedTuple):
    """A target for one problem and one chain, and who was the fastest against it."""

    problem: str
    chain: str
    at_most: float
    mode: str
    result: Result | None
    """`None` if nobody who fits was asked to run."""

    @property
    def held(self) -> bool | None:
        """`None` if it was not measured."""
        measured = self.result is not None and self.result.pairs
        return self.result.ratio <= self.at_most if measured else None


def speak_of(chain: str, mode: str, theirs: str) -> bool:
    """Whether one of them is about this rival, in this mode."""
    return any(
        t.mode == mode and chain in t.chains and fnmatchcase(theirs, t.against) for t in TARGETS
    )


def rows(results: Iterable[Result]) -> list[Row]:
    """Every target with what was found."""
    results = list(results)
    return [
        Row(problem, chain, target.at_most, target.mode, _fastest(results, target, problem, chain))
        for target in TARGETS
        for chain in target.chains
        for problem in target.problems
    ]


def _fastest(results: list[Result], target: Target, problem: str, chain: str) -> Result | None:
    fit = [
        r
        for r in results
        if (r.problem, r.chain, r.form, r.mode) == (problem, chain, target.form, target.mode)
        and fnmatchcase(r.theirs, target.against)
    ]
    timed = [r for r in fit if r.pairs]
    if timed:
        return max(timed, key=lambda r: r.ratio)
    return fit[0] if fit else None


def places() -> list[tuple[str, str, str]]:
    """The problems, chains and modes that targets speak of, each once, in their order."""
    found = ((p, c, t.mode) for t in TARGETS for c in t.chains for p in t.problems)
    return list(dict.fromkeys(found))
