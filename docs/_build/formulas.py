"""Turns the formulas of docstrings, which read well in a terminal, into TeX for the site.

A block that is set in by four spaces and is no code is a formula. Its language is that of the
docstrings: `x <- y` stores, a space multiplies, `/` divides all that stands before it in the term by
the next factor, `|x|` a size, `<x, y>` an inner product, `x . y` a product of vectors, two spaces
or more part formulas in one line, and English words are text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

CODE = re.compile(
    r">>>|\"|@|\[|==|\blambda\b|\bdef\b|\w=\w|\w\.\w+\(|^ *\w+ = \w+\(\w+\((?!max|min|p|g)"
    r"|_schedule\(|\bchain\(|\bvmap\(|^ *by (shape|name) ",
    re.MULTILINE,
)
ENGLISH = set(
    """a added after all also and antithetic are at before but by call calls columns dimensions
    distribution divisible else entries every far finite first following for forward from greatest
    has have if independent is its kept last layer learning left lengths likewise loss milestones
    naive newer newest not nothing observed of oldest on once one only or others otherwise over
    parameters products rows same so squares stands tensors that the then those to was what where
    while whose with within without zero""".split()
)
"""What is text wherever it stands."""
ALSO_ENGLISH = {"sum", "mean", "number", "gradient", "rate", "debias", "nesterov", "sync", "step"}
"""Names that are text next to text."""
GREEK = {
    "alpha": r"\alpha", "beta": r"\beta", "gamma": r"\gamma", "eta": r"\eta", "lambd": r"\lambda",
    "mu": r"\mu", "rho": r"\rho", "sigma": r"\sigma", "pi": r"\pi", "eps": r"\varepsilon",
}  # fmt: skip
FUNCTIONS = {"max", "min", "cos", "exp"}
TOKEN = re.compile(
    r"\s*(<-|<=|>=|\.\.\.|\d+e-?\d+|\d+\.\d+|\d+|[A-Za-z][A-Za-z0-9_]*'*|_\w+|[^\s\w])"
)
RELATIONS = {
    "=": "=", "<-": r"\leftarrow", "<=": r"\le", ">=": r"\ge", "<": "<", ">": ">", "~": r"\sim",
}  # fmt: skip


def typeset(docstring: str) -> str:
    """The docstring with its formulas in TeX; code blocks are as they were."""
    head, *sections = re.split(r"(?m)^(?=(?:Args|Raises|Returns|References|Attributes):)", docstring)
    blocks = re.compile(r"(?m)(?:^ {4}.*\n(?:[ \t]*\n(?= {4}))?)+")

    def block(match: re.Match[str]) -> str:
        if CODE.search(match[0]):
            return match[0]
        rows = "\\\\[0.5em]\n".join(row(line) for line in whole_lines(match[0]))
        return f"$$\n\\begin{{aligned}}\n{rows}\n\\end{{aligned}}\n$$\n"

    head = blocks.sub(block, head + "\n").removesuffix("\n")
    return re.sub(r"``([^`\n]*\^[^`\n]*)``", inline, "".join([head, *sections]))


def inline(match: re.Match[str]) -> str:
    """A formula in a line: code that raises to a power, which is no Python."""
    return match[0] if "dx/d" in match[1] else f"${Formula(match[1]).tex()}$"


def whole_lines(block: str) -> Iterator[str]:
    """Lines, each with those that continue it."""
    line = ""
    for more in block.rstrip().splitlines():
        if line and more.startswith("     ") and more.strip()[0] in "+-/":
            line += " " + more.strip()
            continue
        if line:
            yield line
        line = more[4:]
    yield line


def row(line: str) -> str:
    """One line: its parts, aligned at the first relation; a part that is only set in goes behind."""
    parts = [part for part in re.split(r"(?<=,) {2,}| {3,}|(?<=\S) {2,}(?![=<])", line) if part.strip()]
    if len(parts) > 1 and parts[1].strip().startswith(("=", "<-")):
        parts[:2] = [" ".join(parts[:2])]
    first, *rest = (Formula(part).tex() for part in parts)
    if line.startswith("     "):
        first = rf"\qquad {first}"
    return r" \qquad ".join([aligned(first), *rest])


def aligned(tex: str) -> str:
    """With a mark in front of the first relation that stands in no bracket."""
    for match in re.finditer(r"(=|\\leftarrow|\\le|\\sim)(?![a-z])", tex):
        before = tex[: match.start()]
        if before.count("{") == before.count("}") and before.count("(") == before.count(")"):
            return before + "&" + tex[match.start() :]
    return "& " + tex


class Formula:
    """A parser by descent: sequence of relations, sums, products, factors."""

    def __init__(self, text: str) -> None:
        text = re.sub(r"<(?=[^\s=-])", "⟨", text.replace("`", ""))
        self.tokens = TOKEN.findall(re.sub(r"(?<=\S)>", "⟩", text))
        self.at = 0

    def tex(self) -> str:
        found = self.sequence()
        while self.peek():  # what cannot stand here, such as a bracket that is open
            found += " " + escaped(self.take()) + " " + self.sequence()
        return found.strip()

    def peek(self, ahead: int = 0) -> str:
        return self.tokens[self.at + ahead] if self.at + ahead < len(self.tokens) else ""

    def take(self) -> str:
        token = self.peek()
        self.at += 1
        return token

    def sequence(self, end: str = "") -> str:
        parts = []
        while self.peek() and self.peek() != end and self.peek() not in ")⟩":
            if self.peek() in RELATIONS:
                parts.append(RELATIONS[self.take()])
            elif self.peek() in (",", ";", ":"):
                parts.append(self.take() + r"\;")
            elif (found := self.total(end)) is not None:
                parts.append(found)
            else:
                break
        return " ".join(parts)

    def total(self, end: str = "") -> str | None:
        parts: list[str] = []
        while True:
            if self.peek() in ("+", "-"):
                parts.append(self.take())
                continue
            found = self.product(end)
            if found is None:
                return " ".join(parts) if parts else None
            parts.append(found)
            if self.peek() not in ("+", "-"):
                return " ".join(parts)

    def product(self, end: str) -> str | None:
        above: list[str] = []
        below: list[str] = []
        while self.peek() and self.peek() != end:
            if self.peek() == "/" and above:
                self.take()
                found = self.factor()
                below += [found] if found else []
                continue
            if self.peek() in (*RELATIONS, *"+-,)⟩"):
                break
            if below:  # a / b c  is  (a / b) c
                above, below = fraction(above, below), []
            found = self.factor()
            if found is None:
                break
            above.append(found)
        return product(fraction(above, below)) if above else None

    def factor(self) -> str | None:
        token = self.peek()
        if token == "" or token in "+-,/;:)~^⟩" or token in RELATIONS:
            return None
        if token == "⟨":
            self.take()
            inside = self.sequence("⟩")
            self.take()
            return self.raised(rf"\langle {inside} \rangle")
        if token == "|":
            if "|" not in self.tokens[self.at + 1 :]:
                return None
            self.take()
            inside = self.sequence("|")
            self.take()
            return self.raised(rf"\lvert {inside} \rvert")
        if token == "(":
            return self.raised(rf"\left({self.bracket()}\right)")
        self.take()
        if token == "...":
            return r"\dots"
        if token == ".":
            return r"\cdot"
        if not re.match(r"\w", token):
            return escaped(token)
        if self.peek() == "(" and token in ("sqrt", "norm", "abs", "floor"):
            inside = self.bracket()
            around = {
                "sqrt": rf"\sqrt{{{inside}}}",
                "norm": rf"\lVert {inside} \rVert",
                "abs": rf"\lvert {inside} \rvert",
                "floor": rf"\lfloor {inside} \rfloor",
            }
            return self.raised(around[token])
        if self.is_text(token):
            return rf"\text{{ {token} }}"
        if self.peek() == "(" and (token in FUNCTIONS or token.rstrip("'") in CALLED):
            named = rf"\{token}" if token in FUNCTIONS else name(token)
            return self.raised(rf"{named}\left({self.bracket()}\right)")
        if token.endswith("_") and self.peek() == "(":
            return self.raised(rf"{name(token[:-1])}_{{{self.bracket()}}}")
        return self.raised(name(token))

    def is_text(self, token: str) -> bool:
        if token in ENGLISH:
            return token != "a" or len(self.peek()) > 1
        near = {self.peek(), self.tokens[self.at - 2] if self.at > 1 else ""}
        return token in ALSO_ENGLISH and bool(near & ENGLISH) and self.peek() not in ("(", "<-", "+")

    def bracket(self) -> str:
        self.take()
        inside = self.sequence(")")
        while self.peek() and self.peek() != ")":
            inside += " " + escaped(self.take()) + " " + self.sequence(")")
        if self.peek():
            self.take()
        return inside

    def raised(self, base: str) -> str:
        while self.peek() == "^" or re.match(r"_\w", self.peek()):
            if self.peek() != "^":
                base += f"_{{{name(self.take()[1:])}}}"
                continue
            self.take()
            if self.peek() == "(":
                start = self.at
                inside = self.bracket()
                flat = "".join(self.tokens[start + 1 : self.at - 1])
                power = flat if re.fullmatch(r"-?\d+/\d+", flat) else inside
            elif self.peek() == "T":
                self.take()
                power = r"\top"
            elif self.peek(1) == "(" and self.peek() == "floor":
                power = self.factor() or ""
            else:
                power = name(self.take())
            base = f"{{{base}}}^{{{power}}}"
        return base


CALLED = {"f", "N", "NS", "inner", "rms", "mean", "sign"}
"""Names of which a bracket is the argument."""


def fraction(above: list[str], below: list[str]) -> list[str]:
    """The factors, those behind the last text over `below`."""
    if not below:
        return above
    text = max((k + 1 for k, x in enumerate(above) if x.startswith(r"\text{")), default=0)
    over, under = (unbracketed(x) for x in (above[text:] or ["1"], below))
    return [*above[:text], rf"\frac{{{product(over)}}}{{{product(under)}}}"]


def unbracketed(factors: list[str]) -> list[str]:
    """Without the brackets around a factor that is alone."""
    (only, *more) = factors
    found = re.fullmatch(r"\\left\((.*)\\right\)", only)
    if more or not found:
        return factors
    depth = 0
    for mark in re.findall(r"\\left|\\right", found[1]):
        depth += 1 if mark == r"\left" else -1
        if depth < 0:
            return factors
    return [found[1]]


def product(factors: list[str]) -> str:
    joined = re.sub(r" \} \\, \\text\{ ", " ", r" \, ".join(factors))
    return joined.replace(r"\cdot \,", r"\cdot").replace(r"\, \cdot", r"\cdot")


def name(token: str) -> str:
    """A name: one letter, perhaps with an index; Greek; or as in the code."""
    primes = "'" * token.count("'")
    token = token.rstrip("'")
    if token in GREEK:
        return GREEK[token] + primes
    if token == "sign":
        return r"\operatorname{sign}"
    if re.fullmatch(r"\d+e-?\d+", token):
        digits, power = token.split("e")
        return (rf"{digits} \cdot " if digits != "1" else "") + rf"10^{{{int(power)}}}"
    if re.fullmatch(r"[\d.]+|[A-Za-z]", token):
        return token + primes
    if found := re.fullmatch(r"([A-Za-z])(\d+|_[a-zA-Z\d]|_before)", token):
        index = found[2].removeprefix("_").replace("before", r"\text{before}")
        return f"{found[1]}_{{{index}}}" + primes
    if found := re.fullmatch(r"(mu|rho|beta)_?(\d|t|inf)", token):
        index = r"\infty" if found[2] == "inf" else found[2]
        return f"{GREEK[found[1]]}_{{{index}}}"
    shown = token.replace("_", r"\_")
    return rf"\mathtt{{{shown}}}" + primes


def escaped(token: str) -> str:
    return {"{": r"\{", "}": r"\}", "%": r"\%", "#": r"\#", "&": r"\&", "^": ""}.get(token, token)
