"""Assets of a DANDI archive through its own client: ``dandi://000128/0.220113.0400/sub-…nwb``, or a glob.

No version means the most recent published one, else the draft. The archive is the one that ``DANDI_INSTANCE``
names (as for the client: a known name, or an address; ``dandi`` by default); ``dandi://ember-dandi/000128/…``
names another one. The client's own form, ``dandi://dandi/000128@draft/…``, is read as well. The token for
embargoed data is the client's too: ``DANDI_API_KEY`` (for another archive, its name in capitals and
``_API_KEY``), or the keyring. It is sent only where reading needs it, and only to the archive's API.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, NamedTuple

from nwb_lint.errors import NWBError, one_line
from nwb_lint.nwb.storage.asset import Asset

DANDISET = re.compile(r"\d{6}")
_VERSION = re.compile(r"draft|\d+\.\d+\.\d+")
_FORM = "dandi://000128/0.220113.0400/sub-x/sub-x.nwb, or a glob such as dandi://000128/*.nwb"
_SIDE_BY_SIDE = 8
_MAIN = "dandi"


class Address(NamedTuple):
    """What a dandi:// address says; empty where it does not say."""

    instance: str
    dandiset: str
    version: str
    path: str


def parse(address: str) -> Address:
    """The parts of an address.

    Raises: NWBError where it is not one.

    Example:
        >>> parse("dandi://000128/draft/sub-Jenkins/*.nwb")
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
        raise NWBError(f"{address} names no file of a dandiset; it needs to be like {_FORM}.")
    return Address(instance, dandiset, version, rest)


def expand_dandi(address: str) -> list[Asset]:
    """The assets that an address names, a glob's in the order of their paths.

    Raises: NWBError, one line: no such dandiset, version or path, a refused token, an archive that does not
    answer.
    """
    asked = parse(address)
    with asked_client(asked.instance, address) as client, telling_of(address):
        found = _with_leave(client, lambda: _find(client, asked))
        if not found:
            raise NWBError(f"{address}: no asset matches; a pattern needs at least one. Check it against the archive.")
        with ThreadPoolExecutor(_SIDE_BY_SIDE) as pool:
            return list(pool.map(lambda asset: _asset(client, asked, asset), found))


def token_of(asset: Asset) -> Callable[[], str] | None:
    """What gives the Authorization header for an asset of an archive; None for any other.

    It raises NWBError where there is no token, or the archive refuses it.
    """
    if not asset.address.startswith("dandi://"):
        return None

    def header() -> str:
        with asked_client(parse(asset.address).instance, asset.address) as client, telling_of(asset.address):
            authenticate(client)
            return str(client.session.headers["Authorization"])

    return header


@contextmanager
def asked_client(instance: str, address: str) -> Iterator[Any]:
    """The archive's client, without a token."""
    # the client tells of every failure in its log, with a traceback; here the NWBError tells
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
            client = _other(instance)
    except KeyError as error:
        known = ", ".join(known_instances)
        raise NWBError(
            f"{address}: no archive {one_line(error)} is known; known are {known}, or its address."
        ) from error
    except (OSError, RuntimeError, ValueError) as error:
        raise NWBError(f"{address}: the archive does not answer ({one_line(error)}). Try again later.") from error
    with client:
        yield client


def _other(instance: str) -> Any:
    """A client of an archive that dandi does not know by name: host or host:port."""
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


def _find(client: Any, asked: Address) -> list[Any]:
    """The client's assets for an address."""
    dandiset = client.get_dandiset(asked.dandiset, asked.version or None)
    if re.search(r"[*?\[]", asked.path):
        return sorted(dandiset.get_assets_by_glob(asked.path), key=lambda asset: asset.path)
    return [dandiset.get_asset_by_path(asked.path)]


def _asset(client: Any, asked: Address, found: Any) -> Asset:
    """The canonical address, the place of the bytes and what the archive knows of them."""
    from dandi.dandiapi import AssetType

    said = found.get_raw_metadata()
    known = said.get("digest") or {}
    digest = str(known.get("dandi:sha2-256") or known.get("dandi:dandi-zarr-checksum") or "")
    name = client.dandi_instance.name
    archive = "" if name == _MAIN else f"{name}/"
    address = f"dandi://{archive}{asked.dandiset}/{found.version_id}/{found.path}"
    if found.asset_type is AssetType.ZARR:
        places = [url for url in said.get("contentUrl", []) if not url.startswith(client.api_url)]
        if not places:
            raise NWBError(f"{address} is a Zarr asset and the archive tells no place of its parts. Download it first.")
        return Asset(address, places[0].rstrip("/"), "zarr", digest, asset_id=str(found.identifier))
    kind = "lindi" if found.path.endswith(".lindi.json") else "hdf5"
    return Asset(address, found.base_download_url, kind, digest, int(found.size), str(found.identifier))


def _with_leave(client: Any, ask: Callable[[], Any]) -> Any:
    """The answer; where it needs leave, with the token."""
    import requests

    try:
        return ask()
    except requests.HTTPError as error:
        if error.response is None or error.response.status_code not in (401, 403):
            raise
        authenticate(client)
        return ask()


def authenticate(client: Any) -> None:
    """Give the client the token that dandi would use, without asking for one at the keyboard."""
    import requests
    from dandi.keyring_utils import keyring_lookup

    name = client.dandi_instance.name
    token = (os.environ.get(client.api_key_env_var) or keyring_lookup(f"dandi-api-{name}", "key")[1] or "").strip()
    if not token:
        raise NWBError(
            f"the archive {name} needs a token for this; set {client.api_key_env_var}, or run `dandi download` once."
        )
    if not re.fullmatch(r"[!-~]+", token):  # the client would show it in its log
        raise NWBError(f"the token for the archive {name} is refused: it has blanks or other signs that none has.")
    try:
        client.authenticate(token)
    except requests.HTTPError as error:
        if error.response is None or error.response.status_code not in (401, 403):
            raise
        raise NWBError(
            f"the archive {name} refused the token; renew {client.api_key_env_var} or the keyring's."
        ) from None


@contextmanager
def telling_of(address: str) -> Iterator[None]:
    """Failures of the client as an NWBError of one line."""
    import requests
    from dandi.exceptions import NotFoundError

    from nwb_lint.nwb.storage.http import why

    try:
        yield
    except NWBError as error:
        raise error if str(error).startswith(address) else NWBError(f"{address}: {error}") from error
    except NotFoundError as error:
        raise NWBError(f"{address}: not found ({one_line(error)}). Check the address.") from error
    except requests.HTTPError as error:
        status = error.response.status_code if error.response is not None else 0
        if status == 404:
            raise NWBError(f"{address}: the archive has no such dandiset or version. Check the address.") from error
        if status in (401, 403):
            raise NWBError(f"{address} may not be read with this token ({status}). Ask its owner for leave.") from error
        raise NWBError(f"{address}: the archive answers {status}. Try again later.") from error
    except (requests.RequestException, OSError) as error:
        raise NWBError(f"{address}: {why(error)}. Try again later.") from error
    except (ValueError, KeyError, TypeError) as error:
        raise NWBError(
            f"{address}: the archive's answer is not understood ({one_line(error)}). Renew dandi."
        ) from error
