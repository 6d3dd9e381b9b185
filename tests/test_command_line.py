"""`python -m funcopt`: each command, as a user types it."""

import pathlib
import re
import subprocess
import sys

import pytest
import torch

import funcopt as fo
from funcopt import cli
from funcopt.cli import _bench, _cache

ROOT = pathlib.Path(__file__).parent.parent


def run(capsys, *words):
    code = cli.main(words)
    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert all(len(line) <= 100 or "|" in line or "/" in line for line in lines)
    return code, out, err


def test_as_a_program_it_runs():
    command = [sys.executable, "-m", "funcopt", "explain", "sgd"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0
    assert done.stdout.startswith("sgd(lr=0.001, momentum=0")
    assert done.stderr == ""


def test_list_has_every_optimizer_in_a_line(capsys):
    code, out, _ = run(capsys, "list")
    table, more = out.split("\n\n")
    head, *lines = table.splitlines()
    assert code == 0
    assert head.split() == ["class", "function", "what", "it", "is"]
    rows = [re.split(r"\s{2,}", line.strip()) for line in lines]
    classes = {name for name, x in vars(fo.optim).items() if hasattr(x, "maker")}
    found = {row[0] for row in rows if len(row) == 3}
    assert found == classes
    assert {"dpsgd", "noisy_sgd", "newton_cg"} == {row[0] for row in rows if len(row) == 2}
    assert ["LBFGS", "lbfgs"] in [row[:2] for row in rows]
    assert more.startswith(f"{len(rows)} optimizers")
    assert f"| {len(rows)} (`python -m funcopt list`)" in (ROOT / "README.md").read_text()


@pytest.mark.parametrize(
    ("name", "said"),
    [
        (
            "adamw",
            ["adamw(lr=0.001,", "scale_by_adam  ", "u = -lr g", "https://arxiv.org/abs/1711."],
        ),
        ("AdamW", ["AdamW(params, lr=0.001,", "max_grad_norm=None", "add_decayed_weights"]),
        ("ADAMW", ["adamw(lr=0.001,"]),
        ("scale_by_lion", ["u = sign(b1 exp_avg", "4 per entry"]),
        ("clip_by_global_norm", ["clip_by_global_norm(max_norm", "min(1, max_norm"]),
        ("accumulate", ["accumulate(inner, steps"]),
        ("muon", ["muon: chain", "momentum_buffer"]),
        ("dpsgd", ["dpsgd("]),
        ("LBFGS", ["LBFGS(params,", "max_iter"]),
    ],
)
def test_explain_says_what_it_is(name, said, capsys):
    code, out, _ = run(capsys, "explain", name)
    assert code == 0
    assert [text for text in said if text not in out] == []
    assert "`" not in out


def every_name():
    public = {name for name, x in vars(fo.optim).items() if hasattr(x, "maker")}
    return sorted(public | {name for name in dir(fo) if name.startswith("scale_by_")})


@pytest.mark.parametrize("name", every_name())
def test_everything_can_be_explained(name, capsys):
    code, out, _ = run(capsys, "explain", name)
    assert code == 0
    assert out.lower().startswith(name.lower() + "(")


def test_explain_in_markdown(capsys):
    _, out, _ = run(capsys, "explain", "adamw", "--markdown")
    assert "| stage | formula | hyperparameters | slots | bytes |" in out


def test_a_name_that_is_not_there_is_an_error_with_what_was_meant(capsys):
    code, out, err = run(capsys, "explain", "adamv")
    assert (code, out) == (2, "")
    assert re.search(r"There is no adamv\. Did you mean adamw?\?", err)


def test_env_says_versions_and_which_engine_runs(capsys, monkeypatch):
    monkeypatch.delenv("FUNCOPT_ENGINE", raising=False)
    code, out, _ = run(capsys, "env")
    facts = dict(
        re.split(r"\s{2,}", line, maxsplit=1) for line in out.splitlines() if line[:1] > " "
    )
    assert code == 0
    assert facts["funcopt"] == fo.__version__
    assert facts["torch"] == torch.__version__
    assert facts["steps on cpu"].split(",")[0] in ("fused", "torch", "foreach")
    assert 'chosen by engine="auto": ' in out
    assert str(_cache.kept().folder) in out
    monkeypatch.setenv("FUNCOPT_ENGINE", "eager")
    _, out, _ = run(capsys, "env")
    said = "eager, as FUNCOPT_ENGINE=eager asks: each operation for each tensor"
    assert said in " ".join(out.split())


def test_cache_counts_and_clears_its_own_files(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    assert run(capsys, "cache")[1] == f"{tmp_path / 'funcopt'}: 0 libraries, 0 B\n"
    folder = tmp_path / "funcopt"
    folder.mkdir()
    for name, size in {"a.so": 1500, "b.so": 500, "a.lock": 0, "note.md": 9}.items():
        (folder / name).write_bytes(b"x" * size)
    (tmp_path / "c.so").write_bytes(b"of torch")
    assert run(capsys, "cache")[1] == f"{folder}: 2 libraries, 2 kB\n"
    assert len(list(folder.iterdir())) == 4
    assert run(capsys, "cache", "--clear")[1] == f"removed from {folder}: 2 libraries, 2 kB\n"
    assert [path.name for path in folder.iterdir()] == ["note.md"]
    assert (tmp_path / "c.so").exists()


def test_bench_has_a_row_for_each_case(monkeypatch, capsys):
    monkeypatch.setattr(_bench, "MODELS", {"two": [(4, 3), (3,)]})
    monkeypatch.setattr(_bench, "QUICK", _bench.Effort(0.0, 1))
    monkeypatch.setattr("funcopt.cli._main.QUICK", _bench.Effort(0.0, 1))
    code, out, _ = run(capsys, "bench", "--quick")
    lines = out.splitlines()
    assert code == 0
    rows = {line.split()[0]: re.split(r"\s{2,}", line.strip()) for line in lines[1:5]}
    assert rows.keys() == _bench.OPTIMIZERS.keys()
    for name, row in rows.items():
        assert float(row[2]) > 0
        assert row[3] in ("fused", "torch", "foreach", "eager")
        best = min((float(x) for x in row[4:7] if x != "-"), default=None)
        if best is None:
            assert not hasattr(torch.optim, name)
        else:
            assert float(row[7]) == pytest.approx(best / float(row[2]), abs=0.02, rel=0.2)
    assert "torch " + torch.__version__ in " ".join(lines[5:])


def test_contenders_take_turns():
    order = []
    contenders = {name: (lambda name=name: order.append(name)) for name in ("funcopt", "loop")}
    monkey = pytest.MonkeyPatch()
    monkey.setattr(_bench, "_time", lambda step, count, wait: step() or float(len(order)))
    try:
        found = _bench.medians(contenders, 0.0, 3, lambda: None)
    finally:
        monkey.undo()
    assert order[-6:] == ["funcopt", "loop"] * 3
    assert found.keys() == contenders.keys()
    assert found["loop"] - found["funcopt"] == 1


@pytest.mark.skipif(torch.cuda.is_available(), reason="for machines without a GPU")
def test_what_is_not_there_is_said(capsys):
    code, _, err = run(capsys, "bench", "--device", "cuda")
    assert code == 2
    assert "no CUDA device" in err


def test_without_a_command_it_says_which_there_are(capsys):
    code, out, _ = run(capsys)
    assert code == 2
    for command in ("list", "explain", "env", "bench", "cache"):
        assert f"\n    {command} " in out
