"""Run directories by hand; intervals by the printed quantiles of Student's t."""

import json
from pathlib import Path

import pytest
from tables import table_rows

from configs import nodes as configs
from experiments import nodes
from experiments import nodes_report as study
from experiments import report as binary
from jaxrnn.study.report import Figure, read_runs, write_report

UNDECIDED = "undecided with this many seeds"
NOTHING = {"num_seeds": 1, "first_seed": 0, "seeds_per_program": 0, "chunk_steps": 200, "eval_every": 10}
GCN = NOTHING | {"model": "gcn", "dataset": "cora", "split": "public", "num_heads": 1, "num_output_heads": 1}
GCN |= {"hidden_size": 16, "dropout": 0.5, "weight_decay": 5e-4, "learning_rate": [0.01], "max_steps": 199}
GCN |= {"patience": 10, "precision": "highest"}
GAT = GCN | {"model": "gat", "num_heads": 8, "hidden_size": 8, "dropout": 0.6, "learning_rate": [0.005]}
GAT |= {"max_steps": 99_999, "patience": 100}
BASES = {"gcn": GCN, "gat": GAT}


def write_run(path: Path, accuracies, *, model="gcn", first=0, hidden=None, **config) -> Path:
    """A run directory with a test accuracy in percent for each run (None: it met a NaN); those of validation are 80."""
    path.mkdir(parents=True)
    config = {**BASES[model], "num_seeds": len(accuracies), "first_seed": first, **config}
    (path / "config.json").write_text(json.dumps({"experiment": "nodes", "config": config}))
    results, lines = [], []
    for seed, accuracy in enumerate(accuracies, start=first):
        rate = config["learning_rate"][0]
        where = {"run": f"seed={seed},learning_rate={rate}", "seed": seed}
        result = {**where, "learning_rate": rate, "steps": 100 + seed, "converged": True, "last_step": 99 + seed}
        result |= {"test_accuracy": accuracy and accuracy / 100, "validation_accuracy": 0.8}
        if accuracy is None:
            result |= {"failed_at": 30, "steps": None, "validation_accuracy": None}
        results.append(result)
        for step in range(0, 40, 10):
            loss = None if accuracy is None and step == 30 else 2 - step / 50
            measures = {"loss": loss, "accuracy": step / 40, "validation_accuracy": 0.5, "validation_loss": loss}
            lines.append(json.dumps({**where, "step": step, **measures}))
    (path / "results.json").write_text(json.dumps({"complete": True, "runs": results}))
    (path / "metrics.jsonl").write_text("".join(f"{line}\n" for line in lines))
    if hidden is not None:
        (path / "hidden.json").write_text(json.dumps({"run": results[0]["run"], **HIDDEN, **hidden}))
    return path


HIDDEN = {"variance_share": 0.61, "x": [0.5, -1, 0.25], "y": [0, 0.5, 1], "classes": [0, 1, 1], "wrong": [2]}


def read(root: Path):
    """All runs below root: those in `kept` as kept, those in `own` as this machine's."""
    return [*read_runs(root / "kept", "kept"), *read_runs(root / "own", "this machine")]


@pytest.fixture
def no_pictures(monkeypatch):
    """Tables alone: drawing is slow."""
    monkeypatch.setattr(study, "_figures", lambda kind, found: [])


def accuracies(root: Path) -> list[dict[str, str]]:
    return table_rows(study.sections(read(root)), "Test accuracy beside the published one")


# --- Accuracies -------------------------------------------------------------------------------------------------------


def test_the_papers_settings_are_the_configs():
    for model, config in [("gcn", configs.Config()), ("gat", configs.GAT)]:
        given = {name: getattr(config, name) for name in study.PROTOCOLS[model]}
        assert {name: v[0] if isinstance(v, tuple) else v for name, v in given.items()} == study.PROTOCOLS[model]
    assert set(study.WITHOUT_PUBLIC_SPLIT) == set(nodes.EMBEDDED)


