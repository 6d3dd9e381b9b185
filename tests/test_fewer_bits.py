"""Every rounding and every format around chains of every kind: laws, engines, and resumed runs."""

import io

import pytest
import torch

import funcopt as fo
from funcopt import testing
from funcopt.sweeps._memory import peak_bytes

SHAPES = {"a": (24, 20), "b": (513,), "c": (), "d": (7, 3, 5)}


def is_matrix(name, p):
    return "matrix" if p.ndim == 2 else "other"


CHAINS = {
    "clip, AdamW, schedule": fo.chain(
        fo.clip_by_global_norm(1.0),
        fo.adamw(fo.linear_schedule(0.02, 0.01, 5), weight_decay=0.1),
    ),
    "SGD, Nesterov": fo.sgd(0.05, momentum=0.9, nesterov=True),
    "Lion": fo.lion(0.01, weight_decay=0.1),
    "centered RMSprop": fo.rmsprop(0.01, centered=True, momentum=0.9),
    "Adagrad": fo.adagrad(0.05),
    "Adan": fo.adan(0.01),
    "LAMB": fo.lamb(0.01),
    "Adafactor": fo.adafactor(0.01),
    "Muon and AdamW": fo.partition(
        {"matrix": fo.muon(0.01, ns_dtype=None), "other": fo.adamw(0.01)}, is_matrix
    ),
    "accumulate": fo.accumulate(fo.adamw(0.02), 2),
    "skip_if": fo.skip_if(fo.adamw(0.02)),
    "average": fo.chain(fo.adamw(0.02), fo.ema_of_params(0.9)),
}
ROUNDINGS = ("stochastic", "kahan", "remainder8", "remainder", "master")
FORMATS = ("8bit", "4bit", "fp8", "bf16+8", "bf16")
WAYS = [*ROUNDINGS, *FORMATS]


def around(chain, way):
    """The chain, and the dtype of the parameters."""
    if way in ROUNDINGS:
        return fo.rounded(CHAINS[chain], way), torch.bfloat16
    return fo.quantized(CHAINS[chain], way, min_size=0), torch.float32


def parameters(dtype):
    generator = torch.manual_seed(0)
    return {k: torch.randn(v, generator=generator).to(dtype) for k, v in SHAPES.items()}


def begun(tx, dtype, engine):
    params = {k: torch.nn.Parameter(p) for k, p in parameters(dtype).items()}
    return params, fo.Optimizer(params.items(), tx, engine=engine)


def trained(params, opt, steps):
    for k in steps:
        generator = torch.manual_seed(100 + k)
        for p in params.values():
            p.grad = torch.randn(p.shape, generator=generator).to(p.dtype) + 0.1 * p.detach()
        opt.step()


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("chain", CHAINS)
def test_laws(chain, way):
    tx, dtype = around(chain, way)
    params = {"w": parameters(dtype)["a"][:2, :3], "s": [parameters(dtype)["c"]]}
    testing.check_transformation(tx, params, differentiable=False, compiled=False)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("chain", CHAINS)
@pytest.mark.parametrize("engine", ["eager", "foreach", "fused"])
def test_a_resumed_run_is_the_same_to_the_bit(engine, chain, way):
    tx, dtype = around(chain, way)
    params, opt = begun(tx, dtype, engine)
    trained(params, opt, range(3))
    file = io.BytesIO()
    torch.save([{k: p.detach() for k, p in params.items()}, opt.state_dict()], file)
    trained(params, opt, range(3, 6))
    file.seek(0)
    kept, state = torch.load(file, weights_only=True)
    resumed, again = begun(tx, dtype, engine)
    with torch.no_grad():
        for k, p in resumed.items():
            p.copy_(kept[k])
    again.load_state_dict(state)
    trained(resumed, again, range(3, 6))
    for k, p in params.items():
        assert torch.equal(p, resumed[k]), k


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("chain", CHAINS)
def test_the_pure_form_takes_the_steps_of_the_optimizer(chain, way):
    tx, dtype = around(chain, way)
    params, opt = begun(tx, dtype, "eager")
    pure = parameters(dtype)
    state = tx.init(pure)
    for k in range(4):
        trained(params, opt, [k])
        grads = {name: p.grad for name, p in params.items()}
        with fo.pure_engine("eager"):
            updates, state = tx.update(grads, state, pure)
            pure = fo.apply_updates(pure, updates)
    for k, p in params.items():
        assert torch.equal(p.detach(), pure[k]), k


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("size", [2**18, 2**20])
def test_a_step_by_kernels_has_no_tensor_that_grows_with_the_parameters(size, way):
    tx, dtype = around("clip, AdamW, schedule", way)
    p = torch.nn.Parameter(torch.ones(size, dtype=dtype))
    opt = fo.Optimizer([("p", p)], tx, engine="fused")
    p.grad = torch.ones_like(p)
    for _ in range(3):
        opt.step()
    assert opt.engine == "fused"
    assert peak_bytes(opt.step) < 2**15


def test_state_of_adamw_in_8_bits_is_2_bytes_and_a_scale():
    tx, dtype = around("clip, AdamW, schedule", "8bit")
    p = torch.nn.Parameter(torch.ones(2**20, dtype=dtype))
    opt = fo.Optimizer([("p", p)], tx)
    opt.init_state()
    assert sum(x.nbytes for x in opt.state[p].values()) <= 2.05 * p.numel()
