"""The file of a plugin: loaded once, its stages found."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import sys
from types import ModuleType
from typing import Any, Dict, List, Optional, Type

from .batch import BatchDetector
from .detector import Detector
from .errors import ConfigError
from .sink import Outbox, Sink
from .source import Source
from .stage import Stage, description, name_of
from .transform import Transform

_BASES = (Stage, Detector, BatchDetector, Transform, Source, Sink, Outbox)


class Plugin:
    """A plugin's stages."""

    def __init__(self, path: str, sha256: Optional[str]) -> None:
        module = _load(path, sha256)
        self._stages: Dict[str, Type[Any]] = {}
        for stage in _stages_of(module):
            key = f"{stage.kind}.{name_of(stage)}"
            other = self._stages.setdefault(key, stage)
            if other is not stage:
                raise ConfigError(
                    f"there are two {stage.kind}s called `{name_of(stage)}`: the classes {other.__name__} and "
                    f"{stage.__name__}; give one of them another `name`"
                )
        if not self._stages:
            raise ConfigError("there is no class in it that derives from Detector, BatchDetector, Transform, Source, Sink or Outbox")

    def describe(self) -> List[Dict[str, Any]]:
        """What the engine is told about each stage."""
        return [description(stage) for stage in self._stages.values()]

    def stage(self, kind: str, name: str) -> Type[Any]:
        """The class of a stage."""
        found = self._stages.get(f"{kind}.{name}")
        if found is None:
            raise ConfigError(f"there is no {kind} `{name}` in the plugin any more: has its file changed?")
        return found


def _stages_of(module: ModuleType) -> List[Type[Any]]:
    """The classes that are stages, in their order; those that were imported from a base of several are not meant."""
    inside = module.__name__ + "."
    classes = [thing for thing in vars(module).values() if isinstance(thing, type) and issubclass(thing, Stage)]
    is_own = [c.__module__ == module.__name__ or c.__module__.startswith(inside) for c in classes]
    own = [stage for stage, is_ours in zip(classes, is_own) if is_ours and stage not in _BASES]
    # A class that others derive from and that has no docstring is what they have in common, not a stage.
    bases = {base for stage in own for base in stage.__mro__[1:]}
    found = [stage for stage in own if stage not in bases or vars(stage).get("__doc__")]
    return list(dict.fromkeys(found))


def _load(path: str, sha256: Optional[str]) -> ModuleType:
    is_package = os.path.isdir(path)
    file = os.path.join(path, "__init__.py") if is_package else path
    name = os.path.splitext(os.path.basename(path.rstrip(os.sep)))[0]
    with open(file, "rb") as opened:
        source = opened.read()
    if sha256 is not None and hashlib.sha256(source).hexdigest() != sha256.lower():
        raise ConfigError(f"`{path}` has changed since its SHA-256 was checked", "sha256")
    # After what is installed: a plugin called `json.py` must not be what others import as `json`.
    sys.path.append(os.path.dirname(os.path.abspath(path)))
    folders = [path] if is_package else None
    spec = importlib.util.spec_from_file_location(name, file, submodule_search_locations=folders)
    if spec is None:
        raise ConfigError(f"`{path}` is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    # These bytes, whose sum was checked, and not what a cache beside the file says they are.
    exec(compile(source, file, "exec"), module.__dict__)
    return module
