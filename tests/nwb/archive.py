"""A DANDI archive on this machine: the calls that its client makes, answered as the archive's own server answers them.

What is said here was taken from the code of the server (dandi-archive): status codes, bodies and redirects. The bodies
are kept word for word, since a refusal passes the archive's own words on.
"""

from __future__ import annotations

import hashlib
import json
import re
import uuid
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import numpy as np
import pandas as pd

from nwb_lint.nwb.extension.write_session import write_session
from tests.nwb.server import RangeServer

ID = "000009"
PUBLISHED = "0.220126.1903"
WHEN = "2022-01-26T19:03:11.609770+00:00"

# The archive's own words, by the situation.
NO_KEY = {"detail": "Authentication credentials were not provided."}
WRONG_KEY = {"detail": "Invalid token."}
NO_PERMISSION = {"detail": "You do not have permission to perform this action."}
NOT_FOUND = {"detail": "Not found."}
NOT_ALLOWED = "Action not allowed"
UNEMBARGOING = "Dandiset modification not allowed during unembargo"
PUBLISHING = "Dandiset is currently being published"
ONLY_DRAFT = "Only draft versions can be modified."
PATH_TAKEN = "An asset with that path already exists"
BAD_PATH = "Path improperly formatted"
ZARR_DOWNLOAD = "Unable to provide download link for zarr assets. Please browse the zarr files directly to do so."

_UUID = r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"
_VERSIONS = rf"/api/dandisets/{ID}/versions/([^/]+)/"
_LABEL = r"[A-z0-9(),&\s#+~_=-]"
_PATH = re.compile(rf"^({_LABEL}?\/?\.?{_LABEL})+$")
_COMPUTED = ("id", "access", "path", "identifier", "contentUrl", "contentSize", "digest")
_MOST_A_PAGE = 1000


def etag_of(content: bytes) -> str:
    """The digest that the archive has of a file at once, and that its store gives as the ETag."""
    return hashlib.md5(hashlib.md5(content).digest()).hexdigest() + "-1"


def record(path: str, content: bytes | Path, **change) -> dict:
    """The record of an asset: a file (blob) or a Zarr folder; ``change`` replaces entries."""
    zarr = isinstance(content, Path) and content.is_dir()
    content = content.read_bytes() if isinstance(content, Path) and not zarr else content
    size = 0 if zarr else len(content)
    digest = {"dandi:dandi-zarr-checksum": f"{hashlib.md5(path.encode()).hexdigest()}-1--9"}
    if not zarr:
        digest = {"dandi:dandi-etag": etag_of(content), "dandi:sha2-256": hashlib.sha256(content).hexdigest()}
    return {
        "asset_id": random_id(f"asset {path}"), "blob": None, "zarr": None, "path": path, "size": size,
        "created": WHEN, "modified": WHEN, "zarr" if zarr else "blob": random_id(f"blob {path}"),
        "metadata": {"schemaVersion": "0.6.4", "schemaKey": "Asset", "encodingFormat": "application/x-nwb",
                     "variableMeasured": [{"schemaKey": "PropertyValue", "value": "Units"}], "digest": digest},
    } | change  # fmt: skip


def random_id(text: str) -> str:
    """A UUID of version 4, as those of the archive are, which is the same each time."""
    return str(uuid.UUID(bytes=hashlib.md5(text.encode()).digest(), version=4))


