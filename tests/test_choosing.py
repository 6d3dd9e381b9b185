"""The comparison behind `docs/choosing.md` does what it says; who wins is not tested here."""

import json
import math

import pytest
import torch

import funcopt as fo
from benchmarks.choosing import pieces, report, store
from benchmarks.choosing.__main__ import FIRST, in_order, main
from benchmarks.choosing.intervals import as_good_as_best, difference, interval
from benchmarks.choosing.methods import EXCEPTIONS, KNOWN, METHODS, WRAPPED, of, transformation
from benchmarks.choosing.pieces import SEARCH, SEEDS, Setting, piece, refine, search
from benchmarks.choosing.tasks import TASKS, digits, letters_1m

FEW = ["--steps", "4", "--tasks", "digits", "--methods"]


def test_every_class_is_compared_or_excepted_with_a_reason():
    assert {*METHODS} - {*WRAPPED} == {*fo.optim.list()} - {*EXCEPTIONS}
    assert not {*METHODS} & {*EXCEPTIONS}
    assert all(EXCEPTIONS.values())


@pytest.mark.parametrize("name", METHODS)
def test_every_value_makes_an_optimizer_that_trains(name):
    method, task = METHODS[name], digits(steps=10)
    for value in method.values:
        setting = Setting(method.moved(method.lr, method.values[0], value), value)
        assert math.isfinite(pieces.trained(task, method, setting, seed=0).loss)


def test_the_results_are_of_these_methods():
    for task, results in store.all_read().items():
        assert {*results} <= {*METHODS}
        for name, result in results.items():
            assert result["method"] == METHODS[name].description(), (task, name)
            if "error" in result or "diverged" in result:
                continue
            tried = [(row["lr"], row["second"]) for row in result["search"]]
            assert len({map(str, tried)}) == 1 or len(tried) == len({*map(str, tried)})
            assert (result["chosen"]["lr"], result["chosen"]["second"]) in tried
            assert len(result["runs"]) == len(SEEDS)


def test_the_budget_is_the_same_for_all():
    for task, results in store.all_read().items():
        counts = {len(result["search"]) for result in results.values() if "search" in result}
        assert counts <= {pieces.REFINE if task in store.SMALLER else SEARCH}


def test_the_page_has_the_tables_of_the_results():
    page = (report.DOCS / "choosing.md").read_text()
    assert report.section(store.all_read()) in page
    assert report.excluded() in " ".join(page.split())


def test_a_piece_that_is_there_is_not_computed_again(tmp_path, monkeypatch):
    given = [*FEW, "SGD", "AdamW, average", "--out", str(tmp_path)]
    main(given)
    first = (tmp_path / "digits.json").read_text()
    assert list(json.loads(first)["results"]) == ["SGD", "AdamW, average"]
    with pytest.raises(SystemExit):  # without --resume, results are not overwritten
        main(given)
    computed = []

    def recorded(task, method, start):
        computed.append(method)
        return piece(task, method, start)

    monkeypatch.setattr(store, "piece", recorded)
    main([*given, "--resume"])
    assert computed == []
    assert (tmp_path / "digits.json").read_text() == first
    main([*FEW, "SGD", "Adam", "--out", str(tmp_path), "--resume"])
    assert computed == [METHODS["Adam"]]
    monkeypatch.setitem(METHODS, "SGD", METHODS["SGD"]._replace(lr=0.1))  # is another piece
    main([*FEW, "SGD", "Adam", "--out", str(tmp_path), "--resume"])
    assert computed == [METHODS["Adam"], METHODS["SGD"]]


def test_what_is_interrupted_is_continued(tmp_path, monkeypatch):
    def interrupted(task, method, start):
        if method is METHODS["Adam"]:
            raise KeyboardInterrupt
        return piece(task, method, start)

    given = [*FEW, "Adam", "SGD", "--out", str(tmp_path), "--resume"]
    with monkeypatch.context() as patch:
        patch.setattr(store, "piece", interrupted)
        with pytest.raises(KeyboardInterrupt):
            main(given)
    assert list(store.read(tmp_path / "digits.json")["results"]) == ["SGD"]
    main(given)
    assert list(store.read(tmp_path / "digits.json")["results"]) == ["SGD", "Adam"]


