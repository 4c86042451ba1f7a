"""Published ways to score, as what they decide of [score] in competition.toml."""

from typing import Any, Literal, NamedTuple

PresetName = Literal["boostcamp-2021", "ntire", "rank-average", "budget"]
"""A published way to score; docs/scoring.md shows the formulas and their sources."""


class Preset(NamedTuple):
    """What a preset decides of the score."""

    fixed: dict[str, Any]
    """Fields of `ScoreRules` that make the formula up: competition.toml may not say otherwise."""
    cost: dict[str, float]
    """The costs and their weights, unless competition.toml names others."""


PRESETS: dict[PresetName, Preset] = {
    "boostcamp-2021": Preset(
        {"counter": "ptflops", "cost": {}, "f1_floor": 0.5, "penalty": 1.0, "reward": 0.5}, {}
    ),
    "ntire": Preset({"penalty": 0.0, "reward": 0.0}, {"speed": 0.8, "macs": 0.1, "params": 0.1}),
    "rank-average": Preset({"penalty": 1.0, "reward": 1.0}, {"macs": 1.0, "params": 1.0}),
    "budget": Preset({"cost": {}, "penalty": 1.0, "reward": 1.0}, {}),
}
