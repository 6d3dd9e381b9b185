"""Tables that say what an optimizer or a transformation is made of, and short forms of the rest."""

import html.parser
import inspect
import pickle

import pytest
import torch

import funcopt as fo
from funcopt import optim
from funcopt._core.explanation import in_bytes
from funcopt.errors import HyperparameterError

from ..cases import CASES
from ..training import common


class Transformer(torch.nn.Module):
    def __init__(self, layers=12):
        super().__init__()
        self.embed = torch.nn.Embedding(100, 16)
        self.layers = torch.nn.ModuleList(torch.nn.Linear(16, 16) for _ in range(layers))
        self.head = torch.nn.Linear(16, 100)


class Tags(html.parser.HTMLParser):
    """Whether tags are closed in order."""

    def __init__(self, text):
        super().__init__()
        self.open, self.seen = [], []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.seen.append(tag)
        if tag != "br":
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def every_tx():
    return {repr(case.tx): case.tx for case in CASES}


@pytest.mark.parametrize("tx", every_tx().values(), ids=lambda tx: type(tx).__name__)
def test_every_transformation_can_be_explained(tx):
    text = fo.explain(tx)
    assert all(len(line) <= 100 for line in text.splitlines())
    lines = text.markdown().splitlines()
    assert lines[0] == "| stage | formula | hyperparameters | slots | bytes |"
    assert lines[-1].startswith("state: ")
    assert "table" in Tags(tx._repr_html_()).seen


UNITS = {"B": 1, "kB": 1e3}


def rules():
    """The public rules of the library."""
    return [x for x in vars(fo).values() if inspect.isclass(x) and issubclass(x, fo.TensorRule)]


@pytest.mark.parametrize("rule", [x for x in rules() if x not in (fo.TensorRule, fo.identity)])
def test_every_rule_has_a_formula(rule):
    tx = next((case.tx for case in CASES if type(case.tx) is rule), None)
    if tx is None:
        pytest.skip("no case of its own")
    stages = [row for row in fo.explain(tx).tables[0].rows if row.cells[0].strip() == rule.__name__]
    assert stages[0].below


def test_a_row_has_formula_hyperparameters_slots_and_bytes():
    table = fo.explain(fo.chain(fo.clip_by_global_norm(1.0), fo.adamw(1e-3))).tables[0]
    assert [row.cells[0] for row in table.rows] == [
        "clip_by_global_norm",
        "scale_by_adam",
        "add_decayed_weights",
        "scale_by_learning_rate",
    ]
    clip, adam, _, rate = table.rows
    assert clip.below[1].strip() == "u    = g min(1, max_norm / (norm + eps))"
    assert clip.cells[1:] == ("max_norm=1.0", "", "")
    assert adam.cells[1].startswith("betas=(0.9, 0.999), eps=1e-08")
    assert adam.cells[2:] == ("exp_avg, exp_avg_sq", "8 per entry")
    assert rate.below == ("u = -lr g",)
    assert table.closing == "state: 8 per entry"


@pytest.mark.parametrize(
    "make", [fo.adamw, fo.muon, fo.soap, fo.adafactor, lambda: fo.accumulate(fo.lion(), 4)]
)
def test_bytes_of_stages_are_those_of_their_slots(make):
    model = Transformer()
    params = {name: p.detach() for name, p in model.named_parameters()}
    tx = make()
    slots = fo.tree.leaves(tx.init(params).slots)
    size = sum(x.numel() * x.element_size() for x in slots)
    for given in (params, model):
        text = fo.explain(tx, given)
        stages, memory = text.tables
        said = [row.cells[3].split() for row in stages.rows if row.cells[3]]
        told = sum(float(number) * UNITS[unit] for number, unit in said)
        assert told == pytest.approx(size, rel=5e-3)  # each has three digits
        assert memory.title.startswith(f"memory: state {in_bytes(text.memory.state)}, ")
        assert sum(x.bytes for x in text.memory.entries if x.entries is not None) == size


def test_what_is_inside_is_set_off_and_labels_are_named():
    tx = fo.accumulate(fo.partition({"a": fo.sgd(0.1), "b": fo.lion()}, lambda name, p: "a"), 2)
    names = [row.cells[0] for row in fo.explain(tx).tables[0].rows]
    assert names[:3] == ["accumulate", "  partition", "    a: chain"]
    assert "    b: chain" in names


def test_an_optimizer_has_a_block_for_each_group_and_a_line_for_each_pattern():
    model = Transformer()
    opt = optim.AdamW(optim.param_groups_weight_decay(model), lr=0.5, weight_decay=0.1)
    blocks = fo.explain(opt).split("\n\n")
    assert blocks[0] == "AdamW: chain(scale_by_adam, add_decayed_weights, scale_by_learning_rate)"
    assert blocks[1].splitlines() == [
        'group "no_decay": 13 parameters, 292 entries',
        "parameter         shape   count",
        "layers.0-11.bias  (16,)   x 12",
        "head.bias         (100,)",
        "betas=(0.9, 0.999), eps=1e-08, lr=0.5, weight_decay=0.0",
    ]
    assert "layers.0-11.weight  (16, 16)   x 12" in blocks[2].splitlines()
    assert blocks[3].startswith("memory: state 52.6 kB (not yet allocated), ")
    assert len(blocks) == 4
    Tags(opt._repr_html_())


