"""Whoever types a name of another library is told what it is called here."""

import copy
import importlib
import inspect
import pickle
import re
import subprocess
import sys

import pytest
import torch

import funcopt as fo
from funcopt import optim
from funcopt._hints import optax as of_optax
from funcopt._hints import others
from funcopt._hints import torch as of_torch
from funcopt._hints.names import hint_for

from .common import resolve

SENTENCES = {
    "MultiSteps": "`funcopt` has no `MultiSteps`: that is Optax's; here it is "
    "`fo.accumulate(tx, steps)`. See docs/from_optax.md.",
    "inject_hyperparams": "`funcopt` has no `inject_hyperparams`: that is Optax's. Nothing to "
    "inject: `fo.hyperparams(tx)` reads and `fo.with_hyperparams(tx, values)` sets those of any "
    "finished chain. See docs/from_optax.md.",
    "periodic_update": "`funcopt` has no `periodic_update`: that is Optax's. There is no "
    "counterpart; the nearest is `fo.lookahead(tx)`. See docs/from_optax.md.",
    "AdamW": "`funcopt` has no `AdamW`: the optimizer is `fo.optim.AdamW(params)`, the "
    "transformation `fo.adamw`.",
    "optim.adamw": "`funcopt.optim` has no `adamw`: here it is `fo.adamw`, and "
    "`fo.optim.AdamW(params)` is the optimizer.",
    "optim.chain": "`funcopt.optim` has no `chain`: here it is `fo.chain`.",
    "grid": "`funcopt` has no `grid`: here it is `fo.sweeps.grid`.",
    "lr_scheduler": "`funcopt` has no `lr_scheduler`: here it is `fo.optim.lr_scheduler`.",
    "schedules.StepLR": "`funcopt.schedules` has no `StepLR`: that is torch's; here it is "
    "`fo.optim.lr_scheduler.StepLR`, which works on all optimizers here; as a hyperparameter, "
    "`fo.step_decay_schedule(init_value, step_size, gamma)`. See docs/from_torch.md.",
    "optim.SparseAdam": "`funcopt.optim` has no `SparseAdam`: that is torch's; here it is "
    "`fo.optim.LazyAdam(params)` for dense gradients with rows of zeros; sparse ones are refused. "
    "See docs/from_torch.md.",
    "MetaAdam": "`funcopt` has no `MetaAdam`: that is TorchOpt's; here it is "
    "`fo.MetaOptimizer(module, fo.adam(lr))`. See docs/from_torchopt.md.",
    "get_wsd_schedule": "`funcopt` has no `get_wsd_schedule`: that is Transformers'; here it is "
    "`fo.warmup_stable_decay_schedule(peak_value, warmup_steps, stable_steps, decay_steps)`.",
    "optim.ForeachSFAdamW": "`funcopt.optim` has no `ForeachSFAdamW`: that is HeavyBall's; here it "
    "is `fo.optim.AdamWScheduleFree(params)`, or `fo.schedule_free_adamw()`.",
    "ForeachSOAP": "`funcopt` has no `ForeachSOAP`: the optimizer is `fo.optim.SOAP(params)`, the "
    "transformation `fo.soap`.",
    "optim.Ranger21": "`funcopt.optim` has no `Ranger21`: that is another library's. There is no "
    "counterpart; the nearest is `fo.ranger()`.",
    "optim.AdaLomo": "`funcopt.optim` has no `AdaLomo`: that is another library's; here it is "
    "`fo.optim.T5Adafactor(params, lr=1e-3, relative_step=False)`, and its `step_in_backward()`, "
    "which frees each gradient.",
    "tree.add": "`funcopt.tree` has no `add`: that is Optax's; here it is "
    "`fo.tree.map(torch.add, a, b)`. See docs/from_optax.md.",
    "testing.chex": "`funcopt.testing` has no `chex`",
    "sweeps.Sweeps": "`funcopt.sweeps` has no `Sweeps`",
}


@pytest.mark.parametrize("name", SENTENCES)
def test_a_missing_name_gets_its_sentence(name):
    part, _, name = name.rpartition(".")
    module = getattr(fo, part) if part else fo
    with pytest.raises(AttributeError) as caught:
        getattr(module, name)
    assert str(caught.value) == SENTENCES[f"{part}.{name}" if part else name]
    assert caught.value.name == name


