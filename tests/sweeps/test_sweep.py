"""Many trainings at once, against the same trainings one by one."""

import copy
import io
import sys
import warnings

import pytest
import torch
from sklearn.datasets import load_digits
from torch.func import functional_call
from torch.nn.functional import cross_entropy, mse_loss

import funcopt as fo
from funcopt._core.progress import Bar
from funcopt.sweeps import _job
from funcopt.sweeps._memory import peak_bytes

from ..roundings import nudged
from ..training import common

PARAMS, BATCHES = common.params(), common.batches(6)
GRID = {"lr": [0.01, 0.1, 0.3], "weight_decay": [0.0, 0.5]}


def swept(tx=None, values=None, **options):
    tx, values = fo.adamw() if tx is None else tx, GRID if values is None else values
    given = {"params": PARAMS, "batches": BATCHES, "progress": False}
    return fo.sweep(common.loss, tx, values, **{**given, **options})


def alone(setting, tx=None, params=None, batches=None):
    live = fo.with_hyperparams(fo.adamw() if tx is None else tx, setting)
    start = fo.TrainState.start(live, common.params() if params is None else params)
    return common.trained(live, start, common.batches(6) if batches is None else batches)


def test_sixty_four_learning_rates_of_the_digits():
    """200 steps of Adam, batches of 32, a network of 64-32-10, in float64.

    Where training is unstable, roundings grow. How much is measured: how far does a run end from
    itself if every parameter starts one rounding higher or lower, or if its rate is off by 1e-13?
    So much is left to the last bit of a power of 0.999, which a number and a tensor may round
    differently, where it is taken from 1. Most end within 1e-10, and are held to 1e-9. The others,
    of rates from 0.3 to 0.8, are held to ten times what was measured.
    """
    pixels, labels = load_digits(return_X_y=True)
    x, y = torch.tensor(pixels / 16), torch.tensor(labels)
    torch.manual_seed(0)
    model = torch.nn.Sequential(
        torch.nn.Linear(64, 32), torch.nn.ReLU(), torch.nn.Linear(32, 10)
    ).double()
    params = fo.split_module(model).params
    order = torch.randint(len(x), (200, 32), generator=torch.Generator().manual_seed(0))
    batches = [(x[rows], y[rows]) for rows in order]

    def loss(params, batch):
        return cross_entropy(functional_call(model, params, (batch[0],)), batch[1])

    rates = torch.logspace(-4, 0, 64, dtype=torch.float64)

    def swept_from(params, rates):
        return fo.sweep(loss, fo.adam(), {"lr": rates}, params, batches, progress=False)

    def of_torch(rate):
        trained = copy.deepcopy(model)
        opt = torch.optim.Adam(trained.parameters(), lr=rate)
        for inputs, labels in batches:
            opt.zero_grad()
            cross_entropy(trained(inputs), labels).backward()
            opt.step()
        return fo.split_module(trained).params

    result = swept_from(params, rates)
    beside = [
        swept_from(nudged(params), rates),
        swept_from(params, rates * (1 + 1e-13)),
        swept_from(params, rates * (1 - 1e-13)),
    ]
    assert result.losses.shape == (64, 200)
    calm = 0
    for i, rate in enumerate(rates.tolist()):
        tx, mine = fo.adam(rate), result.run(i).params
        sensitivity = max(apart(mine, other.run(i).params) for other in beside)
        calm += sensitivity < 1e-10
        allowed = 1e-9 if sensitivity < 1e-10 else 10 * sensitivity
        state, losses = common.trained(tx, fo.TrainState.start(tx, params), batches, loss)
        assert apart(mine, state.params) < allowed
        if sensitivity < 1e-10:
            assert common.close(result.losses[i], losses)
        assert apart(mine, of_torch(rate)) < allowed
    assert calm >= 48  # 55 on one processor; how many of the unstable ones are calm depends on it
    assert 1e-3 < result.settings[result.best()]["lr"] < 0.1


def apart(a, b):
    """The largest difference of an entry."""
    return max((x - y).abs().max().item() for x, y in zip(a.values(), b.values(), strict=True))


@pytest.mark.parametrize("name", common.every_transformation())
def test_every_transformation_can_be_swept(name):
    tx = common.every_transformation()[name]
    values = {k: testing_values(v) for k, v in common.numbers(tx).items()}
    settings = [{k: column[i] for k, column in values.items()} for i in range(3)]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = swept(tx, settings)
    for i, setting in enumerate(settings):
        state, losses = alone(setting, tx)
        assert common.close(result.losses[i], losses)
        assert common.close(result.run(i).params, state.params)


def testing_values(value):
    if isinstance(value, tuple):
        return list(zip(*map(testing_values, value), strict=True))
    return [value, 0.95 * value, 0.9 * value]


