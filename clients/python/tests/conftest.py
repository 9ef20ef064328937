"""What the tests stand on: the real server, and a proxy that can be cut.

The binary is that of SIGNALBOX_TEST_BINARY, else of `cargo build`. Waits are for conditions, never for time.
"""

import base64
import contextlib
import json
import os
import pathlib
import socket
import struct
import subprocess
import threading
import time
import zlib

import grpc
import pytest
from google.protobuf import json_format

import signalbox
from signalbox import _proto

REPOSITORY = pathlib.Path(__file__).resolve().parents[3]
BINARY = os.environ.get("SIGNALBOX_TEST_BINARY", str(REPOSITORY / "target/debug/signalbox"))
VECTORS = REPOSITORY / "tests/vectors"
PATIENCE = 20.0


def until(condition, what="the condition", limit=PATIENCE):
    """Waits for a condition, and returns what it gave."""
    deadline = time.monotonic() + limit
    while not (result := condition()):
        assert time.monotonic() < deadline, f"{what} did not come to hold within {limit} s"
        time.sleep(0.005)
    return result


class Server:
    """A server in a folder, on a port that stays its own through restarts."""

    def __init__(self, folder, environment=None):
        self.folder = pathlib.Path(folder)
        self.environment = {
            "SIGNALBOX_STARTERS": "off",
            "SIGNALBOX_HTTP_LISTEN": "off",
            **(environment or {}),
        }
        self.port = 0
        self.process = None
        self.start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    @property
    def admin_token(self):
        return (self.folder / "data/admin.token").read_text().strip()

    def start(self):
        kept = {name: value for name, value in os.environ.items() if not name.startswith("SIGNALBOX_")}
        with (self.folder / "server.log").open("ab") as log:
            self.process = subprocess.Popen(
                [BINARY, "serve", "--data-dir", "data", "--listen", f"127.0.0.1:{self.port}"],
                cwd=self.folder,
                env={**kept, **self.environment},
                stdout=subprocess.PIPE,
                stderr=log,
            )
        line = self.process.stdout.readline().decode()
        assert "gRPC on " in line, (line, (self.folder / "server.log").read_text())
        self.port = int(line.split("gRPC on ")[1].split()[0].rpartition(":")[2])

    def stop(self):
        """As an operator does."""
        self._end(self.process.terminate)

    def kill(self):
        """kill -9."""
        self._end(self.process.kill)

    def _end(self, end):
        if self.process.poll() is None:
            end()
        self.process.wait(PATIENCE)
        self.process.stdout.close()

    def call(self, method, request, token=None, wait=True):
        """Calls an RPC, `Service.Method`, with proto JSON, as the administrator."""
        service, _, name = method.partition(".")
        path = f"/signalbox.v1.{service}/{name}"
        asked = json_format.ParseDict(request, _proto.message_class(f"{name}Request")())
        with grpc.insecure_channel(f"127.0.0.1:{self.port}") as channel:
            unary = channel.unary_unary(
                path,
                request_serializer=type(asked).SerializeToString,
                response_deserializer=_proto.message_class(f"{name}Response").FromString,
            )
            metadata = [("authorization", f"Bearer {token or self.admin_token}")]
            return unary(asked, metadata=metadata, timeout=PATIENCE, wait_for_ready=wait)

    def writer(self):
        """Writes settings over one connection, for who measures."""
        channel = grpc.insecure_channel(f"127.0.0.1:{self.port}")
        update = channel.unary_unary(
            "/signalbox.v1.ConfigService/UpdateResource",
            request_serializer=_proto.message_class("UpdateResourceRequest").SerializeToString,
            response_deserializer=_proto.message_class("UpdateResourceResponse").FromString,
        )
        metadata = [("authorization", f"Bearer {self.admin_token}")]

        def write(name, setting):
            request = {"resource": {"name": name, "setting": setting}, "allowMissing": True}
            asked = json_format.ParseDict(request, _proto.message_class("UpdateResourceRequest")())
            return update(asked, metadata=metadata, timeout=PATIENCE)

        return write

    def put(self, name, wait=True, **spec):
        """Creates a resource, or replaces the whole of one, and returns the revision."""
        request = {"resource": {"name": name, **spec}, "updateMask": "*", "allowMissing": True}
        return self.call("ConfigService.UpdateResource", request, wait=wait).revision

    def delete(self, name):
        return self.call("ConfigService.DeleteResource", {"name": name}).revision

    def token(self, role="WORKER", ttl="3600s", secrets=True, grants=("",), subject="worker"):
        """A token that reaches everything, unless grants say otherwise."""
        request = {
            "role": f"ROLE_{role}",
            "subject": subject,
            "ttl": ttl,
            "grants": [{"prefix": grant} if grant else {} for grant in grants],
            "includeSecrets": secrets,
        }
        return self.call("AdminService.CreateToken", request).token