def test_python_asks_what_was_meant_only_where_the_hint_does_not_say_it():
    code = (
        "import sys, funcopt as fo\n"
        "for line in ('fo.scale_by_adm', 'fo.periodic_update', 'from funcopt import AdamW'):\n"
        "    try: exec(line)\n"
        "    except Exception: sys.excepthook(*sys.exc_info())\n"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    near, foreign, imported = re.findall(r"^\w+Error: .*$", run.stderr, re.MULTILINE)
    assert near.endswith("`funcopt` has no `scale_by_adm`. Did you mean: 'scale_by_adam'?")
    assert foreign == f"AttributeError: {SENTENCES['periodic_update']}"
    assert imported == f"ImportError: {SENTENCES['AdamW']}"


def test_an_import_keeps_the_hint_and_is_an_import_error():
    with pytest.raises(ImportError, match=r"`fo\.accumulate\(tx, steps\)`") as caught:
        from funcopt import MultiSteps  # noqa: F401
    assert (caught.value.name, caught.value.path) == ("funcopt", fo.__file__)
    with pytest.raises(ImportError, match=r"the nearest is `fo\.ranger"):
        from funcopt.optim import Ranger21  # noqa: F401
    with pytest.raises(ImportError, match="cannot import name 'nonsense'"):
        from funcopt import nonsense  # noqa: F401
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("funcopt.AdamW")


def test_missing_names_are_missing():
    assert not hasattr(fo, "AdamW")
    assert not hasattr(optim, "Ranger21")
    assert getattr(fo, "MultiSteps", None) is None
    assert "AdamW" not in dir(fo)


@pytest.mark.parametrize("name", ["__all_of_them__", "__wrapped__", "_adamw", "__test__"])
def test_probes_of_private_names_are_no_matter_of_hints(name, monkeypatch):
    monkeypatch.setattr("funcopt._hints.names.hint_for", None)  # not even called
    with pytest.raises(AttributeError):
        getattr(fo, name)


def test_modules_copy_and_pickle_as_ever():
    assert pickle.loads(pickle.dumps(fo.optim.AdamW)) is fo.optim.AdamW
    assert copy.copy(fo.adamw) is fo.adamw
    assert inspect.unwrap(fo) is fo


def test_tables_are_read_when_a_name_is_missing_and_not_before():
    code = (
        "import sys, funcopt as fo\n"
        "assert not {'keywords', 'optax', 'others', 'torch'} & "
        "{m.rpartition('.')[2] for m in sys.modules if m.startswith('funcopt._hints')}, 'early'\n"
        "assert not hasattr(fo, 'MultiSteps')\n"
        "assert 'funcopt._hints.optax' in sys.modules\n"
        "try: fo.adamw(b1=1)\n"
        "except TypeError: pass\n"
        "assert 'funcopt._hints.keywords' in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


# Completeness: what other libraries have, has a hint or is here.


def unexplained(names, *modules):
    """The names for which there is neither an attribute nor a hint in some of the modules."""
    return [
        f"{module.__name__}.{name}"
        for module in modules
        for name in names
        if not name.startswith("_")
        and not hasattr(module, name)
        and hint_for(module.__name__, name) is None
    ]


def public(module):
    return [name for name in vars(module) if not name.startswith("_")]


OPTAX_PARTS = [
    "contrib",
    "losses",
    "projections",
    "perturbations",
    "assignment",
    "second_order",
    "schedules",
    "transforms",
    "microbatching",
    "experimental",
]


def test_all_of_optax():
    optax = pytest.importorskip("optax")
    assert unexplained(public(optax), fo) == []


@pytest.mark.parametrize("part", OPTAX_PARTS)
def test_all_of_a_part_of_optax(part):
    optax = pytest.importorskip("optax")
    module = getattr(optax, part, None)
    assert module is None or unexplained(public(module), fo) == []


def test_all_functions_of_trees_of_optax():
    optax = pytest.importorskip("optax")
    assert unexplained(public(optax.tree), fo.tree) == []
    tree_utils = [name for name in public(optax.tree_utils) if name.startswith("tree_")]
    assert unexplained(tree_utils, fo, fo.tree) == []


def test_what_of_optax_is_left_out_stands_in_the_docs_with_the_reason(request):
    page = (request.config.rootpath / "docs" / "from_optax.md").read_text(encoding="utf-8")
    section = page.split("## Without a counterpart")[1].split("\n## ")[0]
    listed = set(
        re.findall(r"`(?:contrib\.)?(\w+)`", "".join(re.findall(r"^\| .*? \|", section, re.M)))
    )
    without = {name for name, text in of_optax.NAMES.items() if "no counterpart" in text}
    gone = {"galore", "scale_by_galore", "reduce_on_plateau"}
    assert without - listed - gone == set()
    assert listed <= without


def test_all_of_torch_optim():
    of_torch = [name for name in torch.optim.__all__ if name not in ("Optimizer",)]
    assert len(of_torch) > 12
    assert unexplained(of_torch, fo, optim) == []
    classes = [n for n, v in vars(torch.optim).items() if inspect.isclass(v)]
    assert unexplained(classes, fo, optim) == []
    from torch.optim import lr_scheduler, swa_utils

    assert unexplained(lr_scheduler.__all__, fo, fo.schedules, optim) == []
    assert unexplained(swa_utils.__all__, fo, fo.schedules, optim) == []


def test_all_of_torchopt():
    torchopt = pytest.importorskip("torchopt")
    assert unexplained(torchopt.__all__, fo, optim) == []


def test_all_of_heavyball():
    heavyball = pytest.importorskip("heavyball")
    assert unexplained(heavyball.__all__, fo, optim) == []
    assert unexplained([f"Foreach{name}" for name in heavyball.__all__], fo, optim) == []


def test_all_optimizers_of_pytorch_optimizer():
    package = pytest.importorskip("pytorch_optimizer")
    base = torch.optim.Optimizer
    names = [n for n, v in vars(package).items() if inspect.isclass(v) and issubclass(v, base)]
    assert len(names) > 100
    assert unexplained(names, fo, optim) == []


def test_all_schedules_of_transformers():
    optimization = pytest.importorskip("transformers.optimization")
    from transformers.training_args import OptimizerNames

    names = [n for n, v in vars(optimization).items() if n.startswith("get_") and callable(v)]
    assert len(names) > 8
    assert unexplained(names, fo, fo.schedules) == []
    assert unexplained(["adamw_torch", "adamw_torch_fused", "adamw_bnb_8bit"], fo, optim) == []
    assert OptimizerNames.ADAMW_TORCH.value == "adamw_torch"


# The tables themselves.

TABLES = {
    "optax": of_optax.NAMES,
    "optax.tree": of_optax.TREE_NAMES,
    "torch": of_torch.NAMES,
    "torchopt": others.TORCHOPT,
    "transformers": others.TRANSFORMERS,
    "heavyball": others.HEAVYBALL,
    "packages": others.PACKAGES,
}
ENTRIES = [(table, name) for table in TABLES for name in TABLES[table]]
TEXTS = sorted(
    {text for table in TABLES.values() for text in table.values()}
    | {text for *_, text in (*of_optax.PATTERNS, *others.PATTERNS)}
)


@pytest.mark.parametrize("text", TEXTS)
def test_what_a_hint_names_is_here_and_takes_these_arguments(text):
    resolve(text)
    assert not text.endswith(".")
    assert text.startswith("`") or text[0].islower()


def test_no_hint_is_of_a_name_that_is_here():
    stale = [
        (table, name)
        for table, name in ENTRIES
        if name in vars(fo.tree if table == "optax.tree" else fo)
        or (table != "optax.tree" and name in vars(optim))
    ]
    assert stale == []


def test_names_of_optax_are_those_of_optax():
    optax = pytest.importorskip("optax")
    known = set(public(optax)).union(*(public(getattr(optax, p, optax)) for p in OPTAX_PARTS))
    gone = {"ArrayTree", "additive_weight_decay"}  # of the next release, and of early ones
    assert set(of_optax.NAMES) - known - gone - set(vars(optax.experimental)) == set()


def test_every_class_has_its_transformation():
    classes = {n for n, v in vars(optim).items() if hasattr(v, "maker")}
    assert set(of_torch.CLASSES) == classes
    assert all(callable(getattr(fo, name)) for name in of_torch.CLASSES.values())


def test_pages_that_hints_point_to_exist(request):
    root = request.config.rootpath
    found = {
        page
        for table, name in ENTRIES
        for page in re.findall(r"docs/\w+\.md", hint_for("funcopt", name) or "")
    }
    assert len(found) == 3
    assert all((root / page).exists() for page in found)


TABLES = [of_optax.NAMES, of_torch.NAMES, others.TORCHOPT, others.TRANSFORMERS, others.HEAVYBALL]
WITH_A_VERB = re.compile(
    r"here it is (`[^`]*`(, | or | of )*)+ (is|are|has|have|takes|measures|leaves|works)\b"
)


@pytest.mark.parametrize("name", sorted({n for x in (*TABLES, others.PACKAGES) for n in x}))
def test_a_hint_is_one_sentence(name):
    said = hint_for("funcopt", name)
    assert not WITH_A_VERB.search(said)
    assert not re.search(r"There is no counterpart: `", said)
    assert said.removesuffix(".").strip()[-1] not in ",;:"


def test_a_synonym_of_optax_leads_to_the_stage():
    assert "`fo.add_decayed_weights(weight_decay)`" in hint_for("funcopt", "additive_weight_decay")