testing_values.__test__ = False


def test_the_order_of_a_grid():
    settings = fo.sweeps.grid(GRID)
    assert settings[1] == {"lr": 0.01, "weight_decay": 0.5}
    assert swept().settings == tuple(settings)


@pytest.mark.parametrize("chunk_size", [1, 4, 5, 6, 100])
def test_chunks_give_the_same(chunk_size):
    whole, cut = swept(), swept(chunk_size=chunk_size)
    assert common.close(whole.losses, cut.losses, 1e-12)
    assert common.close(whole.state, cut.state, 1e-12)
    assert cut.settings == whole.settings


def test_a_stream_of_batches_is_the_same_for_all_chunks():
    assert common.close(swept().losses, swept(batches=iter(common.batches(6)), chunk_size=2).losses)


def test_a_memory_limit_is_kept(monkeypatch):
    sizes = []
    train = _job.Job.train
    monkeypatch.setattr(
        _job.Job,
        "train",
        lambda self, c, bar: sizes.append(len(c[0]["lr"])) or train(self, c, bar),
    )
    values = {"lr": torch.linspace(0.01, 0.1, 20)}

    def run(models):
        return swept(values={"lr": torch.linspace(0.01, 0.1, models)})

    limit = peak_bytes(lambda: run(5))
    sizes.clear()
    limited = swept(values=values, memory_limit=limit)
    assert sizes[:2] == [1, 2]  # to find out
    assert set(sizes[2:]) == {5}
    assert common.close(limited.losses, swept(values=values).losses, 1e-12)
    with pytest.raises(fo.errors.HyperparameterError, match="is 10 bytes, but one model takes"):
        swept(memory_limit=10)


def test_seeds_start_and_data():
    def data(seed):
        return common.batches(6, seed)

    result = swept(params=seeded_params, batches=data, seeds=[3, 4])
    assert len(result.settings) == 12
    assert result.settings[1] == {"lr": 0.01, "weight_decay": 0.0, "seed": 4}
    for i in (0, 1, 11):
        setting = dict(result.settings[i])
        seed = setting.pop("seed")
        torch.manual_seed(seed)
        _, losses = alone(setting, params=seeded_params(seed), batches=data(seed))
        assert common.close(result.losses[i], losses)


def seeded_params(seed):
    return fo.tree.map(lambda p: p + 0.1 * torch.randn_like(p), common.params())


def test_torch_s_generator_is_left_alone():
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    swept(params=seeded_params, seeds=[1, 2])
    fo.sweeps.sample({"lr": fo.sweeps.loguniform(1e-4, 1.0)}, 8, seed=1)
    assert torch.equal(torch.rand(3), expected)


def test_numbers_of_the_loss():
    def loss(params, batch, *, penalty):
        squares = sum(p.square().sum() for p in fo.tree.leaves(params))
        return common.loss(params, batch) + penalty * squares

    values = {"penalty": [0.0, 0.1], "lr": [0.01, 0.1]}
    result = fo.sweep(loss, fo.adam(), values, common.params(), common.batches(6), progress=False)
    for i, setting in enumerate(result.settings):
        tx = fo.adam(setting["lr"])
        _, losses = common.trained(
            tx,
            fo.TrainState.start(tx, common.params()),
            common.batches(6),
            lambda p, b, setting=setting: loss(p, b, penalty=setting["penalty"]),
        )
        assert common.close(result.losses[i], losses)


def test_a_function_that_makes_the_transformation():
    def make(peak, decay):
        return fo.adamw(fo.cosine_decay_schedule(peak, 6), weight_decay=decay)

    result = swept(make, {"peak": [0.1, 0.2], "decay": [0.0, 0.1]})
    for i, setting in enumerate(result.settings):
        _, losses = alone({}, make(**setting))
        assert common.close(result.losses[i], losses)


def test_tuples_and_full_paths():
    result = swept(fo.adam(0.1), {"betas": [(0.9, 0.999), (0.5, 0.9)], "1/eps": [1e-8, 1e-2]})
    for i, setting in enumerate(result.settings):
        _, losses = alone(setting, fo.adam(0.1))
        assert common.close(result.losses[i], losses)


def test_scores_of_the_trained_models():
    (batch,) = common.batches(1, seed=9)
    result = swept(evaluate=lambda params: {"held out": common.loss(params, batch)})
    for i in range(6):
        expected = common.loss(result.run(i).params, batch)
        torch.testing.assert_close(result.scores["held out"][i], expected)
    assert result.best("held out") == int(result.scores["held out"].argmin())
    assert result.best("held out", largest=True) == int(result.scores["held out"].argmax())
    assert "| lr | weight_decay | loss | held out |" in result.table()
    single = swept(evaluate=lambda params: common.loss(params, batch))
    assert common.close(single.scores["score"], result.scores["held out"])


