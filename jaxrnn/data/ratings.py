"""Ratings and interactions of users and items: named data sets, the user's own files, and one that needs no file."""

import csv
import functools
import hashlib
import io
import logging
import math
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jaxrnn.data.files import DataError, cache_dir, decode_lines, expand, read_if_there, read_known

OWN = "ratings:"
_LOG = logging.getLogger("jaxrnn.ratings")


class Pairs(NamedTuple):
    """Users, items and ratings in the order of time; int32, int32 and float32 `[n]`."""

    users: np.ndarray
    items: np.ndarray
    ratings: np.ndarray

    def take(self, chosen: np.ndarray) -> "Pairs":
        """The pairs at these places, or where a mask is true."""
        return Pairs(*(array[chosen] for array in self))


class Ratings(NamedTuple):
    """Who rated what, or interacted with it.

    Attributes:
        users: their names.
        items: their names.
        test: None if the source has no test part; `split_random` or `split_last` then makes one.
        links: between users, such as friendships; int32 `[2, n]`, each once in each direction.
        is_rated: whether the ratings say how good an item was; otherwise only the pairs count.
    """

    users: tuple[str, ...]
    items: tuple[str, ...]
    train: Pairs
    test: Pairs | None
    links: np.ndarray
    is_rated: bool = True

    @property
    def sha256(self) -> str:
        """The digest of the data that a run is trained on."""
        digest = hashlib.sha256(f"{len(self.users)} {len(self.items)}".encode())
        for array in (*self.train, *(self.test or ()), self.links):
            digest.update(array.tobytes())
        return digest.hexdigest()


@functools.cache
def load(name: str) -> Ratings:
    """The data set with a name of `NAMES`; what is odd about a file, but not an error, is logged.

    Raises:
        DataError: there is no such data set, or a file is missing, is not the known one, or has an error; says where.
    """
    if name.startswith(OWN):
        return read(expand(name.removeprefix(OWN)))
    if name not in _NAMED:
        raise DataError(f"{name!r} is not one of {', '.join(NAMES)}")
    return _NAMED[name]()


# --- Splits -----------------------------------------------------------------------------------------------------------


def split_random(pairs: Pairs, share: float, seed: int) -> tuple[Pairs, Pairs]:
    """Splits a random share off the pairs, rounded; both parts keep the order."""
    count = round(share * len(pairs.users))
    is_in = np.zeros(len(pairs.users), bool)
    is_in[np.random.default_rng(seed).permutation(len(is_in))[:count]] = True
    return pairs.take(~is_in), pairs.take(is_in)


def split_last(pairs: Pairs) -> tuple[Pairs, Pairs]:
    """Splits each user's last pair off the pairs; a user with a single pair keeps it."""
    places = np.zeros(pairs.users.max(initial=-1) + 1, int)
    places[pairs.users] = np.arange(len(pairs.users))  # The last value is kept.
    is_last = places[pairs.users] == np.arange(len(pairs.users))
    is_last &= np.bincount(pairs.users)[pairs.users] > 1
    return pairs.take(~is_last), pairs.take(is_last)


# --- Files ------------------------------------------------------------------------------------------------------------


def read(path: Path) -> Ratings:
    """Ratings from a file, with the test part and the links from the files beside it.

    A text file has a line for each pair: user, item, rating if there are ratings, and then optionally a time, separated
    by commas, tabs, semicolons, blanks or ``::``. A first line that begins with ``user`` and has no digits is a header.
    The test part is the file beside it whose name has `test` in place of `train` or `base`, or else before the suffix.
    The links are the file with `trust` in that place, two users in each line. An NPZ file has everything in arrays:
    `shape`, `train_users`, `train_items`, `train_ratings`, the same for `test`, and `user_edges`.

    Raises:
        DataError: as in `load`.
    """
    if (raw := read_if_there(path)) is None:
        raise DataError(f"there is no {path.absolute()}")
    if raw.startswith(b"PK"):
        return _read_npz(path, raw)
    beside = {part: _beside(path, part) for part in ("test", "trust")}
    others = {part: found for part, other in beside.items() if (found := read_if_there(other)) is not None}
    return _of_texts({"train": (path, raw), **{part: (beside[part], found) for part, found in others.items()}})


