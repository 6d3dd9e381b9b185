"""Parameters and slots in fewer bits, by kernels: the same bits as by operations of torch."""

import importlib.util
import sys

import pytest
import torch

import funcopt as fo
from funcopt._numerics import blockwise, narrow, random
from funcopt.engine import _kernels
from funcopt.engine._blocks import Block, Roles
from funcopt.engine._graph import Graph
from funcopt.engine._guards import constant_source
from funcopt.engine._lowering import lower_graph

CPU = torch.device("cpu")
KINDS = ["bytecode", "interpreted", "foreach"]
if importlib.util.find_spec("triton") is not None:
    KINDS.append("triton")


@pytest.fixture(params=KINDS)
def kernel(request, monkeypatch):
    """Makes the kernel of a lowered graph, in pieces that tensors have several of."""

    def make(lowered):
        return _kernels.kernel_for(lowered, CPU, make.option)

    make.option = "foreach" if request.param == "foreach" else "fused"
    monkeypatch.setattr(_kernels.BytecodeKernel, "chunk", 1536)
    monkeypatch.setattr(_kernels, "_cache", {})
    monkeypatch.setenv("FUNCOPT_KERNELS", request.param)
    if request.param != "triton":
        yield make
        return
    from .by_triton import by_triton

    with by_triton(monkeypatch, block=256, piece=512):
        yield make


def computed(kernel, function, inputs, like, per=1):
    """What a kernel stores of `function` of these tensors, into one like `like`."""
    graph = Graph(torch.float32, CPU)
    symbols = [graph.input(k, x.dtype) for k, x in enumerate(inputs)]
    out = torch.zeros_like(like)
    graph.input(len(inputs), out.dtype, per)
    lowered = lower_graph(graph, {len(inputs): function(graph, *symbols)}, []).lowered
    block = Block([0], [[x] for x in (*inputs, out)], Roles(len(inputs) - 1, False))
    made = kernel(lowered)
    rows = [[float(source.read((), 0)) for source in graph.sources]]
    made(block, block.tasks(((0,),), made.chunk), tuple(range(len(inputs) + 1)), rows)
    return out


def numbers(count=3001):
    x = torch.randn(count, generator=torch.manual_seed(1))
    finite = torch.finfo(torch.float32).max
    extremes = torch.tensor([0.0, -0.0, finite, -finite, 1e-40, float("inf"), -float("inf"), 1.0])
    x[:8] = extremes[: len(x[:8])]
    return x


def edges(name):
    """Each boundary of a book and what is next to it, on both sides of 0, and its own numbers."""
    at = torch.tensor(blockwise.BOUNDARIES[name])
    beside = [torch.nextafter(at, torch.tensor(side * torch.inf)) for side in (1, -1)]
    x = torch.cat([at, *beside, torch.tensor(blockwise.BOOKS[name])])
    return torch.cat([x, -x, torch.tensor([0.0, -0.0, 1e-40, -1e-40])])


def alone(x, of=16):
    """Each of these among zeros, so that no vector has two."""
    return torch.zeros(len(x), of).index_copy(1, torch.tensor([0]), x[:, None]).flatten()


def same(x, y):
    assert x.dtype == y.dtype
    torch.testing.assert_close(x, y, rtol=0, atol=0, equal_nan=True)


X, NOISE = numbers(), torch.arange(3001.0) * 21 % 65536
STORED = narrow.rounded_to(X, torch.bfloat16)
LOW = narrow.low_half(X)
PART = torch.arange(3001).remainder(255).sub(127).to(torch.int8)
SIZES = X.nan_to_num().sign() * 10 ** (-8.5 * torch.rand(3001, generator=torch.manual_seed(2)))
"""Far from boundaries, most of them."""