class Archive:
    """An archive with one dandiset, `ID`.

    ``assets`` are records of the draft, ``contents`` the bytes or the file of each asset by its path. The published
    version has the assets that are there at the start; ``published=False`` leaves only the draft.

    ``token`` is the key of an owner. ``keys`` has the role of every key: "owner", "user" (approved, owns nothing) or
    "unapproved". ``status`` is that of the dandiset: "OPEN", "EMBARGOED" or "UNEMBARGOING"; the last two can be read by
    owners alone. By default it is embargoed if there is a token. ``others`` has the status of other dandisets, which
    are empty. ``refusals`` has answers in place of those of the server, by a pattern of method and path:
    ``{"POST .*assets/": (423, "Dandiset is currently being published")}``, or a function that gives one.
    """

    def __init__(
        self, assets: list[dict], contents: dict, *, page_size: int = 100, token: str = "", published=True, status=None
    ):
        assets = [{"blob": None, "zarr": None} | asset for asset in assets]
        self.assets, self.page_size, self.token, self.published = assets, page_size, token, published
        self.at_publication = list(assets) if published else []
        self.status = status or ("EMBARGOED" if token else "OPEN")
        self.keys: dict[str, str] = {}
        self.others: dict[str, str] = {}
        self.refusals: dict[str, Any] = {}
        self.minimal_client = "0.74.0"
        self.api = RangeServer(route=self._route)
        self.places = {a["path"]: _place(a) for a in assets}
        self.blobs = RangeServer({self.places[path]: content for path, content in contents.items()}, route=self._store)
        self.blobs.etags = {_place(a): a["metadata"]["digest"].get("dandi:dandi-etag", "") for a in assets}
        self.uploads: dict[str, dict] = {}
        self.etags = {tag: a["blob"] for a in assets if (tag := a["metadata"]["digest"].get("dandi:dandi-etag"))}

    def __enter__(self) -> Archive:
        self.api.__enter__()
        self.blobs.__enter__()
        return self

    def __exit__(self, *raised) -> None:
        self.api.__exit__(*raised)
        self.blobs.__exit__(*raised)

    def add(self, asset: dict, content: Path | bytes) -> None:
        """Put a file into the draft."""
        self.assets.append(asset)
        self.places[asset["path"]] = place = _place(asset)
        self.blobs.files[place] = content

    def compute_digests(self) -> None:
        """What a worker of the archive does some time after an upload: the SHA-256 of each file."""
        for asset in self.assets:
            if asset["blob"] and isinstance(content := self.blobs.files.get(self.places[asset["path"]]), bytes):
                asset["metadata"]["digest"]["dandi:sha2-256"] = hashlib.sha256(content).hexdigest()

    # -- requests --

    def _route(self, handler):
        url = urlsplit(handler.path)
        call = f"{handler.command} {url.path}"
        answer = next((given for pattern, given in self.refusals.items() if re.fullmatch(pattern, call)), None)
        if answer is None:
            role, wrong = self._role(handler.headers.get("Authorization", ""))
            query = {key: values[0] for key, values in parse_qs(url.query).items()}
            sent = json.loads(getattr(handler, "body", b"") or b"{}")
            answer = wrong or self._answer(handler.command, url.path, query, role, sent)
        status, body, *headers = answer() if callable(answer) else answer
        if status in (301, 302):
            return status, {"Location": body}, b""
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        return status, {"Content-Type": "application/json"} | dict(*headers), content

    def _role(self, authorization: str) -> tuple[str, tuple | None]:
        """The role of a key, and the refusal of one that is wrong, which is for reading open data too."""
        if not authorization:
            return "", None
        key = authorization.removeprefix("token ")
        role = "owner" if key == self.token else self.keys.get(key, "")
        return role, None if role else (401, WRONG_KEY)

    def _answer(self, method: str, path: str, query: dict, role: str, sent: dict) -> tuple:
        if path == "/api/info/":
            return 200, self._info()
        if path.startswith("/api/") and not path.endswith("/") and method in ("GET", "HEAD"):
            return 301, f"{path}/" + (f"?{urlencode(query)}" if query else "")
        if path == "/api/auth/token/":
            return (200, self.token) if role in ("owner", "user") else _unapproved(role)
        if path == "/api/blobs/digest/" and method == "POST":
            blob = self.etags.get(sent["value"])
            return (200, {"blob_id": blob, "etag": sent["value"], "sha256": None}) if blob else (404, NOT_FOUND)
        if path.startswith("/api/uploads/") and method == "POST":
            return self._upload(path, role, sent)
        if method in ("POST", "PUT"):
            return self._change(method, path, role, sent)
        if path.startswith("/api/"):
            return self._content(path, query, role)
        return 404, b"<h1>Not Found</h1>"

    def _info(self) -> dict:
        services = {"api": {"url": f"{self.api.url}/api"}, "webui": {"url": self.api.url}, "jupyterhub": {"url": "x"}}
        client = {"cli-minimal-version": self.minimal_client, "cli-requires-python": ">=3.10", "cli-bad-versions": []}
        return {"version": "0.4.0", "schema_version": "0.6.4", "services": services} | client

    # -- reading --

    def _content(self, path: str, query: dict, role: str) -> tuple:
        if other := re.fullmatch(r"/api/dandisets/(\d{6})/", path):
            status = self.status if other[1] == ID else self.others.get(other[1])
            if status is None:
                return 404, NOT_FOUND
            refused = _hidden(status, role if other[1] == ID else role and "user")
            return refused or (200, self._dandiset(other[1], status))
        if found := re.fullmatch(rf"{_VERSIONS}(info/)?", path):
            about = self._version(found[1]) | {"dandiset": self._dandiset(ID, self.status)}
            refused = self._no_version(found[1]) or _hidden(self.status, role)
            return refused or (200, about if found[2] else self._metadata_of_version(found[1]))
        if found := re.fullmatch(rf"{_VERSIONS}assets/", path):
            return self._no_version(found[1]) or _hidden(self.status, role) or self._page(path, found[1], query)
        found = re.fullmatch(rf"(?:{_VERSIONS}|/api/)assets/({_UUID})/(download/|info/)?", path)
        there = self._assets_of(found[1]) if found and found[1] else (*self.assets, *self.at_publication)
        asset = next((a for a in there if found and a["asset_id"] == found[2]), None)
        if asset is None:
            return 404, NOT_FOUND
        if refused := _hidden(self.status, role):
            return refused
        if found[3] == "download/":
            if asset["zarr"]:
                return 400, ZARR_DOWNLOAD
            signed = {"response-content-disposition": "attachment", "X-Amz-Signature": "signature-that-is-secret"}
            return 302, f"{self.blobs.url}{_place(asset)}?{urlencode(signed)}"
        metadata = self._metadata(asset)
        return 200, asset | {"metadata": metadata} if found[3] else metadata

    def _no_version(self, version: str) -> tuple | None:
        there = version == "draft" or (self.published and version == PUBLISHED)
        return None if there else (404, NOT_FOUND)

    def _assets_of(self, version: str) -> list[dict]:
        return self.assets if version == "draft" else self.at_publication

    def _metadata(self, asset: dict) -> dict:
        """The metadata with the entries that the archive computes."""
        name = asset["asset_id"]
        download = f"{self.api.url}/api/assets/{name}/download/"
        access = "dandi:OpenAccess" if self.status == "OPEN" else "dandi:EmbargoedAccess"
        return asset["metadata"] | {
            "id": f"dandiasset:{name}", "access": [{"schemaKey": "AccessRequirements", "status": access}],
            "path": asset["path"], "identifier": name, "contentSize": asset["size"],
            "contentUrl": [download, f"{self.blobs.url}{_place(asset)}{'/' * bool(asset['zarr'])}"],
        }  # fmt: skip

    def _page(self, path: str, version: str, query: dict) -> tuple:
        """A page of assets: by a prefix, by a pattern in which ``*`` alone has a meaning, both in any case."""
        found, start = self._assets_of(version), query.get("path", "")
        if start:
            exact = [a for a in found if a["path"] == start]
            found = exact or [a for a in found if a["path"].lower().startswith(start.lower())]
        if "glob" in query:
            pattern = f"^{re.escape(query['glob'])}$".replace("\\*", ".*")
            found = [a for a in found if re.search(pattern, a["path"], re.IGNORECASE)]
        if order := query.get("order"):
            found = sorted(found, key=lambda a: a[order.lstrip("-")], reverse=order.startswith("-"))
        page, size = int(query.get("page", 1)), min(int(query.get("page_size", self.page_size)), _MOST_A_PAGE)
        shown = found[(page - 1) * size : page * size]
        if not shown and page > 1:
            return 404, {"detail": "Invalid page."}
        here, with_metadata = f"{self.api.url}{path}", query.get("metadata", "").lower() in ("true", "1")
        return 200, {
            "count": len(found) if page == 1 else None,
            "next": f"{here}?{urlencode(query | {'page': page + 1})}" if len(found) > page * size else None,
            "previous": f"{here}?{urlencode(query | {'page': page - 1})}" if page > 1 else None,
            "results": [
                {k: v for k, v in a.items() if k != "metadata"}
                | ({"metadata": self._metadata(a)} if with_metadata else {})
                for a in shown
            ],
        }

    def _dandiset(self, name: str, status: str) -> dict:
        return {
            "identifier": name, "created": WHEN, "modified": WHEN, "contact_person": "x", "embargo_status": status,
            "star_count": 0, "is_starred": False, "draft_version": self._version("draft"),
            "most_recent_published_version": self._version(PUBLISHED) if self.published else None,
        }  # fmt: skip

    def _version(self, version: str) -> dict:
        return {
            "version": version, "name": "x", "asset_count": len(self._assets_of(version)), "active_uploads": 0,
            "size": 1, "status": "Valid", "created": WHEN, "modified": WHEN, "release_notes": "",
            "asset_validation_errors": [], "version_validation_errors": [],
        }  # fmt: skip

    def _metadata_of_version(self, version: str) -> dict:
        page = f"{self.api.url}/dandiset/{ID}/{version}"
        about = {"id": f"DANDI:{ID}/{version}", "identifier": f"DANDI:{ID}", "version": version, "url": page}
        return about | {"schemaKey": "Dandiset", "schemaVersion": "0.6.4", "name": "x", "description": "x"}

    # -- writing --

    def _upload(self, path: str, role: str, sent: dict) -> tuple:
        """Uploads in one part."""
        if role not in ("owner", "user"):
            return _unapproved(role)
        if path == "/api/uploads/initialize/":
            known = sent["dandiset"] == ID or self.others.get(sent["dandiset"]) == "OPEN"
            if not known or (self.status != "OPEN" and role != "owner"):
                return 404, NOT_FOUND
            if role != "owner" or sent["dandiset"] != ID:
                return 403, NOT_ALLOWED
            if self.status == "UNEMBARGOING":
                return 400, UNEMBARGOING
            if blob := self.etags.get(sent["digest"]["value"]):
                return 409, "Blob already exists.", {"Location": blob}
            name = str(uuid.uuid4())
            self.uploads[name] = {"size": sent["contentSize"], "etag": sent["digest"]["value"]}
            part = {"part_number": 1, "size": sent["contentSize"], "upload_url": f"{self.blobs.url}/uploads/{name}"}
            return 200, {"upload_id": name, "parts": [part]}
        found = re.fullmatch(r"/api/uploads/([^/]+)/(complete|validate)/", path)
        upload = self.uploads.get(found[1]) if found else None
        if found is None or upload is None:
            return 404, NOT_FOUND
        if found[2] == "complete":
            return 200, {"complete_url": f"{self.blobs.url}/complete/{found[1]}", "body": "<all/>"}
        content = self.blobs.files.get(_blob_place(found[1]))
        if content is None:
            return 400, ["Object does not exist."]
        if etag_of(content) != upload["etag"]:
            return 400, [f"ETag {upload['etag']} does not match actual ETag {etag_of(content)}."]
        del self.uploads[found[1]]
        if self.etags.setdefault(upload["etag"], found[1]) != found[1]:
            return 409, "An identical blob has already been uploaded."
        return 200, {"blob_id": found[1], "etag": upload["etag"], "sha256": None, "size": len(content)}

    def _change(self, method: str, path: str, role: str, sent: dict) -> tuple:
        """New records for uploaded files. The SHA-256 comes later: see `compute_digests`."""
        found = re.fullmatch(rf"{_VERSIONS}assets/(?:({_UUID})/)?", path)
        if not found or (method == "PUT") != bool(found[2]):
            return 404, NOT_FOUND
        if role not in ("owner", "user"):
            return _unapproved(role)
        if role != "owner":
            return 403, b""
        if refused := self._no_version(found[1]) or self._refused_metadata(found[1], sent):
            return refused
        old = next((a for a in self.assets if a["asset_id"] == found[2]), None)
        if method == "PUT" and old is None:
            return 404, NOT_FOUND
        place = sent["metadata"]["path"]
        others = [a["path"] for a in self.assets if a is not old]
        if place in others:
            return 409, PATH_TAKEN
        if clash := [p for p in others if p.startswith(f"{place}/") or place.startswith(f"{p}/")]:
            return 409, f'Path of new asset "{place}" conflicts with existing assets: {clash}'
        content = self.blobs.files[_blob_place(sent["blob_id"])]
        metadata = {key: value for key, value in sent["metadata"].items() if key not in _COMPUTED}
        asset = record(place, content, metadata=metadata, blob=sent["blob_id"], asset_id=str(uuid.uuid4()))
        asset["metadata"]["digest"] = {"dandi:dandi-etag": etag_of(content)}
        self.assets = [a for a in self.assets if a is not old] + [asset]
        self.places[place] = _place(asset)
        return 200, asset | {"metadata": self._metadata(asset)}

    def _refused_metadata(self, version: str, sent: dict) -> tuple | None:
        if version != "draft":
            return 405, ONLY_DRAFT
        if self.status == "UNEMBARGOING":
            return 400, UNEMBARGOING
        path = sent["metadata"].get("path")
        if not path:
            return 400, {"metadata": ["No path specified in metadata."]}
        if path.startswith("/"):
            return 400, {"non_field_errors": ["Path must not begin with /"]}
        if not _PATH.match(path):
            return 400, {"non_field_errors": [BAD_PATH]}
        return None if _blob_place(sent.get("blob_id", "")) in self.blobs.files else (404, NOT_FOUND)

    def _store(self, handler):
        """The store: uploads, and files. What is embargoed needs a signature in its address, which is for GET alone."""
        url = urlsplit(handler.path)
        found = re.fullmatch(r"/(uploads|complete)/([^/]+)", url.path)
        if not found or handler.command not in ("POST", "PUT"):
            signed = "X-Amz-Signature" in url.query
            allowed = handler.command == "GET" if signed else self.status == "OPEN"
            return (
                None if allowed or "blobs" not in url.path else (403, {}, b"<Error><Code>AccessDenied</Code></Error>")
            )
        place = _blob_place(found[2])
        if found[1] == "uploads":
            self.blobs.files[place] = handler.body
            return 200, {"ETag": f'"{hashlib.md5(handler.body).hexdigest()}"'}, b""
        tag = self.blobs.etags[place] = etag_of(self.blobs.files[place])
        return 200, {}, f"<r><ETag>{tag}</ETag></r>".encode()