@pytest.mark.parametrize("text", ['{"results": {', "[]", '{"steps": 300}', '{"results": []}', ""])
def test_a_broken_file_says_so_and_is_left_as_it_is(tmp_path, text):
    path = tmp_path / "digits.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"digits\.json is no file of results.*git checkout"):
        main([*FEW, "SGD", "--out", str(tmp_path), "--resume"])
    assert path.read_text() == text


def test_results_of_another_comparison_are_not_continued(tmp_path):
    main([*FEW, "SGD", "--out", str(tmp_path)])
    with pytest.raises(ValueError, match=r"of another comparison.*'steps': 4.*'steps': 5"):
        main([*FEW, "SGD", "--steps", "5", "--out", str(tmp_path), "--resume"])


def test_the_large_task_begins_where_the_small_one_ended(tmp_path):
    small = store.Store(tmp_path, TASKS["letters"](4))
    large = store.Store(tmp_path, letters_1m(4))
    guess = Setting(METHODS["AdamW"].lr, METHODS["AdamW"].values[0])
    assert small.start("AdamW") is None
    assert large.start("AdamW") == guess
    found = {"chosen": {"lr": 0.5, "second": [0.9, 0.95]}}
    (tmp_path / "letters.json").write_text(json.dumps({"results": {"AdamW": found}}))
    assert large.start("AdamW") == Setting(0.5, (0.9, 0.95))
    large.results["AdamW"] = {
        "method": METHODS["AdamW"].description(),
        "start": {"lr": 0.5, "second": [0.9, 0.95]},
    }
    assert large.has("AdamW", Setting(0.5, (0.9, 0.95)))
    assert not large.has("AdamW", guess)


def test_the_first_pieces_are_of_the_best_known_and_none_is_left_out():
    order = list(in_order(TASKS, METHODS))
    assert sorted(order) == sorted((task, name) for task in TASKS for name in METHODS)
    large = [name for task, name in order if task == "letters_1m"]
    assert large[:FIRST] == list(METHODS)[:FIRST]
    before = order[: order.index(("letters_1m", large[0]))]
    assert {name for _, name in before} == {*KNOWN, *WRAPPED}
    assert list(in_order(["digits"], ["SGD", "Adam"])) == [("digits", "SGD"), ("digits", "Adam")]
    for name in METHODS:  # which begins where the letters ended
        assert order.index(("letters", name)) < order.index(("letters_1m", name))


def settled(lowest):
    """A training whose loss depends on the setting alone."""

    def trained(task, method, setting, seed):
        loss = abs(math.log10(setting.lr / lowest[setting.second]))
        return pieces.Trained(loss, loss, 1.0, 2.0)

    return trained


def test_six_rates_then_the_second_number_with_the_best_three(monkeypatch):
    method = of(fo.sgd, 0.01, "momentum", (0.9, 0.0, 0.95), (1.0, 10.0, 0.5))
    monkeypatch.setattr(pieces, "trained", settled({0.9: 0.03, 0.0: 0.31, 0.95: 0.02}))
    found = [setting for setting, _ in search(digits(), method)]
    assert [momentum for _, momentum in found] == [0.9] * 6 + [0.0] * 3 + [0.95] * 3
    rates = [0.001, 0.003162, 0.01, 0.03162, 0.1, 0.3162, 0.1, 0.3162, 1.0, 0.005, 0.01581, 0.05]
    assert [lr for lr, _ in found] == pytest.approx(rates, rel=1e-3)
    assert len(found) == SEARCH
    result = piece(digits(), method)
    assert result["chosen"] == {"lr": 0.3162, "second": 0.0}
    assert result["rate_only"]["lr"] == 0.03162


