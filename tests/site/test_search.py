"""The search of the site finds the page that answers a query in the first place."""

import json
import pathlib
import subprocess

import pytest

QUERIES = {  # what people type, and the pages that answer it, a recipe first where there is one
    "gradient accumulation": ["recipes/accumulate/", "combinators/"],
    "gradient clipping": ["recipes/clip/", "optimizer/", "api/transformations/"],
    "clip_grad_norm_": ["recipes/clip/", "from_torch/", "optimizer/"],
    "tensorboard": ["recipes/log/", "optimizer/"],
    "log gradient norm": ["recipes/log/", "optimizer/"],
    "layer-wise learning rate decay": ["recipes/layer_decay/", "optimizer/"],
    "weight decay groups": ["recipes/layer_decay/", "recipes/weight_decay/", "optimizer/"],
    "freeze parameters": ["recipes/freeze/", "combinators/"],
    "resume training": ["recipes/resume/", "optimizer/"],
    "load checkpoint of torch.optim": ["recipes/move_checkpoint/", "from_torch/"],
    "fsdp": ["recipes/fsdp/", "recipes/distributed/", "compatibility/", "optimizer/"],
    "fsdp muon": ["recipes/fsdp/", "optimizer/"],
    "learning rate schedule": ["recipes/schedule/", "api/schedules/"],
    "warmup cosine": ["recipes/schedule/", "recipes/warmup/", "api/schedules/"],
    "schedule free": ["combinators/"],
    "lookahead": ["combinators/"],
    "skip nan gradients": ["recipes/debug/", "combinators/"],
    "differential privacy": ["combinators/", "gallery/differential_privacy/"],
    "adamw signature": ["api/optim/"],
    "scale_by_adam": ["api/transformations/"],
    "apply_updates": ["api/interface/"],
    "SparseGradientError": ["api/errors/"],
    "adalomo": ["recipes/step_in_backward/"],
    "gradient release": ["recipes/step_in_backward/", "optimizer/"],
    "which optimizer": ["choosing/"],
    "optax multi_transform": ["from_optax/"],
    "MultiSteps": ["from_optax/"],
    "inject_hyperparams": ["from_optax/"],
    "torchopt": ["from_torchopt/"],
    "lightning": ["compatibility/"],
    "custom optimizer": ["extending/"],
    "lbfgs closure": ["closures/"],
    "sharpness aware": ["closures/"],
    "hyperparameter sweep": ["sweeps/", "recipes/sweep/"],
    "deep ensemble": ["sweeps/", "gallery/deep_ensemble/"],
    "maml": ["meta_learning/", "gallery/maml_sinusoids/", "gallery/maml_digits/"],
    "hypergradients": ["meta_learning/", "gallery/layer_learning_rates/"],
    "implicit differentiation": ["meta_learning/"],
    "torch.compile speed": ["performance/"],
    "benchmarks": ["benchmarks/"],
    "install": ["getting_started/"],
    "supported versions": ["stability/", "compatibility/"],
    "changelog": ["changelog/"],
    "same results as torch.optim": ["parity/"],
}


@pytest.fixture(scope="module")
def found(site, node):
    script = pathlib.Path(__file__).parent / "search.cjs"
    said = subprocess.run(
        [node, script, site, *QUERIES], check=True, capture_output=True, text=True
    )
    return json.loads(said.stdout)


def test_there_are_thirty_queries():
    assert len(QUERIES) >= 30


@pytest.mark.parametrize("query", QUERIES)
def test_a_query_finds_its_page_first(found, query):
    pages = [page for page, _ in found[query]]
    assert pages, "nothing is found"
    assert pages[0] in QUERIES[query], f"first are {pages[:4]}"
