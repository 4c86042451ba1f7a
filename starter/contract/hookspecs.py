"""The contract with participants: the hook, its argument and its return value.

Nothing here imports torch. plugin/load.py checks the parts of a Submission, in the
process that loads the plugin.
"""

from typing import Annotated, Any

import pluggy
from pydantic import BaseModel, ConfigDict, Field

PROJECT = "starter"
"""The pluggy project name."""

ENTRY_POINT_GROUP = "starter.submissions"
"""The entry point group in which an installed package offers a submission."""

API_VERSION = 1
"""Raised when a plugin written for an older version would no longer load."""

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


class Competition(BaseModel):
    """The facts about the competition that a plugin may use. None of them is secret."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    num_classes: int
    """Number of logits that the model must return."""
    class_names: tuple[str, ...]
    """The class names; a class's position is its label."""
    mean: tuple[float, float, float]
    """Mean of the training images, RGB, for values in 0..1."""
    std: tuple[float, float, float]
    """Standard deviation of the training images, RGB, for values in 0..1."""
    api_version: int = API_VERSION
    """The version of this contract."""


class Submission(BaseModel):
    """What a plugin returns: one model and the transforms that turn an image into its input."""

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)

    model: Any
    """A torch.nn.Module that maps float32 (batch, C, H, W) to float32 logits (batch, num_classes)."""
    transforms: Any
    """torchvision transforms (v2 or v1, a Compose, a list, or a weights enum's .transforms())."""
    weights: str | None = Field(default=None, max_length=200)
    """A safetensors file beside the plugin, loaded strictly into the model.

    Without it, the kit loads the file that `starter train` writes, if it exists:
    NAME.safetensors beside NAME.py, weights.safetensors beside plugin.py.
    """
    name: str | None = Field(default=None, max_length=80)
    """A title for people; the name of the row is that of the file or folder."""
    authors: tuple[Annotated[str, Field(max_length=80)], ...] = Field(default=(), max_length=20)
    """The authors: at most twenty names of at most 80 characters."""
    description: str | None = Field(default=None, max_length=2000)
    """One paragraph for the leaderboard."""


@hookspec
def starter_submission(competition: Competition) -> Submission:  # type: ignore[empty-body]
    """Return the model and the transforms to score."""
