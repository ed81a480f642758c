"""HTTP(S): one session for each file, requests for ranges of bytes, and repeated requests after passing failures."""

from __future__ import annotations

import http.client
import io
import logging
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple, Protocol
from urllib.parse import urlsplit

import requests
import tenacity
import urllib3

from nwb_lint.errors import MissingFileError, NWBError, one_line, shortened
from nwb_lint.nwb.storage.asset import without_secrets

_TIMEOUT_S = (15, 30)  # to connect, and between two packets
_MAX_WAIT_S = 60  # however long a server asks to wait
_TRANSIENT = (408, 429, 500, 502, 503, 504)
_TOTAL = re.compile(r"bytes (?:\d+-\d+|\*)/(\d+)")
_RANGE = re.compile(r"bytes (\d+)-(\d+)/")
_GRACE_S, _SLOWEST_BYTES_PER_S = 45, 1000  # an answer that comes slower than this, after the grace, is given up
_BLOCK_BYTES = 1 << 20
_MOST_BYTES = 1 << 30  # of a body whose size nobody announces
_LARGEST_FILE = 1 << 50  # bytes
_MOST_WORDS, _MOST_WORDS_SHOWN = 1 << 16, 300  # bytes of an answer that says something; characters of it


class PermanentError(OSError):
    """An answer that another request would not change.

    Parameters
    ----------
    message : str
        One line about it.
    status : int, default=0
        The HTTP status.
    words : str, default=""
        What the server says in the body of its answer.
    """

    def __init__(self, message: str, status: int = 0, words: str = "") -> None:
        super().__init__(message)
        self.status, self.words = status, words


class TransientError(OSError):
    """A failure that may pass, so that the request is worth repeating.

    Parameters
    ----------
    message : str
        One line about it.
    wait_s : float, default=0
        For how long the server asks to wait, s.
    """

    def __init__(self, message: str, wait_s: float = 0) -> None:
        super().__init__(message)
        self.wait_s = wait_s


NETWORK_ERRORS = (PermanentError, TransientError, requests.RequestException)

_backoff = tenacity.wait_exponential(multiplier=0.1, max=8) + tenacity.wait_random(0, 0.1)


def _wait(state: tenacity.RetryCallState) -> float:
    """Seconds until the next request: they double, and are at least what the server asks for."""
    error = state.outcome.exception() if state.outcome else None
    return max(_backoff(state), min(getattr(error, "wait_s", 0), _MAX_WAIT_S))


def _stop(state: tenacity.RetryCallState) -> bool:
    """Seven requests are enough, and two where the server said nothing at all."""
    silent = isinstance(state.outcome.exception() if state.outcome else None, requests.Timeout)
    return state.attempt_number >= (2 if silent else 7)


def _repeated(stop: Any) -> Any:
    passing = (TransientError, requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError)
    return tenacity.retry(retry=tenacity.retry_if_exception_type(passing), wait=_wait, stop=stop, reraise=True)


retry = _repeated(_stop)
retry_download = _repeated(tenacity.stop_after_attempt(7))  # which goes on where the last request ended


class _Packets(io.RawIOBase):
    """The bytes of an answer as they come from a socket; a PermanentError where they come too slowly to wait for them.

    A socket has a timeout for one packet alone: a byte now and then would be waited for without end.
    """

    def __init__(self, socket: io.RawIOBase) -> None:
        self._socket, self._waited_s, self._n_bytes = socket, 0.0, 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> Any:
        start = time.monotonic()
        n_bytes = self._socket.readinto(buffer)
        self._waited_s += time.monotonic() - start
        self._n_bytes += n_bytes or 0
        if n_bytes and self._waited_s > _GRACE_S + self._n_bytes / _SLOWEST_BYTES_PER_S:
            raise PermanentError(f"the server sends less than {_SLOWEST_BYTES_PER_S} bytes a second")
        return n_bytes

    def close(self) -> None:
        self._socket.close()
        super().close()