def _beside(path: Path, part: str) -> Path:
    """``lastfm_train.txt`` has ``lastfm_test.txt``, ``u1.base`` has ``u1.test``, ``mine.csv`` has ``mine.test.csv``."""
    names = [path.name.replace(known, part) for known in ("train", "base") if known in path.name]
    names += [f"{path.stem}.{part}{path.suffix}"]  # The last resort, as for `database.csv`.
    return next((other for name in names if (other := path.with_name(name)).exists()), path.with_name(names[-1]))


class _Lines(NamedTuple):
    """The columns of a file of pairs."""

    path: Path
    users: list[str]
    items: list[str]
    ratings: np.ndarray | None


def _of_texts(files: dict[str, tuple[Path, bytes]], is_rated: bool = True) -> Ratings:
    """Ratings from the files for `train`, and optionally `test` and `trust`."""
    train = _lines(*files["train"])
    test, trust = (_lines(*files[part]) if part in files else None for part in ("test", "trust"))
    if test and (train.ratings is None) != (test.ratings is None):
        raise DataError(f"{train.path} and {test.path}: only one of them has a column of ratings")
    parts = [train, *([test] if test else [])]
    users = _names([name for part in parts for name in part.users])
    items = _names([name for part in parts for name in part.items])
    user_places, item_places = ({name: i for i, name in enumerate(names)} for names in (users, items))

    def pairs(lines: _Lines) -> Pairs:
        places = [user_places[x] for x in lines.users], [item_places[x] for x in lines.items]
        ratings = np.ones(len(lines.users), np.float32) if lines.ratings is None else lines.ratings
        return Pairs(np.array(places[0], np.int32), np.array(places[1], np.int32), ratings)

    links = np.zeros((2, 0), np.int32)
    if trust:
        ends = [(user_places.get(a), user_places.get(b)) for a, b in zip(trust.users, trust.items, strict=True)]
        known = [(a, b) for a, b in ends if a is not None and b is not None]
        if len(known) < len(ends):
            _LOG.warning("%s: %d links of users without a rating are left out", trust.path, len(ends) - len(known))
        links = np.array(known, np.int32).reshape(-1, 2).T
    is_rated = is_rated and train.ratings is not None
    return _checked(train.path, Ratings(users, items, pairs(train), pairs(test) if test else None, links, is_rated))


def _lines(path: Path, raw: bytes) -> _Lines:
    """The columns of a file, in the order of its times if it has them."""
    text = decode_lines(path, raw).replace("::", "\t")
    first = text.lstrip().partition("\n")[0]
    # If both are there, one of them is a decimal comma or part of a name.
    others = sorted(",;", key=first.count, reverse=True)
    mark = next((mark for mark in ("\t", *others) if mark in first), " ")
    if mark == " ":  # A blank after the last field does not begin another one.
        text = "\n".join(line.strip(" ") for line in text.split("\n"))
    found: list[list[str]] = []
    numbers: list[int] = []
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=mark, skipinitialspace=True, strict=True)
    try:
        for row in reader:
            fields = [field.strip() for field in row]
            if not any(fields) or (not found and _is_header(fields)):
                continue
            width = len(found[0]) if found else len(fields)
            if len(fields) != width or width < 2 or not (fields[0] and fields[1]):
                raise DataError(
                    f"{path}, line {reader.line_num}: should be user, item and optionally rating and time, "
                    f"{max(width, 2)} fields separated by {mark!r} as in the lines before, not {mark.join(row)[:60]!r}"
                )
            found.append(fields)
            numbers.append(reader.line_num)
    except csv.Error as error:
        raise DataError(f"{path}, line {reader.line_num}: {error}") from error
    if not found:
        raise DataError(f"{path}: has no lines of user, item and optionally rating")
    columns = list(zip(*found, strict=True))
    floats = [_floats(path, numbers, *one) for one in zip(("rating", "time"), columns[2:4], strict=False)]
    order = np.argsort(floats[1], kind="stable").tolist() if len(floats) > 1 else range(len(found))
    ratings = floats[0][order].astype(np.float32) if floats else None
    return _Lines(path, [columns[0][i] for i in order], [columns[1][i] for i in order], ratings)


def _is_header(fields: Sequence[str]) -> bool:
    """Whether the first line names the columns; a line of a user named `user7` does not."""
    return fields[0].lower().startswith("user") and not any(c.isdecimal() for field in fields[:3] for c in field)


