"""Makes the descriptors and the typed specs of the package from the proto files, and takes along how providers are spoken to.

Owns the mapping from proto to Python: a message is a frozen dataclass, an enum value is a word (`AUTH_SCHEME_BEARER` is
`bearer`), a secret is the word for its state. No result is in git, so that none can fall out of step.

    python codegen.py        # for work in the tree; a build of the package does the same
"""

import json
import keyword
import os
import pathlib
import re
import sys
import tempfile
import textwrap
from collections.abc import Iterator
from typing import Any

from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
    FileDescriptorSet,
)

PACKAGE = "signalbox.v1"
#: Read by the client itself, and never shown.
SECRET = f".{PACKAGE}.Secret"
WELL_KNOWN = {
    ".google.protobuf.Struct": ("Mapping[str, Any] | None", "None"),
    ".google.protobuf.Value": ("Any", "None"),
    ".google.protobuf.ListValue": ("tuple[Any, ...] | None", "None"),
    ".google.protobuf.Duration": ("timedelta | None", "None"),
    ".google.protobuf.Timestamp": ("datetime | None", "None"),
    SECRET: ("str | None", "None"),
}
FLOATS = (FieldDescriptorProto.TYPE_DOUBLE, FieldDescriptorProto.TYPE_FLOAT)
HEADER = '''"""What the configuration of each kind holds. Made from the proto files by `codegen.py`; do not edit.

Enums are words, and a word that begins with `unknown_` is one that a newer server has. A secret field says only whether
there is a value: `present`, `absent`, `missing`, `undecryptable`; the value itself is read from the resource.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Any

'''


def proto_root(here: pathlib.Path) -> pathlib.Path:
    """Where the proto files are: in an sdist beside this file, in the repository two levels up."""
    for root in (here / "proto", here.parent.parent / "proto"):
        if (root / "signalbox" / "v1").is_dir():
            return root
    raise FileNotFoundError("the proto files: build from the repository or from an sdist")


def family_root(here: pathlib.Path) -> pathlib.Path:
    """Where it stands how providers are spoken to: in an sdist beside this file, in the repository with the server."""
    for root in (here / "families", here.parent.parent / "src" / "wire" / "families"):
        if root.is_dir():
            return root
    raise FileNotFoundError("the families of providers: build from the repository or from an sdist")


def families(root: pathlib.Path) -> dict[str, Any]:
    """The mapping of each type of provider, by the word for the type. A file may be a merge patch (RFC 7396) on another."""
    files = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in root.glob("*.json")}

    def whole(name: str) -> dict[str, Any]:
        file = dict(files[name])
        base = file.pop("extends", None)
        file.pop("alternatives", None)
        file.pop("call_paths", None)
        file.pop("beside", None)
        file.pop("sources", None)
        return file if base is None else merged(whole(base), file)

    made = [whole(name) for name in sorted(files)]
    return {file["type"].removeprefix("PROVIDER_TYPE_").lower(): file for file in made if "type" in file}


def merged(base: Any, patch: Any) -> Any:
    """RFC 7396."""
    if not isinstance(patch, dict):
        return patch
    result = dict(base) if isinstance(base, dict) else {}
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = merged(result.get(name), value)
    return result


def generate(here: pathlib.Path) -> list[pathlib.Path]:
    """Writes what is made into the package, and returns the paths."""
    protos, package = proto_root(here), here / "src" / "signalbox"
    described = compile_protos(protos)
    descriptors, specs, data = (
        package / name for name in ("_descriptors.binpb", "specs.py", "_families.json")
    )
    replace(data, json.dumps(families(family_root(here)), separators=(",", ":")).encode())
    replace(specs, "".join(Module(described).text()).encode())
    for file in described.file:
        file.ClearField("source_code_info")
    replace(descriptors, described.SerializeToString(deterministic=True))
    return [descriptors, specs, data]


def replace(path: pathlib.Path, content: bytes) -> None:
    """Writes a file as a whole: others may read it meanwhile."""
    temporary = path.with_suffix(f".{os.getpid()}")
    temporary.write_bytes(content)
    temporary.replace(path)


def compile_protos(protos: pathlib.Path) -> FileDescriptorSet:
    """Everything that the API needs, in an order in which nothing comes before what it imports."""
    from grpc_tools import protoc

    well_known = pathlib.Path(protoc.__file__).parent / "_proto"
    with tempfile.TemporaryDirectory() as folder:
        out = pathlib.Path(folder) / "out"
        arguments = [f"-I{protos}", f"-I{well_known}", "--include_imports", "--include_source_info"]
        files = sorted(str(path) for path in protos.glob("signalbox/v1/*.proto"))
        if protoc.main(["protoc", *arguments, f"--descriptor_set_out={out}", *files]) != 0:
            raise RuntimeError("protoc refuses the proto files")
        return FileDescriptorSet.FromString(out.read_bytes())