def test_averages_are_what_is_evaluated():
    tx = fo.chain(fo.adam(0.1), fo.ema_of_params(0.9))
    result = swept(tx, {"lr": [0.1, 0.2]}, evaluate=lambda p: p["1"]["bias"].sum())
    for i, setting in enumerate(result.settings):
        state, _ = alone(setting, tx)
        averaged = fo.eval_params(fo.with_hyperparams(tx, setting), state.opt_state, state.params)
        torch.testing.assert_close(result.scores["score"][i], averaged["1"]["bias"].sum())


def test_buffers_of_every_model():
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.BatchNorm1d(3)).double()
    parts = fo.split_module(model)

    def loss(params, buffers, batch):
        state = parts._replace(params=params, buffers=buffers)
        out, buffers = fo.call_module(model, state, batch[0])
        return mse_loss(out, batch[1]), buffers

    result = fo.sweep(
        loss,
        fo.sgd(),
        {"lr": [0.1, 0.5]},
        parts.params,
        common.batches(4),
        buffers=parts.buffers,
        evaluate=lambda params, buffers: buffers["1.running_var"].sum(),
        progress=False,
    )
    for i, setting in enumerate(result.settings):
        tx = fo.sgd(**setting)
        start = fo.TrainState.start(tx, parts.params, parts.buffers)
        state, _ = common.trained(tx, start, common.batches(4), loss)
        assert common.close(result.run(i), state)
        assert result.run(i).buffers["1.num_batches_tracked"] == 4


def test_dropout_is_drawn_for_every_model():
    def loss(params, batch):
        return torch.nn.functional.dropout(params, 0.5).sum()

    def run(**options):
        given = {"batches": [None], "progress": False, **options}
        return fo.sweep(loss, fo.sgd(), {"lr": [0.1] * 8}, torch.ones(100), **given).losses[:, 0]

    torch.manual_seed(0)
    assert len(run().unique()) > 1
    assert len(run(randomness="same").unique()) == 1
    with pytest.raises(RuntimeError, match="randomness error mode"):
        run(randomness="error")


def test_parameters_that_require_grad_leave_no_history():
    params = fo.tree.map(lambda p: p.clone().requires_grad_(), common.params())
    result = swept(params=params)
    assert not any(x.requires_grad for x in fo.tree.leaves(result.state))


def test_runs_that_diverge_come_last():
    result = swept(fo.sgd(), {"lr": [1e300, 0.1, 0.01]})
    assert result.score()[0] == torch.inf
    assert result.best() != 0
    assert result.table().splitlines()[-1].startswith("| 1e+300 |")


def test_drawn_at_random():
    source = {"lr": fo.sweeps.loguniform(1e-4, 1.0), "betas": [(0.9, 0.99), (0.8, 0.9)]}
    settings = fo.sweeps.sample(source, 200, seed=5)
    assert settings == fo.sweeps.sample(source, 200, seed=5)
    assert settings != fo.sweeps.sample(source, 200, seed=6)
    rates = torch.tensor([row["lr"] for row in settings])
    assert rates.min() >= 1e-4
    assert rates.max() <= 1.0
    assert 60 < (rates < 1e-2).sum() < 140  # half of them, in the logarithm
    assert {row["betas"] for row in settings} == {(0.9, 0.99), (0.8, 0.9)}
    result = swept(fo.adam(), settings[:3])
    assert common.close(result.losses[2], alone(settings[2], fo.adam())[1])


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ({"lr": [1e-3, 1e-2, 1e-1, 1e160]}, "line"),
        (GRID, "map"),
        ([{"lr": 0.1, "weight_decay": 0.0}, {"lr": 0.2, "weight_decay": 0.5}], "points"),
        ({"lr": [0.1] * 3}, "curves"),
        ({"betas": [(0.9, 0.99), (0.8, 0.9)]}, "line"),
    ],
)
def test_figures(values, kind, tmp_path):
    figure = swept(fo.adamw() if kind != "curves" else fo.sgd(), values).plot(tmp_path / "f.png")
    assert (tmp_path / "f.png").read_bytes().startswith(b"\x89PNG")
    panels = [ax for ax in figure.axes if ax.get_xlabel()]
    labels = [ax.get_xlabel() for ax in panels]
    if kind == "curves":
        assert labels == ["step"]
        assert len(panels[0].lines) == 5  # the mean and the best among them
    elif kind == "map":
        assert (panels[0].get_xlabel(), panels[0].get_ylabel()) == ("lr", "weight_decay")
        assert panels[0].images[0].get_array().shape == (2, 3)
    elif kind == "points":
        assert labels == ["lr", "weight_decay"]
    elif "lr" in values:
        assert panels[0].get_xscale() == "log"
        assert "1 of 4 runs diverged" in figure.get_suptitle()
    else:
        assert [t.get_text() for t in panels[0].get_xticklabels()] == ["(0.9, 0.99)", "(0.8, 0.9)"]