def _floats(path: Path, numbers: Sequence[int], what: str, texts: Sequence[str]) -> np.ndarray:
    """A column of finite numbers; `numbers` are the numbers of its lines."""
    values = np.empty(len(texts))
    for i, text in enumerate(texts):
        try:
            values[i] = float(text)
        except ValueError:
            values[i] = math.nan
        if not abs(values[i]) < np.finfo(np.float32).max:
            raise DataError(f"{path}, line {numbers[i]}: the {what} {text!r} is not a finite number")
    return values


def _names(found: Sequence[str]) -> tuple[str, ...]:
    """Each name once, sorted as numbers if all are numbers, otherwise alphabetically."""
    names = sorted({*found})  # First, so that 1 and 01 have a fixed order, too.
    if all(name.isdecimal() and name.isascii() for name in names):
        names.sort(key=lambda name: (len(name.lstrip("0")), name.lstrip("0")))  # `int` takes no more than 4300 digits.
    return tuple(names)


def _read_npz(path: Path, raw: bytes) -> Ratings:
    try:
        with np.load(io.BytesIO(raw), allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except Exception as error:  # Damaged bytes can raise anything.
        raise DataError(f"{path}: {' '.join(str(error).split())[:300]}") from error
    needed = ["shape", "train_users", "train_items", "train_ratings"]
    needed += [f"test_{what}" for what in ("users", "items", "ratings")] if "test_users" in arrays else []
    if missing := [name for name in needed if name not in arrays]:
        raise DataError(f"{path}: has no {' and no '.join(missing)}; it has {', '.join(arrays) or 'nothing'}")
    if arrays["shape"].shape != (2,) or arrays["shape"].dtype.kind not in "iu":
        raise DataError(f"{path}: shape should be two integers, the numbers of users and of items")
    num_users, num_items = (int(x) for x in arrays["shape"])

    def places(name: str, size: int) -> np.ndarray:
        found = arrays[name]
        if found.dtype.kind not in "iu" or ((found < 0) | (found >= size)).any():
            raise DataError(f"{path}: {name} should be integers from 0 to {size - 1}")
        return found.astype(np.int32)

    def pairs(part: str) -> Pairs:
        users, items = places(f"{part}_users", num_users), places(f"{part}_items", num_items)
        ratings = arrays[f"{part}_ratings"]
        if ratings.dtype.kind not in "iuf" or not (np.abs(ratings) < np.finfo(np.float32).max).all():
            raise DataError(f"{path}: {part}_ratings should be finite numbers")
        if not (users.ndim == 1 and users.shape == items.shape == ratings.shape):
            raise DataError(f"{path}: there should be as many users as items and ratings of {part}")
        return Pairs(users, items, ratings.astype(np.float32))

    links = places("user_edges", num_users) if "user_edges" in arrays else np.zeros((2, 0), np.int32)
    if links.ndim != 2 or len(links) != 2:
        raise DataError(f"{path}: user_edges should have two rows, not the shape {links.shape}")
    users, items = (tuple(str(i) for i in range(size)) for size in (num_users, num_items))
    test = pairs("test") if "test_users" in arrays else None
    return _checked(path, Ratings(users, items, pairs("train"), test, links))


def _checked(path: Path, data: Ratings) -> Ratings:
    """The data with each pair once, in one part only, and each link once in each direction; logs what was odd."""
    train, again = _last_of_each(data.train, len(data.items))
    if again:
        _LOG.warning("%s: %d pairs of user and item are repeated; the last of each counts", path, again)
    test = None
    if data.test is not None:
        test, _ = _last_of_each(data.test, len(data.items))
        known, asked = (part.users.astype(np.int64) * len(data.items) + part.items for part in (train, test))
        if (is_known := np.isin(asked, known)).any():
            _LOG.warning("%s: %d pairs of the test part are also in the training part: left out", path, is_known.sum())
            test = test.take(~is_known)
        for what, names, side in (("users", data.users, 0), ("items", data.items, 1)):
            unseen = np.setdiff1d(test[side], train[side])
            if len(unseen):
                shown = ", ".join(names[i] for i in unseen[:5]) + (", ..." if len(unseen) > 5 else "")
                said = f"{len(unseen)} {what} of the test part are not in training: kept ({shown})"
                _LOG.warning("%s: %s", path, said)
        if not len(test.users):
            raise DataError(f"{path}: its test part has no pair that is not in training")
    if not len(train.users):
        raise DataError(f"{path}: its training part has no pair")
    ends = np.concatenate([data.links, data.links[::-1]], axis=1).astype(np.int64)
    codes = np.unique(ends[0] * len(data.users) + ends[1])
    links = np.stack(np.divmod(codes, len(data.users))).astype(np.int32)
    return data._replace(train=train, test=test, links=links[:, links[0] != links[1]])


def _last_of_each(pairs: Pairs, num_items: int) -> tuple[Pairs, int]:
    """The pairs, each with its last rating, in their order, and how many were removed."""
    codes = pairs.users.astype(np.int64) * num_items + pairs.items
    _, places = np.unique(codes[::-1], return_index=True)
    kept = np.sort(len(codes) - 1 - places)
    return pairs.take(kept), len(codes) - len(kept)


# --- Named ones -------------------------------------------------------------------------------------------------------


def _converted(name: str, digest: str, count_from: int = 0) -> Ratings:
    """A file that was converted from its authors' and has no address; users and items are named by numbers."""
    place = f"ratings/{name}.npz"
    path = Path(os.environ.get("JAXRNN_DATA_DIR") or cache_dir(), place)
    if (raw := read_if_there(path)) is None:
        raise DataError(
            f"there is no {path}; give --data_dir=DIR with DIR/{place}, or --config.dataset=ratings:FILE with a file "
            "of users, items and ratings, such as MovieLens' own u1.base beside u1.test"
        )
    if hashlib.sha256(raw).hexdigest() != digest:
        raise DataError(f"{path} is not the known file; --config.dataset=ratings:FILE takes any file")
    found = _read_npz(path, raw)
    users, items = (tuple(str(i + count_from) for i in range(len(names))) for names in (found.users, found.items))
    return found._replace(users=users, items=items)


def _lastfm() -> Ratings:
    """Who listened to which artist, and friendships (hetrec2011), with the split of LightGCN's authors."""
    return _of_texts({part: read_known(f"ratings/lastfm_{part}.txt") for part in ("train", "test", "trust")}, False)


def _generated() -> Ratings:
    """200 users of 8 groups, each with a taste, and 150 items; friends are mostly of the same group.

    A user rates 12 to 40 items that are widely known or to the user's taste, from 1 to 5.
    """
    rng, num_users, num_items, size = np.random.default_rng(0), 200, 150, 4
    group = np.arange(num_users) % 8
    taste = rng.normal(size=(8, size))[group] + 0.5 * rng.normal(size=(num_users, size))
    kind, known = 0.7 * rng.normal(size=(num_items, size)), rng.normal(size=num_items)
    liking = taste @ kind.T
    wanted = liking + 0.7 * known + rng.gumbel(size=liking.shape)
    better = 3.3 + 0.3 * rng.normal(size=(num_users, 1)) + 0.4 * rng.normal(size=num_items) + 0.6 * liking
    ratings = np.clip(np.rint(better + 0.6 * rng.normal(size=liking.shape)), 1, 5)
    is_rated = wanted.argsort(axis=1).argsort(axis=1) >= num_items - rng.integers(12, 41, (num_users, 1))
    users, items = np.nonzero(is_rated)
    order = rng.permutation(len(users))
    pairs = Pairs(users.astype(np.int32), items.astype(np.int32), ratings[is_rated].astype(np.float32)).take(order)
    near = np.where(group[:, None] == group, 0.25, 0.01)
    links = np.stack(np.nonzero(np.triu(rng.random(near.shape) < near, 1)))
    names = [tuple(f"{what}{i}" for i in range(n)) for what, n in (("user", num_users), ("item", num_items))]
    return _checked(Path("generated"), Ratings(names[0], names[1], pairs, None, links.astype(np.int32)))


_NAMED: dict[str, Callable[[], Ratings]] = {
    "generated": _generated,
    "ml100k": lambda: _converted("ml100k_u1", "b379b6fba35188c339a4292ebeb01d4fa093e0934aa322cda1066a63a464c767", 1),
    "flixster": lambda: _converted("flixster", "55a01d5d5933204a5a58525bc5e57048597776551fbb40c022f2aed383afe5b5"),
    "lastfm": _lastfm,
}
NAMES = (*_NAMED, f"{OWN}FILE")
