"""The cache of machine code on disk: files that say what they are, which is compared.

A file is machine code, followed by its key and a sum over both. What a crash has cut off, what lies
under the name of another, and what others may have written is not loaded: machine code that is not
what it should be ends the process, or makes wrong steps.
"""

import atexit
import contextlib
import functools
import getpass
import hashlib
import logging
import os
import pathlib
import re
import shutil
import stat
import tempfile
from collections.abc import Iterator

log = logging.getLogger("funcopt")

PATIENCE = 120.0
"""For how many seconds a process waits for another one that compiles the same."""

MARK = b"funcopt kernel 1\n"


def cache_folder() -> pathlib.Path:
    """The folder of the cache, in that of Inductor, whether this has been imported or not."""
    default = pathlib.Path(tempfile.gettempdir()) / f"torchinductor_{_user()}"
    return pathlib.Path(os.environ.get("TORCHINDUCTOR_CACHE_DIR", default)).absolute() / "funcopt"


def _user() -> str:
    try:
        name = getpass.getuser()
    except (KeyError, ModuleNotFoundError, OSError):
        name = f"uid_{os.getuid()}" if hasattr(os, "getuid") else "unknown_user"
    return re.sub(r'[\\/:*?"<>|]', "_", name)


def is_kept(key: str) -> bool:
    """Whether there is a file for `key` that may be loaded."""
    return find(key) is not None


def find(key: str, suffix: str = ".so") -> pathlib.Path | None:
    """The file of `key`, if it is whole, is of that key, and no other user could write to it."""
    path = cache_folder() / f"{key}{suffix}"
    try:
        if not (_is_mine(path.parent) and _is_mine(path)):
            return None
        content = path.read_bytes()
    except OSError:
        return None
    return path if content.endswith(_trailer(content[: -_trailer_size(key)], key)) else None


def keep(key: str, code: bytes, suffix: str = ".so") -> pathlib.Path:
    """Writes machine code, or what was measured, into the file of `key`.

    It is written whole, or not at all, also in a crash.
    Where the folder belongs to others, or cannot be written, into one of this process alone.
    """
    content = code + _trailer(code, key)
    try:
        cache_folder().mkdir(mode=0o700, parents=True, exist_ok=True)
        if _is_mine(cache_folder()):
            return _written(cache_folder() / f"{key}{suffix}", content)
        _say(f"{cache_folder()} belongs to others, or others may write there")
    except OSError as error:
        _say(f"{cache_folder()} cannot be written ({error})")
    return _written(_own_folder() / f"{key}{suffix}", content)


@contextlib.contextmanager
def one_process(key: str) -> Iterator[None]:
    """Within the context is one process at a time, where files can be locked; not for ever."""
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(Exception):  # it is not needed for anything to be right
            from torch.utils._filelock import FileLock

            cache_folder().mkdir(mode=0o700, parents=True, exist_ok=True)
            if _is_mine(cache_folder()):
                lock = FileLock(cache_folder() / f"{key}.lock", timeout=PATIENCE)
                stack.enter_context(lock)
        yield


def _written(path: pathlib.Path, content: bytes) -> pathlib.Path:
    number, name = tempfile.mkstemp(dir=path.parent)  # which no other user may read or write
    try:
        with os.fdopen(number, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(name, path)
    except BaseException:
        pathlib.Path(name).unlink(missing_ok=True)
        raise
    return path


def _trailer(code: bytes, key: str) -> bytes:
    begin = MARK + key.encode()
    return begin + hashlib.sha256(code + begin).digest()


def _trailer_size(key: str) -> int:
    return len(_trailer(b"", key))


def _is_mine(path: pathlib.Path) -> bool:
    """Whether it belongs to this user, who alone may write there; links are not followed."""
    if not hasattr(os, "getuid"):
        return True
    found = path.lstat()
    others_write = found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    kind = stat.S_ISDIR(found.st_mode) or stat.S_ISREG(found.st_mode)
    return kind and found.st_uid == os.getuid() and not others_write


@functools.cache
def _own_folder() -> pathlib.Path:
    made = pathlib.Path(tempfile.mkdtemp(prefix="funcopt-"))
    atexit.register(shutil.rmtree, made, ignore_errors=True)
    return made


@functools.cache
def _say(why: str) -> None:
    log.warning(
        "compiled steps are not kept for the next process: %s. Set TORCHINDUCTOR_CACHE_DIR to a "
        "folder of your own.",
        why,
    )