class Module:
    """The text of `specs.py`."""

    def __init__(self, described: FileDescriptorSet) -> None:
        self.messages: dict[str, tuple[DescriptorProto, FileDescriptorProto, tuple[int, ...]]] = {}
        self.enums: dict[str, EnumDescriptorProto] = {}
        for file in described.file:
            if file.package != PACKAGE:
                continue
            self.enums.update({f".{PACKAGE}.{enum.name}": enum for enum in file.enum_type})
            for index, message in enumerate(file.message_type):
                self.register(f".{PACKAGE}", message, file, (4, index))
        resource = self.messages[f".{PACKAGE}.Resource"][0]
        self.arms = {field.name: field.type_name for field in resource.field if field.HasField("oneof_index")}

    def register(
        self, scope: str, message: DescriptorProto, file: FileDescriptorProto, path: tuple[int, ...]
    ) -> None:
        name = f"{scope}.{message.name}"
        self.messages[name] = (message, file, path)
        self.enums.update({f"{name}.{enum.name}": enum for enum in message.enum_type})
        for index, nested in enumerate(message.nested_type):
            self.register(name, nested, file, (*path, 3, index))

    def text(self) -> Iterator[str]:
        yield HEADER
        names = list(self.wanted())
        for name in names:
            yield self.message(name)
        yield "\n#: Which class each message is decoded to.\nTYPES: Mapping[str, type[Any]] = MappingProxyType(\n    {\n"
        yield from (f'        "{name[1:]}": {short(name)},\n' for name in names)
        yield "    }\n)\n\n#: The spec of each kind.\nSPECS: Mapping[str, type[Any]] = MappingProxyType(\n    {\n"
        yield from (f'        "{arm}": {short(name)},\n' for arm, name in self.arms.items())
        yield "    }\n)\n"

    def wanted(self) -> Iterator[str]:
        """The specs and what they are made of, each after its parts."""
        seen: set[str] = set()

        def visit(name: str) -> Iterator[str]:
            if name in seen or name in WELL_KNOWN or name not in self.messages:
                return
            seen.add(name)
            message = self.messages[name][0]
            for part in message.field:
                yield from visit(part.type_name)
            if not message.options.map_entry:
                yield name

        for arm in self.arms.values():
            yield from visit(arm)

    def message(self, name: str) -> str:
        message, file, path = self.messages[name]
        comments = {tuple(l.path): l.leading_comments for l in file.source_code_info.location}
        lines = ["\n@dataclass(frozen=True, slots=True)\n", f"class {short(name)}:\n"]
        lines.append(docstring(comments.get(path, ""), "    "))
        for index, member in enumerate(message.field):
            kind, default = self.field(message, member)
            lines.append(f"\n    {attribute(member.name)}: {kind} = {default}\n")
            words = self.words(member)
            comment = comments.get((*path, 2, index), "") + (f"\n One of {words}." if words else "")
            lines.append(docstring(comment, "    "))
        return "".join(lines) + "\n"

    def field(self, message: DescriptorProto, field: FieldDescriptorProto) -> tuple[str, str]:
        """Type and default of a field."""
        entry = next(
            (n for n in message.nested_type if field.type_name.endswith(f".{message.name}.{n.name}")), None
        )
        if entry is not None and entry.options.map_entry:
            value = self.scalar(entry.field[1])[0].removesuffix(" | None")
            return f"Mapping[str, {value}]", "dataclasses.field(default_factory=lambda: MappingProxyType({}))"
        kind, default = self.scalar(field)
        if field.label == FieldDescriptorProto.LABEL_REPEATED:
            return f"tuple[{kind.removesuffix(' | None')}, ...]", "()"
        if field.HasField("oneof_index") and not kind.endswith(" | None"):
            return f"{kind} | None", "None"
        return kind, default

    def scalar(self, field: FieldDescriptorProto) -> tuple[str, str]:
        if field.type == FieldDescriptorProto.TYPE_MESSAGE:
            return WELL_KNOWN.get(field.type_name, (f"{short(field.type_name)} | None", "None"))
        if field.type in (FieldDescriptorProto.TYPE_STRING, FieldDescriptorProto.TYPE_ENUM):
            return "str", '""'
        if field.type == FieldDescriptorProto.TYPE_BYTES:
            return "bytes", 'b""'
        if field.type == FieldDescriptorProto.TYPE_BOOL:
            return "bool", "False"
        return ("float", "0.0") if field.type in FLOATS else ("int", "0")

    def words(self, field: FieldDescriptorProto) -> str:
        enum = self.enums.get(field.type_name)
        if enum is None:
            return ""
        prefix = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", enum.name).upper() + "_"
        words = [value.name.removeprefix(prefix).lower() for value in enum.value if value.number != 0]
        return ", ".join(f"`{word}`" for word in words)


def attribute(name: str) -> str:
    """The name of a field, where Python has no other use for the word."""
    return f"{name}_" if keyword.iskeyword(name) else name


def short(name: str) -> str:
    """The name of the class: a message within another carries both names."""
    return "".join(name.removeprefix(f".{PACKAGE}.").split("."))


def docstring(comment: str, indent: str) -> str:
    text = " ".join(comment.split()).replace("\\", "\\\\")
    if not text:
        return ""
    # A quote at the end would run into the closing ones.
    text = textwrap.fill(text, 106 - len(indent)) + (" " if text.endswith('"') else "")
    return textwrap.indent(f'"""{text}"""\n', indent)


if __name__ == "__main__":
    for written in generate(pathlib.Path(__file__).resolve().parent):
        print(written, file=sys.stderr)