class _Answer(http.client.HTTPResponse):
    """An answer whose head and body come through `_Packets`."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.fp = io.BufferedReader(_Packets(self.fp.detach()))


class _Adapter(requests.adapters.HTTPAdapter):
    """Connections whose answers are `_Answer`."""

    def init_poolmanager(self, *args: Any, **options: Any) -> None:
        """As `requests.adapters.HTTPAdapter.init_poolmanager`."""
        super().init_poolmanager(*args, **options)
        pools = (urllib3.HTTPConnectionPool, urllib3.HTTPSConnectionPool)
        self.poolmanager.pool_classes_by_scheme = {
            pool.scheme: type(pool.__name__, (pool,), {"ConnectionCls": _of_answers(pool.ConnectionCls)})
            for pool in pools
        }


class TimedAdapter(_Adapter):
    """Connections that do not wait for an answer without end, for sessions of other packages."""

    def send(self, request: Any, *args: Any, **options: Any) -> requests.Response:
        """As `requests.adapters.HTTPAdapter.send`."""
        return super().send(request, *args, **options | {"timeout": options.get("timeout") or _TIMEOUT_S})


def _of_answers(connection: Any) -> Any:
    return type(connection.__name__, (connection,), {"response_class": _Answer})


def _without_address(error: requests.RequestException) -> requests.RequestException:
    """The same error with another message: that of requests has the address, and with it its secrets."""
    return type(error)(describe_error(error), request=error.request)


class _NoSecrets(logging.Filter):
    """What urllib3 logs about requests, without the secrets of their addresses."""

    def filter(self, record: logging.LogRecord) -> bool:
        """True: no record is left out."""
        if isinstance(record.args, tuple):
            record.args = tuple(_path_without_secrets(one) if isinstance(one, str) else one for one in record.args)
        return True


def _path_without_secrets(text: str) -> str:
    if not text.startswith("/"):
        return without_secrets(text)
    return without_secrets(f"http://host{text}").removeprefix("http://host")


logging.getLogger("urllib3.connectionpool").addFilter(_NoSecrets())


def _given_up(error: BaseException | None) -> PermanentError | None:
    """The PermanentError of `_Packets` that an error of requests or urllib3 came from."""
    while error is not None and not isinstance(error, PermanentError):
        error = error.__cause__ or error.__context__
    return error


class ByteRange(NamedTuple):
    """Bytes of a file, and how many bytes the whole file has."""

    content: bytes
    total: int


class _Version(NamedTuple):
    """What an answer says of the version of a file; empty and 0 where it says nothing."""

    etag: str
    modified: str
    size: int


_UNKNOWN = _Version("", "", 0)


def _version_of(response: requests.Response) -> _Version:
    etag = response.headers.get("ETag", "").removeprefix("W/")
    return _Version(etag, response.headers.get("Last-Modified", ""), total_bytes(response))


def _differ(one: _Version, other: _Version) -> bool:
    """Whether two answers are of different versions: by ETag, else by the time of change; and by size."""
    by = (one.etag, other.etag) if one.etag else (one.modified, other.modified)
    return by[0] != by[1] or 0 < one.size != other.size


class Token(Protocol):
    """What gives the ``Authorization`` header for a server that asks for it."""

    def __call__(self) -> str:
        """The header; NWBError if there is no token, or the server refuses it."""

    def may_go_to(self, url: str) -> bool:
        """Whether the header may be sent to this address."""


class FileSession(requests.Session):
    """A `requests.Session` for one remote file.

    It has timeouts. It remembers where a redirect led, and goes back to the first address when that one has expired.
    It sends a token only where the token may go, and only if the file cannot be read without. After `keep_version`, a
    range of another version is an error: the file was changed. ``etag`` is that version's strong ETag, or empty.

    Parameters
    ----------
    token : Token or None, default=None
        Asked for the ``Authorization`` header where the server answers 401 or 403.
    redirects : dict of str to str or None, default=None
        Where addresses lead, as far as that is known without a request.
    """

    def __init__(self, token: Token | None = None, redirects: dict[str, str] | None = None) -> None:
        super().__init__()
        self.mount("http://", _Adapter())
        self.mount("https://", _Adapter())
        self.headers["Accept-Encoding"] = "identity"  # ranges are those of the uncompressed bytes
        self.etag, self._version = "", _UNKNOWN
        self._token, self._authorization, self._has_password = token, "", False
        self._redirects = dict(redirects or {})
        self._untried = set(self._redirects.values())

    def request(self, method: Any, url: Any, *args: Any, **options: Any) -> requests.Response:
        """As `requests.Session.request`."""
        options.setdefault("timeout", _TIMEOUT_S)
        if (target := self._redirects.get(url)) and (response := self._redirected(method, target, *args, **options)):
            return self._checked(response)
        self._redirects.pop(url, None)
        response = self._with_token(method, url, *args, **options)
        refused = response.status_code in (401, 403) and not response.history
        if refused and self._token and self._token.may_go_to(url) and not self._authorization:
            response.close()
            self._authorization = self._token()
            response = self._with_token(method, url, *args, **options)
        if response.history and response.ok:
            self._redirects[url] = response.url
        return self._checked(response)

    def _redirected(self, method: Any, target: str, *args: Any, **options: Any) -> requests.Response | None:
        """The answer from where an address leads; None if nothing is there, or not any more."""
        try:
            response = self._answer(method, target, *args, **options)
        except requests.ConnectionError:
            if target not in self._untried:
                raise
            return None
        self._untried.discard(target)
        if response.status_code not in (401, 403, 404, 410):
            return response
        response.close()
        return None

    def _with_token(self, method: Any, url: Any, *args: Any, **options: Any) -> requests.Response:
        """The request with the token, if there is one; requests drops it where a redirect leads to another host."""
        if self._authorization and self._token is not None and self._token.may_go_to(url):
            options["headers"] = {**(options.get("headers") or {}), "Authorization": self._authorization}
        return self._answer(method, url, *args, **options)

    def _answer(self, method: Any, url: Any, *args: Any, **options: Any) -> requests.Response:
        try:
            response = super().request(method, url, *args, **options)
        except requests.RequestException as error:
            raise _given_up(error) or _without_address(error) from None
        sent = [one.request for one in (response, *response.history)]
        self._has_password = self._has_password or any("Authorization" in one.headers for one in sent)
        return response

    @property
    def has_used_token(self) -> bool:
        """Whether the file was read with the token, or with a password (of the address, or of ~/.netrc)."""
        return bool(self._authorization) or self._has_password

    def keep_version(self, response: requests.Response) -> None:
        """Note the version of the file that an answer has, unless one is known already."""
        if self._version == _UNKNOWN:
            self.etag, self._version = strong_etag(response), _version_of(response)

    def _checked(self, response: requests.Response) -> requests.Response:
        if response.status_code == 206 and self._version != _UNKNOWN and _differ(self._version, _version_of(response)):
            response.status_code, response.reason = 412, "(the file was changed while it was read)"
        return response


def blocks_of(response: requests.Response, most: int) -> Iterator[bytes]:
    """The body of an answer, block by block.

    Parameters
    ----------
    response : requests.Response
        Of a request with ``stream=True``.
    most : int
        How many bytes it may have.

    Yields
    ------
    bytes

    Raises
    ------
    PermanentError
        If there are more bytes, or if they come too slowly to wait for them.
    requests.ConnectionError
        If the connection ends early.
    """
    n_bytes = 0
    while block := _next_block(response):
        n_bytes += len(block)
        if n_bytes > most:
            raise PermanentError(f"the server sends more than the {most} bytes that were asked for or announced")
        yield block


def _next_block(response: requests.Response) -> bytes:
    """What has come of a body, at least one byte; empty at its end. `Response.iter_content` waits for whole blocks."""
    try:
        return response.raw.read1(_BLOCK_BYTES, decode_content=True)
    except urllib3.exceptions.HTTPError as error:
        kind = requests.Timeout if isinstance(error, urllib3.exceptions.ReadTimeoutError) else requests.ConnectionError
        raise _given_up(error) or _without_address(kind(error, request=response.request)) from None


def get_response(session: requests.Session, url: str, **options: Any) -> requests.Response:
    """The answer to one GET request.

    Parameters
    ----------
    session : requests.Session
    url : str
    **options
        As for `requests.Session.get`.

    Returns
    -------
    requests.Response
        An answer with a status below 400.

    Raises
    ------
    TransientError, PermanentError
        If the server answers with another status.
    """
    response = session.get(url, **options)
    if response.ok:
        return response
    said = words_of(response)
    response.close()
    message = f"the server answers {response.status_code} {response.reason}"
    if response.status_code in _TRANSIENT:
        seconds = response.headers.get("Retry-After", "")
        raise TransientError(message, float(seconds) if seconds.isdigit() else 0)
    raise PermanentError(message, response.status_code, said)


def words_of(response: requests.Response) -> str:
    """What a server says in the JSON of an answer, as one line: a text, a list or table of texts, or its ``detail``.

    Parameters
    ----------
    response : requests.Response
        Of a request that was refused.

    Returns
    -------
    str
        Empty where the answer is no short JSON.
    """
    length = response.headers.get("Content-Length", "")
    if "json" not in response.headers.get("Content-Type", "") or not length.isdigit() or int(length) > _MOST_WORDS:
        return ""
    try:
        found = response.json()
    except (ValueError, requests.RequestException):
        return ""
    return shortened(one_line("; ".join(_texts(found))), _MOST_WORDS_SHOWN)


def _texts(found: Any) -> list[str]:
    if isinstance(found, dict):
        found = [found["detail"]] if "detail" in found else list(found.values())
    return [text for one in found for text in _texts(one)] if isinstance(found, list) else [str(found)]


@retry
def get_bytes(session: requests.Session, url: str) -> bytes:
    """All bytes at an address; the request is repeated after a transient failure."""
    with get_response(session, url, stream=True) as response:
        return b"".join(blocks_of(response, total_bytes(response) or _MOST_BYTES))


@retry
def get_range(session: FileSession, url: str, start: int, stop: int) -> ByteRange:
    """Bytes of a file; the request is repeated after a transient failure, or if too few bytes came.

    Parameters
    ----------
    session : FileSession
        It notes the version of the first answer.
    url : str
    start, stop : int
        The first byte, and the one after the last. ``stop`` may be beyond the end of the file.

    Returns
    -------
    ByteRange
        The bytes, and the size of the file.

    Raises
    ------
    PermanentError
        If the file cannot be read, the server does not support ranges (status 200), or it sends other bytes.
    TransientError
        If all attempts fail.
    """
    with get_response(session, url, headers={"Range": f"bytes={start}-{stop - 1}"}, stream=True) as response:
        total = total_bytes(response)
        if response.status_code != 206 or not total:
            raise PermanentError("the server does not serve ranges of bytes", 200)
        check_range(response, start)
        needed = min(stop, total) - start
        content = b"".join(blocks_of(response, needed))
        session.keep_version(response)
    if len(content) != needed:
        raise TransientError(f"{len(content)} bytes came where {needed} were needed")
    return ByteRange(content, total)


def check_range(response: requests.Response, start: int) -> None:
    """Raise a PermanentError where an answer has a range that begins at another byte than the one asked for."""
    found = _RANGE.match(response.headers.get("Content-Range", ""))
    if response.status_code == 206 and (found is None or int(found[1]) != start):
        given = f"bytes from {found[1]} on" if found else "a range without its place"
        raise PermanentError(f"the server sent {given} where those from {start} on were asked for")


def total_bytes(response: requests.Response) -> int:
    """The size of the whole file from the headers of an answer; 0 if they do not have it."""
    found = _TOTAL.match(response.headers.get("Content-Range", ""))
    plain = response.status_code != 206 and response.headers.get("Content-Encoding", "identity") == "identity"
    text = found[1] if found else response.headers.get("Content-Length", "") if plain else ""
    n_bytes = int(text) if re.fullmatch(r"[0-9]{1,20}", text) else 0
    if n_bytes > _LARGEST_FILE:
        raise PermanentError(f"the server announces {n_bytes} bytes, more than any file has")
    return n_bytes


def strong_etag(response: requests.Response) -> str:
    """The ETag, if it identifies exactly these bytes; empty if there is none, or a weak one."""
    etag = response.headers.get("ETag", "")
    return "" if etag.startswith("W/") else etag


def describe_error(error: BaseException) -> str:
    """One line about a failure, without the signed addresses that are in the messages of requests."""
    if not isinstance(error, requests.RequestException):
        return one_line(error)
    url = getattr(error.request, "url", None) or ""
    host = urlsplit(str(url)).netloc.rpartition("@")[2]
    return f"the connection{f' to {host}' if host else ''} failed ({type(error).__name__})"


@contextmanager
def as_nwb_error(address: str, errors: Any = OSError) -> Iterator[None]:
    """Raise an NWBError for failures inside the ``with`` statement.

    Parameters
    ----------
    address : str
        The address of the file.
    errors : exception class or tuple of these, default=OSError
        The failures; NWBErrors are raised as they are.

    Raises
    ------
    NWBError
        As from `unreadable`.
    """
    try:
        yield
    except NWBError:
        raise
    except errors as error:
        raise unreadable(address, error) from error


def unreadable(address: str, error: BaseException) -> NWBError:
    """The error for a file that cannot be read.

    Parameters
    ----------
    address : str
        The address of the file.
    error : BaseException
        What failed.

    Returns
    -------
    NWBError
        A `MissingFileError` where the server has no such file.
    """
    status = error.status if isinstance(error, PermanentError) else 0
    reason = describe_error(error)
    if status in (404, 410):
        return MissingFileError(f"{address}: no such file ({reason}). Check the address.")
    if status in (401, 403):
        return NWBError(
            f"{address} may not be read ({reason}). Ask its owner for access, or set a token (DANDI_API_KEY)."
        )
    if status == 416:
        return NWBError(f"{address} is empty (0 bytes). An NWB file is needed. Check the address.")
    if status == 200:
        return NWBError(f"{address} cannot be streamed: {reason}. Pass download=True.")
    return NWBError(f"{address} cannot be read: {reason}. Try again, or check the address.")
