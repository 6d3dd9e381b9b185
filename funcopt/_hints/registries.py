"""Names under which configuration files of other libraries ask for an optimizer: data."""

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

NO_MATTER = (
    *("torch", "fused", "foreach", "apex", "xla", "npu", "bnb", "paged"),
    *("32bit", "legacy", "layerwise"),
)
"""Parts of a name that say how a step is made, not which."""

BITS = {"8bit": "8bit", "4bit": "4bit", "fp8": "fp8"}
"""Parts that say how slots are stored: values of `quantized`."""

SAME: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "adamwanyprecision": ("AdamW", {"rounding": "kahan"}),
    "adalomo": ("T5Adafactor", {"lr": 1e-3, "relative_step": False}),
    "adanw": ("Adan", {}),
    "adoptw": ("ADOPT", {"decoupled_weight_decay": True}),
    "apollo": ("APOLLOAdamW", {}),
    "dadaptadam": ("DAdaptAdamW", {}),
    "distributedmuon": ("Muon", {}),
    "dsignsgd": ("SignSGD", {}),
    "fira": ("FiraAdamW", {}),
    "galore": ("GaLoreAdamW", {}),
    "kronw": ("Kron", {}),
    "lambc": ("LAMB", {"max_ratio": 1.0}),
    "lambcw": ("LAMB", {"max_ratio": 1.0, "decoupled_weight_decay": True}),
    "lambw": ("LAMB", {"decoupled_weight_decay": True}),
    "lomo": ("SGDW", {}),
    "momentum": ("SGD", {"momentum": 0.9}),
    "nadamuon": ("AdaMuon", {"nesterov": True}),
    "nesterov": ("SGD", {"momentum": 0.9, "nesterov": True}),
    "nlars": ("LARS", {"nesterov": True}),
    "nmuon": ("Muon", {"nesterov": True}),
    "novogradw": ("NovoGrad", {}),
    "radamw": ("RAdam", {"decoupled_weight_decay": True}),
    "scalableshampoo": ("DistributedShampoo", {}),
    "schedulefreeadamw": ("AdamWScheduleFree", {}),
    "schedulefreeradam": ("RAdamScheduleFree", {}),
    "schedulefreesgd": ("SGDScheduleFree", {}),
    "sfadamw": ("AdamWScheduleFree", {}),
    "sfsgd": ("SGDScheduleFree", {}),
    "sophiag": ("Sophia", {}),
    "sophiah": ("Sophia", {}),
}
"""Names without underscores: the class, and options that the name stands for."""


class Asked(NamedTuple):
    """What a name asks for."""

    name: str
    options: dict[str, Any]


def plain(name: str) -> str:
    """A name as it is compared: lower case, without what separates words."""
    return re.sub(r"[^a-z0-9]", "", name.lower())


def asked(name: str) -> Asked:
    """The name without the parts that say how, and the options that these stand for."""
    found, options = name.lower(), {}
    for part, form in BITS.items():
        if part in found:
            found, options = found.replace(part, ""), {"quantized": form}
    for part in NO_MATTER:
        found = re.sub(rf"(?:^|_){part}_?|{part}$", "_", found)
    return Asked(plain(found), options)
