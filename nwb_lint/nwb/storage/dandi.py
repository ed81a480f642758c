"""Files in a DANDI archive: addresses of them, their records, and the key for what is embargoed.

An address is ``dandi://000128/0.220113.0400/sub-Jenkins/a.nwb``; its path may be a pattern, in which ``*`` alone has a
meaning, as in the archive. Without a version it means the last published one, or the draft if nothing is published.
Addresses that people copy from web pages are read too: `parse_address` lists them.

The archive is the one that ``DANDI_INSTANCE`` names, as for the client of DANDI: a known name or an address, ``dandi``
by default. ``dandi://ember-dandi/000128/…`` names another archive. The key for embargoed data is taken from
``DANDI_API_KEY`` (for another archive, from its name in capitals and ``_API_KEY``) or from the keyring, as the client
does. It is sent only if a file cannot be read without it, only to the host of the archive's API, and only over https
(or to this machine).
"""

from __future__ import annotations

import json
import logging
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ipaddress import ip_address
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qs, quote, unquote, urlencode, urlsplit

from nwb_lint.errors import MissingFileError, NWBError, NWBLintError, one_line
from nwb_lint.nwb.storage.asset import SCHEME, Asset, Place, without_secrets
from nwb_lint.parallel.warnings import warn

DANDISET = re.compile(r"\d{6}")
_EXAMPLES = "dandi://000128/0.220113.0400/sub-x/sub-x.nwb, or a pattern such as dandi://000128/*.nwb"
_MAIN_ARCHIVE = "dandi"
_NWB_FILE = re.compile(r"\.nwb(\.zarr|\.lindi\.json)?$", re.IGNORECASE)

_PREFIX = r"[a-z-]*dandi[a-z-]*|linc[a-z-]*"  # of identifiers, such as DANDI:000009
_ID, _VERSION = r"(?P<dandiset>\d{6})", r"(?P<version>draft|\d+\.\d+\.\d+)"
_API, _HOST = r"(?P<instance>https?://[^?#]+/api)", r"(?P<instance>https?://[^/?#]+)"
_ASSET = r"assets/(?P<asset_id>[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})(?:/(?:download|info))?/?"
_FORMS = tuple(
    re.compile(form, re.IGNORECASE)
    for form in (
        rf"dandi://(?:(?P<instance>(?!\d{{6}}[/@])[^/]+)/)?{_ID}(?:[@/]{_VERSION})?(?:/(?P<path>.*))?",
        rf"(?P<instance>{_PREFIX}):{_ID}(?:/{_VERSION})?(?:/(?P<path>.*))?",
        rf"{_API}/{_ASSET}(?:\?.*)?",
        rf"{_API}/dandisets/{_ID}/versions/{_VERSION}/{_ASSET}(?:\?.*)?",
        rf"{_API}/dandisets/{_ID}/versions/{_VERSION}/assets/?\?(?P<query>.*)",
        rf"{_API}/dandisets/{_ID}(?:/versions(?:/{_VERSION}(?:/assets)?)?)?/?",
        rf"{_HOST}/(?:#/)?dandiset/{_ID}(?:/{_VERSION})?(?:/files)?/?(?:\?(?P<query>.*))?",
        rf"https?://(?:identifiers\.org|n2t\.net)/dandi:{_ID}(?:/{_VERSION})?/?",
        rf"https?://(?:dx\.)?doi\.org/10\.\d+/dandi\.{_ID}(?:/{_VERSION})?/?",
    )
)
_BLOB = re.compile(r"/blobs/[0-9a-f]{3}/[0-9a-f]{3}/[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$")
_ETAG = re.compile(r"[0-9a-f]{32}-\d+")
_NAMED_BY_A_FORM = re.compile(rf"dandi://|({_PREFIX}):\d{{6}}", re.IGNORECASE)


class Archive(NamedTuple):
    """An archive: its name, and the address of its API."""

    name: str
    api: str


