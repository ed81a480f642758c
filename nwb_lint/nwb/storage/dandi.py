"""Files in a DANDI archive, found with the client of DANDI.

An address is ``dandi://000128/0.220113.0400/sub-Jenkins/a.nwb``; its path may be a pattern. Without a version it means
the last published one, or the draft if nothing is published. The form ``dandi://dandi/000128@draft/…`` of the client
is read too.

The archive is the one that ``DANDI_INSTANCE`` names, as for the client: a known name or an address, ``dandi`` by
default. ``dandi://ember-dandi/000128/…`` names another archive. The token for embargoed data is taken from
``DANDI_API_KEY`` (for another archive, from its name in capitals and ``_API_KEY``) or from the keyring, as the client
does. It is sent only if a file cannot be read without it, and only to the archive.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, NamedTuple

from nwb_lint.errors import MissingFileError, NWBError, one_line
from nwb_lint.nwb.storage.asset import Asset, without_secrets

DANDISET = re.compile(r"\d{6}")
_VERSION = re.compile(r"draft|\d+\.\d+\.\d+")
_EXAMPLES = "dandi://000128/0.220113.0400/sub-x/sub-x.nwb, or a glob such as dandi://000128/*.nwb"
_REQUESTS_AT_ONCE = 8
_MAIN_ARCHIVE = "dandi"


class Address(NamedTuple):
    """The parts of a DANDI address; a part that is not in it is empty.

    Attributes
    ----------
    instance : str
        The archive.
    dandiset : str
        Six digits.
    version : str
        ``draft`` or a published version.
    path : str
        Path of the asset in the dandiset, or a pattern.
    """

    instance: str
    dandiset: str
    version: str
    path: str


def parse_address(address: str) -> Address:
    """The parts of a DANDI address.

    Parameters
    ----------
    address : str
        ``dandi://[<instance>/]<dandiset>[/<version>]/<path>``.

    Returns
    -------
    Address

    Raises
    ------
    NWBError
        If it is not such an address.

    Examples
    --------
    >>> parse_address("dandi://000128/draft/sub-Jenkins/*.nwb")
    Address(instance='', dandiset='000128', version='draft', path='sub-Jenkins/*.nwb')
    """
    first, _, rest = address.partition("://")[2].partition("/")
    instance = ""
    if not DANDISET.fullmatch(first.partition("@")[0]):
        instance, (first, _, rest) = first, rest.partition("/")
    dandiset, _, version = first.partition("@")
    if not version and _VERSION.fullmatch(rest.partition("/")[0]):
        version, _, rest = rest.partition("/")
    if not DANDISET.fullmatch(dandiset) or not rest or (version and not _VERSION.fullmatch(version)):
        raise NWBError(f"{address} names no file of a dandiset. It needs to be like {_EXAMPLES}.")
    return Address(instance, dandiset, version, rest)


def find_assets(address: str) -> list[Asset]:
    """The files of an archive that an address or a pattern names.

    Parameters
    ----------
    address : str
        As for `parse_address`.

    Returns
    -------
    list of Asset
        Sorted by path, with the version in their addresses.

    Raises
    ------
    MissingFileError
        If there is no such dandiset, version or path, or if the pattern matches nothing.
    NWBError
        If the token is refused, or the archive does not answer.
    """
    archive = address.partition("://")[2].partition("/")[0]
    if not DANDISET.fullmatch(archive.partition("@")[0]):  # 000128@draft is a version
        _refuse_secret(address, archive)
    parts = parse_address(address)
    with open_client(parts.instance, address) as client, client_errors(address):
        found = _with_token_if_needed(client, lambda: _find(client, parts))
        if not found:
            raise MissingFileError(f"{address}: no asset matches. At least one is needed. Look in the archive.")
        with ThreadPoolExecutor(_REQUESTS_AT_ONCE) as pool:
            return list(pool.map(lambda asset: _asset(client, parts, asset), found))


def token_getter(asset: Asset) -> Callable[[], str] | None:
    """What gives the ``Authorization`` header for a file of an archive; None for any other file.

    Parameters
    ----------
    asset : Asset
        Any file.

    Returns
    -------
    callable or None
        Without arguments; it raises NWBError if there is no token, or if the archive refuses it.
    """
    if not asset.address.startswith("dandi://"):
        return None

    def header() -> str:
        with open_client(parse_address(asset.address).instance, asset.address) as client, client_errors(asset.address):
            authenticate(client)
            return str(client.session.headers["Authorization"])

    return header


@contextmanager
def open_client(instance: str, address: str) -> Iterator[Any]:
    """The client of an archive, for a ``with`` statement, without a token.

    Parameters
    ----------
    instance : str
        The archive: a name that the client knows, a host, or an address; empty for that of ``DANDI_INSTANCE``.
    address : str
        What messages begin with.

    Yields
    ------
    dandi.dandiapi.DandiAPIClient

    Raises
    ------
    NWBError
        If there is no such archive, or it does not answer.
    """
    _refuse_secret(address, instance or os.environ.get("DANDI_INSTANCE", ""))
    # the client would write every failure to its log, with a traceback; here it becomes an NWBError
    logging.getLogger("dandi").addHandler(logging.NullHandler())
    from dandi.consts import known_instances
    from dandi.dandiapi import DandiAPIClient
    from dandi.utils import get_instance

    try:
        if not instance:
            client = DandiAPIClient()
        elif "://" in instance or instance in known_instances:
            client = DandiAPIClient(dandi_instance=get_instance(instance))
        else:
            client = _client_of_host(instance)
    except KeyError as error:
        known = ", ".join(known_instances)
        raise NWBError(
            f"{address}: no archive {one_line(error)} is known. Known are {known}. Name one of these, or its address."
        ) from error
    except (OSError, RuntimeError, ValueError) as error:
        raise NWBError(f"{address}: the archive does not answer ({one_line(error)}). Try again later.") from error
    with client:
        yield client


def _refuse_secret(address: str, named: str) -> None:
    """Raise NWBError for an archive with a password in its address, which the client would show in its messages."""
    if "@" in named or without_secrets(named) != named:
        raise NWBError(
            f"{without_secrets(address)}: the address of the archive has a password or a token in it. An archive is "
            "asked with the token of its environment variable or of the keyring. Leave the password out."
        )


def _client_of_host(instance: str) -> Any:
    """The client of an archive that dandi has no name for, by host or host:port."""
    from dandi.dandiapi import DandiAPIClient

    named = os.environ.get("DANDI_INSTANCE", "")
    if not re.search(r"[.:]|^localhost$", instance):
        raise KeyError(instance)
    if named.startswith(("http://", "https://")):
        client = DandiAPIClient()
        if client.dandi_instance.name == instance:
            return client
        client.session.close()
    return DandiAPIClient(f"https://{instance}/api")


def _find(client: Any, parts: Address) -> list[Any]:
    """The client's own objects for the files of an address."""
    dandiset = client.get_dandiset(parts.dandiset, parts.version or None)
    if re.search(r"[*?\[]", parts.path):
        return sorted(dandiset.get_assets_by_glob(parts.path), key=lambda asset: asset.path)
    return [dandiset.get_asset_by_path(parts.path)]


