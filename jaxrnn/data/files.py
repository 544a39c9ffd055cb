"""Data files: where they are, and known files, which are fetched once and checked by a digest."""

import codecs
import hashlib
import os
from pathlib import Path

KNOWN = {
    place: (digest, address)
    for place, digest, address in map(str.split, Path(__file__).with_name("known.txt").read_text().splitlines())
}
"""SHA-256 and address of each known file, by its place in the user's folder or the cache."""


class DataError(Exception):
    """Data cannot be obtained; the message is one line that says why and what to do."""


def cache_dir() -> Path:
    """Where fetched data and compiled programs are stored.

    The environment's ``JAXRNN_CACHE_DIR``, else the folder ``jaxrnn`` in ``XDG_CACHE_HOME`` or in ``~/.cache``.
    """
    if given := os.environ.get("JAXRNN_CACHE_DIR"):
        return Path(given)
    # Only here: not every account has a home.
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "jaxrnn"


def read_known(place: str) -> tuple[Path, bytes]:
    """The path and the bytes of a file of `KNOWN`; no other contents are ever returned.

    The file is looked for in the environment's ``JAXRNN_DATA_DIR``, then in `cache_dir`; otherwise it is fetched into
    the latter.

    Raises:
        DataError: the file cannot be obtained, or has another digest.
    """
    digest, _ = KNOWN[place]
    data_dir = os.environ.get("JAXRNN_DATA_DIR")
    paths = [*([Path(data_dir, place)] if data_dir else []), cache_dir() / place]
    for path in paths:
        raw = read_if_there(path)
        if raw is not None:
            found = hashlib.sha256(raw).hexdigest()
            if found != digest:
                raise DataError(
                    f"{path} is not the known file: its sha256 is {found} instead of {digest};"
                    " remove it, or give a file of your own by its path"
                )
            return path, raw
    return paths[-1], _fetch(place, paths)


def expand(path: str | Path) -> Path:
    """The path with a leading `~` replaced by the user's home; a shell does not replace it in `--FLAG=~/x`."""
    return Path(os.path.expanduser(path))  # noqa: PTH111  Path.expanduser fails where there is no home.


def read_if_there(path: Path) -> bytes | None:
    """The contents of a file, or None if there is no such file; a leading `~` is the user's home.

    Raises:
        DataError: the file is there, but cannot be read, or is only a Git LFS pointer.
    """
    try:
        raw = expand(path).read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}") from error
    except ValueError as error:
        raise DataError(f"no file has the name {str(path)!r}") from error
    if raw.startswith(b"version https://git-lfs.github.com/"):
        raise DataError(f"{path} is a Git LFS pointer, not the file itself: `git lfs pull` in its folder fetches it")
    return raw


def decode_lines(path: Path, raw: bytes) -> str:
    """The text of a file in UTF-8, UTF-16 with a byte order mark, or Latin-1; line ends become line feeds.

    Raises:
        DataError: it has null characters, as files that are not text do.
    """
    is_utf16 = raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))  # As Excel writes "Unicode text".
    for encoding in ("utf-16" if is_utf16 else "utf-8-sig", "latin-1"):
        try:
            text = raw.decode(encoding)
        except UnicodeDecodeError:
            continue
        break
    if "\0" in text:
        raise DataError(f"{path}: is not text, or is in another encoding than UTF-8: save it as UTF-8")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _fetch(place: str, paths: list[Path]) -> bytes:
    """Fetches a file into the last of the paths where it was looked for; pooch logs one line first."""
    import pooch  # Only here: most runs need no network.

    (digest, address), path = KNOWN[place], paths[-1]
    downloader = pooch.HTTPDownloader(stream=False)  # A stream would stay open where the address is gone (404).
    try:
        fetched = pooch.retrieve(address, f"sha256:{digest}", fname=path.name, path=path.parent, downloader=downloader)
        return Path(fetched).read_bytes()
    except OSError as error:  # Errors of requests are among them.
        raise DataError(
            f"there is no {' or '.join(map(str, paths))}, and it cannot be fetched: save {address}"
            f" as DIR/{place} and give --data_dir=DIR or JAXRNN_DATA_DIR=DIR ({error})"
        ) from error
    except ValueError as error:
        raise DataError(f"{address} is not the known file, whose sha256 is {digest}; it was deleted") from error