def test_four_rates_around_the_start_then_the_other_values(monkeypatch):
    method = of(fo.sgd, 0.01, "momentum", (0.9, 0.0, 0.95), (1.0, 10.0, 0.5))
    monkeypatch.setattr(pieces, "trained", settled({0.9: 0.03, 0.0: 0.31, 0.95: 0.02}))
    found = [setting for setting, _ in refine(letters_1m(), method, Setting(1.0, 0.0))]
    assert [momentum for _, momentum in found] == [0.0] * 4 + [0.9, 0.95]
    rates = [0.1, 0.3162, 1.0, 3.162, 0.03162, 0.01581]
    assert [lr for lr, _ in found] == pytest.approx(rates, rel=1e-3)
    assert len(found) == pieces.REFINE
    assert "rate_only" not in piece(letters_1m(), method, Setting(1.0, 0.0))


def test_the_setting_is_chosen_by_validation_and_by_all_seeds_of_the_search(monkeypatch):
    seen = []

    def trained(task, method, setting, seed):
        seen.append(seed)
        lucky = 0.0 if seed == 0 and setting.lr == 0.01 else 1.0
        return pieces.Trained(lucky - setting.lr, setting.lr, 1.0, 2.0)

    monkeypatch.setattr(pieces, "trained", trained)
    task = digits()
    method = of(fo.sgd, 0.01, "momentum", (0.9, 0.0, 0.95))
    piece(task, method)
    assert not {*SEEDS} & {*task.search}
    assert seen.count(0) == seen.count(-1) == seen.count(-2) == SEARCH
    assert pieces.tried(task, method, [Setting(0.01, 0.9)])[0].loss == pytest.approx(2 / 3 - 0.01)


def test_trainings_of_a_seed_see_the_same_batches_and_a_setting_can_be_repeated():
    task = digits(steps=5)
    first, again = (list(task.batches(3, 5)) for _ in range(2))
    assert all((x == y).all() for (x, _), (y, _) in zip(first, again, strict=True))
    one, other = (pieces.trained(task, METHODS["Adam"], Setting(0.01, (0.9, 0.9)), 2) for _ in "ab")
    assert one == other


def test_a_method_that_diverges_or_fails_is_recorded(monkeypatch):
    diverging = of(fo.sgd, 1e30, "momentum", (0.0, 0.5, 0.9))
    found = piece(digits(steps=4), diverging)
    assert found["diverged"]
    assert [row["loss"] for row in found["search"]].count(None) == SEARCH
    assert report.cell(found, False) == "diverged with every setting"
    broken = of(fo.sgd, 0.1, "momentun", (0.0, 0.5, 0.9))
    found = piece(digits(steps=4), broken)
    assert "unknown argument `momentun`" in found["error"]
    assert report.cell(found, False) == "an error"
    json.dumps(found, allow_nan=False)


def test_the_matrices_of_the_large_task_have_a_million_entries():
    model = letters_1m().model()
    assert 0.9e6 < sum(p.numel() for p in model.parameters()) < 1.1e6


def test_the_learning_rate_rises_falls_and_stays_for_those_that_average():
    seen = {}
    for name in ("SGD", "AdamW, average"):
        model = torch.nn.Linear(1, 1)
        tx = transformation(METHODS[name], 0.1, METHODS[name].values[0], steps=20)
        opt = fo.Optimizer(model.named_parameters(), tx)
        seen[name] = []
        for _ in range(20):
            model(torch.ones(1)).sum().backward()
            opt.step()
            seen[name].append(opt.param_groups[0]["lr"])
    assert max(seen["SGD"]) == pytest.approx(0.1)
    assert seen["SGD"][-1] < 0.005
    assert seen["AdamW, average"][-1] == pytest.approx(0.1)
    assert seen["AdamW, average"][0] < 0.1


def test_the_interval_of_three_values_is_students():
    # mean 2, deviation 1: 4.3027 / sqrt(3)
    assert interval([1.0, 2.0, 3.0]) == pytest.approx((2.0, 2.48414), abs=1e-5)
    assert str(interval([1.0, 2.0, 3.0])) == "2.000 ± 2.484"
    assert str(interval([1.0, math.inf, 3.0])) == "diverged"