def _asset(client: Any, parts: Address, found: Any) -> Asset:
    """An asset of ours for one of the client's: with the version in its address, and digest and size."""
    from dandi.dandiapi import AssetType

    metadata = found.get_raw_metadata()
    digests = metadata.get("digest") or {}
    digest = str(digests.get("dandi:sha2-256") or digests.get("dandi:dandi-zarr-checksum") or "")
    name = client.dandi_instance.name
    archive = "" if name == _MAIN_ARCHIVE else f"{name}/"
    address = f"dandi://{archive}{parts.dandiset}/{found.version_id}/{found.path}"
    if found.asset_type is AssetType.ZARR:
        urls = [url for url in metadata.get("contentUrl", []) if not url.startswith(client.api_url)]
        if not urls:
            raise NWBError(f"{address} is Zarr, and the archive gives no address of its data. Download it with dandi.")
        return Asset(address, urls[0].rstrip("/"), "zarr", digest, asset_id=str(found.identifier))
    kind = "lindi" if found.path.endswith(".lindi.json") else "hdf5"
    return Asset(address, found.base_download_url, kind, digest, int(found.size), str(found.identifier))


def _with_token_if_needed(client: Any, request: Callable[[], Any]) -> Any:
    """What a request gives; where the archive refuses it, what it gives with the token."""
    import requests

    try:
        return request()
    except requests.HTTPError as error:
        if _status(error) not in (401, 403):
            raise
        authenticate(client)
        return request()


