"""Prints constraints.txt, but with the oldest version of what funcopt itself depends on."""

import pathlib
import tomllib

ROOT = pathlib.Path(__file__).parent.parent

project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
lowest = dict(requirement.split(">=") for requirement in project["dependencies"])

for name, version in lowest.items():
    print(f"{name}=={version}")
for line in (ROOT / "constraints.txt").read_text().splitlines():
    if line.partition("==")[0] not in lowest:
        print(line)
