"""A server of files by ranges of bytes on 127.0.0.1 that counts what it sends and fails as it is told."""

from __future__ import annotations

import hashlib
import re
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote, urlsplit


class Request(NamedTuple):
    """One request, and what was answered."""

    method: str
    path: str
    headers: dict[str, str]
    status: int
    sent: int


class RangeServer:
    """``files``: path → file or bytes. ``faults``: what becomes of the next requests, in turn.

    A fault is a status (503), "drop" (half of the body, then the connection ends), "short" (a shorter body that
    claims to be whole), or None (nothing). ``ranges=False`` answers 200 with the whole file. ``route`` may answer
    a request itself: status, headers, body; or None.
    """

    def __init__(self, files: dict[str, Path | bytes] | None = None, route: Callable | None = None):
        self.files = files or {}
        self.route = route
        self.faults: list = []
        self.ranges, self.tags = True, True
        self.log: list[Request] = []
        self._lock = threading.Lock()
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                server.answer(self)

            do_HEAD = do_GET

            def do_POST(self):
                self.body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                server.answer(self)

            do_PUT = do_POST

            def log_message(self, *args):
                pass

        class Quiet(ThreadingHTTPServer):
            def handle_error(self, request, client_address):
                """Clients that leave are no error."""

        self._http = Quiet(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        self.host = f"127.0.0.1:{self._http.server_port}"
        self.url = f"http://{self.host}"

    def __enter__(self):
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()

    def answer(self, handler) -> None:
        with self._lock:
            fault = self.faults.pop(0) if self.faults else None
        status, headers, body = self._answer(handler) if not isinstance(fault, int) else (fault, {}, b"not now")
        if fault == "short":
            body = body[: len(body) // 2]
        handler.send_response(status)
        for name, value in ({"Content-Length": str(len(body))} | headers).items():
            handler.send_header(name, value)
        handler.end_headers()
        if handler.command == "HEAD":
            body = b""
        if fault == "drop":
            body = body[: len(body) // 2]
            handler.close_connection = True
        with self._lock:
            self.log.append(Request(handler.command, handler.path, dict(handler.headers), status, len(body)))
        try:
            handler.wfile.write(body)
        except OSError:  # the client has enough
            handler.close_connection = True

    def _answer(self, handler) -> tuple[int, dict[str, str], bytes]:
        routed = self.route(handler) if self.route else None
        if routed is not None:
            return routed
        held = self.files.get(unquote(urlsplit(handler.path).path))
        if isinstance(held, Path) and held.is_dir():
            held = None
        if held is None:
            held = self._inside(unquote(urlsplit(handler.path).path))
        if held is None:
            return 404, {}, b"no such thing"
        return self._file(held, handler.headers.get("Range"))

    def _inside(self, path: str) -> Path | None:
        for name, held in self.files.items():
            if isinstance(held, Path) and held.is_dir() and path.startswith(f"{name}/"):
                found = held / path.removeprefix(f"{name}/")
                return found if found.is_file() else None
        return None

    def _file(self, held: Path | bytes, wanted: str | None) -> tuple[int, dict[str, str], bytes]:
        size = len(held) if isinstance(held, bytes) else held.stat().st_size
        headers = {"ETag": f'"{_tag(held)}"'} if self.tags else {}
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", wanted or "")
        if not asked or not self.ranges:
            return 200, headers, _part(held, 0, size)
        start = int(asked[1])
        stop = min(int(asked[2]) + 1 if asked[2] else size, size)
        if start >= size:
            return 416, {"Content-Range": f"bytes */{size}"}, b""
        headers |= {"Accept-Ranges": "bytes", "Content-Range": f"bytes {start}-{stop - 1}/{size}"}
        return 206, headers, _part(held, start, stop)

    def sent(self) -> tuple[int, int]:
        """Requests and bytes of bodies since the start, or since `clear`."""
        return len(self.log), sum(request.sent for request in self.log)

    def clear(self) -> None:
        """Forget the requests so far."""
        self.log.clear()


def _part(held: Path | bytes, start: int, stop: int) -> bytes:
    if isinstance(held, bytes):
        return held[start:stop]
    with open(held, "rb") as stream:
        stream.seek(start)
        return stream.read(stop - start)


def _tag(held: Path | bytes) -> str:
    if isinstance(held, bytes):
        return hashlib.sha256(held).hexdigest()[:16]
    stat = held.stat()
    return f"{stat.st_size:x}-{stat.st_mtime_ns:x}"
