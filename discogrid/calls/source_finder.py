"""Makes the modules that came along with a function importable where it runs."""

import importlib.machinery
import importlib.util
from collections.abc import Mapping
from importlib.abc import InspectLoader, MetaPathFinder
from types import CodeType, ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from discogrid.calls.functions import Source


class SourceFinder(MetaPathFinder):
    """Finds modules that came along with a function."""

    def __init__(self, modules: Mapping[str, "Source"]) -> None:
        """These, by their full names."""
        self._modules = modules

    def find_spec(
        self,
        fullname: str,
        path: object = None,  # noqa: ARG002 (the import system's signature)
        target: ModuleType | None = None,  # noqa: ARG002
    ) -> importlib.machinery.ModuleSpec | None:
        """Where this one comes from; None when it did not come along."""
        source = self._modules.get(fullname)
        if source is None:
            return None
        loader = _SourceLoader(source)
        spec = importlib.util.spec_from_loader(
            fullname, loader, origin=source.path, is_package=source.package
        )
        if spec is not None:
            spec.has_location = bool(source.path)
        return spec


class _SourceLoader(InspectLoader):
    def __init__(self, source: "Source") -> None:
        self._source = source

    def get_source(self, fullname: str) -> str:  # noqa: ARG002 (of one module)
        return importlib.util.decode_source(self._source.text)

    def get_code(self, fullname: str) -> CodeType:  # noqa: ARG002
        return self.source_to_code(self._source.text, self._source.path)

    def is_package(self, fullname: str) -> bool:  # noqa: ARG002
        return self._source.package
