"""An HTTP server on this machine that sends ranges of files, keeps a log of requests, and fails on purpose."""

from __future__ import annotations

import gc
import hashlib
import re
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote, urlsplit


class Request(NamedTuple):
    """One request, and the answer to it."""

    method: str
    path: str
    headers: dict[str, str]
    status: int
    sent: int


class RangeServer:
    """Serves files by path: ``files`` has a file on disk, a folder, or bytes for each path.

    ``faults`` lists what happens to the next requests: a status (503), a status with headers, "drop" (half of the
    body, then the connection ends), "short" (half of the body, as if it were the whole), "shifted" (bytes from the next
    one on), "endless" (a body that does not end), "slow" (a byte every 50 ms), or None (nothing special).
    ``ranges=False`` answers every request with the whole file. ``tags`` says how versions are named: True (strong
    ETags), "weak" (weak ones), "modified" (Last-Modified), or False (not at all). ``etags`` has those of some paths.
    ``route`` is called with each request first, and gives status, headers and body, or None.

    While a server runs, nothing is collected as garbage: freed in the server's thread, a file of h5py waits for the
    lock that the reading thread holds until its request times out.
    """

    running = 0

    def __init__(self, files: dict[str, Path | bytes] | None = None, route: Callable | None = None):
        self.files = files or {}
        self.route = route
        self.faults: list = []
        self.ranges, self.tags = True, True
        self.etags: dict[str, str] = {}
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
                """Clients may close a connection at any time."""

        self._http = Quiet(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        self.host = f"127.0.0.1:{self._http.server_port}"
        self.url = f"http://{self.host}"

    def __enter__(self):
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()
        RangeServer.running += 1
        gc.disable()
        return self

    def __exit__(self, *_):
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()
        RangeServer.running -= 1
        if not RangeServer.running:
            gc.enable()

    def answer(self, handler) -> None:
        with self._lock:
            fault = self.faults.pop(0) if self.faults else None
        if isinstance(fault, int):
            fault = fault, {}
        status, headers, body = (*fault, b"not now") if isinstance(fault, tuple) else self._answer(handler)
        if fault == "short":
            body = body[: len(body) // 2]
        if fault == "shifted":
            first, _, rest = headers["Content-Range"].removeprefix("bytes ").partition("-")
            headers["Content-Range"] = f"bytes {int(first) + 1}-{rest}"
        handler.send_response(status)
        for name, value in ({"Content-Length": str(len(body))} | headers).items():
            if (fault, name) != ("endless", "Content-Length"):
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
            if fault == "slow":
                for byte in body:
                    handler.wfile.write(bytes([byte]))
                    time.sleep(0.05)
            handler.wfile.write(b"" if fault == "slow" else body)
            while fault == "endless":
                handler.wfile.write(bytes(2**16))
        except OSError:  # the client has closed the connection
            handler.close_connection = True

    def _answer(self, handler) -> tuple[int, dict[str, str], bytes]:
        routed = self.route(handler) if self.route else None
        if routed is not None:
            return routed
        path = unquote(urlsplit(handler.path).path)
        content = self.files.get(path)
        if content is None or (isinstance(content, Path) and content.is_dir()):
            content = self._in_folder(path)
        if content is None:
            return 404, {}, b"no such file"
        return self._file(content, handler.headers.get("Range"), self.etags.get(path))

    def _in_folder(self, path: str) -> Path | None:
        for name, folder in self.files.items():
            if isinstance(folder, Path) and folder.is_dir() and path.startswith(f"{name}/"):
                found = folder / path.removeprefix(f"{name}/")
                return found if found.is_file() else None
        return None

    def _file(
        self, content: Path | bytes, range_header: str | None, etag: str | None = None
    ) -> tuple[int, dict[str, str], bytes]:
        size = len(content) if isinstance(content, bytes) else content.stat().st_size
        tag = f'"{etag or _tag(content)}"'
        named = {True: {"ETag": tag}, "weak": {"ETag": f"W/{tag}"}, "modified": {"Last-Modified": tag}, False: {}}
        headers = dict(named[self.tags])
        limits = re.fullmatch(r"bytes=(\d+)-(\d*)", range_header or "")
        if not limits or not self.ranges:
            return 200, headers, _bytes(content, 0, size)
        start = int(limits[1])
        stop = min(int(limits[2]) + 1 if limits[2] else size, size)
        if start >= size:
            return 416, {"Content-Range": f"bytes */{size}"}, b""
        headers |= {"Accept-Ranges": "bytes", "Content-Range": f"bytes {start}-{stop - 1}/{size}"}
        return 206, headers, _bytes(content, start, stop)

    def sent(self) -> tuple[int, int]:
        """Number of requests, and of bytes in their answers, since the start or since `clear`."""
        return len(self.log), sum(request.sent for request in self.log)

    def clear(self) -> None:
        """Empty the log of requests."""
        self.log.clear()


def _bytes(content: Path | bytes, start: int, stop: int) -> bytes:
    if isinstance(content, bytes):
        return content[start:stop]
    with open(content, "rb") as stream:
        stream.seek(start)
        return stream.read(stop - start)


def _tag(content: Path | bytes) -> str:
    if isinstance(content, bytes):
        return hashlib.sha256(content).hexdigest()[:16]
    stat = content.stat()
    return f"{stat.st_size:x}-{stat.st_mtime_ns:x}"