def test_state_and_schedules_are_shown():
    model = Transformer(2)
    opt = optim.AdamW(model.parameters(), lr=fo.linear_schedule(0.5, 0.0, 10), max_grad_norm=1.0)
    for p in model.parameters():
        p.grad = torch.ones_like(p)
    opt.step()
    text = fo.explain(opt)
    size = sum(x.numel() * x.element_size() for s in opt.state.values() for x in s.values())
    assert f"state {size / 1000:.3g} kB" in text
    assert "lr=0.45 of linear_schedule(0.5, 0.0, 10)" in " ".join(text.split())


def test_no_line_is_too_long_and_groups_stay_short():
    names = [f"{'part.' * 30}{chr(97 + i % 26) * (i + 1)}.{i}" for i in range(60)]
    params = [(name, torch.nn.Parameter(torch.ones(i + 1))) for i, name in enumerate(names)]
    for opt in (optim.Muon(params), torch.optim.SGD([p for _, p in params], lr=0.1)):
        lines = fo.explain(opt).splitlines()
        assert all(len(line) <= 100 for line in lines)
    assert "... and 36 more" in fo.explain(fo.Optimizer(params, fo.adamw()))


def test_torchs_optimizers_are_explained_too():
    text = fo.explain(torch.optim.SGD(Transformer().parameters(), lr=0.1, momentum=0.9))
    assert text.splitlines()[0] == "SGD"
    assert "lr=0.1, momentum=0.9" in text


def test_it_is_a_string_that_pickles():
    text = fo.explain(fo.adamw())
    assert isinstance(text, str)
    again = pickle.loads(pickle.dumps(text))
    assert again == text
    assert again.markdown() == text.markdown()


@pytest.mark.parametrize("wrong", [3, None, torch.nn.Linear(1, 1), fo.adamw])
def test_what_is_neither_is_refused(wrong):
    with pytest.raises(HyperparameterError, match=r"`explain`: expected an optimizer"):
        fo.explain(wrong)


# short forms


def test_a_state_is_printed_without_its_tensors():
    params = {"w": torch.ones(2, 3), "b": torch.ones(3, dtype=torch.float64)}
    state = fo.chain(fo.clip_by_global_norm(1.0), fo.adamw()).init(params)
    assert repr(state) == (
        "State(\n"
        "    step=0,\n"
        "    slots={\n"
        "        'w': ((), AdamSlots(exp_avg=float32[2, 3], exp_avg_sq=float32[2, 3]), (), ()),\n"
        "        'b': ((), AdamSlots(exp_avg=float64[3], exp_avg_sq=float64[3]), (), ()),\n"
        "    },\n"
        ")"
    )
    assert Tags(state._repr_html_()).seen == ["pre"]


@pytest.mark.parametrize("tx", every_tx().values(), ids=lambda tx: type(tx).__name__)
def test_every_state_prints_in_short(tx):
    params = {f"layers.{i}": torch.ones(40, 30) for i in range(50)}
    try:
        state = tx.init(params)
    except fo.errors.FuncoptError:
        pytest.skip("it does not take such parameters")
    shown = repr(state)
    assert "tensor(" not in shown
    assert len(shown) < 6000
    if "layers" in shown:
        assert "... and 44 more" in shown


def test_states_print_while_they_are_mapped_and_on_other_devices():
    tx, seen = fo.sgd(0.1, momentum=0.9), []

    def run(p):
        seen.append(repr(tx.init({"p": p})))
        return p

    torch.func.vmap(run)(torch.ones(3, 2))
    torch.func.grad(lambda p: run(p).sum())(torch.ones(2))
    assert all("momentum_buffer=float32[2]" in text for text in seen)
    shown = repr(tx.init({"p": torch.ones(2, device="meta")}, capturable=True))
    assert "momentum_buffer=float32[2] on meta" in shown


def test_results_print_in_short():
    loss, params, batches = common.loss, common.params(), common.batches(3)
    found = fo.hypergrad(
        loss, fo.sgd(), {"lr": 0.1}, params, batches, lambda p: loss(p, batches[0])
    )
    for shown in (repr(found), repr(found.state), repr(fo.split_module(Transformer()))):
        assert "tensor(" not in shown
        assert max(map(len, shown.splitlines())) <= 110
    result = fo.sweep(loss, fo.sgd(), {"lr": [0.1] * 30}, params, batches, progress=False)
    assert Tags(result._repr_html_()).seen.count("tr") == 21
    assert "of which the best 20 runs" in result._repr_html_()
    assert result.table().splitlines()[0] == "| lr | loss |"


@pytest.mark.parametrize("block_size", [2, 16, 512])
def test_of_blocks_bytes_are_those_of_a_state(block_size):
    """However many there are: of small ones, hundreds of thousands in the matrix shown."""
    tx = fo.scale_by_shampoo(block_size=block_size)
    n = max(64, 2 * block_size)
    slots = tx.init(torch.empty(n, n, device="meta")).slots
    size = sum(x.numel() * x.element_size() for x in fo.tree.leaves(slots))
    assert fo.explain(tx).tables[0].closing == f"state: {size / n**2:.3g} per entry"
