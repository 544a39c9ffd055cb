"""Files of ratings and interactions, splits, and draws for ranking."""

import jax
import numpy as np
import pytest

from jaxrnn.data import ratings, triplets
from jaxrnn.data.files import DataError
from jaxrnn.data.ratings import Pairs


def pairs(data, part="train"):
    found = getattr(data, part)
    return [
        (data.users[u], data.items[i], float(r))
        for u, i, r in zip(found.users, found.items, found.ratings, strict=True)
    ]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.csv", "user,item,rating,time\nann,x,3,20\nbob,y,4.5,10\n"),
        ("a.tsv", "bob\ty\t4.5\nann\tx\t3\n"),
        ("a.txt", "bob y 4.5\nann x 3\n"),
        ("a.txt", " bob  y 4.5 \nann x 3 \n"),
        ("a.dat", "bob::y::4.5::1\nann::x::3::2\n"),
        ("a.csv", 'userId;movieId;rating\r\n"bob";"y";4.5\r\n"ann";"x";3\r\n'),
    ],
)
def test_lines_are_user_item_and_rating_in_the_order_of_time(tmp_path, name, text):
    (tmp_path / name).write_text(text, newline="")
    data = ratings.load(f"ratings:{tmp_path / name}")
    assert (data.users, data.items) == (("ann", "bob"), ("x", "y"))
    assert pairs(data) == [("bob", "y", 4.5), ("ann", "x", 3.0)]
    assert data.is_rated
    assert data.test is None


def test_lines_without_a_rating_are_interactions(tmp_path):
    (tmp_path / "a.csv").write_text("10,3\n9,3\n9,20\n")
    data = ratings.read(tmp_path / "a.csv")
    assert (data.users, data.items, data.is_rated) == (("9", "10"), ("3", "20"), False)
    assert pairs(data) == [("10", "3", 1), ("9", "3", 1), ("9", "20", 1)]


def test_files_beside_it_are_the_test_part_and_the_links(tmp_path, caplog):
    (tmp_path / "u1.base").write_text("1\t1\t5\t8\n1\t2\t3\t7\n2\t1\t4\t9\n")
    (tmp_path / "u1.test").write_text("2\t9\t2\t5\n1\t1\t1\t5\n")
    (tmp_path / "u1.trust").write_text("1\t2\n2\t1\n1\t77\n")
    data = ratings.read(tmp_path / "u1.base")
    assert pairs(data) == [("1", "2", 3), ("1", "1", 5), ("2", "1", 4)]
    # The pair that training has is left out, the item that training never saw is kept; both are said.
    assert pairs(data, "test") == [("2", "9", 2)]
    assert "1 pairs of the test part" in caplog.text
    assert "1 items of the test part are not in training: kept (9)" in caplog.text
    assert "1 links" in caplog.text
    np.testing.assert_array_equal(data.links, [[0, 1], [1, 0]])
    for name, part in (
        ("a_train.txt", "1 1 5\n"),
        ("a_test.txt", "1 2 4\n"),
        ("b.csv", "1,1,5\n"),
        ("b.test.csv", "1,2,4\n"),
    ):
        (tmp_path / name).write_text(part)
    assert pairs(ratings.read(tmp_path / "a_train.txt"), "test") == [("1", "2", 4)]
    assert pairs(ratings.read(tmp_path / "b.csv"), "test") == [("1", "2", 4)]


def test_the_test_part_of_a_name_that_has_base_or_train_in_a_word(tmp_path):
    (tmp_path / "database.csv").write_text("1,1,5\n")
    (tmp_path / "database.test.csv").write_text("1,2,4\n")
    assert pairs(ratings.read(tmp_path / "database.csv"), "test") == [("1", "2", 4)]


@pytest.mark.parametrize(
    ("text", "encoding", "expected"),
    [
        ("user1,item1,5\nuser2,item1,4\n", "utf-8", [("user1", "item1", 5), ("user2", "item1", 4)]),
        ("user1,item1\n", "utf-8", [("user1", "item1", 1)]),
        ("user,item\r1,2\r", "utf-8", [("1", "2", 1)]),
        ("user\titem\r\nä\té\r\n", "utf-16", [("ä", "é", 1)]),
        ('u1,"a; b",5\n', "utf-8", [("u1", "a; b", 5)]),
    ],
)
def test_no_pair_is_lost_or_torn(tmp_path, text, encoding, expected):
    (tmp_path / "a.csv").write_bytes(text.encode(encoding))
    assert pairs(ratings.read(tmp_path / "a.csv")) == expected


def test_numbers_of_any_length_have_their_order(tmp_path):
    (tmp_path / "a.csv").write_text(f"10,1\n1{'0' * 5000},1\n9,1\n01,1\n1,1\n")
    assert ratings.read(tmp_path / "a.csv").users == ("01", "1", "9", "10", f"1{'0' * 5000}")


def test_the_last_of_the_same_pairs_counts(tmp_path, caplog):
    (tmp_path / "a.csv").write_text("1,1,5\n1,2,3\n1,1,2\n")
    assert pairs(ratings.read(tmp_path / "a.csv")) == [("1", "2", 3), ("1", "1", 2)]
    assert "1 pairs" in caplog.text


def arrays(**changes):
    part = {"users": np.array([0, 1]), "items": np.array([2, 0]), "ratings": np.array([1.0, 2.0])}
    found = {"shape": np.array([2, 3]), **{f"train_{name}": array for name, array in part.items()}}
    return found | {"user_edges": np.array([[0], [1]])} | changes


