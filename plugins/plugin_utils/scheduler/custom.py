# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Filters and weighers of a team's own: classes by name, out of a collection or a directory, each under guard.

| name | is looked for in |
|---|---|
| `acme.fleet.rack.RackFilter` | class RackFilter in `plugins/plugin_utils/rack.py` of the collection acme.fleet |
| `rack.RackFilter` | class RackFilter in `rack.py` in the directory `scheduler.plugin_path` |

What such a class raises is reported with its name, its file and the host that it was asked about.
"""

from __future__ import annotations

import importlib
import importlib.util
import math
import sys
import traceback
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from types import ModuleType
from typing import Any

from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.filters.base import Filter, Rejection
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.weighers.base import Weigher
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.validation import ValidationError

FILTER_METHODS = ("__init__", "applies", "rejection")
WEIGHER_METHODS = ("__init__", "raw", "multiplier")


class PluginError(ValidationError):
    """A filter or weigher of the user's own cannot be loaded or failed."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(field, None, message)
        self.args = (f"{field}: {message}",)


def is_custom(name: str) -> bool:
    """Whether a name in `enabled_filters` or `weighers` is that of a class of the user's own."""
    return "." in name


def load_filter(field: str, name: str, plugin_path: str | None) -> type[Filter]:
    """The filter class of this name.

    :param field: where the name was found; :param plugin_path: the directory of names with two parts.
    :raises PluginError: there is no such file or class, or its file does not load.
    """
    found = _load(field, name, plugin_path, Filter)
    guarded = _guarded(field, found, FILTER_METHODS)
    guarded.rejections = Filter.rejections  # what it may inherit looks at the columns and would hide hosts from a stricter `rejection`
    return guarded


def load_weigher(field: str, name: str, plugin_path: str | None) -> type[Weigher]:
    """The weigher class of this name; see `load_filter`."""
    guarded = _guarded(field, _load(field, name, plugin_path, Weigher), WEIGHER_METHODS)
    guarded.raws = Weigher.raws
    return guarded


def _load(field: str, name: str, plugin_path: str | None, base: type) -> type:
    *where, class_name = name.split(".")
    if len(where) not in (1, 3):
        raise PluginError(field, f"{name} is neither NAMESPACE.COLLECTION.FILE.CLASS nor FILE.CLASS")
    try:
        module = _from_collection(*where) if len(where) == 3 else _from_directory(field, where[0], plugin_path)
    except PluginError:
        raise
    except Exception as error:
        raise PluginError(field, f"{name} cannot be loaded: {_blamed(error)}") from error
    found = getattr(module, class_name, None)
    if not (isinstance(found, type) and issubclass(found, base)):
        what = "no class of this name" if found is None else f"{class_name}, which is not derived from {base.__name__}"
        raise PluginError(field, f"{name} cannot be loaded: {module.__file__} has {what}")
    return found


def _from_collection(namespace: str, collection: str, name: str) -> ModuleType:
    return importlib.import_module(f"ansible_collections.{namespace}.{collection}.plugins.plugin_utils.{name}")


def _from_directory(field: str, name: str, plugin_path: str | None) -> ModuleType:
    if plugin_path is None:
        raise PluginError(field, f"{name} is looked for in the directory scheduler.plugin_path, which is not set")
    path = Path(plugin_path) / f"{name}.py"
    if not path.is_file():
        raise PluginError(field, f"there is no file {path}")
    spec = importlib.util.spec_from_file_location(f"kvmfleet_placement_{name}", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def _guarded(field: str, cls: type, methods: tuple[str, ...]) -> type:
    """The class with its methods reporting who failed on which host; it keeps its name, which is the one in the answer."""
    overrides = {name: _guard(field, cls.__name__, getattr(cls, name)) for name in methods if hasattr(cls, name)}
    return type(cls.__name__, (cls,), {**overrides, "__module__": cls.__module__, "__doc__": cls.__doc__})


def _guard(field: str, name: str, method: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(method)
    def call(self: Any, *arguments: Any) -> Any:
        asked = getattr(arguments[0], "name", None) if arguments and method.__name__ != "__init__" else None
        where = f"{name} failed{f' on host {asked}' if asked else ''}"
        try:
            result = method(self, *arguments)
        except Exception as error:
            raise PluginError(field, f"{where}: {_blamed(error)}") from error
        if method.__name__ == "rejection" and not (result is None or _is_rejection(result)):
            raise PluginError(field, f"{where}: rejection() returned {result!r}, expected None or self.reject(...)")
        if method.__name__ in ("raw", "multiplier") and (isinstance(result, bool) or not isinstance(result, (int, float)) or math.isnan(result)):
            raise PluginError(field, f"{where}: {method.__name__}() returned {result!r}, expected a number")
        return result

    return call


def _is_rejection(result: object) -> bool:
    return isinstance(result, dict) and result.keys() == Rejection.__annotations__.keys()


def _blamed(error: Exception) -> str:
    """The error with the innermost line of code that it came from."""
    if isinstance(error, SyntaxError):
        return f"{error.filename}, line {error.lineno}: {type(error).__name__}: {error.msg}"
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{frame.filename}, line {frame.lineno}: {type(error).__name__}: {error}"