def test_what_was_published_stands_there_also_where_nothing_was_run(tmp_path):
    table = accuracies(tmp_path)
    assert [(row["model"], row["data"], row["published"]) for row in table] == [
        ("GCN", "`cora`", "81.5"),
        ("GCN", "`citeseer`", "70.3"),
        ("GCN", "`pubmed`", "79.0"),
        ("GAT", "`cora`", "83.0 ± 0.7"),
        ("GAT", "`citeseer`", "72.5 ± 0.7"),
        ("GAT", "`pubmed`", "79.0 ± 0.3"),
    ]
    assert {row["seeds"] for row in table} == {"not run"}
    expected = table_rows(study.sections([]), "What is expected")
    assert [(row["model"], row["expected mean"], row["verdict"]) for row in expected] == [
        ("GCN", "81.0 to 82.0", UNDECIDED),
        ("GAT", "82.3 to 83.7", UNDECIDED),
    ]


def test_directories_that_differ_in_seeds_are_one_row(tmp_path, no_pictures):
    write_run(tmp_path / "kept" / "a", [81, 82])
    write_run(tmp_path / "kept" / "b", [83, None], first=2, chunk_steps=7, seeds_per_program=2)
    write_run(tmp_path / "own" / "c", [70])

    kept, own = (row for row in accuracies(tmp_path) if row["seeds"] != "not run")

    # 4.30265 / sqrt(3) = 2.484: mean 82 of three, deviation 1.
    assert kept["test accuracy"] == "82.00 [79.52, 84.48]"
    assert (kept["seeds"], kept["standard deviation"], kept["runs"]) == ("4, 1 met a NaN", "1.00", "kept")
    assert (kept["mean epochs"], kept["validation accuracy"]) == ("101", "80.00")
    assert kept["the published mean is"] == "in our interval"
    assert kept["source"] == f"`{tmp_path}/kept`: `a`, `b`"
    assert (own["test accuracy"], own["standard deviation"], own["the published mean is"]) == ("70.00", "-", "-")
    assert own["runs"] == "this machine"


@pytest.mark.parametrize(
    ("values", "where"),
    [
        ([80.9, 81.1], "in our interval"),
        ([81.1999, 81.2001], "0.30 above our interval"),
        ([81.9999, 82.0001], "0.50 below our"),
        ([82, 82], "-"),
    ],
)
def test_where_the_published_mean_lies(tmp_path, no_pictures, values, where):
    write_run(tmp_path / "kept" / "a", values)
    assert accuracies(tmp_path)[0]["the published mean is"].startswith(where)


def test_only_the_papers_settings_stand_beside_the_papers_figures(tmp_path, no_pictures):
    write_run(tmp_path / "kept" / "random", [80, 81], split="random")
    write_run(tmp_path / "kept" / "wide", [80, 81], hidden_size=64)
    write_run(tmp_path / "kept" / "club", [80, 100], dataset="karate")
    pubmed = {"dataset": "planetoid:some/where/pubmed", "model": "gat"}
    write_run(tmp_path / "kept" / "cora's", [78, 79], **pubmed)
    paper = {"num_output_heads": 8, "learning_rate": [0.01], "weight_decay": 1e-3}
    write_run(tmp_path / "kept" / "pubmed's", [79, 79.2], **pubmed, **paper)

    table = [row for row in accuracies(tmp_path) if row["seeds"] != "not run"]

    shown = [[row[n] for n in ("data", "split", "published", "setting, where not the paper's")] for row in table]
    others = "`num_output_heads=1`, `learning_rate=0.005`, `weight_decay=0.0005`"
    assert shown[0] == ["`pubmed`", "public", "79.0 ± 0.3", "-"]
    assert sorted(shown[1:]) == [
        ["`cora`", "public", "-", "`hidden_size=64`"],
        ["`cora`", "random", "-", "-"],
        ["`karate`", "random", "-", "-"],
        ["`pubmed`", "public", "-", ", ".join(sorted(others.split(", "), key=shown[-1][-1].find))],
    ]
    # An interval of a share ends at 100.
    assert "90.00 [0.00, 100.00]" in [row["test accuracy"] for row in table]


