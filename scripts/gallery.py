"""Makes the figures of the gallery: ``python -m scripts.gallery [NAME ...]``.

Runs the examples, and keeps the figure and what is printed of each in ``docs/gallery``.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).parent.parent


def make(name: str) -> None:
    """Runs one example in a folder of its own."""
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [sys.executable, ROOT / "examples" / f"{name}.py"],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        place = ROOT / "docs" / "gallery"
        figure = Image.open(Path(folder) / "out" / f"{name}.png").convert("RGB")
        few = figure.quantize(255, Image.Quantize.MAXCOVERAGE, kmeans=2, dither=Image.Dither.NONE)
        few.save(place / f"{name}.png", optimize=True)  # a third of the size, and looks the same
    (place / f"{name}.txt").write_text(done.stdout)
    size = (place / f"{name}.png").stat().st_size
    print(f"{name}: {figure.width} x {figure.height}, {size / 2**10:.0f} KiB", flush=True)


if __name__ == "__main__":
    for name in sys.argv[1:] or sorted(path.stem for path in (ROOT / "examples").glob("*.py")):
        make(name)
