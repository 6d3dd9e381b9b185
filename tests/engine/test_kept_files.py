"""Machine code on disk is loaded if it is whole, what it says it is, and nobody else's."""

import logging
import os
import pathlib
import threading

import pytest
import torch

import funcopt as fo
from funcopt.engine import _kept_files, _kernels, _libraries, _measured

from .common import Run, parameters

CODE = bytes(range(256)) * 40


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path):
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(_kernels, "_cache", {})
    _kept_files._say.cache_clear()
    return tmp_path / "funcopt"


DAMAGES = {
    "cut off": lambda content: content[:6000],
    "a page of zeros": lambda content: content[:4096] + bytes(4096) + content[8192:],
    "empty": lambda content: b"",
    "longer": lambda content: content + b"\0",
    "without its end": lambda content: content[:-1],
    "one bit": lambda content: bytes([content[0] ^ 1]) + content[1:],
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_file_is_none(damage):
    path = _kept_files.keep("key", CODE)
    assert _kept_files.find("key") == path
    path.write_bytes(damage(path.read_bytes()))
    assert _kept_files.find("key") is None
    assert _kept_files.keep("key", CODE) == path
    assert _kept_files.find("key") == path


def test_a_file_under_the_name_of_another_is_none(cache):
    ours, theirs = _kept_files.keep("ours", CODE), _kept_files.keep("theirs", CODE[:-1])
    os.replace(theirs, ours)
    assert _kept_files.find("ours") is None
    assert _kept_files.find("theirs") is None


def test_nobody_waits_for_what_is_there(monkeypatch):
    """To import the locks took as long as the rest of the first step of a process."""
    monkeypatch.setattr(_libraries.ctypes, "CDLL", str)
    monkeypatch.setattr(_libraries._identity, "load", str)
    monkeypatch.setattr(_libraries._ready_call, "provide", str)
    monkeypatch.setattr(_kept_files, "one_process", lambda key: pytest.fail("a lock"))
    monkeypatch.setattr(_measured, "_found", {})
    path = _kept_files.keep(_libraries.key_of(["code"]), CODE)
    assert _libraries.load_library(["code"], lambda: pytest.fail("compiled")) == str(path)
    key = _libraries.key_of(["what", torch.get_num_threads(), os.cpu_count()])
    _kept_files.keep(key, b"7", _measured.SUFFIX)
    assert _measured.threshold("what", [1], (1, 2), lambda: pytest.fail("measured")) == 7


def test_a_file_begins_as_machine_code_does():
    """What follows it does not disturb a loader."""
    assert _kept_files.keep("key", CODE).read_bytes().startswith(CODE)


@pytest.mark.parametrize("what", ["file", "folder"])
@pytest.mark.parametrize("mode", [0o020, 0o002])
def test_what_others_may_write_is_none(cache, what, mode):
    path = _kept_files.keep("key", CODE)
    place = path if what == "file" else cache
    place.chmod(place.stat().st_mode | mode)
    assert _kept_files.find("key") is None


@pytest.mark.parametrize("what", ["file", "folder"])
def test_what_belongs_to_others_is_none(monkeypatch, what, cache):
    path = _kept_files.keep("key", CODE)
    other = path if what == "file" else cache
    known = type(path).lstat

    def lstat(self):
        found = known(self)
        return (
            os.stat_result([*found[:4], found.st_uid + 1, *found[5:10]]) if self == other else found
        )

    monkeypatch.setattr(type(path), "lstat", lstat)
    assert _kept_files.find("key") is None


def test_links_are_not_followed(cache, tmp_path):
    path = _kept_files.keep("key", CODE)
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    assert _kept_files.find("key") is None


def test_the_folder_is_of_nobody_else_whatever_the_mask(cache):
    before = os.umask(0)
    try:
        path = _kept_files.keep("key", CODE)
    finally:
        os.umask(before)
    assert cache.stat().st_mode & 0o077 == 0
    assert path.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("why", ["others may write there", "cannot be written"])
def test_where_nothing_can_be_kept_it_lies_with_the_process(cache, caplog, why):
    if why == "cannot be written":
        cache.parent.mkdir(exist_ok=True)
        cache.write_text("no folder")
    else:
        cache.mkdir(parents=True)
        cache.chmod(0o777)
    with caplog.at_level(logging.WARNING, "funcopt"):
        paths = [_kept_files.keep(key, CODE) for key in ("one", "two")]
    assert all(path.read_bytes().startswith(CODE) for path in paths)
    assert cache not in paths[0].parents
    (line,) = [record.getMessage() for record in caplog.records]
    assert why in line
    assert "TORCHINDUCTOR_CACHE_DIR" in line


def test_a_file_is_on_the_disk_before_it_has_its_name(monkeypatch):
    done = []
    for name in ("fsync", "replace"):
        known = getattr(os, name)
        monkeypatch.setattr(
            os, name, lambda *given, name=name, known=known: (done.append(name), known(*given))
        )
    _kept_files.keep("key", CODE)
    assert done == ["fsync", "replace"]


def test_what_could_not_be_written_leaves_nothing(cache, monkeypatch):
    _kept_files.keep("key", CODE)

    def full(*given):
        raise OSError("no space left")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="no space"):
        _kept_files._written(cache / "other.so", CODE)
    assert [path.name for path in cache.iterdir()] == ["key.so"]


