"""Every example runs, and does what it says."""

import importlib.util
import math
import pathlib
import pickle
import sys

import numpy as np
import pytest
import torch

import funcopt as fo
from funcopt import optim

EXAMPLES = pathlib.Path(__file__).parent.parent / "examples"


@pytest.fixture
def example(tmp_path, monkeypatch):
    """Loads an example by name; it writes its figures into a folder of its own."""
    monkeypatch.chdir(tmp_path)
    threads = torch.get_num_threads()

    def load(name):
        spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, name, module)  # so that what it defines pickles
        spec.loader.exec_module(module)
        return module

    yield load
    torch.set_num_threads(threads)


def is_a_figure(path):
    return path.read_bytes().startswith(b"\x89PNG") and path.stat().st_size > 10_000


def test_pure_loop(example, tmp_path):
    assert example("pure_loop").main() < 1e-2
    assert is_a_figure(tmp_path / "out" / "pure_loop.png")


def test_your_own_rule(example, tmp_path, capsys):
    assert example("your_own_rule").main() < 1e-2
    assert is_a_figure(tmp_path / "out" / "your_own_rule.png")
    assert "chain(signum(), scale_by_learning_rate(linear_schedule(" in capsys.readouterr().out


def test_bare_tensors(example, tmp_path, capsys):
    found = example("bare_tensors").main()
    assert found["x"] == pytest.approx(-1332.7185, abs=5e-4)
    assert found["c"] == pytest.approx(-442.2395, abs=5e-4)
    assert found["c at lr 0.1"] == pytest.approx(-41.5240, abs=5e-4)
    assert found["x that was taken out"] == 5.0
    assert found["the other"] == found["x"]
    assert "Parameter Group 0" in capsys.readouterr().out
    assert is_a_figure(tmp_path / "out" / "bare_tensors.png")


def test_line_minibatch(example, tmp_path):
    losses = example("line_minibatch").main()
    assert {name: len(values) for name, values in losses.items()} == {"SGD": 21, "Adam": 21}
    assert losses["SGD"][-1] < 0.2  # the noise has a variance of 0.16
    assert losses["Adam"][-1] < 0.5
    assert is_a_figure(tmp_path / "out" / "line_minibatch.png")


def test_curve_four_optimizers(example, tmp_path):
    losses = example("curve_four_optimizers").main()
    assert list(losses) == ["SGD", "momentum", "RMSprop", "Adam"]
    for values in losses.values():
        assert len(values) == 12 * 32
        assert sum(values[-32:]) < 0.7 * sum(values[:32])
    assert sum(losses["Adam"][-32:]) / 32 < 0.02  # the noise has a variance of 0.01
    assert is_a_figure(tmp_path / "out" / "curve_four_optimizers.png")


def test_line_module(example, tmp_path):
    slope, intercept = example("line_module").main()
    assert slope == pytest.approx(3.0, abs=0.01)
    assert intercept == pytest.approx(0.8, abs=0.01)
    assert is_a_figure(tmp_path / "out" / "line_module.png")


def test_image_classifier_learns_digits(example, tmp_path, capsys):
    module = example("image_classifier")
    results = module.main(epochs=3)
    assert set(results) >= set(module.OPTIMIZERS)
    assert len(results) == 7
    for losses, accuracy in results.values():
        assert losses[-1] < losses[0]
        assert accuracy > 0.5
    printed = capsys.readouterr().out
    assert "SGD, StepLR              epoch 3  loss" in printed
    assert "lr 0.005000" in printed  # a tenth, after two epochs
    assert is_a_figure(tmp_path / "out" / "image_classifier.png")


