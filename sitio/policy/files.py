"""
Loads a Python file with policies, and the neighbours that it imports: L{importFile}.

The folder of the file is a package of its own, under a name that nobody else uses.  So
C{import cache} in C{/a/tokens.py} finds C{/a/cache.py}, also when it runs later, in a function.
It does so for files of this folder only: C{sys.path} does not change, another C{cache} of an
installed library or of another folder stays what it is, and files of the same name in two
folders are two modules.  As in a script, a neighbour wins over an installed module, but for
sitio: a file beside a checkout of it must get the sitio that runs it.
"""

from __future__ import annotations

import builtins
import importlib
import importlib.util
import re
import sys
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from pathlib import Path
from types import ModuleType
from typing import Any
from zlib import crc32

#: The names of the packages begin with it.
_PREFIX = "sitio_policy_"


def importFile(path: Path) -> ModuleType:
    """
    Run a file as a module.  Each call runs the file anew; neighbours are run once.

    @param path: absolute.

    @raise BaseException: what the file raises; no new module is left then.
    """
    if not any(isinstance(each, _Neighbours) for each in sys.meta_path):
        # Before the finder that would load neighbours without their neighbours.
        sys.meta_path.insert(0, _Neighbours())
    name = moduleName(path)
    package = name.partition(".")[0]
    before = {each for each in sys.modules if each.partition(".")[0] == package}
    if package not in sys.modules:
        sys.modules[package] = ModuleType(package)
        sys.modules[package].__path__ = [str(path.parent)]
    spec = importlib.util.spec_from_file_location(name, path, loader=_Loader(name, str(path)))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    previous = sys.modules.get(name)
    # attrs and dataclasses look their module up there.
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        for each in list(sys.modules):
            if each.partition(".")[0] == package and each not in before:
                del sys.modules[each]
        if previous is not None:
            sys.modules[name] = previous
        raise
    return module


class LoadedAnew:
    """
    A context in which files that are imported run anew, with their neighbours, as they may have
    changed.  After it all modules are those of before, until L{use}.
    """

    def __init__(self) -> None:
        self._modules: dict[str, ModuleType] = {}

    def __enter__(self) -> LoadedAnew:
        self._modules = _withdraw()
        importlib.invalidate_caches()
        return self

    def __exit__(self, *error: object) -> None:
        before, self._modules = self._modules, _withdraw()
        sys.modules.update(before)

    def use(self) -> None:
        """From now on the new modules are those of their files."""
        _withdraw()
        sys.modules.update(self._modules)


def _withdraw() -> dict[str, ModuleType]:
    """Take the modules of all files out of C{sys.modules}."""
    return {each: sys.modules.pop(each) for each in list(sys.modules) if each.startswith(_PREFIX)}


def importedFiles() -> list[Path]:
    """The files that were imported, with their neighbours."""
    modules = [module for name, module in sys.modules.items() if name.startswith(_PREFIX)]
    found = (getattr(each, "__file__", None) for each in modules)
    return sorted({Path(each) for each in found if each})


def loadedFile(path: Path) -> ModuleType | None:
    """The module of a file, if the file was imported."""
    return sys.modules.get(moduleName(path))


def moduleName(path: Path) -> str:
    """The name of the module of a file, C{sitio_policy_1a2b3c4d.tokens}."""
    stem = path.stem
    if not stem.isidentifier():
        stem = f"{re.sub(r'[^0-9A-Za-z]', '_', stem)}_{crc32(bytes(path)):08x}"
    return f"{_PREFIX}{crc32(bytes(path.parent)):08x}.{stem}"


class _Loader(SourceFileLoader):
    """
    Runs a file with an C{import} that finds its neighbours.

    Nothing compiled is kept: Python would take it for current after a change within a second.
    """

    def path_stats(self, path: str) -> Mapping[str, Any]:
        """
        @raise OSError: always; this makes the loader compile the file, and write nothing.
        """
        raise OSError

    def exec_module(self, module: ModuleType) -> None:
        package = module.__name__.partition(".")[0]
        vars(module)["__builtins__"] = {**vars(builtins), "__import__": _importFrom(package)}
        super().exec_module(module)


class _Neighbours(MetaPathFinder):
    """Finds modules of the folders of policies, and of no others."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if not name.startswith(_PREFIX) or path is None:
            return None
        spec = PathFinder.find_spec(name, path, target)
        if spec is not None and type(spec.loader) is SourceFileLoader:
            spec.loader = _Loader(name, spec.loader.path)
        return spec


def _importFrom(package: str) -> Any:
    """A function in place of C{__import__}, for the files of a package."""
    [folder] = sys.modules[package].__path__

    @cache
    def isNeighbour(name: str) -> bool:
        # Cached, as a function may import something for each request.
        if name == "sitio":
            return False
        # A folder without a file of Python is none: a policy may lie beside "logging/".
        place = Path(folder, name)
        return place.with_name(f"{name}.py").is_file() or (place / "__init__.py").is_file()

    def importNeighbour(
        name: str,
        globals: Mapping[str, object] | None = None,
        locals: Mapping[str, object] | None = None,
        fromlist: Sequence[str] | None = (),
        level: int = 0,
    ) -> ModuleType:
        first = name.partition(".")[0]
        if level or not isNeighbour(first):
            return builtins.__import__(name, globals, locals, fromlist or (), level)
        if fromlist:
            return builtins.__import__(f"{package}.{name}", globals, locals, fromlist, 0)
        importlib.import_module(f"{package}.{name}")
        return sys.modules[f"{package}.{first}"]

    return importNeighbour