def is_address(text: str) -> bool:
    """Whether a text is an address of files in an archive, or is meant to be one.

    Parameters
    ----------
    text : str
        What a user has passed: a path, a URL, or any other address.

    Returns
    -------
    bool
    """
    return _NAMED_BY_A_FORM.match(text) is not None or any(form.fullmatch(text) for form in _FORMS)


def parse_address(address: str) -> Place:
    """The parts of an address of files in an archive.

    Parameters
    ----------
    address : str
        One of these, where what is in brackets may be left out:

        - ``dandi://[<archive>/]<dandiset>[/<version>][/<path>]``, or with ``@<version>``
        - ``DANDI:<dandiset>[/<version>][/<path>]``
        - a page of the archive: ``https://dandiarchive.org/dandiset/<dandiset>[/<version>][/files?location=<folder>]``,
          also with ``#/`` as on old pages
        - the API: ``https://api.dandiarchive.org/api/assets/<id>/[download/]``, the same in
          ``…/dandisets/<dandiset>/versions/<version>/``, and ``…/assets/?path=<path>`` or ``?glob=<pattern>``
        - ``https://doi.org/10.48324/dandi.<dandiset>/<version>``, ``https://identifiers.org/DANDI:<dandiset>``

    Returns
    -------
    Place

    Raises
    ------
    NWBError
        If it is no such address.

    Examples
    --------
    >>> parse_address("dandi://000128/draft/sub-Jenkins/*.nwb")
    Place(instance='', dandiset='000128', version='draft', path='sub-Jenkins/*.nwb', asset_id='')
    >>> parse_address("https://dandiarchive.org/dandiset/000128/0.220113.0400/files?location=sub-Jenkins").path
    'sub-Jenkins/'
    """
    found = next((match for form in _FORMS if (match := form.fullmatch(address))), None)
    if found is None:
        raise NWBError(f"{without_secrets(address)} names no file of a dandiset. It needs to be like {_EXAMPLES}.")
    parts = {key: value or "" for key, value in found.groupdict().items()}
    query = {key: values[0] for key, values in parse_qs(parts.pop("query", "")).items()}
    path = unquote(parts.get("path", "")) or query.get("glob") or query.get("path", "")
    if location := query.get("location", "").strip("/"):
        path = location if _NWB_FILE.search(location) else f"{location}/"
    instance = _instance_name(parts.get("instance", "" if address.lower().startswith("dandi://") else _MAIN_ARCHIVE))
    if re.match(r"DANDI:\d", address, re.IGNORECASE) and _other_in_use():
        instance = ""
    version, asset_id = parts.get("version", "").lower(), parts.get("asset_id", "").lower()
    return Place(instance, parts.get("dandiset", ""), version, path, asset_id)


def _other_in_use() -> str:
    """The address in ``DANDI_INSTANCE`` of an archive without a name; it calls its dandisets ``DANDI:000000`` too."""
    named = _instance_name(os.environ.get("DANDI_INSTANCE", ""))
    return named if "://" in named else ""


def _instance_name(instance: str) -> str:
    """The name of a known archive for one of its addresses; any other text as it is."""
    if "://" not in instance:
        return instance.lower() if instance.isupper() else instance
    from dandi.consts import known_instances_rev

    host = urlsplit(instance).netloc.removeprefix("gui.")
    pages = {urlsplit(url).netloc: name for url, name in known_instances_rev.items()}
    return known_instances_rev.get(instance.rstrip("/")) or pages.get(host) or instance


