"""Servers that fail in the middle: another version of the file, other bytes than asked for, a body without end, or a
byte at a time. All of them are errors, and none gives wrong numbers or waits for ever."""

from __future__ import annotations

import os
import socket
import stat
import threading
import time
import traceback
from contextlib import suppress

import pytest

from nwb_lint import read_trials
from nwb_lint.errors import NWBError
from nwb_lint.nwb.storage import http
from nwb_lint.testing import mock_session
from tests.nwb.oracle import same_data as same
from tests.nwb.server import RangeServer

TRIALS = {"align": "cue_time", "window_s": (0, 1), "bin_s": 0.1}


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("NWB_LINT_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return mock_session(tmp_path_factory.mktemp("faults") / "session.nwb", n_units=20, n_trials=100)


@pytest.fixture
def server(path):
    with RangeServer({"/session.nwb": path}) as server:
        yield server


@pytest.fixture
def quick_clock(monkeypatch):
    """A clock on which a second is half an hour."""
    clock = time.monotonic
    monkeypatch.setattr(time, "monotonic", lambda: clock() * 1800)


def counted(server, at, change):
    """Call ``change`` before the request of this number."""

    def route(handler):
        if len(server.log) == at:
            change()

    return route


@pytest.mark.parametrize("download", [False, True])
@pytest.mark.parametrize("tags", [True, "weak", "modified", False])
def test_a_file_replaced_while_it_is_read_is_noticed(path, server, tmp_path, tags, download):
    """By its ETag, strong or weak, else by Last-Modified, else by its size; downloads go on where they ended."""
    content = path.read_bytes()
    other = content[:-8] + bytes(8) if tags else content + bytes(8)
    server.tags = tags
    server.faults = [None, "drop"] if download else []
    server.route = counted(server, 1 + download, lambda: server.files.update({"/session.nwb": other}))
    with pytest.raises(NWBError, match="changed while it was read"):
        read_trials(f"{server.url}/session.nwb", **TRIALS, download=download)


@pytest.mark.parametrize("tags", [True, "weak", "modified", False])
def test_a_file_that_stays_is_read_whatever_names_its_version(path, server, tags):
    server.tags = tags
    for download in (False, True):
        same(read_trials(f"{server.url}/session.nwb", **TRIALS, download=download), read_trials(path, **TRIALS))


@pytest.mark.parametrize("fault", ["shifted", "endless"])
@pytest.mark.parametrize("at", [0, 1])
def test_other_bytes_than_asked_for_are_refused(server, fault, at):
    server.faults = [None] * at + [fault]
    with pytest.raises(NWBError, match="asked for"):
        read_trials(f"{server.url}/session.nwb", **TRIALS)


def test_a_download_goes_on_only_from_the_byte_where_it_ended(server):
    server.faults = [None, "drop", "shifted"]
    with pytest.raises(NWBError, match="asked for"):
        read_trials(f"{server.url}/session.nwb", **TRIALS, download=True)


@pytest.mark.parametrize("download", [False, True])
def test_a_server_that_sends_a_byte_at_a_time_is_given_up(server, quick_clock, download):
    server.faults = [None] * download + ["slow"]
    start = time.time()
    with pytest.raises(NWBError, match="less than 1000 bytes a second"):
        read_trials(f"{server.url}/session.nwb", **TRIALS, download=download)
    assert time.time() - start < 30


PART = b"HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 0-99/%d\r\n"
LAST = b"Content-Length: 0\r\nConnection: close\r\n\r\n"
HEADS = {
    "status": (b"HTTP/1.1 ", b"2", "less than 1000 bytes a second"),
    "name": (PART % 100 + b"X-", b"a", "less than 1000 bytes a second"),
    "headers": (PART % 100, b"X: y\r\n", "less than 1000 bytes a second|connection .* failed"),
    "continue": (b"", b"HTTP/1.1 100 Continue\r\n\r\n", "less than 1000 bytes a second"),
    "chunk size": (PART % 100 + b"Transfer-Encoding: chunked\r\n\r\n1", b"0", "less than 1000 bytes a second"),
    "silent": (b"", b"", "connection to .* failed"),
    "silent body": (PART % 100 + b"Content-Length: 100\r\n\r\n", b"", "connection to .* failed"),
    "odd size": (b"HTTP/1.1 200 OK\r\nContent-Length: abc\r\n\r\n", None, "does not serve ranges"),
    "negative size": (PART.replace(b"%d", b"-5") + b"Content-Length: -7\r\n\r\n", None, "does not serve ranges"),
    "huge size": (PART % 10**17 + b"Content-Length: 1\r\n\r\n", None, "announces 1[0]{17} bytes"),
    "no HTTP": (b"\x00\xff\x1b[2J\r\n\r\n", None, "connection to .* failed"),
    "control": (b"HTTP/1.1 599 \x1b[2J\r\n" + LAST, None, r"599 \\u001b\[2J"),
    "circle": (b"HTTP/1.1 302 x\r\nLocation: /a.nwb\r\n" + LAST, None, "TooManyRedirects"),
    "to a file": (b"HTTP/1.1 302 x\r\nLocation: file:///x\r\n" + LAST, None, "InvalidSchema"),
}  # fmt: skip


@pytest.fixture
def raw_server():
    """The port of a server that answers with bytes, then with others every 50 ms; None ends the connection."""
    listener, answers = socket.create_server(("127.0.0.1", 0)), []

    def answer(connection):
        with connection, suppress(OSError):
            connection.recv(10_000)
            connection.sendall(answers[0])
            while answers[1] is not None:
                connection.sendall(answers[1])
                time.sleep(0.05)

    def serve():
        with suppress(OSError):
            while True:
                threading.Thread(target=answer, args=(listener.accept()[0],), daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()
    yield listener.getsockname()[1], answers
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()


@pytest.mark.parametrize("name", HEADS)
def test_a_server_that_answers_no_http_or_never_to_the_end(raw_server, request, monkeypatch, name):
    (port, answers), (first, rest, words) = raw_server, HEADS[name]
    if rest:
        request.getfixturevalue("quick_clock")
    answers += [first, rest]
    monkeypatch.setattr(http, "_TIMEOUT_S", (5, 0.3 if rest == b"" else 5))
    for function in (http.get_range, http.get_bytes):
        monkeypatch.setattr(function.retry, "wait", lambda state: 0)
    start = time.time()
    with pytest.raises(NWBError, match=words) as found:
        read_trials(f"http://127.0.0.1:{port}/a.nwb", **TRIALS)
    assert "\n" not in str(found.value)
    assert time.time() - start < 15


@pytest.mark.parametrize("path", ["/a.nwb", "/none.nwb", "/session.nwb"])
def test_no_secret_is_in_a_traceback_or_in_a_log(server, monkeypatch, caplog, path):
    caplog.set_level(0)
    monkeypatch.setattr(http.get_range.retry, "wait", lambda state: 0)
    host = "127.0.0.1:1" if path == "/a.nwb" else server.host
    server.faults = [None, *["drop"] * 7] if path == "/session.nwb" else []
    address = f"http://me:word@{host}{path}?versionId=7&token=SECRET"
    with pytest.raises(NWBError) as found:
        read_trials(address, **TRIALS)
    shown = "".join(traceback.format_exception(found.value)) + caplog.text
    assert "versionId=7" in shown
    assert "SECRET" not in shown
    assert "me:word" not in shown


@pytest.mark.skipif(os.name != "posix", reason="the permissions of files are those of POSIX")
@pytest.mark.parametrize("download", [False, True])
@pytest.mark.parametrize("secret", ["", "?token=x"])
def test_bytes_that_need_a_secret_are_kept_for_the_user_alone(server, tmp_path, secret, download):
    read_trials(f"{server.url}/session.nwb{secret}", **TRIALS, download=download)
    kept = [one for one in (tmp_path / "cache").rglob("*") if one.is_file() and one.stat().st_size > 1000]
    assert kept
    for file in kept:
        modes = [stat.S_IMODE(one.stat().st_mode) for one in (file, file.parent)]
        assert (modes == [0o600, 0o700]) == bool(secret)
