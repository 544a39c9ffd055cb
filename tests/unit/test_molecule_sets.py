"""Files of molecules with a number each, their splits, and what is said of bad ones."""

import tarfile

import jax
import numpy as np
import pytest

rdkit = pytest.importorskip("rdkit")

from configs.molecules import Config  # noqa: E402
from experiments.molecules import STUDY, baselines, predict  # noqa: E402
from jaxrnn.data import geometries, molecule_sets, molecules, zinc  # noqa: E402
from jaxrnn.data.files import DataError  # noqa: E402
from jaxrnn.data.molecule_sets import ColumnError, Parts  # noqa: E402
from jaxrnn.rundir import session  # noqa: E402
from jaxrnn.rundir.fields import make_config  # noqa: E402
from jaxrnn.training.definition import ConfigError  # noqa: E402

ALKANES = ["C" * n for n in range(1, 21)]


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("JAXRNN_CACHE_DIR", str(tmp_path / "cache"))


def write(path, rows, header="name,SMILES,y"):
    path.write_text("\n".join([header, *rows]) + "\n")
    return str(path)


def test_a_file_gives_molecules_and_numbers(tmp_path):
    name = write(tmp_path / "a.csv", ['"a, quoted",CCO, 1.5', "b,bad,2", "", "c,c1ccccc1,-3e0"])
    found = molecule_sets.load(name, "SMILES", "y")
    assert found.molecules.smiles.tolist() == ["CCO", "c1ccccc1"]
    assert found.targets.tolist() == [1.5, -3.0]
    assert [one.line for one in found.refused] == [3]


@pytest.mark.parametrize(
    ("text", "found"),
    [("CCO a name\n\nc1ccccc1\n", ["CCO", "c1ccccc1"]), ("smiles\nCCO\n", "smiles"), ("\n", "no SMILES")],
)
def test_a_tar_of_molecules_has_one_a_line(tmp_path, text, found):
    (tmp_path / "zinc.txt").write_text(text)
    with tarfile.open(tmp_path / "zinc.tar.gz", "w:gz") as tar:
        tar.add(tmp_path / "zinc.txt", "zinc.txt")
    raw = (tmp_path / "zinc.tar.gz").read_bytes()
    if isinstance(found, list):
        assert zinc._read(tmp_path / "zinc.tar.gz", raw)[:2] == (found, {*found})
    else:
        with pytest.raises(DataError, match=found):
            zinc._read(tmp_path / "zinc.tar.gz", raw)


@pytest.mark.parametrize(
    ("rows", "header", "columns", "error", "words"),
    [
        (["a,C,1"], "name,SMILES,y", ("smiles", "y"), ColumnError, "no such column; it has name, SMILES, y"),
        (["a,C,1"], "name,SMILES,y", ("SMILES", "z"), ColumnError, "no such column"),
        (["a,C,1"], "na\vme,SMILES,y", ("SMILES", "z"), ColumnError, "no such column; it has 'na"),
        (["a,C,1", "b,CC,high"], "name,SMILES,y", ("SMILES", "y"), DataError, "line 3.*'high'"),
        (["a,C,nan"], "name,SMILES,y", ("SMILES", "y"), DataError, "line 2.*'nan'"),
        (["a,C"], "name,SMILES,y", ("SMILES", "y"), DataError, "line 2.*2 cells"),
        (["a,Z,1", "b,[U],2"], "name,SMILES,y", ("SMILES", "y"), DataError, "no molecule"),
        ([], "name,SMILES,y", ("SMILES", "y"), DataError, "no molecule"),
    ],
)
def test_a_bad_file_is_refused_in_one_line(tmp_path, rows, header, columns, error, words):
    with pytest.raises(error, match=words) as found:
        molecule_sets.load(write(tmp_path / "a.csv", rows, header), *columns)
    assert "\n" not in str(found.value)


def test_a_file_that_is_no_text_or_no_arrays_or_not_there_is_refused(tmp_path):
    for name, content in (("a.csv", b"\xff\xfe\x00"), ("a.npz", b"no arrays")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DataError):
            molecule_sets.load(str(tmp_path / name), "smiles", "y")
    with pytest.raises(DataError, match="esol"):
        molecule_sets.load(str(tmp_path / "none.csv"), "smiles", "y")


@pytest.mark.parametrize(
    ("fields", "field", "words"),
    [
        ({"dataset": "FILE"}, "target", "column"),
        (
            {"dataset": "FILE", "target": "y", "smiles": "SMILES", "max_atoms": 2, "refused": "fatal"},
            "refused",
            "max_at",
        ),
        ({"dataset": "FILE", "target": "y", "smiles": "SMILES", "max_atoms": 4}, "dataset", "needed"),
        ({"dataset": "FILE", "target": "y"}, "smiles", "no such column"),
        ({"model": "nobody"}, "model", "fingerprint"),
        ({"task": "distances"}, "dataset", "qm9"),
        ({"task": "distances", "model": "weave", "dataset": "qm9"}, "model", "network"),
    ],
)
def test_a_config_that_cannot_be_used_is_refused_by_its_field(tmp_path, fields, field, words):
    path = write(tmp_path / "a.csv", [f"a,{smiles},{len(smiles)}" for smiles in ALKANES])
    config = make_config(Config, {**fields, **({"dataset": path} if fields.get("dataset") == "FILE" else {})})
    with pytest.raises(ConfigError, match=words) as found:
        STUDY.check(config)
    assert found.value.field == field