def place_of_local(path: Path) -> Place:
    """Where a file of this machine is in an archive, if it lies in a folder that ``dandi download`` made.

    Parameters
    ----------
    path : Path
        A file. The nearest folder above it with a ``dandiset.yaml`` is the dandiset.

    Returns
    -------
    Place
        Without asset id, which that folder does not have. Empty for any other file.
    """
    path = path.absolute()
    root = next((folder for folder in path.parents if (folder / "dandiset.yaml").is_file()), None)
    if root is None:
        return Place()
    try:
        text = (root / "dandiset.yaml").read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        warn(f"{root / 'dandiset.yaml'} cannot be read ({one_line(error)}): the place of {path} in DANDI is not known.")
        return Place()
    named = re.search(r"^identifier:\s*['\"]?(?:([\w-]+):)?(\d{6})\b", text, re.MULTILINE)
    version = re.search(r"^version:\s*['\"]?(draft|\d+\.\d+\.\d+)\b", text, re.MULTILINE)
    if named is None:
        return Place()
    archive = (named[1] or _MAIN_ARCHIVE).lower()
    if archive == _MAIN_ARCHIVE:
        archive = urlsplit(_other_in_use()).netloc
    inside = path.relative_to(root).as_posix()
    return Place(archive, named[2], version[1] if version else "draft", inside)


def digest_of_blob(url: str) -> str:
    """The ETag of DANDI of a file whose address in the store of an archive is known, and nothing else of it.

    Parameters
    ----------
    url : str
        Any address.

    Returns
    -------
    str
        Empty for an address that is none of a store, or where nothing is there.
    """
    from nwb_lint.nwb.storage.http import NETWORK_ERRORS, FileSession, get_response, strong_etag

    if not _BLOB.search(urlsplit(url).path):
        return ""
    with FileSession() as session:
        try:
            with get_response(session, url, headers={"Range": "bytes=0-0"}, stream=True) as response:
                etag = strong_etag(response).strip('"')
        except NETWORK_ERRORS:  # reading it says why
            return ""
    return etag if _ETAG.fullmatch(etag) else ""


def find_assets(address: str) -> list[Asset]:
    """The files of an archive that an address or a pattern names.

    One request lists a hundred files with all that is known of them; a single file is one request too.

    Parameters
    ----------
    address : str
        As for `parse_address`.

    Returns
    -------
    list of Asset
        Sorted by path, with the version in their addresses. Of a folder or a whole dandiset, the NWB files.

    Raises
    ------
    MissingFileError
        If there is no such dandiset, version or path, or if the pattern matches nothing.
    NWBError
        If the key is refused, or the archive does not answer.
    """
    _refuse_secret(address)
    if address.lower().startswith("http"):
        address = without_secrets(address)
    place = parse_address(address)
    archive = archive_of(place.instance, address)
    with api_of(archive) as get, reading_errors(address):
        found = _records(get, place)
        if not found.records:
            raise MissingFileError(f"{address}: {_why_none(get, found.version, place)}")
        return [_asset(archive, place, found.version, record) for record in found.records]


class _Found(NamedTuple):
    version: str
    records: list[dict[str, Any]]


Get = Callable[..., Any]


def _records(get: Get, place: Place) -> _Found:
    """The archive's records of the files at a place, with their metadata."""
    if place.asset_id:
        inside = f"dandisets/{place.dandiset}/versions/{place.version}/" if place.dandiset else ""
        return _Found(place.version, [get(f"{inside}assets/{place.asset_id}/info/")])
    version = place.version or _current_version(get(f"dandisets/{place.dandiset}/"))
    path = place.path.lstrip("/")
    if "*" in path:
        found = _listed(get, place.dandiset, version, glob=path)
    else:
        found = _listed(get, place.dandiset, version, path=path)
        if path and not path.endswith("/"):
            found = [record for record in found if record["path"] == path]
        else:
            found = [record for record in found if record["path"].startswith(path) and _NWB_FILE.search(record["path"])]
    return _Found(version, sorted(found, key=lambda record: str(record["path"])))


