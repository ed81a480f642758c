"""Recordings over HTTP: the same result as from disk, few requests, passing and lasting failures."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import time
import tomllib
from concurrent.futures import ThreadPoolExecutor

import h5py
import numpy as np
import pytest
import requests
from click.testing import CliRunner

from nwb_lint import open_nwb, read_conditions, read_trials, write_fit
from nwb_lint.cli import app
from nwb_lint.errors import ContractError, MissingFileError, NWBError
from nwb_lint.nwb.inspection.describe import describe
from nwb_lint.nwb.storage.asset import Asset
from nwb_lint.nwb.storage.http import FileSession, describe_error, get_bytes, get_range
from nwb_lint.nwb.storage.metadata import read_metadata
from nwb_lint.nwb.storage.prefetch import fetch_rows, load_streamed, plan_chunks
from nwb_lint.nwb.storage.source import expand, reading
from nwb_lint.testing import mock_fit, mock_session
from tests.nwb.oracle import same_data as same
from tests.nwb.server import RangeServer

# spikes of the large file end a little before its last trials do: the readers say so
pytestmark = pytest.mark.filterwarnings("ignore:.*silent unit")
HOW = {"by": ["side"], "align": "cue_time", "window_s": (-0.2, 0.8), "bin_s": 0.1}
TRIALS = {"align": "cue_time", "window_s": (0, 1), "bin_s": 0.1}
N_UNITS, N_SPIKES = 500, 16_000  # 64 MB
MOST_LETTERS = 600


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("NWB_LINT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return mock_session(tmp_path_factory.mktemp("remote") / "session.nwb", unit_columns={"region": list("abcab")})


@pytest.fixture
def server(path):
    with RangeServer({"/session.nwb": path}) as running:
        yield running


@pytest.fixture
def address(server):
    return f"{server.url}/session.nwb"


@pytest.fixture
def no_waiting(monkeypatch):
    """Requests are repeated without waiting."""
    for function in (get_range, get_bytes):
        monkeypatch.setattr(function.retry, "wait", lambda state: 0)


def refused(words, call, *args, kind=NWBError, **options):
    with pytest.raises(kind, match=words) as found:
        call(*args, **options)
    assert "\n" not in str(found.value)
    assert len(str(found.value)) < MOST_LETTERS


@pytest.mark.parametrize("download", [False, True])
def test_an_address_gives_what_the_file_gives(path, server, address, download):
    found = read_conditions(address, **HOW, download=download)
    same(found, read_conditions(path, **HOW))
    assert found["file"].item() == address
    assert set(found["source"].values) == {address}
    digest = hashlib.sha256(path.read_bytes()).hexdigest() if download else ""
    assert found["file_digest"].item() == digest
    same(read_trials(address, **TRIALS, download=download), read_trials(path, **TRIALS))


def test_disk_and_network_stack_into_one_recording(path, server, address, tmp_path):
    other = mock_session(tmp_path / "other.nwb", seed=1, session_id="other")
    found = read_conditions([other, address], **HOW)
    assert list(found["file"].values) == [str(other), address]
    same(found, read_conditions([other, path], **HOW))


def test_a_remote_file_is_described_and_its_metadata_read(path, address):
    assert describe(address)._replace(path="") == describe(path, spikes=False)._replace(path="")
    assert describe(address, spikes=True)._replace(path="") == describe(path)._replace(path="")
    assert read_metadata(address) == read_metadata(path)


def test_a_fit_of_a_remote_file_takes_its_subject_or_warns(path, server, address, tmp_path):
    pynwb = pytest.importorskip("pynwb")
    files = {key: ("file", np.array([""])) for key in ("file_identifier", "file_object_id", "file_digest")}
    fit = mock_fit().assign_coords(file=np.array([address]), **files)
    with pynwb.NWBHDF5IO(str(write_fit(fit, tmp_path / "fit.nwb")), "r") as io:
        assert io.read().subject.subject_id == "simulated"
    gone = mock_fit().assign_coords(file=np.array([f"{server.url}/gone.nwb"]), **files)
    with (
        pytest.warns(UserWarning, match="species, sex, age"),
        pytest.warns(UserWarning, match=r"gone\.nwb: no such file"),
    ):
        write_fit(gone, tmp_path / "other.nwb", subject={"subject_id": "a"})
    refused("no such file", write_fit, mock_fit(), tmp_path / "third.nwb", source=f"{server.url}/gone.nwb")


def test_s3_is_its_public_https_address(path, monkeypatch):
    assert expand("s3://bucket/a b/c.nwb")[0].location == "https://bucket.s3.amazonaws.com/a%20b/c.nwb"
    assert expand("s3://my.bucket/c.nwb")[0].location == "https://s3.amazonaws.com/my.bucket/c.nwb"
    with RangeServer({"/bucket/a b/c.nwb": path}) as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)
        found = read_trials("s3://bucket/a b/c.nwb", **TRIALS)
    same(found, read_trials(path, **TRIALS))
    assert found["file"].item() == "s3://bucket/a b/c.nwb"


def test_one_address_comes_once(address):
    refused("listed twice", expand, [address, address], kind=ContractError)


def test_the_commands_take_addresses(server, address):
    shown = CliRunner().invoke(app, ["inspect", address], catch_exceptions=False)
    assert shown.exit_code == 0
    assert shown.stdout.startswith(f"{address}\nsession mock")
    recipe = CliRunner().invoke(app, ["init", address], catch_exceptions=False)
    assert tomllib.loads(recipe.stdout)["sources"] == [address]
    assert tomllib.loads(recipe.stdout)["out"] == "session_desc-lowrank.nwb"
    failed = CliRunner().invoke(app, ["inspect", f"{server.url}/none.nwb"], catch_exceptions=False)
    assert failed.exit_code == 1
    assert failed.stderr.startswith(f"error: {server.url}/none.nwb: no such file")
    assert failed.stderr.count("\n") == 1


# -- economy --


def large(path, **layout):
    """A session of 500 units of 16,000 spikes each, 64 MB of them."""
    mock_session(path, n_units=N_UNITS, n_trials=200, rate_hz=0.05)
    rng = np.random.default_rng(0)
    with h5py.File(path, "r+") as file:
        end = file["intervals/trials/stop_time"][-1]
        units = file["units"]
        del units["spike_times"], units["spike_times_index"]
        data = units.create_dataset("spike_times", (N_UNITS * N_SPIKES,), "f8", **layout)
        gaps = rng.integers(1, int(2e4 * end / N_SPIKES), N_UNITS * N_SPIKES).reshape(N_UNITS, -1)
        data[:] = (np.cumsum(gaps, axis=1) / 1e4).ravel()
        units["spike_times_index"] = np.arange(1, N_UNITS + 1) * N_SPIKES
    return path


@pytest.fixture(
    scope="module",
    params=[{}, {"chunks": True, "compression": 1}, {"chunks": (65_536,), "compression": 1}],
    ids=["contiguous", "small chunks", "large chunks"],
)
def large_file(request, tmp_path_factory):
    return large(tmp_path_factory.mktemp("large") / "large.nwb", **request.param)


def spikes_bytes(path, units):
    """Bytes of the file that hold the spikes of the units."""
    with h5py.File(path, "r") as file:
        data = file["units/spike_times"]
        if data.chunks is None:
            return len(units) * N_SPIKES * 8
        size = data.chunks[0]
        chunks = {row // size for unit in units for row in range(unit * N_SPIKES, (unit + 1) * N_SPIKES)}
        return sum(data.id.get_chunk_info_by_coord((chunk * size,)).size for chunk in chunks)


def test_index_trials_and_twenty_units_are_ten_requests_and_a_megabyte(large_file):
    units = list(range(200, 220))
    with RangeServer({"/large.nwb": large_file}) as server:
        found = read_trials(f"{server.url}/large.nwb", **TRIALS, units=units)
        requests_made, sent = server.sent()
        assert requests_made <= 10
        assert sent <= spikes_bytes(large_file, units) + 1_000_000
        same(found, read_trials(large_file, **TRIALS, units=units))
        server.clear()
        same(read_trials(f"{server.url}/large.nwb", **TRIALS, units=units), found)
        assert server.sent() == (2, 2)  # one byte an opening, for the version; the rest is on disk


def test_scattered_units_are_a_request_each_and_one_for_each_node_of_the_index(large_file):
    units = list(range(3, N_UNITS, 25))
    with h5py.File(large_file, "r") as file:
        chunks = file["units/spike_times"].chunks
    nodes = 0 if chunks is None else N_UNITS * N_SPIKES // chunks[0] // 56 + 1  # with 58 of 64 children, as HDF5 fills
    with RangeServer({"/large.nwb": large_file}) as server:
        found = read_trials(f"{server.url}/large.nwb", **TRIALS, units=units)
        requests_made, sent = server.sent()
        assert requests_made <= 5 + len(units) + nodes
        assert sent <= spikes_bytes(large_file, units) + 1_000_000
    same(found, read_trials(large_file, **TRIALS, units=units))


def test_all_units_are_a_few_large_requests(large_file):
    with RangeServer({"/large.nwb": large_file}) as server:
        found = read_trials(f"{server.url}/large.nwb", **TRIALS)
        requests_made, sent = server.sent()
        assert requests_made <= 20
        assert sent <= spikes_bytes(large_file, range(N_UNITS)) + 1_000_000
    assert int(found["count"].sum()) == int(read_trials(large_file, **TRIALS)["count"].sum())


LAYOUTS = [{}, {"chunks": (7, 2)}, {"chunks": (64, 2), "compression": "gzip"}, {"chunks": (7, 1)}]


@pytest.mark.parametrize("libver", ["earliest", "v108", "latest"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_rows_fetched_in_advance_are_the_rows(tmp_path, layout, libver):
    values = np.random.default_rng(0).random((20_000, 2))
    path = tmp_path / "rows.nwb"
    with h5py.File(path, "w", libver=(libver, "latest")) as file:
        file.attrs["nwb_version"] = "2.0"
        file.create_dataset("acquisition/rows", data=values, **layout)
    with RangeServer({"/rows.nwb": path}) as server, open_nwb(f"{server.url}/rows.nwb") as file:
        data = file["acquisition/rows"]
        for low, high in (([0], [20_000]), ([5, 15_000, 20], [5, 15_100, 900]), ([19_999], [20_000]), ([], [])):
            fetch_rows(data, low, high)
            for a, b in zip(low, high, strict=True):
                np.testing.assert_array_equal(data[a:b], values[a:b])
        np.testing.assert_array_equal(load_streamed(data, slab_bytes=100_000), values)


@pytest.mark.parametrize("libver", ["earliest", "v108"])
@pytest.mark.parametrize("n_rows", [64, 100, 64 * 58, 300_001])
def test_chunks_are_where_hdf5_says(tmp_path, libver, n_rows):
    path = tmp_path / "chunks.h5"
    with h5py.File(path, "w", libver=(libver, "latest")) as file:
        file.attrs["nwb_version"] = "2.0"
        data = file.create_dataset("a", (n_rows,), "u1", chunks=(64,), compression="gzip")
        for k in range(200):
            data.attrs[f"attribute {k}"] = "so long that the object header has several blocks"
        data[: n_rows // 3], data[n_rows // 2 :] = 1, 2  # chunks between are not there
    runs = [(n_rows // 4, n_rows // 4 + 1), (n_rows // 4 + 200, n_rows // 4 + 30_000), (n_rows - 1, n_rows)]
    runs = [(low, min(high, n_rows)) for low, high in runs if low < n_rows]
    runs = runs if n_rows > 1000 else [(0, n_rows)]
    with RangeServer({"/a.h5": path}) as server, open_nwb(f"{server.url}/a.h5") as file:
        found = plan_chunks(file["a"], runs, file.stream)
        data = file["a"]
        rows = sorted({row for low, high in runs for row in range(low // 64 * 64, high, 64)})
        infos = [data.id.get_chunk_info_by_coord((row,)) for row in rows]
    places = [(one.byte_offset, one.byte_offset + one.size) for one in infos if one.byte_offset is not None]
    assert found.chunks == places
    assert places


def test_a_damaged_index_is_not_followed(tmp_path):
    path = tmp_path / "chunks.h5"
    with h5py.File(path, "w") as file:
        file.attrs["nwb_version"] = "2.0"
        file.create_dataset("a", data=np.zeros(100_000), chunks=(64,))
    content = path.read_bytes()
    with h5py.File(path) as file:
        sound = [at for at in range(len(content)) if content[at : at + 6] == b"TREE\x01\x00"]
    for at, part in ((0, b"XXXX"), (5, b"\x07"), (6, b"\xff\xff"), (24 + 16 + 8, b"\xff" * 8)):
        for node in sound[:2]:
            bad = bytearray(content)
            bad[node + at : node + at + len(part)] = part
            with RangeServer({"/a.h5": bytes(bad)}) as server, open_nwb(f"{server.url}/a.h5") as file:
                found = plan_chunks(file["a"], [(0, 50_000)], file.stream)
                if at < 24:  # the head of a node
                    assert found is None
                else:  # the place of one chunk: only HDF5 notices, when it reads the chunk
                    assert len(found.chunks) == -(-50_000 // 64)
                    file.stream.prefetch(*found)
                file.stream.prefetch([(-5, 10), (10**9, 10**9 + 5)])


def test_values_read_without_fetching_in_advance_come_in_growing_blocks(tmp_path):
    values = np.random.default_rng(0).random(1_000_000)
    path = tmp_path / "a.nwb"
    with h5py.File(path, "w") as file:
        file.attrs["nwb_version"] = "2.0"
        file["a"] = values
    with RangeServer({"/a.nwb": path}) as server:
        with open_nwb(f"{server.url}/a.nwb") as file:
            for start in range(0, len(values), 10_000):
                np.testing.assert_array_equal(file["a"][start : start + 10_000], values[start : start + 10_000])
            np.testing.assert_array_equal(file["a"][:], values)
        requests_made, sent = server.sent()
        assert requests_made <= 12
        assert sent <= path.stat().st_size
        with open_nwb(f"{server.url}/a.nwb") as file:
            np.testing.assert_array_equal(file["a"][500_000:700_000], values[500_000:700_000])
            np.testing.assert_array_equal(file["a"][:20_000], values[:20_000])
        assert server.sent() == (requests_made + 1, sent + 1)


def test_values_that_lie_apart_take_one_block_each(tmp_path):
    path = tmp_path / "a.nwb"
    with h5py.File(path, "w") as file:
        file.attrs["nwb_version"] = "2.0"
        file["a"] = np.zeros(2_000_000)
    with RangeServer({"/a.nwb": path}) as server, open_nwb(f"{server.url}/a.nwb") as file:
        server.clear()
        for row in (1_900_000, 300_000, 1_200_000):
            assert file["a"][row] == 0
        requests_made, sent = server.sent()
        assert requests_made == 3
        assert sent <= 3 * 2 * 100 * 1024


def test_a_file_left_open_does_not_crash_the_end_of_python(address):
    code = f"from nwb_lint import open_nwb; units = open_nwb({address!r})['units']; file = open_nwb({address!r})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=dict(os.environ))
    assert (done.returncode, done.stderr) == (0, "")


# -- what may go wrong --


@pytest.mark.parametrize("fault", [503, 429, "drop", "short"])
@pytest.mark.parametrize("at", range(2))
def test_passing_failures_do_not_matter(path, server, address, fault, at):
    server.faults = [None] * at + [fault]
    same(read_conditions(address, **HOW), read_conditions(path, **HOW))
    assert not server.faults


@pytest.mark.parametrize("fault", [503, "drop", "short"])
def test_passing_failures_in_fetching_in_advance_do_not_matter(large_file, fault):
    with RangeServer({"/large.nwb": large_file}) as server, open_nwb(f"{server.url}/large.nwb") as file:
        data = file["units/spike_times"]
        server.faults = [fault]
        fetch_rows(data, [7 * N_SPIKES], [9 * N_SPIKES])
        found = data[7 * N_SPIKES : 9 * N_SPIKES]
    with h5py.File(large_file, "r") as file:
        np.testing.assert_array_equal(found, file["units/spike_times"][7 * N_SPIKES : 9 * N_SPIKES])


def test_lasting_failures_are_errors_of_one_line(server, address, path, no_waiting):
    for download in (False, True):
        refused("404", read_trials, f"{server.url}/none.nwb", **TRIALS, download=download, kind=MissingFileError)
    for status in (401, 403):
        server.faults = [status]
        refused(f"may not be read .*{status}.*token", read_trials, address, **TRIALS)
    server.faults = [503] * 50
    refused("cannot be read: .*503", read_trials, address, **TRIALS)
    server.faults = []
    server.files["/text.nwb"] = b"spikes\n" * 10
    refused("is not HDF5", read_trials, f"{server.url}/text.nwb", **TRIALS)
    server.files["/empty.nwb"] = b""
    refused("is empty", read_trials, f"{server.url}/empty.nwb", **TRIALS)
    server.files["/cut.nwb"] = path.read_bytes()[:-3000]
    refused("cannot be opened as HDF5", read_trials, f"{server.url}/cut.nwb", **TRIALS)
    refused("the connection to 127.0.0.1:1 failed", read_trials, "http://127.0.0.1:1/a.nwb", **TRIALS)


def test_a_server_without_ranges_allows_downloads_only(path, server, address):
    server.ranges = False
    refused("ranges of bytes.*download=True", read_conditions, address, **HOW)
    same(read_conditions(address, **HOW, download=True), read_conditions(path, **HOW))


def test_failures_in_the_middle_of_reading_are_errors_of_one_line(server, large_file, no_waiting):
    def read(fault, fetched):
        with reading(f"{server.url}/large.nwb") as file:
            data = file["units/spike_times"]
            server.faults = [fault] * 50
            if fetched:
                load_streamed(data)
            data[N_SPIKES : 2 * N_SPIKES]

    server.files["/large.nwb"] = large_file
    for fault, words in ((404, "404"), (503, "503"), ("drop", "connection .*failed|bytes came")):
        for fetched in (False, True):
            refused(f"Reading .* failed: .*({words})", read, fault, fetched)
            server.faults = []


def test_a_file_that_changes_while_it_is_read_is_an_error(server, large_file, no_waiting):
    """The bytes of two files are never mixed: each answer needs to have the ETag of the first one."""
    first = large_file.read_bytes()
    server.files["/large.nwb"] = first

    def read():
        with reading(f"{server.url}/large.nwb") as file:
            data = file["units/spike_times"]
            server.files["/large.nwb"] = first[:-1] + b"x"
            data[N_SPIKES : 2 * N_SPIKES]

    refused("was changed while it was read", read)


def test_a_changed_file_is_not_read_from_the_cache(path, server, address, tmp_path):
    before = read_trials(address, **TRIALS)
    server.files["/session.nwb"] = mock_session(tmp_path / "new.nwb", seed=7)
    after = read_trials(address, **TRIALS)
    same(after, read_trials(tmp_path / "new.nwb", **TRIALS))
    assert not before.identical(after)


def test_ranges_damaged_on_disk_are_fetched_again(path, server, address, cache):
    read_trials(address, **TRIALS)
    parts = [part for part in (cache / "streamed").rglob("*") if part.is_file()]
    assert parts
    for part in parts:
        content = bytearray(part.read_bytes())
        content[-1] ^= 1
        part.write_bytes(bytes(content[: len(content) - 1 if part is parts[0] else None]))
    same(read_trials(address, **TRIALS), read_trials(path, **TRIALS))


def test_streaming_works_where_the_cache_cannot_be_written(path, address, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("NWB_LINT_CACHE", str(tmp_path / "file"))
    same(read_trials(address, **TRIALS), read_trials(path, **TRIALS))
    refused("cannot be read", read_trials, address, **TRIALS, download=True)


# -- downloads --


def kept(cache):
    return [file for file in (cache / "files").rglob("*") if file.is_file()]


def test_a_download_is_kept_and_used_again(path, server, address, cache):
    read_trials(address, **TRIALS, download=True)
    assert [file.name for file in kept(cache)] == ["session.nwb"]
    assert kept(cache)[0].read_bytes() == path.read_bytes()
    assert [request.headers.get("Range") for request in server.log] == ["bytes=0-0", None]
    server.clear()
    read_trials(address, **TRIALS, download=True)
    assert len(server.log) == 1  # for the version
    with open_nwb(address, download=True) as file:
        assert isinstance(file, h5py.File)


def test_a_repeated_download_continues_where_the_last_one_ended(server, large_file, cache):
    server.files["/large.nwb"] = large_file
    server.faults = [None, "drop", 503]
    (asset,) = expand(f"{server.url}/large.nwb", download=True)
    assert (str(asset), asset.path) == (f"{server.url}/large.nwb", kept(cache)[0])
    assert asset.path.read_bytes() == large_file.read_bytes()
    half = large_file.stat().st_size // 2
    assert int(server.log[-1].headers["Range"].strip("bytes=-")) > half - 200_000


def test_with_a_wrong_size_or_digest_nothing_is_kept(path, server, address, cache):
    size, digest = path.stat().st_size, hashlib.sha256(path.read_bytes()).hexdigest()
    whole = Asset("archive/a.nwb", address, "hdf5", digest, size)
    wrong_size, wrong_digest = whole._replace(size=size + 1), whole._replace(digest="0" * 64)
    words = f"{size} bytes at the server.*{size + 1}"
    refused(words, read_trials, wrong_size, **TRIALS)
    refused("SHA-256", read_trials, wrong_digest, **TRIALS, download=True)
    refused(words, read_trials, wrong_size._replace(digest=""), **TRIALS, download=True)
    assert not kept(cache)
    found = read_trials(whole, **TRIALS, download=True)
    assert found["file_digest"].item() == digest
    assert read_trials(whole, **TRIALS)["file_digest"].item() == digest


def test_signed_addresses_are_not_shown():
    request = requests.Request("GET", "https://user:word@bucket.org/a.nwb?X-Amz-Signature=secret").prepare()
    error = requests.ConnectionError("https://bucket.org/a.nwb?X-Amz-Signature=secret", request=request)
    assert describe_error(error) == "the connection to bucket.org failed (ConnectionError)"


def test_passwords_and_signatures_are_not_written_into_files(path, server):
    for given, shown in (
        (f"{server.url}/session.nwb?X-Amz-Signature=secret&a=1", f"{server.url}/session.nwb?a=1"),
        (f"{server.url}/session.nwb?id=3&access_token=secret", f"{server.url}/session.nwb?id=3"),
        (f"{server.url}/session.nwb?sig=secret", f"{server.url}/session.nwb"),
        (f"{server.url}/session.nwb?api_key=secret&monkey=A", f"{server.url}/session.nwb?monkey=A"),
        (f"http://user:word@{server.host}/session.nwb", f"{server.url}/session.nwb"),
        (f"{server.url}/session.nwb?id=3", f"{server.url}/session.nwb?id=3"),
    ):
        found = read_trials(given, **TRIALS)
        assert found["file"].item() == shown
        assert "secret" not in str(found)


def test_files_are_read_side_by_side(path, tmp_path):
    files = {f"/{k}.nwb": mock_session(tmp_path / f"{k}.nwb", seed=k) for k in range(6)}
    with RangeServer(files) as server, ThreadPoolExecutor(4) as pool:
        found = pool.map(lambda name: read_trials(f"{server.url}{name}", **TRIALS), files)
        for one, name in zip(found, files, strict=True):
            same(one, read_trials(files[name], **TRIALS))


def test_the_server_may_ask_for_a_longer_wait(server, address):
    server.faults = [(503, {"Retry-After": "1"})]
    with FileSession() as session:
        start = time.perf_counter()
        assert get_range(session, address, 0, 10).content == b"\x89HDF\r\n\x1a\n\x00\x00"
        assert time.perf_counter() - start >= 1