@pytest.mark.parametrize("split", molecule_sets.SPLITS)
def test_parts_are_disjoint_and_the_folds_meet_every_molecule(split):
    rows = ["c1ccccc1C", "c1ccccc1CC", *ALKANES, "C1CC1C"]
    found, _ = molecules.read(rows, list(range(len(rows))))
    order = molecule_sets.fixed_order(split, found)
    draw = jax.jit(lambda seed: molecule_sets.draw_parts(split, jax.random.key(seed), seed, order))
    drawn = [draw(seed) for seed in range(5)]
    for parts in drawn:
        assert sorted(np.concatenate(parts).tolist()) == list(range(23))
    tested = {int(i) for parts in drawn for i in parts.test}
    if split == "folds":
        assert len(tested) == 20  # Three are left over, and always trained on.
    if split == "scaffold":  # No ring is the most frequent; then come the two with a benzene ring.
        assert drawn[0].train.tolist() == list(range(2, 21))
        assert drawn[0].test.tolist() == [1, 22]
        assert drawn[0].validation.tolist() == [21, 0]
    assert [len(part) for part in drawn[0]] == ([15, 4, 4] if split == "folds" else [19, 2, 2])


def test_ridge_is_the_solution_of_its_normal_equations():
    rng = np.random.default_rng(0)
    for n in (6, 30):  # Fewer and more rows than columns.
        x, y = rng.standard_normal((n, 10)), rng.standard_normal(n)
        extended = np.concatenate([x, np.ones((n, 1))], 1)
        penalties = np.diag([3.0] * 10 + [0.0])
        weights = np.linalg.solve(extended.T @ extended + penalties, extended.T @ y)
        np.testing.assert_allclose(baselines.ridge(x, y, 3.0, x), extended @ weights, rtol=1e-8)


def test_baselines_know_the_training_part_alone():
    targets = np.array([float(len(smiles)) for smiles in ALKANES])
    parts = Parts(np.arange(14), np.arange(14, 17), np.arange(17, 20))
    assert baselines.predict("mean", tuple(ALKANES), targets, parts, 0).tolist() == [7.5] * 20
    changed = np.where(np.arange(20) < 17, targets, 99.0)
    first, second = (baselines.predict("ridge", tuple(ALKANES), y, parts, 0) for y in (targets, changed))
    np.testing.assert_array_equal(first, second)
    assert abs(first[18] - 19) < 2.5  # Counts of atoms tell the length.


def test_runs_predict_for_molecules_by_name(tmp_path):
    path = write(tmp_path / "a.csv", [f"a,{smiles},{len(smiles)}" for smiles in ALKANES])
    sizes = {"hidden_size": 4, "fingerprint_size": 4, "num_layers": 1, "max_steps": 3, "eval_every": 2, "batch_size": 8}
    config = Config(dataset=path, smiles="SMILES", target="y", model="gcn", head="linear", num_seeds=2, **sizes)
    session.start(STUDY, config, tmp_path / "runs")
    rows = list(predict(tmp_path / "runs", "", ["CCO", "nonsense", "[Na+].[Cl-]"]))
    assert [row["smiles"] for row in rows] == ["nonsense", "CCO", "[Na+].[Cl-]"]
    assert "reason" in rows[0]
    assert rows[1]["runs"] == 2
    assert rows[1]["unit"] == "y"
    assert np.isfinite(rows[1]["predicted"])
    assert rows[1]["deviation"] > 0


def test_geometries_are_those_of_the_file(tmp_path):
    numbers = np.array([[6, 6, 8, 1, 1], [6, 1, 0, 0, 0], [6, 6, 0, 0, 0]], np.uint8)
    places = np.arange(45, dtype=np.float32).reshape(3, 5, 3) ** 1.5
    file = tmp_path / "a.npz"
    np.savez(file, smiles=["CCO", "C", "CCC"], atomic_numbers=numbers, positions=places)
    found = geometries.load(str(file))
    assert found.molecules.smiles.tolist() == ["CCO", "C"]
    assert [one.line for one in found.refused] == [3]
    order = found.molecules.order[:3]
    np.testing.assert_array_equal(found.positions[0], places[0][order])
    assert found.graphs.is_pair.tolist() == [[True] * 3, [False] * 3]
    first, second = np.triu_indices(3, 1)
    np.testing.assert_array_equal(found.graphs.paths[0], np.abs(order[first] - order[second]))
    with pytest.raises(DataError, match="positions"):
        np.savez(tmp_path / "b.npz", smiles=["C"], atomic_numbers=numbers[:1])
        geometries.load(str(tmp_path / "b.npz"))