# --- Verdicts ---------------------------------------------------------------------------------------------------------


# Of two runs at m - d and m + d, the interval is m -+ 12.706 d.
@pytest.mark.parametrize(
    ("model", "values", "verdict"),
    [
        ("gcn", [81.47, 81.53], "holds"),
        ("gcn", [81.45, 81.55], UNDECIDED),  # 80.86 to 82.14
        ("gcn", [80.89, 80.9], "does not hold"),
        ("gcn", [80.9, 80.9], UNDECIDED),
        ("gcn", [82.1, 82.2], UNDECIDED),  # 81.51 to 82.79
        ("gcn", [82.3, 82.32], "does not hold"),  # 82.18 to 82.44
        ("gcn", [81.5], UNDECIDED),
        ("gat", [83, 83.1], "holds"),  # 82.41 to 83.69
        ("gat", [83.8, 83.801], "does not hold"),
    ],
)
def test_expectations_are_judged_by_kept_runs(tmp_path, no_pictures, model, values, verdict):
    write_run(tmp_path / "kept" / "a", values, model=model)
    write_run(tmp_path / "kept" / "other", [50, 50], model=model, hidden_size=2)
    write_run(tmp_path / "own" / "a", [50, 50], model=model)
    sections = study.sections(read(tmp_path))
    (row,) = (row for row in table_rows(sections, "What is expected") if row["model"] == model.upper())
    assert (row["verdict"], row["seeds"]) == (verdict, f"{len(values)}")
    (listed,) = (b for s in sections for b in s.blocks if isinstance(b, str) and b.startswith("- The mean test"))
    assert f"of the {model.upper()} on `cora` lies in {row['expected mean']}: **{verdict}**" in listed


def test_an_arm_of_which_no_run_came_to_a_number_was_run(tmp_path, no_pictures):
    write_run(tmp_path / "kept" / "a", [None, None])
    rows = table_rows(study.sections(read(tmp_path)), "What is expected")
    assert {row["model"]: row["seeds"] for row in rows} == {"GCN": "0", "GAT": "not run"}


def test_how_often_a_look_is_written_down_sets_no_seeds_apart(tmp_path, no_pictures):
    write_run(tmp_path / "kept" / "a", [81, 82], eval_every=10)
    write_run(tmp_path / "kept" / "b", [83], eval_every=50, first=2)
    (row, *_) = accuracies(tmp_path)
    assert (row["seeds"], row["test accuracy"].split()[0]) == ("3", "82.00")


def test_runs_on_other_data_of_the_same_name_are_not_compared(tmp_path, no_pictures):
    for model, digest in (("gcn", "a"), ("gat", "b")):
        file = write_run(tmp_path / "kept" / model, [81, 82], model=model) / "config.json"
        file.write_text(json.dumps({**json.loads(file.read_text()), "data": {"sha256": digest}}))
    assert study.compare(study.collect(read(tmp_path)).arms) == []


def test_gcn_and_gat_are_compared_seed_by_seed(tmp_path, no_pictures):
    # Seeds 1 to 3 are in both: GAT is better by 1, 2 and 3; 2 -+ 4.30265 / sqrt(3).
    write_run(tmp_path / "kept" / "gcn", [10, 80, 70, 60], split="random")
    write_run(tmp_path / "kept" / "gat", [81, 72, 63, 10], model="gat", split="random", first=1)
    write_run(tmp_path / "kept" / "public", [90, 90], model="gat")
    write_run(tmp_path / "own" / "gcn", [75, 75], dataset="karate")
    write_run(tmp_path / "own" / "gat", [75, 75], dataset="karate", model="gat")
    write_run(tmp_path / "own" / "small", [99, 99], dataset="karate", model="gat", num_heads=1)

    table = table_rows(study.sections(read(tmp_path)), "Test accuracy of GAT minus that of GCN")

    kept, own = table
    assert [kept[n] for n in ("data", "split", "runs", "seeds")] == ["`cora`", "random", "kept", "3"]
    assert (kept["GAT minus GCN"], kept["verdict"]) == ("+2.00 [-0.48, +4.48]", "undecided")
    assert kept["seeds with a better GAT"] == "3"
    assert [own[n] for n in ("data", "GAT minus GCN")] == ["`karate`", "+0.00"]
    assert (own["seeds with a better GAT"], own["verdict"]) == ("0, 2 alike", "undecided (all values alike)")


