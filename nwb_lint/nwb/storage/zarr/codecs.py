"""Which codecs of Zarr are decoded, and what damage is: the same for both versions of zarr and of its format."""

from __future__ import annotations

import json
import lzma
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from nwb_lint.errors import NWBError, one_line

# Codecs that turn bytes into numbers and texts, and nothing else.
PLAIN_CODECS = {
    "adler32", "astype", "base64", "bitround", "blosc", "bytes", "bz2", "categorize", "crc32", "crc32c", "delta",
    "fixedscaleoffset", "fletcher32", "gzip", "jenkins_lookup3", "json2", "lz4", "lzma", "msgpack2", "packbits",
    "quantize", "shuffle", "transpose", "vlen-array", "vlen-bytes", "vlen-utf8", "zfpy", "zlib", "zstd",
}  # fmt: skip
_SHARDS = "sharding_indexed"  # of version 3: chunks in chunks, with codecs of their own
# What zarr and its codecs raise, beside its own errors.
_DAMAGE = (ValueError, TypeError, RuntimeError, AttributeError, IndexError, EOFError, zlib.error, lzma.LZMAError)


def parsed(metadata: bytes | str | Mapping[str, Any]) -> Mapping[str, Any]:
    """The metadata of an array or a group, parsed."""
    return metadata if isinstance(metadata, Mapping) else json.loads(metadata)


def refuse_programs(path: str, metadata: Mapping[str, Any]) -> None:
    """Raise OSError for an array with a codec that is not plain, but for references as hdmf-zarr pickles them.

    Such an array can be listed: none of it is decoded when it is opened.
    """
    if metadata.get("zarr_format") == 3:
        found = not_plain_3(metadata.get("codecs") or [])
    else:
        found = not_plain({**metadata, "filters": []} if is_pickled(metadata) else metadata)
    if found:
        raise OSError(f"{path} has the codec {found[0]}, which is not read because it may run programs")


def is_pickled(metadata: Mapping[str, Any]) -> bool:
    """Whether an array of version 2 holds pickles, as references of hdmf-zarr are."""
    filters = [codec.get("id") for codec in metadata.get("filters") or []]
    return metadata.get("dtype") == "|O" and filters == ["pickle"]


def is_blosc(metadata: Mapping[str, Any]) -> bool:
    """Whether chunks are compressed by Blosc."""
    if metadata.get("zarr_format") == 3:
        return any(codec.get("name") == "blosc" for codec in metadata.get("codecs") or [])
    return (metadata.get("compressor") or {}).get("id") == "blosc"


def not_plain(metadata: Mapping[str, Any]) -> list[str]:
    """The codecs in the metadata of an array of version 2 (.zarray) that are not plain."""
    codecs = [*(metadata.get("filters") or []), metadata.get("compressor") or {"id": "zlib"}]
    return [str(codec.get("id")) for codec in codecs if codec.get("id") not in PLAIN_CODECS]


def not_plain_3(codecs: list[Any]) -> list[str]:
    """The same for the codecs of an array of version 3 (zarr.json)."""
    found = []
    for codec in codecs:
        name = codec if isinstance(codec, str) else str(codec.get("name"))
        inside = {} if isinstance(codec, str) else codec.get("configuration") or {}
        if name == _SHARDS:
            found += not_plain_3([*inside.get("codecs", []), *inside.get("index_codecs", [])])
        elif name.removeprefix("numcodecs.") not in PLAIN_CODECS:
            found.append(name)
    return found


def check_whole(key: str, head: bytes, n_bytes: int) -> None:
    """Raise OSError for a chunk that is not as long as its head says: Blosc would go on in memory behind it."""
    if len(head) < 16 or int.from_bytes(head[12:16], "little") != n_bytes:
        raise OSError(f"chunk {key} is damaged: it has {n_bytes} bytes, and its head says another number")


@contextmanager
def damage_is_oserror() -> Iterator[None]:
    """Raise an OSError for whatever zarr and its codecs raise about a damaged store."""
    from zarr import errors

    found: list[Any] = [one for one in vars(errors).values() if isinstance(one, type)]
    damage: tuple[type[Exception], ...] = (*_DAMAGE, *(one for one in found if issubclass(one, Exception)))
    try:
        yield
    except (NWBError, KeyError, OSError, MemoryError):
        raise
    except damage as error:
        raise OSError(f"the Zarr store is damaged ({one_line(error)})") from error