class Proxy:
    """A TCP proxy that can be frozen, so that nothing passes and nobody is told; cut; and closed to newcomers."""

    def __init__(self, port):
        self.target = port
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.open = threading.Event()
        self.open.set()
        self.refusing = False
        self.pairs = []
        threading.Thread(target=self._accept, daemon=True).start()

    def freeze(self):
        self.open.clear()

    def thaw(self):
        self.open.set()

    def cut(self):
        for pair in self.pairs:
            for each in pair:
                with contextlib.suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)
        self.pairs.clear()

    def close(self):
        self.listener.close()
        self.thaw()
        self.cut()

    def _accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
                server = socket.create_connection(("127.0.0.1", self.target))
            except OSError:
                if self.listener.fileno() < 0:
                    return
                client.close()
                continue
            if self.refusing:
                client.close()
                server.close()
                continue
            self.pairs.append((client, server))
            for source, sink in ((client, server), (server, client)):
                threading.Thread(target=self._pump, args=(source, sink), daemon=True).start()

    def _pump(self, source, sink):
        with contextlib.suppress(OSError):
            while data := source.recv(65_536):
                self.open.wait()
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """One server for the tests of a module that only read and write."""
    server = Server(tmp_path_factory.mktemp("server"))
    yield server
    server.kill()


@pytest.fixture
def server(tmp_path):
    """A server of the test's own, to be stopped and killed."""
    server = Server(tmp_path)
    yield server
    server.kill()


@pytest.fixture
def connect():
    """Connects clients that are closed after the test. None of them looks into the environment."""
    clients = []

    def connect(server, **options):
        url = options.pop("url", None) or server.url
        if not options.keys() & {"token", "token_file", "token_callback"}:
            options["token"] = server.token()
        options = {"secrets": True, "progress_interval": 1.0, **options}
        client = signalbox.connect(signalbox.Options(url=url, **options))
        clients.append(client)
        return client

    yield connect
    for client in clients:
        client.close()


def vectors(name):
    return json.loads((VECTORS / name).read_text(encoding="utf-8"))


def streamed_bytes(case):
    """What is streamed, as the vectors of the wire have it."""
    if "frames" in case:
        return b"".join(text_frame(headers, payload) for headers, payload in case["frames"])
    return base64.b64decode(case["base64"]) if "base64" in case else case["body"].encode()


def text_frame(headers, payload):
    """A frame of `application/vnd.amazon.eventstream` whose headers are texts."""
    packed = b"".join(
        struct.pack(f">B{len(name)}sBH{len(value)}s", len(name), name.encode(), 7, len(value), value.encode())
        for name, value in headers.items()
    )
    return frame(packed, payload.encode() if isinstance(payload, str) else json.dumps(payload).encode())


def frame(headers, payload):
    """A frame, its headers as bytes."""
    packed = struct.pack(">II", 16 + len(headers) + len(payload), len(headers))
    packed += struct.pack(">I", zlib.crc32(packed)) + headers + payload
    return packed + struct.pack(">I", zlib.crc32(packed))