def test_image_classifier_reads_cifar10(example, tmp_path):
    drawn = np.random.default_rng(0)
    for name in [f"data_batch_{i}" for i in range(1, 6)] + ["test_batch"]:
        batch = {
            b"data": drawn.integers(0, 256, (20, 3072), dtype=np.uint8),
            b"labels": drawn.integers(0, 10, 20).tolist(),
        }
        (tmp_path / name).write_bytes(pickle.dumps(batch))
    module = example("image_classifier")
    training, unseen = module.read_cifar10(tmp_path)
    assert training.tensors[0].shape == (100, 3, 32, 32)
    assert len(unseen) == 20
    # Red, green and blue one after another, row by row.
    first = pickle.loads((tmp_path / "data_batch_1").read_bytes())[b"data"][0]
    expected = torch.from_numpy(first[1024 : 1024 + 32]).float() / 127.5 - 1
    torch.testing.assert_close(training.tensors[0][0, 1, 0], expected)
    assert len(module.main(tmp_path, epochs=1)) == 7


def test_digits_ends_the_same_in_both_forms(example, tmp_path):
    module = example("digits")
    results = module.compare(epochs=2)
    assert len(results) == 8
    assert all(result.difference < 1e-9 for result in results.values())
    assert all(result.pure.losses[-1] < result.pure.losses[0] for result in results.values())
    for some in (results, dict(list(results.items())[:3])):  # all places of a row, or not all
        module.draw(some, 2, tmp_path / "digits.png")
        assert is_a_figure(tmp_path / "digits.png")
    assert "AdamW" in module.table(results)


@pytest.mark.filterwarnings("ignore:Using backward\\(\\) with create_graph")
def test_digits_with_every_optimizer(example, tmp_path):
    module = example("digits")
    results = module.compare(epochs=1, everything=True)
    assert optim.list().keys() - results.keys() == {"Sophia", "LBFGS"}
    assert {name for name, r in results.items() if not r.difference < 1e-9} == set()
    module.draw(results, 1, tmp_path / "digits.png")
    assert is_a_figure(tmp_path / "digits.png")


def test_digits_says_what_is_wrong(example):
    module = example("digits")
    results = module.compare(epochs=1)
    run = results["AdamW"].wrapped
    moved = run._replace(params={name: p + 1e-8 for name, p in run.params.items()})
    results["AdamW"] = results["AdamW"]._replace(wrapped=moved, accuracy=0.5)
    faults = module.faults(results)
    assert any("AdamW: pure and wrapped parameters differ by 1.0e-08" in f for f in faults)
    assert any("AdamW: the test accuracy is 0.5000, below 0.95" in f for f in faults)


def test_sweep_learning_rates(example, tmp_path, capsys):
    result = example("sweep_learning_rates").main(models=9, steps=60)
    assert result.losses.shape == (9, 60)
    assert 1e-3 < result.settings[result.best()]["lr"] < 0.5
    assert result.scores["accuracy"].max() > 0.8
    assert "accuracy on held-out digits" in capsys.readouterr().out
    assert is_a_figure(tmp_path / "out" / "sweep_learning_rates.png")


def test_deep_ensemble(example, tmp_path):
    found = example("deep_ensemble").main(count=8, steps=150)
    one, mean, calibrated = found.nll.values()
    assert mean < one
    assert calibrated < one
    digits, two = found.uncertainty.values()
    assert two.mean() > 1.5 * digits.mean()
    assert is_a_figure(tmp_path / "out" / "deep_ensemble.png")


def test_maml_sinusoids(example, tmp_path):
    mean = example("maml_sinusoids").main(iterations=100)
    assert len(mean) == 11
    assert mean[1] < mean[0]  # a step helps on tasks that were never seen
    assert is_a_figure(tmp_path / "out" / "maml_sinusoids.png")


def test_maml_digits(example, tmp_path):
    found = example("maml_digits").main(iterations=50)
    after = {name: curve[3] for name, curve in found.items()}
    assert after["meta-learned"] > after["from scratch"] + 0.1
    assert is_a_figure(tmp_path / "out" / "maml_digits.png")


