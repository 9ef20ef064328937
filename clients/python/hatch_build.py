"""Build hook: makes what the package derives from the proto files, which an sdist carries with it."""

import pathlib
import sys
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

HERE = pathlib.Path(__file__).resolve().parent


class ProtoBuildHook(BuildHookInterface):  # type: ignore[type-arg]
    """Puts the descriptors and the types into the package, and the proto files into an sdist."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        sys.path.insert(0, str(HERE))
        try:
            import codegen
        finally:
            sys.path.pop(0)
        if self.target_name == "sdist":
            build_data["force_include"][str(codegen.proto_root(HERE))] = "proto"
            build_data["force_include"][str(codegen.family_root(HERE))] = "families"
            return
        written = codegen.generate(HERE)
        # They are not in git, so that hatch would leave them out.
        build_data["artifacts"] += [path.relative_to(HERE).as_posix() for path in written]
