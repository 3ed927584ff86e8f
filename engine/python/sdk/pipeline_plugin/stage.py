"""What all stages have in common: name, documentation, options, context."""

from __future__ import annotations

import inspect
import re
from dataclasses import dataclass, field
from typing import Any, Dict, List

from .options import options_of, schema_of, set_options

#: What the engine reads of a stage itself, before the stage gets the rest.
_ENGINE_OPTIONS = {"type", "inputs", "when", "format", "schema", "tasks", "partitioned_by"}
#: What every detector can be told; the engine reads these, too.
_DETECTOR_OPTIONS = {"value", "time", "key", "max_series", "expire_after", "prefix"}
#: What is no option though it is an attribute.
_RESERVED = {"name", "statistic", "state_version", "example", "context", "kind", "form", "delivery", "is_replayable"}


@dataclass(frozen=True)
class Context:
    """What a stage is told beside its options, as ``self.context``."""

    #: The pipeline's name.
    pipeline: str = ""
    #: The stage's id in the file.
    id: str = ""
    #: The folder of the pipeline file: relative paths in options start here.
    directory: str = "."
    #: The columns that make a series.
    key: List[str] = field(default_factory=list)
    #: The run ends when what was there at its start is read (``--once``).
    once: bool = False


class Stage:
    """The base of all stages.

    An instance is made with its options: ``Jump(limit=3.0)``; so is it in tests of your own. After that ``setup`` is
    called.
    """

    #: ``type:`` in the pipeline file; default: the class's name in lower case, ``FirstOrder`` is ``first_order``.
    name: str = ""
    #: A YAML stage that works, as it would stand in a file; default: one with the options that must be given.
    example: str = ""
    #: Raised when saved state changes so that older state cannot be read; 1 to 65535.
    state_version: int = 1
    #: What the engine calls this kind of stage, and this form of it.
    kind: str = ""
    form: str = ""
    #: See :class:`Context`; in tests of your own an empty one.
    context: Context = Context()

    def __init__(self, **options: Any) -> None:
        set_options(self, options)
        self.setup()

    def setup(self) -> None:
        """Called once when the options are set: check what no single limit can say, prepare what is needed.

        Raise ``ConfigError`` when the options are wrong: the pipeline is not started then.
        """


def name_of(stage: type) -> str:
    """``type:`` in the pipeline file."""
    given = vars(stage).get("name", "")
    return given or re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", stage.__name__).lower()


def description(stage: Any) -> Dict[str, Any]:
    """What the engine is told about a class."""
    name = name_of(stage)
    if not re.fullmatch(r"[a-z0-9_]+", name):
        raise TypeError(f"{stage.__name__} is called `{name}`, a name is made of a-z, 0-9 and _")
    if type(stage.state_version) is not int or not 1 <= stage.state_version <= 65535:
        raise TypeError(f"`state_version` of {stage.__name__} is {stage.state_version!r}, it must be 1 to 65535")
    taken = _ENGINE_OPTIONS | _RESERVED | (_DETECTOR_OPTIONS if stage.kind == "detector" else set())
    for option in options_of(stage):
        if option in taken:
            raise TypeError(f"{stage.__name__} has an option `{option}`, which every stage has; give it another name")
    # Of the class itself: the documentation of `Detector` is not about this stage.
    words = inspect.cleandoc(vars(stage).get("__doc__") or "")
    if not words:
        raise TypeError(f"{stage.__name__} has no docstring; it is the stage's documentation")
    statistic = getattr(stage, "statistic", "") or name
    return {
        "kind": stage.kind,
        "form": stage.form,
        "name": name,
        "statistic": statistic,
        "state_version": stage.state_version,
        "example": inspect.cleandoc(stage.example) + "\n" if stage.example else _example(stage, name),
        "schema": {"description": words, **schema_of(stage)},
    }


def _example(stage: Any, name: str) -> str:
    lines = [f"{name}s:" if stage.kind == "detector" else f"{name}_rows:", f"  type: {name}"]
    if stage.kind != "source":
        lines.append("  inputs: [readings]")
    if stage.kind == "detector":
        lines.append("  value: value")
    for option, (hint, about) in options_of(stage).items():
        if about.default is ...:
            value = about.choices[0] if about.choices else _any_value(hint, about.limits)
            lines.append(f"  {option}: {value}")
        elif isinstance(about.default, (int, float)) and not isinstance(about.default, bool):
            lines.append(f"  {option}: {about.default}")
    return "\n".join(lines) + "\n"


def _any_value(hint: Any, limits: Dict[str, Any]) -> Any:
    for limit in ("minimum", "maximum"):
        if limit in limits:
            return limits[limit]
    return {int: 1, float: 1.0, bool: "true", str: "text"}.get(hint, "[]")