def _status(error: Any) -> int:
    """The HTTP status of a requests.HTTPError; 0 if it has none."""
    return 0 if error.response is None else int(error.response.status_code)


def authenticate(client: Any) -> None:
    """Give the client the token that dandi would use, without a question at the keyboard.

    Parameters
    ----------
    client : dandi.dandiapi.DandiAPIClient
        From `open_client`.

    Raises
    ------
    NWBError
        If there is no token, or the archive refuses it.
    """
    import requests
    from dandi.keyring_utils import keyring_lookup

    name = client.dandi_instance.name
    token = os.environ.get(client.api_key_env_var)
    try:
        token = (token or keyring_lookup(f"dandi-api-{name}", "key")[1] or "").strip()
    except Exception as error:  # of a keyring that is locked, or of its service
        why = f"{type(error).__name__}: {one_line(error)}"
        raise NWBError(f"The keyring cannot be read ({why}). Set {client.api_key_env_var} in place of it.") from error
    if not token:
        raise NWBError(
            f"The archive {name} needs a token for this. Set {client.api_key_env_var}, or run `dandi download` once."
        )
    if not re.fullmatch(r"[!-~]+", token):  # the client would write it to its log
        raise NWBError(f"The token for the archive {name} has blanks or other characters that no token has. Check it.")
    try:
        client.authenticate(token)
    except requests.HTTPError as error:
        if _status(error) not in (401, 403):
            raise
        raise NWBError(
            f"The archive {name} refused the token. Get a new one for {client.api_key_env_var} or the keyring."
        ) from None


@contextmanager
def client_errors(address: str) -> Iterator[None]:
    """Raise an NWBError of one line for failures of the client inside the ``with`` statement.

    Parameters
    ----------
    address : str
        What messages begin with.

    Raises
    ------
    MissingFileError
        If the archive has no such dandiset, version or path.
    NWBError
        For any other failure.
    """
    import requests
    from dandi.exceptions import NotFoundError

    from nwb_lint.nwb.storage.http import describe_error

    try:
        yield
    except NWBError as error:
        if str(error).startswith(address):
            raise
        raise NWBError(f"{address}: {error}") from error
    except NotFoundError as error:
        raise MissingFileError(f"{address}: no such asset ({one_line(error)}). Check the address.") from error
    except requests.HTTPError as error:
        status = _status(error)
        if status == 404:
            raise MissingFileError(f"{address}: no such dandiset or version. Check the address.") from error
        if status in (401, 403):
            raise NWBError(
                f"{address} may not be read with this token (status {status}). Ask its owner for access."
            ) from error
        raise NWBError(f"{address}: the archive answers with status {status}. Try again later.") from error
    except (requests.RequestException, OSError) as error:
        raise NWBError(f"{address}: {describe_error(error)}. Try again later.") from error
    except (ValueError, KeyError, TypeError) as error:
        raise NWBError(
            f"{address}: the answer of the archive cannot be read ({one_line(error)}). Update dandi."
        ) from error