CASES = {
    "truncated": (narrow.truncated, [X]),
    "low_half": (narrow.low_half, [X]),
    "with_low_half": (narrow.with_low_half, [STORED, LOW]),
    "rounded_at_random": (narrow.rounded_at_random, [X, NOISE]),
    **{
        f"residual {d}": (lambda x, y, d=d: narrow.residual(x, y, d), [X, STORED])
        for d in ("bfloat16", "float16")
    },
    **{
        f"with_residual {d}": (lambda x, y, d=d: narrow.with_residual(x, y, d), [STORED, PART])
        for d in ("bfloat16", "float16")
    },
    **{
        f"block_amax {n}": (lambda x, n=n: blockwise.block_amax(x, n), [X[7:].contiguous()])
        for n in (128, 256)
    },
    **{
        f"encoded {b}": (lambda x, b=b: blockwise.encoded(x, b), [X.nan_to_num().clamp(-1, 1)])
        for b in (*blockwise.BOOKS, "float8")
    },
    **{
        f"encoded {b} at its boundaries": (lambda x, b=b: blockwise.encoded(x, b), [edges(b)])
        for b in blockwise.BOOKS
    },
    **{
        f"encoded {b} at each boundary": (lambda x, b=b: blockwise.encoded(x, b), [alone(edges(b))])
        for b in blockwise.BOOKS
    },
    **{
        f"encoded {b} of every size": (lambda x, b=b: blockwise.encoded(x, b), [SIZES])
        for b in blockwise.BOOKS
    },
    **{
        f"decoded {b}": (
            lambda x, b=b: blockwise.decoded(x, b),
            [torch.arange(3001).remainder(16 if "4" in b else 256).to(torch.uint8)],
        )
        for b in (*blockwise.BOOKS, "float8")
    },
}


@pytest.mark.parametrize("name", CASES)
def test_it_computes_the_same_bits(kernel, name):
    function, inputs = CASES[name]
    expected = function(*inputs)
    same(computed(kernel, lambda graph, *given: function(*given), inputs, expected), expected)


@pytest.mark.parametrize("begin", [0, 5, 2**31])
@pytest.mark.parametrize("count", [1, 127, 128, 3001])
def test_random_bits_are_those_of_philox(kernel, count, begin):
    key, other, x = 0x89ABCDEF, 0x01234567, torch.zeros(count)

    def bits(graph, like):
        def word(value):
            low, high = (graph.scalar(constant_source(value >> k & 0xFFFF)) for k in (0, 16))
            return random.word(low, high)

        mixed = random.mixed(word(other ^ 0xFFFF), word(0xFFFF))
        return random.bits16(like, word(key), mixed, word(begin))

    expected = random.bits16(x, key, other, begin).float()
    same(computed(kernel, bits, [x], expected), expected)


@pytest.mark.parametrize("count", [1, 255, 256, 3001])
def test_one_number_is_stored_for_a_block(kernel, count):
    x = numbers(count).nan_to_num()
    for size in (128, 256):
        expected = blockwise.for_blocks(blockwise.block_amax(x, size), size)
        found = computed(
            kernel, lambda graph, y, size=size: blockwise.block_amax(y, size), [x], expected, size
        )
        same(found, expected)


@pytest.mark.parametrize("count", [1, 2, 3001])
def test_two_codes_are_stored_in_one_number(kernel, count):
    x = numbers(count).nan_to_num().clamp(-1, 1)
    expected = blockwise.packed(blockwise.encoded(x, "dynamic4"))
    found = computed(
        kernel, lambda graph, y: blockwise.encoded(y, "dynamic4"), [x], expected, per=2
    )
    same(found, expected)


def test_each_cell_of_a_book_has_at_most_one_boundary():
    """The machine finds codes by the first 16 bits of a number."""
    for name in blockwise.BOOKS:
        boundaries = torch.tensor(blockwise.BOUNDARIES[name])
        cells = boundaries.view(torch.int32) >> 16
        assert len(cells.unique()) == len(cells), name