def test_layer_learning_rates(example, tmp_path):
    found = example("layer_learning_rates").main(trainings=10, steps=15)
    assert len(found.losses) == 10
    assert found.losses[-1] < 0.8 * found.losses[0]
    assert is_a_figure(tmp_path / "out" / "layer_learning_rates.png")


def test_learned_optimizer(example, tmp_path):
    module = example("learned_optimizer")
    found = module.main(iterations=60, steps=10)
    best = min(curve[9] for name, curve in found.items() if name != "learned")
    assert found["learned"][9] < best
    assert is_a_figure(tmp_path / "out" / "learned_optimizer.png")
    code = pathlib.Path(module.__file__).read_text()
    assert code.index("def draw(") > 0
    assert code[: code.index("def draw(")].count("\n") < 100
    # It is a rule: it keeps the laws, and goes into an optimizer.
    weights = {"hidden": torch.randn(3, 8), "out": torch.randn(8)}
    tx = module.learned(**weights)
    fo.testing.is_pure(tx, {"w": torch.randn(3, 2)})
    fo.testing.treats_tensors_apart(tx, [torch.randn(2), torch.randn(3)])
    model = torch.nn.Linear(2, 1)
    opt = fo.Optimizer(model.parameters(), fo.chain(tx, fo.scale(-0.01)))
    model(torch.ones(1, 2)).sum().backward()
    opt.step()


def test_hyper_cleaning(example, tmp_path):
    found = example("hyper_cleaning").main(outer_steps=12, examples=200)
    assert found.accuracy[-1] > found.accuracy[0]
    right, wrong = found.weights[~found.spoiled].mean(), found.weights[found.spoiled].mean()
    assert right > wrong + 0.3
    assert is_a_figure(tmp_path / "out" / "hyper_cleaning.png")


def test_fine_tuning(example, tmp_path):
    found = example("fine_tuning").main(pretrain=300, steps=24, seeds=1)
    assert list(found) == [1.0, 0.75]
    for curves in found.values():
        assert curves.shape == (3, 2, 6)
        assert curves[0, :, -1].max() > 0.5  # of three classes
    assert is_a_figure(tmp_path / "out" / "fine_tuning.png")


def test_record_recipes(example, tmp_path, capsys):
    losses = example("record_recipes").main(steps=60)
    last = {name: sum(values[-10:]) for name, values in losses.items()}
    assert last["speed run"] < 0.95 * last["AdamW"]
    assert last["Hyperball"] < 0.98 * last["AdamW"]
    assert capsys.readouterr().out.count("resumed exactly: True") == 3
    assert is_a_figure(tmp_path / "out" / "record_recipes.png")


def test_few_bits(example, tmp_path, capsys):
    losses = example("few_bits").main()
    assert losses["bf16, nearest"][-1] > 1.5 * losses["fp32"][-1]
    for name in ("bf16, kahan", "bf16, stochastic", "bf16, stochastic, 8bit"):
        assert losses[name][-1] < 1.2 * losses["fp32"][-1], name
    assert "6.05" in capsys.readouterr().out
    assert is_a_figure(tmp_path / "out" / "few_bits.png")


def test_muon_transformer(example, tmp_path, capsys):
    losses = example("muon_transformer").main(steps=40)
    muon = losses["Muon, lr 0.03"]
    assert sum(muon[-5:]) < 0.8 * sum(muon[:5])
    assert sum(muon[-5:]) < sum(losses["AdamW, lr 0.003"][-5:])
    assert "{'adamw': 21, 'muon': 9}" in capsys.readouterr().out
    assert is_a_figure(tmp_path / "out" / "muon_transformer.png")


