"""Small files that a client is given: read to their bound, and never for ever."""

import os
import pathlib
import threading

import pytest

import signalbox
from signalbox import _files, _tls
from signalbox._transport import TokenSource


def test_a_file_is_read_up_to_its_bound(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"1234")
    assert _files.read(path, 4) == b"1234"
    with pytest.raises(OSError, match="longer than 3 bytes"):
        _files.read(path, 3)
    with pytest.raises(OSError, match="no file"):
        _files.read(tmp_path, 4)


def test_regression_what_has_no_end_and_nobody_who_writes_is_not_waited_for(tmp_path):
    with pytest.raises(signalbox.TokenError, match="/dev/zero: it is no file"):
        TokenSource(file=pathlib.Path("/dev/zero")).read()
    with pytest.raises(signalbox.CredentialFileError, match="no file"):
        _tls.credentials(pathlib.Path("/dev/zero"), None, None)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(TimeoutError, match="nobody has written it"):
        _files.read(tmp_path / "pipe", 4, patience=0.01)


def test_a_pipe_gives_what_is_written_and_no_more_than_the_bound(tmp_path):
    path = tmp_path / "pipe"
    os.mkfifo(path)
    for most, written, read in ((4, b"12", b"12"), (3, b"1234", None)):
        # Whoever opens a pipe to write waits until it is read.
        writer = threading.Thread(target=path.write_bytes, args=(written,))
        writer.start()
        if read is None:
            with pytest.raises(OSError, match="longer than 3 bytes"):
                _files.read(path, most)
        else:
            assert _files.read(path, most) == read
        writer.join()


def test_regression_a_token_file_is_not_read_without_bound(tmp_path):
    path = tmp_path / "token"
    path.write_bytes(b" " * (64 * 1024) + b"t")
    with pytest.raises(signalbox.TokenError, match=f"{path}: it is longer than 65536 bytes"):
        TokenSource(file=path).read()
    path.write_bytes(b"  a.token\n")
    assert TokenSource(file=path).read() == "a.token"
    for words in (b"a\ntoken", b"a\x00token", "a.tökén".encode(), b"a\rx-other: 1"):
        path.write_bytes(words)
        with pytest.raises(signalbox.TokenError, match="characters that a header can't") as refused:
            TokenSource(file=path).read()
        assert "oken" not in str(refused.value).removeprefix("can't use the token")
    path.unlink()
    with pytest.raises(signalbox.TokenError, match=f"{path}: No such file"):
        TokenSource(file=path).read()