@pytest.mark.parametrize(("gat", "verdict"), [([82, 83.1], "GAT is better"), ([79, 79.9], "GCN is better")])
def test_the_better_model_is_named(tmp_path, no_pictures, gat, verdict):
    write_run(tmp_path / "kept" / "gcn", [81, 82])
    write_run(tmp_path / "kept" / "gat", gat, model="gat")
    (row,) = table_rows(study.sections(read(tmp_path)), "Test accuracy of GAT minus")
    assert row["verdict"] == verdict


# --- Damage -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "change", "remark"),
    [
        ("config.json", ('"gcn"', '"gin"'), "model: Input should be 'gcn' or 'gat': left out"),
        ("results.json", ('"test_accuracy": 0.81', '"test_accuracy": 81'), "test_accuracy: Input should be less than"),
        ("results.json", ('"test_accuracy"', '"accuracy"'), "test_accuracy: Field required: left out"),
        ("hidden.json", ('"wrong": [2]', '"wrong": [3]'), "hidden.json is damaged (Value error, the lists do not fit"),
        ("hidden.json", ("-1", "NaN"), "hidden.json is damaged (x.1: Input should be a finite number): left out"),
        ("hidden.json", ("]}", ""), "hidden.json is damaged ("),
    ],
)
def test_damage_is_a_remark(tmp_path, no_pictures, name, change, remark):
    path = write_run(tmp_path / "kept" / "a", [81, 82], hidden={})
    assert change[0] in (path / name).read_text()
    (path / name).write_text((path / name).read_text().replace(*change))
    (section,) = (s for s in study.sections(read(tmp_path)) if s.title.endswith("remarks"))
    assert section.blocks[0].startswith(f"- `{path}`: {remark}")


# --- Figures ----------------------------------------------------------------------------------------------------------


def test_figures(tmp_path):
    write_run(tmp_path / "kept" / "gcn", [81, 82], hidden={})
    write_run(tmp_path / "kept" / "gat", [83, None], model="gat", hidden={"run": "seed=7,learning_rate=0.005"})
    for width in (2, 4):
        write_run(tmp_path / "kept" / f"gcn{width}", [70, 72], hidden_size=width, weight_decay=0.5, dropout=0.25)
    write_run(tmp_path / "own" / "gcn", [81])
    runs = read(tmp_path)
    sections = study.sections(runs)
    figures = {block.path: block for section in sections for block in section.blocks if isinstance(block, Figure)}
    kept = ["kept_curves", "kept_curves_2", "kept_spread", "kept_hidden"]
    own = ["this_machine_curves", "this_machine_spread"]
    assert list(figures) == [f"figures/nodes_{name}.png" for name in (*kept, *own)]
    assert all(figure.png.startswith(b"\x89PNG") for figure in figures.values())
    # The GAT's hidden layer is of a run that is not there.
    assert figures["figures/nodes_kept_hidden.png"].alt.endswith("by class: GCN, cora, seed 0 (61%)")
    found = study.collect(runs)
    (spread,) = (one for one in study.pictures(found.arms, found.hidden) if one.name == "spread")
    strokes = [line.get_xdata()[0] for line in spread.plot.axes[0].lines if line.get_color() == "black"]
    assert sorted(strokes) == [81.5, 81.5, 83.0]
    _, page = write_report(sections, tmp_path / "report")
    assert "Node classification: figures" in page.read_text()


def test_the_binary_knows_the_study():
    assert binary.STUDIES["nodes"] is study.sections