def _listed(get: Get, dandiset: str, version: str, **which: str) -> list[dict[str, Any]]:
    """The records of all pages of a listing. What comes after the first page has no count, and ``next`` to its end."""
    page = get(f"dandisets/{dandiset}/versions/{version}/assets/", **which, metadata="true")
    found, seen = list(page["results"]), set()
    while following := page["next"]:
        if following in seen:
            raise ValueError("its list of files comes back to the same page")
        seen.add(following)
        page = get(following)
        found += page["results"]
    return found


def _current_version(dandiset: dict[str, Any]) -> str:
    published = dandiset["most_recent_published_version"]
    return str(published["version"]) if published else "draft"


def _why_none(get: Get, version: str, place: Place) -> str:
    """What to say where nothing is at a place: whether it is a folder, or other letters are in capitals."""
    path = place.path.lstrip("/")
    if "*" in path:
        hint = " An archive knows * alone; ? and [ are taken as they are." if re.search(r"[?\[]", path) else ""
        return f"no file matches in version {version}.{hint} Look in the archive."
    near = [record["path"] for record in _listed(get, place.dandiset, version, path=path)] if path else []
    if other := next((one for one in near if one.lower() == path.lower()), None):
        return f"no such file in version {version}. There is {other}. Use its capitals."
    if any(one.startswith(f"{path}/") for one in near):
        return f"it is a folder with {len(near)} files. Put a / at the end for all its NWB files."
    return f"no such file in version {version}. Check the address."


def _asset(archive: Archive, place: Place, version: str, record: dict[str, Any]) -> Asset:
    """An asset of ours for a record of the archive: with its place, digest and size."""
    metadata, asset_id, path = record["metadata"], str(record["asset_id"]), str(record["path"])
    name = "" if archive.name == _MAIN_ARCHIVE else archive.name
    where = Place(name, place.dandiset, version, path, asset_id)
    location = f"{archive.api}/assets/{asset_id}/download/"
    digests = metadata.get("digest") or {}
    kinds = ("dandi:sha2-256", "dandi:dandi-etag", "dandi:dandi-zarr-checksum")
    digest = str(next((digests[kind] for kind in kinds if digests.get(kind)), ""))
    measured = {one["value"] if isinstance(one, dict) else one for one in metadata.get("variableMeasured") or []}
    asset = Asset(
        where.address or location, location, "hdf5", digest, 0, where, derived=measured == {"ProcessingModule"}
    )
    addresses = [url for url in metadata.get("contentUrl") or [] if re.match("https?://", url)]
    elsewhere = [url for url in addresses if f"/assets/{asset_id}/" not in url]
    if record.get("zarr"):
        if not elsewhere:
            raise NWBError(f"{asset} is Zarr, and the archive gives no address of its data. Download it with dandi.")
        return asset._replace(location=elsewhere[0].rstrip("/"), kind="zarr")
    access = [one.get("status") for one in metadata.get("access") or []]
    direct = elsewhere[0] if elsewhere and access == ["dandi:OpenAccess"] else ""
    kind = "lindi" if path.endswith(".lindi.json") else "hdf5"
    return asset._replace(kind=kind, size=int(record["size"]), direct=direct)


# -- archives and their API --


def archive_of(instance: str, address: str) -> Archive:
    """The archive that an address names. A known one, and the address of an API, need no request.

    Parameters
    ----------
    instance : str
        A name that dandi knows, a host, or an address; empty for that of ``DANDI_INSTANCE``.
    address : str
        What messages begin with.

    Returns
    -------
    Archive

    Raises
    ------
    NWBError
        If there is no such archive, or it does not answer.
    """
    from dandi.consts import known_instances

    in_use = _instance_name(os.environ.get("DANDI_INSTANCE", "") or _MAIN_ARCHIVE)
    named = instance or in_use
    _refuse_secret(address, named)
    if named in known_instances:
        return Archive(named, known_instances[named].api.rstrip("/"))
    if "://" not in named:
        if urlsplit(in_use).netloc == named:
            return archive_of(in_use, address)
        if not re.search(r"[.:]|^localhost$", named):
            known = ", ".join(known_instances)
            raise NWBError(
                f"{address}: no archive {named} is known. Known are {known}. Name one of these, or its address."
            )
        named = f"{'http' if _is_this_machine(urlsplit(f'//{named}').hostname) else 'https'}://{named}/api"
    named = named.rstrip("/")
    if named.endswith("/api"):
        return _by_host(named, address)
    if urlsplit(in_use).netloc == urlsplit(named).netloc:
        return archive_of(in_use, address)
    found = dandi_errors(address, lambda: _dandi_instance(named))
    api = found.api.rstrip("/")
    known = known_instances.get(found.name)
    return Archive(found.name, api) if known and known.api.rstrip("/") == api else _by_host(api, address)


