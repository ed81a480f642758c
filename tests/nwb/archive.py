"""A DANDI archive on this machine: the REST interface that the client of DANDI uses, and a store of the files."""

from __future__ import annotations

import fnmatch
import hashlib
import json
import re
import uuid
from pathlib import Path
from urllib.parse import parse_qs, urlencode, urlsplit

import numpy as np
import pandas as pd

from nwb_lint.nwb.extension.write_session import write_session
from tests.nwb.server import RangeServer

ID = "000009"
PUBLISHED = "0.220126.1903"
WHEN = "2022-01-26T19:03:11.609770+00:00"


def record(path: str, content: bytes | Path, **change) -> dict:
    """The record of an asset: a file (blob) or a Zarr folder; ``change`` replaces entries."""
    zarr = isinstance(content, Path) and content.is_dir()
    content = content.read_bytes() if isinstance(content, Path) and not zarr else content
    asset_id, blob = str(uuid.uuid5(uuid.NAMESPACE_URL, path)), str(uuid.uuid5(uuid.NAMESPACE_OID, path))
    size = 0 if zarr else len(content)
    digest = {} if zarr else {"dandi:sha2-256": hashlib.sha256(content).hexdigest()}
    return {
        "asset_id": asset_id, "zarr" if zarr else "blob": blob, "path": path, "size": size, "created": WHEN,
        "modified": WHEN, "metadata": {"contentSize": size, "path": path, "digest": digest},
    } | change  # fmt: skip


