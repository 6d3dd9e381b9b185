"""The reference has every argument, a summary of every entry, and formulas that KaTeX takes."""

import html
import inspect
import json
import pathlib
import re
import subprocess
import sys

import pytest

import funcopt as fo
from funcopt import optim

ROOT = pathlib.Path(__file__).parents[2]
TIMES = "\N{MULTIPLICATION SIGN}"
BUILD = ROOT / "docs" / "_build"
CLASSES = [name for name, x in vars(optim).items() if hasattr(x, "maker") and name in optim.__all__]
ALIASES = [
    name
    for name in fo.__all__
    if getattr(getattr(fo, name), "__module__", "").startswith("funcopt.aliases.")
]


@pytest.fixture(scope="module")
def build():
    """The modules that the build uses."""
    sys.path.insert(0, str(BUILD))
    import formulas
    import measured

    sys.path.remove(str(BUILD))
    return {"formulas": formulas, "measured": measured}


def entry(site, page, path):
    """The part of a page of the reference that belongs to one name."""
    text = (site / "api" / page / "index.html").read_text()
    start = text.index(f'id="{path}"')
    end = re.search(r'<h[23] id="funcopt', text[start + 20 :])
    return text[start : start + 20 + end.start() if end else len(text)]


def documented(text):
    """The arguments in the list of an entry."""
    (listed,) = re.findall(r"Parameters:</span></p>(.*?)</ul>", text, re.DOTALL)
    return re.findall(r"<li[^>]*>\s*<b><code>(\w+)</code>", listed)


def test_there_are_classes_and_aliases():
    assert len(CLASSES) >= 26
    assert len(ALIASES) >= 28


@pytest.mark.parametrize("name", CLASSES)
def test_a_class_has_its_signature_and_every_argument(site, name):
    text = entry(site, "optim", f"funcopt.optim.{name}")
    given = [p for p in inspect.signature(getattr(optim, name)).parameters if p != "self"]
    signature = re.sub(r"<[^>]*>", "", text[: text.index("</pre>")])
    assert [p for p in given if not re.search(rf"\b{p}:", signature)] == []
    assert sorted(documented(text)) == sorted(given)


@pytest.mark.parametrize("name", ALIASES)
def test_an_alias_has_every_argument(site, name):
    given = list(inspect.signature(getattr(fo, name)).parameters)
    assert sorted(documented(entry(site, "aliases", f"funcopt.{name}"))) == sorted(given)


@pytest.mark.parametrize("page", sorted((ROOT / "docs" / "api").glob("*.md")), ids=lambda p: p.stem)
def test_a_page_begins_with_a_line_for_each_entry(site, page):
    paths = re.findall(r"(?m)^::: (\S+)$", page.read_text())
    text = (site / "api" / page.stem / "index.html").read_text()
    table = text[text.index('<div class="summary">') :].split("</table>")[0]
    rows = dict(re.findall(r'href="#([\w.]+)">.*?</td>\s*<td>(.*?)</td>', table, re.DOTALL))
    assert list(rows) == paths
    assert [path for path in paths if len(rows[path]) < 8] == []


def test_formulas_are_typeset(site, node, tmp_path):
    """KaTeX takes all of them, and most docstrings of transformations have one."""
    found = {}
    for page in sorted(site.rglob("*.html")):
        marked = re.findall(r'class="arithmatex">(.*?)</(?:div|span)>', page.read_text(), re.DOTALL)
        found[str(page.relative_to(site))] = [html.unescape(x).strip()[2:-2] for x in marked]
    (tmp_path / "found.json").write_text(json.dumps(found))
    katex = (site / "javascripts" / "katex" / "katex.min.js").read_text()
    (tmp_path / "katex.cjs").write_text(katex)
    (tmp_path / "check.cjs").write_text(
        """
        const katex = require("./katex.cjs"), found = require("./found.json"), wrong = []
        for (const [page, all] of Object.entries(found))
          for (const tex of all)
            try { katex.renderToString(tex, { displayMode: true, throwOnError: true }) }
            catch (error) { wrong.push([page, tex, error.message]) }
        console.log(JSON.stringify(wrong))
        """
    )
    said = subprocess.run(
        [node, "check.cjs"], cwd=tmp_path, check=True, capture_output=True, text=True
    )
    assert json.loads(said.stdout) == []
    assert len(found["api/transformations/index.html"]) >= 35
    assert sum(map(len, found.values())) >= 70


@pytest.mark.parametrize(
    ("text", "tex"),
    [
        ("x / y z", r"\frac{x}{y} \, z"),
        ("u = g / (x + y) / (1 - z)", r"u = \frac{g}{\left(x + y\right) \, \left(1 - z\right)}"),
        ("u = g / (x + eps)", r"u = \frac{g}{x + \varepsilon}"),
        ("x <- 1 - b1^t", r"x \leftarrow 1 - {b_{1}}^{t}"),
        ("max(|g|, x_yz)", r"\max\left(\lvert g \rvert ,\; \mathtt{x\_yz}\right)"),
        ("0 where g > 0", r"0 \, \text{ where } \, g > 0"),
        ("r <g, p0 - p>", r"r \, \langle g ,\; p_{0} - p \rangle"),
    ],
)
def test_the_language_of_formulas(build, text, tex):
    assert build["formulas"].Formula(text).tex() == tex


def test_a_formula_in_a_line_is_typeset(build):
    typeset = build["formulas"].typeset
    assert typeset("As ``1 - beta2^t``, not `a`.") == r"As $1 - {\beta_{2}}^{t}$, not `a`."
    assert typeset("As ``f(a=1)``.") == "As ``f(a=1)``."


def test_code_is_no_formula(build):
    doc = "Adds.\n\nAs in:\n\n    tx = chain(adamw(1e-3), scale(0.1))\n\nEnd."
    assert build["formulas"].typeset(doc) == doc


def test_the_numbers_of_the_home_page_are_those_of_the_tables(site):
    text = re.sub(r"\s+", " ", (site / "index.html").read_text())
    shown = re.findall(r'<span class="measured">(.*?)</span>', text)

    def table(page):
        return (ROOT / "docs" / page).read_text()

    steps = re.search(
        r"\| GPT 22M \| in training \| clip \+ adamw \+ ema \| fused \| `clip_grad_norm_,[^|]*`"
        r" \|[^|]*\|[^|]*\| ([\d.]+) \| [^|]* \| [\d.]+ \|",
        table("performance_table.md"),
    )
    optax = table("parity.md").split("## ")[0]
    largest = max(re.findall(r"\| (\de-\d\d) \|", optax), key=float)
    meta = re.search(r"\| 25 \| 5 \|[^|]*\|[^|]*\| ([\d.]+) \|", table("from_torchopt.md"))
    assert shown == [
        f"{1 / float(steps[1]):.1f}{TIMES}",
        largest,
        f"{1 / float(meta[1]):.0f}{TIMES}",
    ]
    sweep = re.search(r"\*\*([\d.]+) times faster", table("sweeps_table.md"))
    assert f"{float(sweep[1]):.0f} times as fast as one by one" in text