def _by_host(api: str, address: str) -> Archive:
    """The archive of an API that has no name; NWBError for a host that is called as a known archive.

    The name says which key is sent.
    """
    from dandi.consts import known_instances

    host = urlsplit(api).netloc
    if host.lower().replace("_", "-") in known_instances:
        raise NWBError(
            f"{address}: the host {host} has the name of an archive of DANDI and is another one. The key of that "
            "archive could go to it. Name the host in full."
        )
    return Archive(host, api)


def _dandi_instance(named: Any) -> Any:
    from dandi.utils import get_instance

    # the client would write every failure to its log, with a traceback; here it becomes an NWBError
    logging.getLogger("dandi").addHandler(logging.NullHandler())
    return get_instance(named)


def is_embargoed(place: Place) -> bool:
    """Whether the recordings at a place are embargoed: the archive shows them to nobody without a key.

    Parameters
    ----------
    place : Place
        A dandiset, or a file by its id alone.

    Returns
    -------
    bool

    Raises
    ------
    NWBError
        If the archive does not answer, or has no such dandiset or file.
    """
    from nwb_lint.nwb.storage.http import PermanentError

    archive = archive_of(place.instance, place.instance)
    path = f"dandisets/{place.dandiset}/" if place.dandiset else f"assets/{place.asset_id}/info/"
    with api_of(archive, key=False) as get, reading_errors(f"{archive.name} {place.dandiset or place.asset_id}"):
        try:
            return bool(get(path).get("embargo_status", "OPEN") != "OPEN")
        except PermanentError as error:
            if error.status not in (401, 403):
                raise
            return True


@contextmanager
def api_of(archive: Archive, *, key: bool = True) -> Iterator[Get]:
    """A function that asks the API of an archive, for a ``with`` statement.

    Parameters
    ----------
    archive : Archive
        From `archive_of`.
    key : bool, default=True
        Whether to send the key where the archive asks for it.

    Yields
    ------
    callable
        Takes a path in the API, or an address, and the parameters of the query; gives what the answer holds.
    """
    from nwb_lint.nwb.storage.http import FileSession, get_bytes

    with FileSession(ApiKey(archive) if key else None) as session:

        def get(path: str, /, **query: str) -> Any:
            url = path if SCHEME.match(path) else f"{archive.api}/{quote(path)}"
            return json.loads(get_bytes(session, f"{url}?{urlencode(query)}" if query else url))

        yield get


def _is_this_machine(host: str | None) -> bool:
    try:
        return host == "localhost" or ip_address(host or "").is_loopback
    except ValueError:
        return False


def _refuse_secret(address: str, named: str = "") -> None:
    """Raise NWBError for an archive with a password in its address, which the client would show in its messages."""
    first = address.partition("://")[2].partition("/")[0]
    in_address = "@" in first and not re.match(r"\d{6}@", first)  # 000128@draft is a version
    if in_address or "@" in named or without_secrets(named) != named:
        raise NWBError(
            f"{without_secrets(address)}: the address of the archive has a password or a token in it. An archive is "
            "asked with the token of its environment variable or of the keyring. Leave the password out."
        )


# -- the key --