def test_private_training(example, tmp_path):
    module = example("private_training")
    found = module.main(models=3, steps=40)
    strong, weak = found["accuracy"].mean(1)[[-1, 0]]
    assert strong + 0.2 < weak < found["without privacy"].item()
    assert found["epsilon"].diff().max() < 0  # more noise, more privacy
    # All examples in every batch: the Gaussian mechanism, of which the answer is known.
    noise, steps, delta = 4.0, 10, 1e-5
    rho = steps / (2 * noise**2)
    known = min(a * rho + math.log(1 / delta) / (a - 1) for a in range(2, 128))
    assert module.epsilon(noise, 1 - 1e-12, steps, delta) == pytest.approx(known, rel=1e-6)
    assert is_a_figure(tmp_path / "out" / "private_training.png")


def test_pinn_lbfgs(example, tmp_path):
    losses = example("pinn_lbfgs").main(evaluations=200, points=100)
    assert {name: len(values) for name, values in losses.items()} == {
        "Adam, lr 0.01": 200,
        "L-BFGS": 200,
    }
    assert min(losses["L-BFGS"]) < 0.5 * min(losses["Adam, lr 0.01"])
    assert is_a_figure(tmp_path / "out" / "pinn_lbfgs.png")


def test_policy_gradient(example, tmp_path):
    found = example("policy_gradient").main(iterations=12)
    assert found["length"][-1] > 3 * found["length"][0]
    assert is_a_figure(tmp_path / "out" / "policy_gradient.png")


def test_gan(example, tmp_path):
    found = example("gan").main(steps=400)
    assert found["EMA"][-1] < 0.5 * found["EMA"][0]
    assert is_a_figure(tmp_path / "out" / "gan.png")


def test_data_parallel(example, tmp_path):
    found = example("data_parallel").main(steps=12)
    one, two = found["one process"], found["two processes"]
    assert one["loss"] == pytest.approx(two["loss"], rel=1e-4)
    assert one["loss"][-1] < one["loss"][0]
    assert two["bytes"][0] < 0.51 * one["bytes"][0]
    assert is_a_figure(tmp_path / "out" / "data_parallel.png")


def test_adversarial(example, tmp_path):
    module = example("adversarial")
    found = module.main(steps=10, epochs=15)
    assert found["projected steps"][0] > 0.9
    assert found["projected steps"][-1] < 0.1
    assert (found["projected steps"][4:] < found["random signs"][4:] - 0.2).all()
    fo.testing.check_transformation(
        module.project(0.5), {"w": 0.3 * torch.randn(3, 2)}, compiled=False
    )
    tx, change = module.attack(0.1, steps=4), torch.zeros(50)
    state, slope = tx.init(change), torch.randn(50)
    for _ in range(4):
        updates, state = tx.update(slope, state, change)
        change = fo.apply_updates(change, updates)
    torch.testing.assert_close(change, 0.1 * slope.sign())  # on the border of the ball
    assert is_a_figure(tmp_path / "out" / "adversarial.png")


def test_paper_rule(example, tmp_path):
    found = example("paper_rule").main(seeds=8, steps=400, entries=2**12)
    assert found["Adam"].shape == (5, 8, 400)
    assert found["Adam"][:3, :, -1].mean() > 0.1  # uphill, where beta2 is small
    assert found["ADOPT"][:3, :, -1].mean() < -0.1
    assert is_a_figure(tmp_path / "out" / "paper_rule.png")


def test_every_example_is_run_here():
    here = pathlib.Path(__file__).read_text()
    for path in EXAMPLES.glob("*.py"):
        assert f'example("{path.stem}")' in here, path


def test_gpu_launches(example, tmp_path, capsys):
    from .engine.test_launches import PINNED

    found = example("gpu_launches").main(tensors=20)
    for name, ways in found.items():
        assert ways["one by one"][0] > 10 * ways["lists"][0] > 40 * ways["Triton"][0]
        assert ways["lists"][1] > 3 * ways["Triton"][1]
        pinned = PINNED[name.replace(" +", ",")]
        assert ways["lists"][1] == pytest.approx(pinned[3], abs=0.1)
    assert "Triton 1 launches, 28 bytes" in capsys.readouterr().out
    assert is_a_figure(tmp_path / "out" / "gpu_launches.png")
