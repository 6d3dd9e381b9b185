"""The words of public text: what is written, and what is written instead.

Each entry is a pattern that must not be found, and what to say. `used(text)` lists what is found.
"""

import re

INSTEAD = {
    r"besides": "also, as well, and",
    r"anew": "again; or what is initialized",
    r"alike": "the same",
    r"(?:is|are|was|were) told": "is given, reads",
    r"stand(?:s|ing)? still": "keeps its value",
    r"(?:some|no|any|every)body": "the subject itself",
    r"looks? (?:at|on)\b(?! ahead)": "reads, checks",
    r"looking on": "metrics and logging",
    r"reckon\w*": "compute",
    r"dear": "expensive",
    r"in (?:their|its) stead": "averaged weights, for evaluation",
    r"lets? go(?: of)?": "drops, frees",
    r"by (?:the )?way of": "by, through",
    r"uphill|downhill": "updates keep the sign of the gradient",
    r"turns? the sign|sign (?:is )?turn(?:s|ed)": "negates the updates",
    r"mean (?:squared )?gradients?": "EMA of the gradient, of its square",
    r"(?:to|at) the bit|bit by bit": "exactly",
    r"numbers? of the step": "step-dependent scalars",
    r"numbers that change": "schedules",
    r"as large as the parameter": "trust ratio",
    r"rates that find themselves": "learning-rate-free methods",
    r"many trainings at once": "vectorized sweeps",
    r"learning to learn": "meta-learning",
    r"losses evaluated again": "closures, line search, SAM",
    r"what is called (?:how|what)": "name mapping",
    r"was aimed at|is not reached": "targets not met",
    r"of another algorithm": "was saved by a different optimizer",
    r"where somebody looks": "on interactive terminals",
    r"loss in nats|nats": "cross-entropy",
    r"mean and scatter": "mean and standard deviation",
    r"two modes": "train and eval mode",
    r"come and go": "adding, removing and resizing parameters",
    # American spelling, as PyTorch's
    r"\w+isations?": "-ization",
    r"(?:initial|regular|synchron|normal|optim|organ|orthogonal|factor|general|minim|maxim|vector"
    r"|serial|recogn|real|parallel|summar|util|local|random|special|visual)"
    r"is(?:e|es|ed|ing|er)": "-ize",
    r"(?:behavi|col|fav|hon|neighb)our\w*": "-or",
    r"labelled|modelled|cancelled|centre[ds]?|honours?": "one l; center",
}
"""What stands in the glossary under "not", where it can be told from other uses by its letters."""

PATTERN = re.compile(
    r"\b(?:" + "|".join(f"(?:{words})" for words in INSTEAD) + r")\b", re.IGNORECASE
)
TITLES = "Compressed Optimisation for Non-Convex Problems"  # of papers, as their authors spell it
CODE = re.compile(rf"```.*?```|``.*?``|`[^`\n]*`|\]\([^)]*\)|https?://\S+|{TITLES}", re.DOTALL)


def used(text: str) -> list[str]:
    """The words in the text that are not used, and what to say, but for code, URLs and titles."""
    prose = CODE.sub(" ", text)
    return [f"{match[0]!r}: {_instead(match[0])}" for match in PATTERN.finditer(prose)]


def _instead(word: str) -> str:
    fits = (say for words, say in INSTEAD.items() if re.fullmatch(words, word, re.IGNORECASE))
    return next(fits, "")