class ApiKey:
    """The ``Authorization`` header for the API of an archive, looked up and tried out when it is first needed.

    Parameters
    ----------
    archive : Archive
        From `archive_of`.
    """

    def __init__(self, archive: Archive) -> None:
        self.archive = archive

    def may_go_to(self, url: str) -> bool:
        """Whether an address is one of the API's, over https or on this machine."""
        api, target = urlsplit(self.archive.api), urlsplit(url)
        safe = target.scheme == "https" or _is_this_machine(target.hostname)
        return safe and (target.scheme, target.netloc) == (api.scheme, api.netloc)

    def __call__(self) -> str:
        """The header; NWBError if there is no key, or the archive refuses it."""
        with open_client(self.archive, self.archive.name) as client:
            authenticate(client)
            return str(client.session.auth.header)


class _HeaderOfKey:
    """What adds the key to requests of the client to the API, and to no others, such as those of a ``next`` page."""

    def __init__(self, key: ApiKey, header: str) -> None:
        self.key, self.header = key, header

    def __call__(self, request: Any) -> Any:
        if self.key.may_go_to(request.url):
            request.headers["Authorization"] = self.header
        return request


def open_session(asset: Asset) -> Any:
    """The session of HTTP for a remote file: with the key of its archive, if it is in one.

    Parameters
    ----------
    asset : Asset
        Any remote file.

    Returns
    -------
    nwb_lint.nwb.storage.http.FileSession
    """
    from nwb_lint.nwb.storage.http import FileSession

    redirects = {asset.location: asset.direct} if asset.direct else {}
    return FileSession(token_getter(asset), redirects)


def token_getter(asset: Asset) -> ApiKey | None:
    """The key for a file of an archive; None for any other file, and for the data of Zarr, which no key is for.

    Parameters
    ----------
    asset : Asset
        Any file.

    Returns
    -------
    ApiKey or None
    """
    if not asset.place.asset_id or asset.kind == "zarr":
        return None
    return ApiKey(archive_of(asset.place.instance, asset.address))


@contextmanager
def open_client(archive: Archive, address: str) -> Iterator[Any]:
    """The client of DANDI for an archive, for a ``with`` statement, without a key.

    Parameters
    ----------
    archive : Archive
        From `archive_of`.
    address : str
        What messages begin with.

    Yields
    ------
    dandi.dandiapi.DandiAPIClient

    Raises
    ------
    NWBError
        If the archive does not answer, or takes no client of this version.
    """
    from dandi.consts import DandiInstance
    from dandi.dandiapi import DandiAPIClient

    from nwb_lint.nwb.storage.http import TimedAdapter

    with api_of(archive, key=False) as get, reading_errors(address):
        api = get("info/")["services"]["api"]["url"]
    named, own = urlsplit(api), urlsplit(archive.api)
    if named.netloc != own.netloc and not (_is_this_machine(named.hostname) and _is_this_machine(own.hostname)):
        raise NWBError(f"{address}: {archive.api} names another host as its API ({api}). Name that as the archive.")
    name = named.netloc if archive.name == own.netloc else archive.name  # the name that the client would give it
    instance = DandiInstance(name, None, api.rstrip("/"))
    dandi_errors(address, lambda: _dandi_instance(instance))  # asks whether the archive takes this version of dandi
    with dandi_errors(address, lambda: DandiAPIClient(dandi_instance=instance)) as client:
        for scheme in ("http://", "https://"):
            client.session.mount(scheme, TimedAdapter())
        yield client