def test_arrays_are_read_too(tmp_path):
    np.savez(tmp_path / "a.npz", **arrays())
    data = ratings.read(tmp_path / "a.npz")
    assert pairs(data) == [("0", "2", 1), ("1", "0", 2)]
    np.testing.assert_array_equal(data.links, [[0, 1], [1, 0]])
    assert data.sha256 == ratings.read(tmp_path / "a.npz").sha256


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"train_users": np.array([0, 2])}, "from 0 to 1"),
        ({"train_items": np.array([0.0, 1.0])}, "integers"),
        ({"train_ratings": np.array([1.0, np.nan])}, "finite"),
        ({"train_ratings": np.array([1.0, 1e300])}, "finite"),
        ({"train_ratings": np.array([1.0])}, "as many"),
        ({"shape": np.array([2])}, "two integers"),
        ({"test_users": np.array([0])}, "no test_items and no test_ratings"),
        ({"user_edges": np.array([0, 1])}, "two rows"),
    ],
)
def test_errors_in_arrays_are_said(tmp_path, changes, said):
    np.savez(tmp_path / "a.npz", **arrays(**changes))
    with pytest.raises(DataError, match=said):
        ratings.read(tmp_path / "a.npz")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("1,1,5\n1,2,good\n", "line 2: the rating 'good'"),
        ("1,1,5\n1,2,nan\n", "line 2: the rating 'nan'"),
        ("1,1,5,noon\n", "line 1: the time 'noon'"),
        ("1,1,5\n1,2\n", "line 2: .*3 fields"),
        ("1,,5\n", "line 1"),
        ("1\n2\n", "line 1"),
        ("1;2;4,5\n", "line 1: the rating '4,5'"),
        ("1,2\n1,\0\n", "UTF-8"),
        ("", "no lines"),
        ("user,item\n", "no lines"),
        ('1,"1,5\n', "line"),
    ],
)
def test_errors_in_lines_are_said(tmp_path, text, said):
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(DataError, match=said) as error:
        ratings.load(f"ratings:{tmp_path / 'a.csv'}")
    assert "\n" not in str(error.value)


def test_what_is_not_there_is_said(tmp_path, monkeypatch):
    monkeypatch.setenv("JAXRNN_DATA_DIR", str(tmp_path))
    with pytest.raises(DataError, match=r"no .*gone\.csv"):
        ratings.load(f"ratings:{tmp_path}/gone.csv")
    with pytest.raises(DataError, match=r"ml100k_u1\.npz"):
        ratings.load("ml100k")
    with pytest.raises(DataError, match="lastfm"):
        ratings.load("netflix")
    (tmp_path / "a.csv").write_text("1,1,5\n")
    (tmp_path / "a.test.csv").write_text("1,1,5\n")
    with pytest.raises(DataError, match="test part has no pair"):
        ratings.read(tmp_path / "a.csv")
    (tmp_path / "a.test.csv").write_text("1,1\n")
    with pytest.raises(DataError, match="only one of them"):
        ratings.read(tmp_path / "a.csv")


def test_splits():
    users = np.array([0, 1, 0, 2, 1, 0], np.int32)
    found = Pairs(users, np.arange(6, dtype=np.int32), np.ones(6, np.float32))
    rest, last = ratings.split_last(found)
    assert (rest.items.tolist(), last.items.tolist()) == ([0, 1, 2, 3], [4, 5])
    for seed in range(3):
        rest, drawn = ratings.split_random(found, 0.3, seed)
        assert len(drawn.users) == 2
        assert sorted([*rest.items, *drawn.items]) == list(range(6))
        assert rest.items.tolist() == sorted(rest.items)


def test_the_embedded_set_has_what_models_need():
    data = ratings.load("generated")
    assert np.unique(data.train.ratings).tolist() == [1, 2, 3, 4, 5]
    assert data.links.size
    assert np.bincount(data.train.users).min() >= 12


def test_triplets_are_drawn_uniformly():
    """User 0 has all items and user 3 none; the others' items, and those that they lack, come equally often."""
    has = {0: [0, 1, 2, 3, 4], 1: [1, 4], 2: [0, 1, 2], 3: []}
    drawn = [(u, i) for u, items in has.items() for i in items]
    users, items = np.array(drawn, np.int32)[np.random.default_rng(0).permutation(len(drawn))].T
    data = triplets.owned(Pairs(users, items, np.ones(len(users), np.float32)), 4, 5)
    num = 60_000
    found = jax.jit(lambda key: triplets.draw_triplets(key, data, num, 5))(jax.random.key(0))
    seen, counts = np.unique(np.stack(found), axis=1, return_counts=True)
    expected = {
        (u, i, j): num / 2 / len(has[u]) / (5 - len(has[u]))
        for u in (1, 2)
        for i in has[u]
        for j in set(range(5)) - {*has[u]}
    }
    assert {tuple(column) for column in seen.T.tolist()} == expected.keys()
    for column, count in zip(seen.T.tolist(), counts, strict=True):
        assert abs(count - expected[tuple(column)]) < 5 * expected[tuple(column)] ** 0.5


def test_the_program_of_draws_does_not_grow_with_the_items():
    """What is written out for each halving, XLA compiles for many minutes."""

    def lines(num_items):
        users = np.repeat(np.arange(2, dtype=np.int32), num_items // 2)
        items = np.tile(np.arange(num_items // 2, dtype=np.int32), 2)
        data = triplets.owned(Pairs(users, items, np.ones(len(users), np.float32)), 2, num_items)
        draw = jax.jit(lambda key: triplets.draw_triplets(key, data, 3, num_items))
        return len(draw.lower(jax.random.key(0)).as_text().splitlines())

    assert lines(8) == lines(512)