# With a compiler.


@pytest.fixture
def native(monkeypatch):
    if not _kernels.has_compiler():
        pytest.skip("no C++ compiler")
    monkeypatch.setenv("FUNCOPT_KERNELS", "native")


def stepped(tx):
    run = Run(tx, "fused", parameters(torch.float32))
    run.step()
    return run


def lines(caplog):
    return [record.getMessage().split()[0] for record in caplog.records]


def test_a_kernel_is_loaded_again_and_made_again_where_it_is_damaged(
    native, cache, caplog, monkeypatch
):
    tx, results = fo.sgd(0.1, momentum=0.9), []
    for fault in (None, None, "cut off"):
        monkeypatch.setattr(_kernels, "_cache", {})
        files = list(cache.glob("*.so"))
        for path in files if fault else ():
            content = path.read_bytes()
            path.unlink()
            path.write_bytes(DAMAGES[fault](content))
        with caplog.at_level(logging.INFO, "funcopt"):
            results.append(stepped(tx))
        assert results[-1].engine.name == "fused"
    assert lines(caplog) == ["compiled", "loaded", "compiled"]
    for run in results[1:]:
        assert all(map(torch.equal, run.tensors(), results[0].tensors()))


def test_first_steps_of_two_threads_follow_one_another(native, monkeypatch):
    """One compiles after the other: warnings are silenced meanwhile, for the whole process."""
    real, inside, most = _libraries._machine_code, [], []

    def counted(source):
        inside.append(threading.get_ident())
        most.append(len(inside))
        try:
            return real(source)
        finally:
            inside.remove(threading.get_ident())

    monkeypatch.setattr(_libraries, "_machine_code", counted)
    runs, chains = [], [fo.sgd(0.1), fo.lion(0.1)]
    threads = [
        threading.Thread(target=lambda tx=tx: runs.append(stepped(tx)), daemon=True)
        for tx in chains
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(300)
    assert [run.engine.name for run in runs] == ["fused", "fused"]
    assert most == [1, 1]


@pytest.mark.parametrize("entries", [2**16, 8])
def test_auto_says_that_there_is_no_compiler(caplog, monkeypatch, entries):
    monkeypatch.setattr("funcopt.engine._engine.has_machine", lambda: False)
    params = [torch.nn.Parameter(torch.ones(entries))]
    params[0].grad = torch.ones(entries)
    opt = fo.Optimizer(params, fo.chain(fo.clip_by_global_norm(1.0), fo.adamw(0.1)))
    with caplog.at_level(logging.INFO, "funcopt"):
        for _ in range(3):
            opt.step()
            opt.add_param_group({"params": [torch.nn.Parameter(torch.ones(2))]})
    found = list(map(logging.LogRecord.getMessage, caplog.records))
    assert len(found) == 1
    assert "no C++ compiler was found" in found[0]
    assert "CXX" in found[0]


@pytest.mark.parametrize("named", [True, False])
def test_the_folder_is_that_of_inductor(monkeypatch, tmp_path, named):
    """Before Inductor is imported, which sets the variable, and afterwards."""
    from torch._inductor.runtime.cache_dir_utils import cache_dir

    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR", raising=False)
    if named:
        monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    before = _kept_files.cache_folder()
    assert before.parent == pathlib.Path(cache_dir())
    assert _kept_files.cache_folder() == before