def test_pairs_tell_apart_what_intervals_of_each_do_not():
    best, other = [1.0, 2.0, 3.0], [1.1, 2.11, 3.12]
    assert difference(other, best) == pytest.approx((0.11, 0.024841), abs=1e-5)
    assert not difference(other, best).has_zero
    assert interval(other).mean - interval(best).mean < interval(best).half
    noisy = [1.5, 1.9, 3.2]  # by 0.5, -0.1, 0.2: 0.2 ± 0.745
    runs = {"other": other, "noisy": noisy, "best": best, "lost": [1.0, 2.0, math.inf]}
    assert as_good_as_best(runs) == ["best", "noisy"]
    assert as_good_as_best({"lost": [math.inf] * 3}) == []
    assert as_good_as_best({}) == []


def result_of(runs, search, **more):
    chosen = {"lr": search[-1][0], "second": search[-1][1]}
    rows = [{"lr": lr, "second": second, "loss": loss} for lr, second, loss in search]
    runs = [{"loss": loss, "accuracy": 0.5} for loss in runs]
    return {"search": rows, "chosen": chosen, "runs": runs, "date": "2026-01-02", **more}


def test_the_tables_say_what_is_missing_equal_and_gained():
    rates = [(0.1, [0.9, 0.999], 2.0), (0.2, [0.9, 0.999], 1.5), (0.4, [0.9, 0.999], 1.9)]
    first = {"lr": 0.2, "second": [0.9, 0.999]}
    untuned = [{"loss": loss, "accuracy": 0.5} for loss in (1.5, 2.51, 3.52)]
    adam = result_of(
        [1.0, 2.0, 3.0], [*rates, (0.2, [0.9, 0.95], 1.0)], rate_only={**first, "runs": untuned}
    )
    nadam = result_of([1.5, 1.9, 3.2], rates, slots=2.0)
    radam = result_of([None, 1.9, 3.2], rates)
    results = {"digits": {}, "letters": {"NAdam": nadam, "Adam": adam, "RAdam": radam}}
    rows = report.table(results).splitlines()
    assert rows[2] == "| `Adam` | – | = 2.000 ± 2.484 | – |"  # noqa: RUF001
    assert rows[3] == "| `NAdam` | – | = 2.200 ± 2.208 | 2.0 |"  # noqa: RUF001
    assert len(rows) == 2 + 3
    assert "| `RAdam` | – | diverged | – |" in rows  # noqa: RUF001
    text = report.summary(results)
    missing = [name for name in METHODS if name not in ("Adam", "NAdam", "RAdam")]
    assert report.named(missing) in text
    assert f"of 2026-01-02: digits 0 of {len(METHODS)}, letters 3 of {len(METHODS)}." in text
    assert "lowest loss is that of `Adam`. Equal to it within the interval (1): `NAdam`." in text
    assert "**Failures**: `RAdam` (letters: 1 of 3 seeds diverged)." in text
    assert "for 1 of 1 another value" in text
    assert "lower beyond the interval for 1 (`Adam`), higher for 0" in text
    row = next(x for x in report.settings(results).splitlines() if x.startswith("| `Adam` |"))
    assert row.endswith("| – | 0.2, (0.9, 0.95) | – | 0.510 ± 0.025 |")  # noqa: RUF001
    row = next(x for x in report.settings(results).splitlines() if x.startswith("| `NAdam` |"))
    assert "| 0.4*, (0.9, 0.999) |" in row  # the last rate that was tried


def test_figures_are_drawn_of_a_part_of_the_results():
    results = store.all_read()
    part = {task: dict(list(found.items())[:k]) for k, (task, found) in enumerate(results.items())}
    for given in (results, part, report.begun(part)):
        assert len(report.draw_losses(given).axes) == len(given)
        assert report.draw_rates(given).axes
    assert {*report.begun(part)} == {task for task, found in part.items() if found}
