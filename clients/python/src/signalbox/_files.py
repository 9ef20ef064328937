"""Small files that a client is given: tokens, keys, certificates.

Owns how they are read: never for ever, and never more than is sensible. A pipe into which nobody writes, or a file without an
end, is a mistake that must take neither a thread nor the memory. Must not know what stands in them.
"""

from __future__ import annotations

import os
import pathlib
import select
import stat
from time import monotonic

#: How long whoever writes into a pipe may take, in seconds.
_PATIENCE = 5.0


def open_file(path: pathlib.Path, flags: int = 0) -> int:
    """Opens for reading, without waiting for anybody. Links are followed, if `flags` does not say otherwise: orchestrators put
    secrets in place by them. Raises `OSError`."""
    return os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | flags)


def read(path: pathlib.Path, most: int, patience: float = _PATIENCE) -> bytes:
    """Reads a file, or what somebody writes into a pipe, as `<(...)` in a shell makes one. Raises `OSError` where it is neither,
    has more than so many bytes, can't be read, or takes too long."""
    handle = open_file(path)
    try:
        mode = os.fstat(handle).st_mode
        if stat.S_ISFIFO(mode):
            content = _from_pipe(handle, most + 1, monotonic() + patience)
        elif stat.S_ISREG(mode):
            with os.fdopen(handle, "rb", closefd=False) as file:
                content = file.read(most + 1)
        else:
            raise OSError("it is no file")
    finally:
        os.close(handle)
    if len(content) > most:
        raise OSError(f"it is longer than {most} bytes")
    return content


def _from_pipe(handle: int, most: int, deadline: float) -> bytes:
    ready = select.poll()
    ready.register(handle, select.POLLIN)
    content = b""
    while len(content) < most:
        if not ready.poll(max(0.0, deadline - monotonic()) * 1000):
            raise TimeoutError("nobody has written it to its end in time")
        piece = os.read(handle, most - len(content))
        if not piece:
            break
        content += piece
    return content