class Archive:
    """An archive with one dandiset.

    ``assets`` are records, ``contents`` the bytes or the file of each asset by its path. With a ``token`` all data is
    embargoed. ``published=False`` leaves only the draft.
    """

    def __init__(self, assets: list[dict], contents: dict, *, page_size: int = 100, token: str = "", published=True):
        self.assets, self.page_size, self.token, self.published = assets, page_size, token, published
        self.api = RangeServer(route=self._route)
        places = {a["path"]: f"/{'zarr' if a.get('zarr') else 'blobs'}/{a.get('blob') or a['zarr']}" for a in assets}
        self.places = places
        self.blobs = RangeServer({places[path]: content for path, content in contents.items()}, route=self._store)
        self.uploads: dict[str, dict] = {}

    def __enter__(self) -> Archive:
        self.api.__enter__()
        self.blobs.__enter__()
        return self

    def __exit__(self, *raised) -> None:
        self.api.__exit__(*raised)
        self.blobs.__exit__(*raised)

    def _route(self, handler):
        url = urlsplit(handler.path)
        if handler.command in ("POST", "PUT"):
            allowed = handler.headers.get("Authorization", "") == f"token {self.token}"
            sent = json.loads(handler.body or b"{}")
            status, body = self._change(handler.command, url.path, sent) if allowed else (401, {"detail": "No."})
            return status, {"Content-Type": "application/json"}, json.dumps(body).encode()
        status, body = self._answer(url.path, parse_qs(url.query), handler.headers.get("Authorization", ""))
        if status == 302:
            return 302, {"Location": f"{self.blobs.url}{body}?signature=secret"}, b""
        return status, {"Content-Type": "application/json"}, json.dumps(body).encode()

    def _answer(self, path: str, query: dict, authorization: str) -> tuple[int, object]:
        allowed = not self.token or authorization == f"token {self.token}"
        if path == "/api/info/":
            services = {"api": {"url": f"{self.api.url}/api"}}
            bad = {"cli-minimal-version": "0.14.2", "cli-bad-versions": []}
            return 200, {"version": "0.3.0", "schema_version": "0.6.4", "services": services} | bad
        if path == "/api/auth/token":
            return (200, {"token": self.token}) if self.token and allowed else (401, {"detail": "Invalid token."})
        if not path.startswith("/api/"):
            return 404, "no such page"
        if not allowed:
            return 401, {"detail": "Authentication credentials were not provided."}
        return self._content(path.removeprefix("/api/"), query)

    def _change(self, method: str, path: str, sent: dict) -> tuple[int, object]:
        """Uploads in one part, and new records for uploaded files."""
        if path == "/api/uploads/initialize/":
            name = str(uuid.uuid4())
            self.uploads[name] = {"size": sent["contentSize"], "etag": sent["digest"]["value"]}
            part = {"part_number": 1, "size": sent["contentSize"], "upload_url": f"{self.blobs.url}/uploads/{name}"}
            return 200, {"upload_id": name, "parts": [part]}
        if found := re.fullmatch(r"/api/uploads/([^/]+)/(complete|validate)/", path):
            name = found[1]
            done = {"complete_url": f"{self.blobs.url}/complete/{name}", "body": "<all/>"}
            return 200, done if found[2] == "complete" else {"blob_id": name}
        found = re.fullmatch(rf"/api/dandisets/{ID}/versions/draft/assets/(?:([^/]+)/)?", path)
        if not found or (method == "PUT") != bool(found[1]):
            return 404, {"detail": "Not found."}
        self.assets = [asset for asset in self.assets if asset["asset_id"] != found[1]]
        content = self.blobs.files[f"/blobs/{sent['blob_id']}"]
        asset = record(sent["metadata"]["path"], content, metadata=sent["metadata"], blob=sent["blob_id"])
        asset["metadata"]["digest"]["dandi:sha2-256"] = hashlib.sha256(content).hexdigest()
        asset["asset_id"] = str(uuid.uuid4())
        self.assets.append(asset)
        self.places[asset["path"]] = f"/blobs/{sent['blob_id']}"
        return 200, asset

    def _store(self, handler):
        """The store during an upload: it takes the file, and answers with the checksum at the end."""
        found = re.fullmatch(r"/(uploads|complete)/([^/]+)", handler.path)
        if not found or handler.command not in ("POST", "PUT"):
            return None
        place = f"/blobs/{found[2]}"
        if found[1] == "uploads":
            self.blobs.files[place] = handler.body
            return 200, {"ETag": f'"{hashlib.md5(handler.body).hexdigest()}"'}, b""
        tag = hashlib.md5(hashlib.md5(self.blobs.files[place]).digest()).hexdigest() + "-1"
        return 200, {}, f"<r><ETag>{tag}</ETag></r>".encode()

    def _content(self, path: str, query: dict) -> tuple[int, object]:
        versions = [PUBLISHED, "draft"] if self.published else ["draft"]
        if path == f"dandisets/{ID}/":
            return 200, self._dandiset()
        if found := re.fullmatch(rf"dandisets/{ID}/versions/([^/]+)/assets/", path):
            return (200, self._page(path, query)) if found[1] in versions else (404, {"detail": "Not found."})
        found = re.fullmatch(rf"(?:dandisets/{ID}/versions/[^/]+/)?assets/([^/]+)/(download/)?", path)
        asset = next((a for a in self.assets if found and a["asset_id"] == found[1]), None)
        if asset is None:
            return 404, {"detail": "Not found."}
        if found[2]:
            return 302, self.places[asset["path"]]
        urls = [f"{self.api.url}/api/assets/{asset['asset_id']}/download/", self.blobs.url + self.places[asset["path"]]]
        return 200, asset["metadata"] | {"contentUrl": [urls[0], urls[1] + "/" * ("zarr" in asset)]}

    def _dandiset(self) -> dict:
        about = {"name": "x", "asset_count": 1, "size": 1, "created": WHEN, "modified": WHEN, "status": "Valid"}
        return {
            "identifier": ID, "created": WHEN, "modified": WHEN, "contact_person": "x", "embargo_status": "OPEN",
            "most_recent_published_version": about | {"version": PUBLISHED} if self.published else None,
            "draft_version": about | {"version": "draft"},
        }  # fmt: skip

    def _page(self, path: str, query: dict) -> dict:
        start, pattern = query.get("path", [""])[0], query.get("glob", ["*"])[0]
        found = [a for a in self.assets if a["path"].startswith(start) and fnmatch.fnmatch(a["path"], pattern)]
        page, size = int(query.get("page", ["1"])[0]), self.page_size
        more = {key: value[0] for key, value in query.items()} | {"page": str(page + 1)}
        rest = len(found) > page * size
        return {
            "count": len(found),
            "next": f"{self.api.url}/api/{path}?{urlencode(more)}" if rest else None,
            "previous": None,
            "results": [
                {k: v for k, v in a.items() if k != "metadata"} for a in found[(page - 1) * size : page * size]
            ],
        }


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
