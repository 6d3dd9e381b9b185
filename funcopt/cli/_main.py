"""``python -m funcopt``: its commands and their options."""

import argparse
import sys
from collections.abc import Sequence

import torch

from ._bench import FULL, QUICK, bench
from ._cache import cache
from ._catalog import optimizer_list, page_of
from ._environment import environment

DESCRIPTION = "Optimizers for PyTorch as composable, pure gradient transformations."


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command, and returns its exit status: 2 where it could not.

    Args:
        argv: The words of the command, without that of the program; by default, those given.
    """
    parser = _parser()
    options = parser.parse_args(argv)
    if options.command is None:
        parser.print_help()
        return 2
    try:
        print(_answer(options))
    except LookupError as error:
        print(error.args[0], file=sys.stderr)
        return 2
    except BrokenPipeError:  # of `| head`
        sys.stderr.close()
    return 0


def _answer(options: argparse.Namespace) -> str:
    if options.command == "list":
        return optimizer_list()
    if options.command == "explain":
        return page_of(options.name, options.markdown)
    if options.command == "env":
        return environment()
    if options.command == "cache":
        return cache(options.clear)
    if options.device == "cuda" and not torch.cuda.is_available():
        raise LookupError("There is no CUDA device here: leave out `--device cuda`.")
    return bench(QUICK if options.quick else FULL, options.device, options.markdown)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m funcopt", description=DESCRIPTION)
    commands = parser.add_subparsers(dest="command", metavar="command")
    commands.add_parser("list", help="the optimizers, one line each")
    explain = commands.add_parser("explain", help="what an optimizer or a stage does")
    explain.add_argument("name", help="such as AdamW, adamw or scale_by_adam")
    explain.add_argument("--markdown", action="store_true", help="print the table in Markdown")
    commands.add_parser("env", help="versions, devices, compiler, and the engine that would run")
    measure = commands.add_parser("bench", help="steps of this machine, next to torch's")
    measure.add_argument("--quick", action="store_true", help="in a minute instead of five")
    measure.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    measure.add_argument("--markdown", action="store_true", help="print the table in Markdown")
    kept = commands.add_parser("cache", help="the compiled code that is kept on disk")
    kept.add_argument("--clear", action="store_true", help="remove it")
    return parser