@pytest.mark.parametrize(
    ("make", "together"),
    [
        (fo.mars, lambda betas: {"betas": betas, "momentum": betas[0]}),
        (
            fo.schedule_free_adamw,
            lambda betas: {"momentum": betas[0], "betas": (0.0, betas[1])},
        ),
    ],
)
def test_an_argument_of_several_stages_goes_with_the_function(make, together):
    betas = [(0.9, 0.99), (0.8, 0.95)]
    of_function = swept(make, {"betas": betas})
    of_chain = swept(make(), [together(pair) for pair in betas])
    for i, pair in enumerate(betas):
        state, losses = alone({}, make(betas=pair))
        for result in (of_function, of_chain):
            assert common.close(result.run(i).params, state.params, 1e-12)
            assert common.close(result.losses[i], losses, 1e-12)


def test_bad_input():
    wrong = fo.errors.HyperparameterError
    with pytest.raises(
        wrong, match=r"unknown hyperparameter `rate`\. There are: hyperparam.* \['betas'"
    ):
        swept(values={"rate": [0.1]})
    with pytest.raises(wrong, match=r"unknown hyperparameter `rate`\. .* `tx` are \['peak'\]"):
        swept(lambda peak: fo.sgd(peak), {"rate": [0.1]})
    with pytest.raises(wrong, match="`lr`: expected a list of values to try, got 0"):
        swept(values={"lr": 0})
    with pytest.raises(wrong, match="`lr`: the list of values to try is empty"):
        swept(values={"lr": []})
    with pytest.raises(wrong, match="there are no settings to try"):
        swept(values=[])
    with pytest.raises(wrong, match=r"the first has \['lr'\], number 1 has \['eps'\]"):
        swept(values=[{"lr": 0.1}, {"eps": 0.1}])
    with pytest.raises(wrong, match="values of `lr` must be numbers"):
        swept(values={"lr": [fo.linear_schedule(0.1, 0.0, 5)]})
    with pytest.raises(wrong, match="`chunk_size` must be a whole number, at least 1, got 0"):
        swept(chunk_size=0)
    with pytest.raises(wrong, match="there are no batches"):
        swept(batches=[])
    with pytest.raises(wrong, match=r"there is no score `accuracy`; there are \['loss'\]"):
        swept().score("accuracy")
    with pytest.raises(wrong, match="0 < low < high"):
        fo.sweeps.loguniform(0.0, 1.0)


def test_to_pandas_has_a_row_for_each_run():
    pytest.importorskip("pandas")
    result = swept(
        values={"lr": [0.1, torch.tensor(0.2)], "weight_decay": [0.0, 1.0]},
        params=lambda seed: fo.tree.map(lambda p: p + 0.1 * seed, common.params()),
        seeds=range(2),
        evaluate=lambda params: {"held out": fo.tree.norm(params)},
    )
    table = result.to_pandas()
    assert list(table.columns) == ["lr", "weight_decay", "seed", "loss", "held out"]
    assert table["lr"].tolist() == pytest.approx([0.1] * 4 + [0.2] * 4)
    assert table["loss"].tolist() == result.score().tolist()
    assert table["held out"].tolist() == result.scores["held out"].tolist()
    assert table["loss"].idxmin() == result.best()
    assert len(table.groupby(["lr", "weight_decay"])["loss"].mean()) == 4


def test_what_is_missing_says_which_extra_has_it(monkeypatch):
    result = swept()
    for package, call in (("pandas", result.to_pandas), ("matplotlib", result.plot)):
        monkeypatch.setitem(sys.modules, package, None)
        with pytest.raises(ImportError, match=rf"needs {package}.*funcopt\[sweeps\]"):
            call()


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize("where", [io.StringIO, Terminal])
def test_the_bar_is_shown_on_a_terminal(where, monkeypatch):
    pytest.importorskip("tqdm")
    monkeypatch.setattr(sys, "stderr", where())
    with Bar(True, 3) as bar:
        bar.update()
    assert ("1/3" in sys.stderr.getvalue()) == (where is Terminal)


def test_the_bar_is_shown_in_a_notebook(monkeypatch):
    auto = pytest.importorskip("tqdm.auto")

    class tqdm_notebook:
        def __init__(self, **given):
            self.disabled = given["disable"]

    monkeypatch.setattr(auto, "tqdm", tqdm_notebook)
    assert Bar(True, 3).bar.disabled is False
