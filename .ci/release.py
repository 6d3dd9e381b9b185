"""What has to agree before a release: one version everywhere, and a changelog of it."""

import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).parent.parent


def version() -> str:
    source = (ROOT / "funcopt" / "__init__.py").read_text()
    return re.search(r'__version__ = "(.+)"', source)[1]


def problems() -> list[str]:
    """What does not agree, in a line each."""
    now, found = version(), []
    if not re.fullmatch(r"\d+\.\d+\.\d+((a|b|rc)\d+)?", now):
        found.append(f"funcopt/__init__.py: {now} is no version of a release")
    if f"\nversion: {now}\n" not in (ROOT / "CITATION.cff").read_text():
        found.append(f"CITATION.cff: is not of {now}")
    newest = re.search(r"^## (\S+?),? (.*)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    if newest is None or newest[1] != now:
        found.append(f"CHANGELOG.md: its first section is not {now}")
    for file in ("LICENSE", "README.md", "SECURITY.md", "docs/stability.md"):
        if not (ROOT / file).is_file():
            found.append(f"{file}: is missing")
    return found


if __name__ == "__main__":
    if problems():
        sys.exit("\n".join(problems()))
    dated = "not yet released" not in (ROOT / "CHANGELOG.md").read_text()
    print(f"version {version()}{'' if dated else '; CHANGELOG.md needs its date'}")
