"""The API's messages.

Owns a descriptor pool of its own, so that an application that has generated the same proto files, or older ones, keeps its
own. Must not know what messages mean.
"""

from __future__ import annotations

from importlib import resources
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

_PACKAGE = "signalbox.v1"


def _load() -> descriptor_pool.DescriptorPool:
    pool = descriptor_pool.DescriptorPool()
    packed = resources.files("signalbox").joinpath("_descriptors.binpb").read_bytes()
    for file in descriptor_pb2.FileDescriptorSet.FromString(packed).file:
        pool.AddSerializedFile(file.SerializeToString())
    return pool


_POOL = _load()


def message_class(name: str) -> Any:
    """The class of a message of the API."""
    return message_factory.GetMessageClass(_POOL.FindMessageTypeByName(f"{_PACKAGE}.{name}"))


AppliedReport = message_class("AppliedReport")
ListResourcesRequest = message_class("ListResourcesRequest")
ListResourcesResponse = message_class("ListResourcesResponse")
ReportAppliedRequest = message_class("ReportAppliedRequest")
ReportAppliedResponse = message_class("ReportAppliedResponse")
Resource = message_class("Resource")
Snapshot = message_class("Snapshot")
WatchConfigRequest = message_class("WatchConfigRequest")
WatchConfigResponse = message_class("WatchConfigResponse")

#: The arms of `Resource.spec`, as this version of the API has them.
ARMS: tuple[str, ...] = tuple(field.name for field in Resource.DESCRIPTOR.oneofs_by_name["spec"].fields)

DELETED: int = (
    message_class("Change")
    .DESCRIPTOR.fields_by_name["type"]
    .enum_type.values_by_name["CHANGE_TYPE_DELETED"]
    .number
)


def seconds(duration: Any) -> float:
    """A length of time from the wire; a negative one is none."""
    return max(0.0, float(duration.seconds) + float(duration.nanos) / 1e9)


def set_seconds(duration: Any, value: float) -> None:
    """Puts a length of time on the wire."""
    duration.seconds = int(value)
    duration.nanos = int((value - int(value)) * 1e9)
