"""Files that data come from: the user's own, and known ones, which are fetched once and have a digest."""

import hashlib
from pathlib import Path


class DataError(Exception):
    """Data cannot be had; the message is one line that says why and what to do."""


def read_known(relative: str, address: str, digest: str, data_dir: Path | None, cache_dir: Path) -> tuple[Path, bytes]:
    """Reads a file whose contents are known; nothing else is ever returned.

    Args:
        relative: its place in both folders, such as ``books/grimm.txt``.
        address: where it is fetched from if it is in neither folder.
        digest: its SHA-256, hexadecimal.
        data_dir: where the user keeps data, if anywhere; looked at first.
        cache_dir: where fetched files are kept; created when needed.

    Returns:
        Where it was found, or put, and its bytes.

    Raises:
        DataError: it cannot be had, or has another digest.
    """
    paths = [folder / relative for folder in (data_dir, cache_dir) if folder is not None]
    for path in paths:
        raw = read_if_there(path)
        if raw is not None:
            found = hashlib.sha256(raw).hexdigest()
            if found != digest:
                raise DataError(
                    f"{path} is another file than the one known here: its sha256 is {found} instead of {digest};"
                    " remove it, or give a file of your own by its path"
                )
            return path, raw
    return paths[-1], _fetch(relative, address, digest, paths)


def read_if_there(path: Path) -> bytes | None:
    """The contents of a file, None if there is none.

    Raises:
        DataError: it is there, but cannot be read.
    """
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}") from error
    except ValueError as error:
        raise DataError(f"no file has the name {str(path)!r}") from error


def _fetch(relative: str, address: str, digest: str, paths: list[Path]) -> bytes:
    """Fetches a file into the last of the paths, where it was looked for; pooch logs one line beforehand."""
    import pooch  # Only here: most runs need no network.

    path = paths[-1]
    downloader = pooch.HTTPDownloader(stream=False)  # A stream is left open where the address is gone (404).
    try:
        fetched = pooch.retrieve(address, f"sha256:{digest}", fname=path.name, path=path.parent, downloader=downloader)
        return Path(fetched).read_bytes()
    except OSError as error:  # Those of requests too.
        raise DataError(
            f"there is no {' or '.join(map(str, paths))}, and it cannot be fetched: save {address}"
            f" as DIR/{relative} and give --data_dir=DIR or JAXRNN_DATA_DIR=DIR ({error})"
        ) from error
    except ValueError as error:
        raise DataError(
            f"{address} holds another file than the one known here, whose sha256 is {digest}; it was not kept"
        ) from error