def authenticate(client: Any) -> None:
    """Give the client the key that dandi would use, without a question at the keyboard, for the archive's API alone.

    Parameters
    ----------
    client : dandi.dandiapi.DandiAPIClient
        From `open_client`.

    Raises
    ------
    NWBError
        If there is no key, it would not be sent over https, or the archive refuses it.
    """
    import requests
    from dandi.keyring_utils import keyring_lookup

    from nwb_lint.nwb.storage.http import words_of

    name, variable = client.dandi_instance.name, client.api_key_env_var
    key = ApiKey(Archive(name, client.api_url))
    if not key.may_go_to(client.api_url):
        raise NWBError(
            f"The address of the archive {name} is {client.api_url}. A key is sent over https only. Pass an https "
            "address as instance=."
        )
    token = os.environ.get(variable)
    try:
        token = (token or keyring_lookup(f"dandi-api-{name}", "key")[1] or "").strip()
    except Exception as error:  # of a keyring that is locked, or of its service
        why = f"{type(error).__name__}: {one_line(error)}"
        raise NWBError(f"The keyring cannot be read ({why}). Set {variable} in place of it.") from error
    if not token:
        raise NWBError(
            f"The archive {name} needs a token for this. Log in on its web page, copy the API key, and set {variable}, "
            "or run `dandi download` once."
        )
    if not re.fullmatch(r"[!-~]+", token):  # the client would write it to its log
        raise NWBError(f"The token for the archive {name} has blanks or other characters that no token has. Check it.")
    try:
        client.authenticate(token)
    except requests.HTTPError as error:
        said = words_of(error.response) if error.response is not None else ""
        if _status(error) == 403:
            raise NWBError(
                f"The archive {name} has not approved your account yet. It says: {said!r}. Wait for the mail that says "
                "so, or ask its help desk."
            ) from None
        if _status(error) != 401:
            raise
        raise NWBError(
            f"The archive {name} refused the token. It says: {said!r}. Get a new one for {variable} or the keyring."
        ) from None
    client.session.auth = _HeaderOfKey(key, str(client.session.headers.pop("Authorization")))


def _status(error: Any) -> int:
    """The HTTP status of a requests.HTTPError; 0 if it has none."""
    return 0 if error.response is None else int(error.response.status_code)


# -- failures --


@contextmanager
def reading_errors(address: str) -> Iterator[None]:
    """Raise an NWBError of one line for failures of the archive's API inside the ``with`` statement.

    Parameters
    ----------
    address : str
        What messages begin with.

    Raises
    ------
    MissingFileError
        If the archive has no such dandiset, version or path.
    NWBError
        For any other failure, with the archive's own words.
    """
    from nwb_lint.nwb.storage.http import NETWORK_ERRORS, PermanentError, describe_error

    try:
        yield
    except NWBLintError as error:
        if str(error).startswith(address) or not isinstance(error, NWBError):
            raise
        raise NWBError(f"{address}: {error}") from error
    except PermanentError as error:
        says = f" It says: {error.words!r}." if error.words else ""
        if error.status == 404:
            raise MissingFileError(f"{address}: no such dandiset, version or file.{says} Check the address.") from error
        if error.status in (401, 403):
            raise NWBError(
                f"{address} may not be read with this key (status {error.status}).{says} Ask an owner of the dandiset "
                "for access."
            ) from error
        raise NWBError(f"{address}: {describe_error(error)}.{says} Try again later.") from error
    except NETWORK_ERRORS as error:
        raise NWBError(f"{address}: the archive does not answer ({describe_error(error)}). Try again later.") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise NWBError(
            f"{address}: the answer of the archive cannot be read ({one_line(error)}). Update nwb_lint."
        ) from error


def dandi_errors(address: str, call: Callable[[], Any]) -> Any:
    """What a call of the client of DANDI gives when it looks for an archive.

    Raises
    ------
    NWBError
        If the archive does not answer, or takes no client of this version.
    """
    from dandi.exceptions import CliVersionError

    try:
        return call()
    except CliVersionError as error:
        raise NWBError(
            f"{address}: the archive does not take this version of dandi. It says: {one_line(error)!r}. Update it: "
            "pip install --upgrade dandi."
        ) from error
    except (OSError, RuntimeError, ValueError) as error:
        raise NWBError(f"{address}: the archive does not answer ({one_line(error)}). Try again later.") from error
