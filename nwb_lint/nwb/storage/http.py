"""HTTP(S): one session for a file, ranges of bytes, asked again where a failure may pass."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import requests
import tenacity

from nwb_lint.errors import NWBError, one_line

_TIMEOUT_S = (15, 60)  # to connect, and between two packets
_PASSING = (408, 429, 500, 502, 503, 504)
_RANGE = re.compile(r"bytes (?:\d+-\d+|\*)/(\d+)")
# requests shows addresses with what they were signed with; what failed is told by the kind of exception
_NETWORK = (requests.RequestException,)


class Refused(OSError):
    """An answer that will not change: the status, and a line for people."""

    def __init__(self, status: int, told: str) -> None:
        super().__init__(told)
        self.status = status


class Passing(OSError):
    """A failure that may pass: it is worth asking again."""


retried = tenacity.retry(
    retry=tenacity.retry_if_exception_type(
        (Passing, requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError)
    ),
    wait=tenacity.wait_exponential(multiplier=0.1, max=8) + tenacity.wait_random(0, 0.1),
    stop=tenacity.stop_after_attempt(7),
    reraise=True,
)


class Part(NamedTuple):
    """A range of a file's bytes, and how many the file has."""

    content: bytes
    total: int


class Web(requests.Session):
    """A session that never waits for ever, remembers where redirects led, and shows a token to nobody else.

    ``token()`` is asked for an Authorization header where the address that was named answers 401 or 403;
    requests takes it away where a redirect leads to another host or port. An address that a redirect led to may
    run out: the first one is then asked again. Once ``version`` (an ETag) is known, another one is an error.
    """

    def __init__(self, token: Callable[[], str] | None = None) -> None:
        super().__init__()
        self.headers["Accept-Encoding"] = "identity"  # ranges are of the bytes as they are
        self.version = ""
        self._token, self._header = token, ""
        self._led: dict[str, str] = {}

    def request(self, method: Any, url: Any, *args: Any, **options: Any) -> requests.Response:
        """As `requests.Session.request`."""
        options.setdefault("timeout", _TIMEOUT_S)
        if led := self._led.get(url):
            response = super().request(method, led, *args, **options)
            if response.status_code not in (401, 403, 404, 410):
                return self._checked(response)
            response.close()
            self._led.pop(url, None)
        response = self._first(method, url, *args, **options)
        if response.status_code in (401, 403) and not response.history and self._token and not self._header:
            response.close()
            self._header = self._token()
            response = self._first(method, url, *args, **options)
        if response.history and response.ok:
            self._led[url] = response.url
        return self._checked(response)

    def _first(self, method: Any, url: Any, *args: Any, **options: Any) -> requests.Response:
        """The request to the address that was named, with the token where there is one."""
        if self._header:
            options["headers"] = {**(options.get("headers") or {}), "Authorization": self._header}
        return super().request(method, url, *args, **options)

    def _checked(self, response: requests.Response) -> requests.Response:
        if self.version and response.status_code == 206 and response.headers.get("ETag", "") != self.version:
            response.status_code, response.reason = 412, "(the file was changed while it was read)"
        return response


def ask(web: requests.Session, url: str, **options: Any) -> requests.Response:
    """One GET whose answer is good.

    Raises: Passing, Refused.
    """
    response = web.get(url, **options)
    if response.ok:
        return response
    response.close()
    told = f"the server says {response.status_code} {response.reason}"
    if response.status_code in _PASSING:
        raise Passing(told)
    raise Refused(response.status_code, told)


@retried
def get(web: requests.Session, url: str) -> bytes:
    """All bytes at an address."""
    return ask(web, url).content


@retried
def fetch(web: Web, url: str, start: int, stop: int) -> Part:
    """The bytes start to stop of a file, or to its end; asked again where fewer came."""
    with ask(web, url, headers={"Range": f"bytes={start}-{stop - 1}"}, stream=True) as response:
        total = total_bytes(response)
        if response.status_code != 206 or not total:
            raise Refused(200, "the server does not serve ranges of bytes")
        content = response.content
        web.version = web.version or strong(response.headers.get("ETag", ""))
    if len(content) != min(stop, total) - start:
        raise Passing(f"{len(content)} bytes came where {min(stop, total) - start} were asked for")
    return Part(content, total)


def total_bytes(response: requests.Response) -> int:
    """How many bytes the file has that an answer is of, or is a part of; 0 where it does not say."""
    said = _RANGE.match(response.headers.get("Content-Range", ""))
    if said is None:
        return 0 if response.status_code == 206 else int(response.headers.get("Content-Length", 0))
    return int(said[1])


def strong(tag: str) -> str:
    """An ETag that stands for exactly these bytes; empty for none or a weak one."""
    return "" if tag.startswith("W/") else tag


def why(error: BaseException) -> str:
    """A line for what went wrong, without the signed addresses that requests shows."""
    if not isinstance(error, _NETWORK):
        return one_line(error)
    url = getattr(error.request, "url", None) or ""
    host = urlsplit(str(url)).netloc.rpartition("@")[2]
    return f"the connection{f' to {host}' if host else ''} failed ({type(error).__name__})"


def not_reached(address: str, error: BaseException) -> NWBError:
    """What is told where a file cannot be had."""
    status = error.status if isinstance(error, Refused) else 0
    if status in (404, 410):
        return NWBError(f"{address}: no such file ({why(error)}). Check the address.")
    if status in (401, 403):
        return NWBError(f"{address} may not be read ({why(error)}); it needs leave or a token. Ask its owner.")
    if status == 416:
        return NWBError(f"{address} is empty (0 bytes); an NWB file is needed. Check the address.")
    if status == 200:
        return NWBError(f"{address} cannot be streamed: {why(error)}. Pass download=True.")
    return NWBError(f"{address} cannot be read: {why(error)}. Try again, or check the address.")