def _unapproved(role: str) -> tuple:
    """The refusal of a call that needs an approved account."""
    return (403, NO_PERMISSION) if role else (401, NO_KEY)


def _hidden(status: str, role: str) -> tuple | None:
    """The refusal of a call that reads what is embargoed; None where it may be read."""
    if status == "OPEN" or role == "owner":
        return None
    return (403, NO_PERMISSION) if role else (401, NO_KEY)


def _place(asset: dict) -> str:
    return f"/zarr/{asset['zarr']}" if asset.get("zarr") else _blob_place(asset["blob"])


def _blob_place(blob: str) -> str:
    return f"/blobs/{blob[:3]}/{blob[3:6]}/{blob}"


def stand_in(folder: Path) -> Archive:
    """An archive with the one session of `ID` that a tutorial reads: simulated, with the columns of the real one."""
    path = "sub-anm00239123/sub-anm00239123_ses-20170627T093549_ecephys+ogen.nwb"
    session = _delay_session(folder / "session.nwb")
    return Archive([record(path, session)], {path: session})


def _delay_session(path: Path, n_units: int = 4, n_trials: int = 200) -> Path:
    """Units that ramp up before the go cue, more so after one of the two instructions, and respond to the cue."""
    rng = np.random.default_rng(0)
    start = 5.0 * np.arange(n_trials)
    cue = start + 3.0
    kind, correct = rng.choice(["lick left", "lick right"], n_trials), rng.random(n_trials) < 0.75
    light = rng.random(n_trials) < 0.15
    spikes = []
    for unit in range(n_units):
        times = np.sort(rng.uniform(0, start[-1] + 5, rng.poisson(40 * 5 * n_trials)))  # candidates, at 40 Hz
        trial = np.minimum(times // 5.0, n_trials - 1).astype(int)
        t = times - cue[trial]
        ramp = np.clip((t + 1.3) / 1.3, 0, 1) * (t < 0.5)
        rate = 10 + ramp * np.where((kind[trial] == "lick left") == (unit % 2 == 0), 20, 4) + 8 * ((t > 0) & (t < 0.3))
        spikes.append(times[rng.random(len(times)) < rate / 40])
    table = pd.DataFrame({"start_time": start, "stop_time": start + 4.5})
    table["cue_start_time"] = np.where(rng.random(n_trials) < 0.1, np.nan, cue)
    table["type"], table["response"] = kind, np.where(correct, "correct", "incorrect")
    table["photo_stim_power"] = np.where(light, 1.5, 0.0)
    return write_session(path, spikes, table, session_id="20170627T093549", description="Simulated.")
