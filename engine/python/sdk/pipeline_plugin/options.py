"""Options of stages: one class attribute is the option, its default, its documentation and its schema."""

from __future__ import annotations

import json
import math
import typing
from typing import Any, Dict, List, Optional, Sequence, Tuple

from .errors import ConfigError


class Option:
    """What :func:`option` gives; replaced by the value in every instance."""

    def __init__(self, default: Any, words: str, limits: Dict[str, Any], choices: Optional[Sequence[Any]], secret: bool):
        self.default = default
        self.words = words
        self.limits = limits
        self.choices = choices
        self.secret = secret


def option(
    default: Any,
    words: str,
    *,
    minimum: Optional[float] = None,
    maximum: Optional[float] = None,
    above: Optional[float] = None,
    below: Optional[float] = None,
    choices: Optional[Sequence[Any]] = None,
    secret: bool = False,
) -> Any:
    """Declares an option of a stage; the annotation of the attribute is its type::

        window: int = option(30, "How many earlier readings are looked at.", minimum=2, maximum=100_000)

    ``default`` is ``...`` when there is none, so that the option must be given. ``words`` is a sentence, with the
    unit of the value. ``minimum`` and ``maximum`` may be reached, ``above`` and ``below`` may not. ``choices`` lists
    the values that are allowed. A ``secret`` is never printed.

    Types are ``int``, ``float``, ``bool``, ``str``, lists of these, and ``Optional`` of any.
    """
    given = {"minimum": minimum, "maximum": maximum, "exclusiveMinimum": above, "exclusiveMaximum": below}
    limits = {name: limit for name, limit in given.items() if limit is not None}
    return Option(default, words, limits, choices, secret)


def options_of(stage: type) -> Dict[str, Tuple[Any, Option]]:
    """Name, type and declaration of each option of a class, in the order in which they are written."""
    found: Dict[str, Tuple[Any, Option]] = {}
    hints: Dict[str, Any] = {}
    for part in reversed(stage.__mro__):
        for name, declared in vars(part).items():
            if not isinstance(declared, Option):
                continue
            hints = hints or typing.get_type_hints(stage)
            if name not in hints:
                raise TypeError(f"option `{name}` of {stage.__name__} has no type: write `{name}: float = option(…)`")
            found[name] = (hints[name], declared)
    return found


def schema_of(stage: type) -> Dict[str, Any]:
    """The JSON Schema of the options of a class."""
    properties: Dict[str, Any] = {}
    required: List[str] = []
    for name, (hint, declared) in options_of(stage).items():
        about = {"description": declared.words, **_type_schema(name, hint), **declared.limits}
        if declared.choices is not None:
            about["enum"] = list(declared.choices)
        if declared.secret:
            about["writeOnly"] = True
        if declared.default is ...:
            required.append(name)
        elif declared.default is not None:
            about["default"] = declared.default
        properties[name] = about
    schema: Dict[str, Any] = {"type": "object", "properties": properties, "additionalProperties": False}
    if required:
        schema["required"] = required
    return schema


_NAMES = {int: "integer", float: "number", bool: "boolean", str: "string"}
_WORDS = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}


def _parts(name: str, hint: Any) -> Tuple[Any, bool, bool]:
    """The plain type, whether it is a list of it, and whether it may be null."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if type(None) in arguments and len(arguments) == 2:
        inner = arguments[0] if arguments[1] is type(None) else arguments[1]
        return (*_parts(name, inner)[:2], True)
    if origin is list and len(arguments) == 1 and arguments[0] in _NAMES:
        return arguments[0], True, False
    if hint in _NAMES:
        return hint, False, False
    raise TypeError(f"option `{name}` has the type {hint}; an option is an int, float, bool, str, or a list of these")


def _type_schema(name: str, hint: Any) -> Dict[str, Any]:
    plain, is_list, may_be_null = _parts(name, hint)
    of: Any = "array" if is_list else _NAMES[plain]
    schema: Dict[str, Any] = {"type": [of, "null"] if may_be_null else of}
    if is_list:
        schema["items"] = {"type": _NAMES[plain]}
    return schema


def set_options(stage: Any, given: Dict[str, Any]) -> None:
    """Sets the options of an instance, checked; those that are not given to their defaults."""
    declared = options_of(type(stage))
    for name in given:
        if name not in declared:
            there_is = ", ".join(declared) or "none"
            raise ConfigError(f"unknown option `{name}`, there is {there_is}", name)
    for name, (hint, about) in declared.items():
        if name in given:
            setattr(stage, name, _checked(name, hint, about, given[name]))
        elif about.default is ...:
            raise ConfigError(f"missing option `{name}`: {about.words}")
        else:
            # A list is copied: two stages of one class must not share it.
            setattr(stage, name, list(about.default) if isinstance(about.default, list) else about.default)


def _checked(name: str, hint: Any, about: Option, value: Any) -> Any:
    plain, is_list, may_be_null = _parts(name, hint)
    if value is None and may_be_null:
        return None
    if not is_list:
        return _checked_item(name, plain, about, value)
    if not isinstance(value, list):
        raise ConfigError(f"`{name}` is {_shown(about, value)}, it must be a list", name)
    return [_checked_item(f"{name}.{number}", plain, about, item) for number, item in enumerate(value)]


def _checked_item(path: str, plain: Any, about: Option, value: Any) -> Any:
    shown = _shown(about, value)
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    fits = is_number if plain is float else type(value) is plain
    if not fits:
        raise ConfigError(f"`{path}` is {shown}, it must be {_WORDS[plain]}", path)
    if plain is float:
        value = float(value)
        if not math.isfinite(value):
            raise ConfigError(f"`{path}` is {shown}, it must be finite", path)
    for limit, words, is_kept in (
        ("minimum", "at least", lambda bound: bound <= value),
        ("maximum", "at most", lambda bound: value <= bound),
        ("exclusiveMinimum", "above", lambda bound: bound < value),
        ("exclusiveMaximum", "below", lambda bound: value < bound),
    ):
        if is_number and limit in about.limits and not is_kept(about.limits[limit]):
            raise ConfigError(f"`{path}` is {shown}, it must be {words} {about.limits[limit]}", path)
    if about.choices is not None and value not in about.choices:
        choices = ", ".join(json.dumps(choice) for choice in about.choices)
        raise ConfigError(f"`{path}` is {shown}, it must be one of {choices}", path)
    return value


def _shown(about: Option, value: Any) -> str:
    return "***" if about.secret else json.dumps(value, ensure_ascii=False)
