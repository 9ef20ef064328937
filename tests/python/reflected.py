"""A gRPC client that knows nothing of Signalbox but its address: every type comes from server reflection."""

import queue
import threading
import time

import grpc
from google.protobuf import json_format, message_factory
from google.protobuf.descriptor_pool import DescriptorPool
from google.rpc import error_details_pb2
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)
from grpc_status import rpc_status

PACKAGE = "signalbox.v1"
# Long enough for a loaded machine; whatever is expected comes within milliseconds.
PATIENCE = 10.0


class Server:
    """The server as reflection describes it."""

    def __init__(self, address):
        self.address = address
        self.channel = grpc.insecure_channel(address)
        self.database = ProtoReflectionDescriptorDatabase(self.channel)
        self.pool = DescriptorPool(self.database)

    def services(self):
        return list(self.database.get_services())

    def method(self, name):
        """The descriptor of `Service.Method`."""
        service, method = name.split(".")
        return self.pool.FindServiceByName(f"{PACKAGE}.{service}").FindMethodByName(method)

    def client(self, token=None):
        return Client(self, token)

    def close(self):
        self.channel.close()


class Client:
    """Calls methods with one token, or with none."""

    def __init__(self, server, token):
        self.server = server
        self.metadata = [("authorization", f"Bearer {token}")] if token else []

    def call(self, name, request=None, timeout=PATIENCE, path=None):
        """Calls the unary `Service.Method` with a request in JSON's form."""
        return self._stub(name, self.server.channel.unary_unary, path)(
            self.message(name, request), timeout=timeout, metadata=self.metadata
        )

    def send(self, name, encoded):
        """Calls the unary `Service.Method` with bytes as they are."""
        stub = self.server.channel.unary_unary(self._path(self.server.method(name)))
        return stub(encoded, timeout=PATIENCE, metadata=self.metadata)

    def watch(self, request=None):
        """Opens a `WatchConfig` stream and reads it in the background."""
        name = "ConfigService.WatchConfig"
        stub = self._stub(name, self.server.channel.unary_stream)
        return Stream(stub(self.message(name, request), metadata=self.metadata))

    def message(self, name, request):
        kind = message_factory.GetMessageClass(self.server.method(name).input_type)
        return json_format.ParseDict(request or {}, kind(), descriptor_pool=self.server.pool)

    def _stub(self, name, make, path=None):
        method = self.server.method(name)
        answer = message_factory.GetMessageClass(method.output_type)
        return make(
            path or self._path(method),
            request_serializer=lambda request: request.SerializeToString(),
            response_deserializer=answer.FromString,
        )

    @staticmethod
    def _path(method):
        return f"/{method.containing_service.full_name}/{method.name}"


class Stream:
    """The events of a watch, with the moment at which each came."""

    def __init__(self, call):
        self.events = []
        # Set when the stream has ended: its error, or None.
        self.error = None
        self.ended_at = None
        self._call = call
        self._queue = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        try:
            for event in self._call:
                self._queue.put((time.monotonic(), event))
        except grpc.RpcError as error:
            self.error = error
        self.ended_at = time.time()
        self._queue.put(None)

    def until(self, found, patience=PATIENCE):
        """Reads up to the first event for which `found` is true, and returns its moment and what `found` returned."""
        deadline = time.monotonic() + patience
        while True:
            try:
                item = self._queue.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                raise AssertionError(f"not seen within {patience} s; seen: {self.events}") from None
            if item is None:
                raise AssertionError(f"the stream ended: {self.error}; seen: {self.events}")
            moment, event = item
            self.events.append(event)
            if answer := found(event):
                return moment, answer

    def synced(self):
        """Reads up to Synced, and returns it."""
        return self.until(lambda event: event.HasField("synced") and event.synced)[1]

    def change(self, name):
        """Reads up to a change of the resource, and returns its moment and the change."""
        return self.until(
            lambda event: next((change for change in event.changes.changes if change.name == name), None)
        )

    def end(self, patience=PATIENCE):
        """Reads to the end of the stream, and returns its error."""
        deadline = time.monotonic() + patience
        while True:
            try:
                item = self._queue.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                raise AssertionError(f"the stream still lives after {patience} s") from None
            if item is None:
                return self.error
            self.events.append(item[1])

    def cancel(self):
        self._call.cancel()


class Details:
    """The rich details of an error."""

    def __init__(self, error):
        self.code = error.code()
        self.text = error.details()
        self.info = error_details_pb2.ErrorInfo()
        self.fields = []
        status = rpc_status.from_call(error)
        for detail in status.details if status else []:
            detail.Unpack(self.info)
            bad = error_details_pb2.BadRequest()
            if detail.Unpack(bad):
                self.fields += [violation.field for violation in bad.field_violations]

    def __repr__(self):
        return f"{self.code.name}: {self.text} (reason {self.info.reason!r}, fields {self.fields})"