SHAPES = {"a": (40, 67), "b": (257,), "c": (), "d": (0, 3), "e": (64, 64)}
CHAIN = fo.chain(fo.clip_by_global_norm(1.0), fo.adamw(fo.linear_schedule(0.01, 0.001, 5)))
ROUNDED = [fo.rounded(CHAIN, how) for how in ("stochastic", "kahan", "remainder8", "remainder")]
QUANTIZED = [fo.quantized(CHAIN, how, min_size=0) for how in ("8bit", "4bit", "fp8", "bf16+8")]
CHAINS = [
    *ROUNDED,
    fo.rounded(CHAIN, "master"),
    *QUANTIZED,
    fo.rounded(fo.quantized(fo.lion(0.01), min_size=0), "stochastic"),
    fo.rounded(fo.quantized(fo.accumulate(CHAIN, 2), min_size=0), "kahan"),
    fo.rounded(fo.skip_if(fo.quantized(CHAIN, min_size=0)), "remainder"),
    fo.quantized(fo.chain(CHAIN, fo.ema_of_params(0.9)), min_size=0),
    fo.quantized(fo.adafactor(0.01), min_size=0),
    fo.quantized(fo.partition({"a": fo.muon(0.01, ns_dtype=None), "b": fo.sgd(0.1, momentum=0.9)},
                              lambda name, p: "a" if p.ndim == 2 else "b"), min_size=0),
]  # fmt: skip


def steps(tx, engine, dtype, count=5):
    torch.manual_seed(0)
    params = {k: torch.nn.Parameter(torch.randn(v).to(dtype)) for k, v in SHAPES.items()}
    opt = fo.Optimizer(params.items(), tx, engine=engine)
    generator = torch.Generator().manual_seed(1)
    for _ in range(count):
        for p in params.values():
            p.grad = torch.randn(p.shape, generator=generator).to(dtype)
        opt.step()
    return params, opt


@pytest.mark.in_part(3, kernel="triton")  # by its interpreter
@pytest.mark.parametrize("kernel", KINDS, indirect=True)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32], ids=str)
@pytest.mark.parametrize("tx", CHAINS, ids=lambda tx: " ".join(repr(tx).split()))
def test_steps_are_those_of_the_eager_engine(kernel, tx, dtype):
    """But for the rounding of float32: few codes differ, and by one place."""
    eager, _ = steps(tx, "eager", dtype)
    made, opt = steps(tx, kernel.option, dtype)
    assert opt.engine == kernel.option
    spacing = torch.finfo(dtype).eps
    for name, p in eager.items():
        if p.numel():
            off = (p.double() - made[name].double()).abs()
            assert off.max() <= max(4 * spacing, 1e-5) * max(1.0, p.abs().max().item()), name
            assert (off > 4e-6).double().mean() < 0.01, name


@pytest.mark.parametrize(
    "tx", [*ROUNDED, *QUANTIZED[:2]], ids=lambda tx: " ".join(repr(tx).split())
)
def test_other_orders_of_memory_give_the_same_bits(tx):
    """Random bits and blocks follow the rows of a tensor, however it lies in memory."""

    def run(change, engine):
        torch.manual_seed(0)
        w = torch.nn.Parameter(change(torch.randn(3, 40, 32, 4).bfloat16()))
        opt = fo.Optimizer([("w", w)], tx, engine=engine)
        for k in range(3):
            w.grad = change(torch.randn(w.shape, generator=torch.manual_seed(k)).bfloat16())
            opt.step()
        assert opt.engine == engine
        return w.detach()

    def last(x):
        return x.to(memory_format=torch.channels_last)

    for engine in ("eager", "fused"):
        assert torch.equal(run(last, engine), run(lambda x: x, engine))


def test_tensors_are_not_cut_where_it_matters_where_an_entry_is(monkeypatch):
    graph = Graph(torch.float32, CPU)
    x = graph.input(0, torch.float32)
    lowered = lower_graph(graph, {0: blockwise.block_amax(x, 256)}, []).lowered
    monkeypatch.setenv("FUNCOPT_KERNELS", "interpreted")
    assert lowered.sees_places
    assert _kernels.kernel_for(lowered, CPU).chunk == sys.maxsize
