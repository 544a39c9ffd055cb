import json
from math import comb
from pathlib import Path

import numpy as np
import pytest
from tables import table_rows

from experiments import palindrome_report as study
from jaxrnn.study.report import Figure, Section, read_runs

UNDECIDED = "undecided with this many seeds"
NO_ESTIMATE = "more than 1000, or no estimate from these runs"
UNKNOWN_FIELD = "as an arm above but for a field that the report does not know: see config.json"
CONFIG = {
    "task": "palindrome",
    "cell": "lstm",
    "digits": 20,
    "bidirectional": False,
    "hidden_size": 256,
    "embedding_size": 0,
    "batch_size": 256,
    "learning_rate": [0.001],
    "max_steps": 3000,
    "eval_every": 60,
    "chunk_steps": 60,
    "tolerance": 0.005,
    "patience": 3,
    "clip_norm": 10.0,
    "test_samples": 5000,
    "initializer": "kaiming",
    "num_seeds": 3,
    "first_seed": 0,
    "seeds_per_program": 1,
    "precision": "highest",
}


def losses(steps: int | None, wait: int = 0, horizon: int = 3000) -> list[float]:
    """A plateau that sinks slowly from 0.69, then a drop through 0.3 to 0.02 and three looks at 0.001 up to `steps`.

    `wait` looks of the plateau stand still, so that each brings no new minimum.
    """
    looks = (horizon if steps is None else steps) // 60 + 1
    fall = [] if steps is None else [0.3, 0.02, 0.001, 0.001, 0.001]
    sinking = [0.69 - 0.001 * i for i in range(looks - len(fall) - wait)]
    return sinking + [0.69] * wait + fall


def write_arm(path: Path, steps: list[int | None], *, accuracy: float = 1.0, wait: int = 0, first: int = 0, **config):
    """A run directory with one run for each entry of `steps` (None: not converged; -n: NaN at step n)."""
    path.mkdir(parents=True)
    config = {**CONFIG, "num_seeds": len(steps), "first_seed": first, **config}
    (path / "config.json").write_text(json.dumps({"experiment": "palindrome", "config": config}))
    results, lines = [], []
    for seed, end in enumerate(steps, start=first):
        name = f"seed={seed},learning_rate=0.001"
        result = {"run": name, "seed": seed, "learning_rate": 0.001, "steps": end, "converged": end is not None}
        result |= {"last_step": 3000 if end is None else end, "test_accuracy": accuracy if end is not None else 0.7}
        curve = losses(end, wait) if end is None or end >= 0 else losses(None)[: -(end // 60)]
        if end is not None and end < 0:
            curve.append(None)
            result |= {"steps": None, "converged": False, "last_step": -end, "test_accuracy": None, "failed_at": -end}
        results.append(result)
        for i, loss in enumerate(curve):
            look = {
                "run": name,
                "seed": seed,
                "step": -end if loss is None else 60 * i,
                "loss": loss,
                "accuracy": loss and 1 - loss / 2,
            }
            lines.append(json.dumps(look))
    document = {"experiment": "palindrome", "complete": True, "runs": results, "summary": []}
    (path / "results.json").write_text(json.dumps(document))
    (path / "metrics.jsonl").write_text("".join(f"{line}\n" for line in lines))


@pytest.fixture
def no_pictures(monkeypatch):
    """Tables alone: drawing is slow."""
    monkeypatch.setattr(study, "_figures", lambda kind, arms: [])


def read(root: Path):
    """All runs below root: those in `kept` as kept, those in `own` as this machine's."""
    return [*read_runs(root / "kept", "kept"), *read_runs(root / "own", "this machine")]


def verdicts(root: Path) -> dict[str, study.Judgement]:
    arms, _, _ = study.collect(read(root))
    return {judgement.claim: judgement for judgement in study.judge(arms["kept"])}


def spread(start: int, runs: int) -> list[int]:
    """`runs` steps of convergence from `start` on, 60 apart."""
    return [start + 60 * i for i in range(runs)]


# --- Verdicts ---------------------------------------------------------------------------------------------------------


def test_without_kept_runs_nothing_is_decided(tmp_path, no_pictures):
    for cell in ("lstm", "peephole"):
        for digits in (10, 20):
            write_arm(tmp_path / "own" / f"{cell}{digits}", spread(300, 20), cell=cell, digits=digits)

    judged = verdicts(tmp_path)
    table = table_rows(study.sections(read(tmp_path)), "The report's claims")

    assert [(row["claim"], row["verdict"]) for row in table] == [(f"({claim})", UNDECIDED) for claim in "abcde"]
    assert {one.verdict for one in judged.values()} == {UNDECIDED}
    assert {one.needed for one in judged.values()} == {"-"}
    assert judged["b"].evidence == "no kept runs of LSTM T=20; no kept runs of LSTM T=10"
    assert judged["c"].evidence == "no kept runs of LSTM T=20; no kept runs of Peephole LSTM T=20"
    assert judged["d"].evidence == "no kept runs of LSTM T=20 width 40; no kept runs of LSTM T=20"
    assert judged["e"].evidence == "no kept runs of LSTM T=20"


def write_accuracies(root: Path, runs: int, poor: int = 0, left_out: str = "") -> None:
    """Every arm of Tables 1 and 2 with `runs` accurate runs, of which `poor` in one arm are not."""
    for cell in ("lstm", "peephole"):
        for digits in (10, 20):
            name = f"{cell}{digits}"
            if name == left_out:
                continue
            below = poor if name == "lstm20" else 0
            write_arm(root / "kept" / name, spread(300, runs - below) + [None] * below, cell=cell, digits=digits)


# Of n runs that are all accurate, the lower end is 0.025 ** (1 / n): 0.794 for 16, 0.805 for 17.
@pytest.mark.parametrize(
    ("arms", "verdict", "needed", "reason"),
    [
        ({"runs": 17}, "holds", "-", "LSTM T=10: 17 of 17: 1.00 [0.80, 1.00]"),
        ({"runs": 16}, UNDECIDED, "about 17", "16 of 16: 1.00 [0.79, 1.00]"),
        ({"runs": 17, "poor": 14}, "does not hold", "-", "LSTM T=20: 3 of 17"),
        ({"runs": 17, "left_out": "peephole20"}, UNDECIDED, "-", "no kept runs of Peephole LSTM T=20"),
        ({"runs": 17, "poor": 14, "left_out": "peephole20"}, "does not hold", "-", "no kept runs of Peephole"),
    ],
)  # fmt: skip
def test_claim_a(tmp_path, arms, verdict, needed, reason):
    write_accuracies(tmp_path, **arms)

    judged = verdicts(tmp_path)["a"]

    assert (judged.verdict, judged.needed) == (verdict, needed)
    assert reason in judged.evidence


def test_claim_a_counts_accuracies_as_the_report_prints_them(tmp_path):
    write_accuracies(tmp_path, 17, left_out="lstm10")
    write_arm(tmp_path / "kept" / "just", spread(300, 9), digits=10, accuracy=0.995)
    write_arm(tmp_path / "kept" / "short", spread(300, 8), digits=10, accuracy=0.9949, first=9)

    assert "LSTM T=10: 9 of 17" in verdicts(tmp_path)["a"].evidence


# Two arms of n runs that do not overlap: the two most extreme of C(2n, n) divisions, p = 2 / C(2n, n); times three
# after Holm, as the tests that could not be made count with p = 1. 6 runs: 2/924 and 0.0065; 4 runs: 2/70 and 0.086.
@pytest.mark.parametrize(
    ("slow", "fast", "verdict", "needed", "evidence"),
    [
        (spread(1200, 6), spread(300, 6), "holds", "-", ["+900 [", "p = 0.0022", "Holm p = 0.0065"]),
        (spread(300, 6), spread(1200, 6), "does not hold", "-", ["-900 [", "Holm p = 0.0065"]),
        # Nothing overlaps, so the fewest runs do whose smallest p is below 0.05 / 3: 5, as 2 / C(10, 5) = 0.008.
        (spread(1200, 4), spread(300, 4), UNDECIDED, "about 5", ["p = 0.029", "Holm p = 0.086"]),
        ([600] * 6, [600] * 6, UNDECIDED, NO_ESTIMATE, ["+0"]),
        ([None] * 6, spread(300, 6), "holds", "-", ["first arm: no run converged"]),
        ([900], [300], UNDECIDED, NO_ESTIMATE, ["+600, p = 1"]),
    ],
)  # fmt: skip
def test_claims_b_and_c(tmp_path, slow, fast, verdict, needed, evidence):
    write_arm(tmp_path / "b" / "kept" / "slow", slow)
    write_arm(tmp_path / "b" / "kept" / "fast", fast, digits=10)
    write_arm(tmp_path / "c" / "kept" / "slow", slow)
    write_arm(tmp_path / "c" / "kept" / "fast", fast, cell="peephole")

    for claim in ("b", "c"):
        judged = verdicts(tmp_path / claim)[claim]
        assert (judged.verdict, judged.needed) == (verdict, needed)
        for part in evidence:
            assert part in judged.evidence
        assert "nan" not in judged.evidence.lower()


def test_claims_are_corrected_together(tmp_path):
    """Three tests with p = 2/70: Holm multiplies the smallest by 3 and lets no other fall below it."""
    write_arm(tmp_path / "kept" / "lstm20", spread(1200, 4))
    write_arm(tmp_path / "kept" / "lstm10", spread(300, 4), digits=10)
    write_arm(tmp_path / "kept" / "peephole20", spread(300, 4), cell="peephole")
    write_arm(tmp_path / "kept" / "width40", [None] * 4, embedding_size=40)

    judged = verdicts(tmp_path)

    for claim in "bcd":
        assert judged[claim].verdict == UNDECIDED
        assert "after Holm p = 0.086" in judged[claim].evidence


def test_claim_b_measures_the_plateau(tmp_path):
    # 11 looks, of which 6 on the plateau, then 0.3 and 0.02: two looks from the last above 0.5.
    write_arm(tmp_path / "kept" / "lstm20", [600, 600])
    write_arm(tmp_path / "kept" / "lstm10", [300, 300], digits=10)

    evidence = verdicts(tmp_path)["b"].evidence

    assert "T=20: 0.55 of the looks on the plateau, the drop takes 2.0 looks" in evidence
    assert "T=10: 0.17 of the looks on the plateau" in evidence


def test_claim_b_without_a_drop(tmp_path):
    write_arm(tmp_path / "kept" / "lstm20", [None])
    write_arm(tmp_path / "kept" / "lstm10", [300], digits=10)

    assert "T=20: 1.00 of the looks on the plateau, no drop; T=10" in verdicts(tmp_path)["b"].evidence


# Fisher's exact test of 0 of 8 against 8 of 8: the two most extreme of C(16, 8) = 12870 tables, p = 0.00016.
@pytest.mark.parametrize(
    ("narrow", "wide", "verdict", "needed", "evidence"),
    [
        ([None] * 8, [900] * 8, "holds", "-", ["width 40: 0 of 8", "162: 8 of 8", "p = 0.00016", "Holm p = 0.00047"]),
        ([900] * 8, [None] * 8, "does not hold", "-", ["width 40: 8 of 8"]),
        ([None] * 3 + [900], [None] + [900] * 3, UNDECIDED, "about", ["p = 0.49", "Holm p = 1"]),
        ([900] * 4, [900] * 4, UNDECIDED, "more than 1000", ["p = 1"]),
    ],
)  # fmt: skip
def test_claim_d(tmp_path, narrow, wide, verdict, needed, evidence):
    write_arm(tmp_path / "kept" / "narrow", narrow, embedding_size=40)
    write_arm(tmp_path / "kept" / "wide", wide, embedding_size=162)

    judged = verdicts(tmp_path)["d"]

    assert judged.verdict == verdict
    assert judged.needed.startswith(needed)
    for part in [*evidence, "width 81: not run"]:
        assert part in judged.evidence


# Of n runs that are all stopped, the lower end is 0.025 ** (1 / n): 0.48 for 5, 0.54 for 6.
@pytest.mark.parametrize(
    ("steps", "wait", "verdict", "needed", "evidence"),
    [
        (spread(1200, 6), 5, "holds", "-", "6 of 6: 1.00 [0.54, 1.00]"),
        (spread(1200, 6), 4, "does not hold", "-", "0 of 6: 0.00 [0.00, 0.46]"),
        (spread(1200, 5), 5, UNDECIDED, "about 6", "5 of 5: 1.00 [0.48, 1.00]"),
        # Those that do not converge do not count: 6 that do are among 6 * 7 / 5 runs.
        ([*spread(1200, 5), None, -900], 5, UNDECIDED, "about 9", "5 of 5"),
        ([None, None], 5, UNDECIDED, "-", "no converged run of LSTM T=20 with a whole curve"),
    ],
)
def test_claim_e(tmp_path, steps, wait, verdict, needed, evidence):
    write_arm(tmp_path / "kept" / "lstm20", steps, wait=wait)

    judged = verdicts(tmp_path)["e"]

    assert (judged.verdict, judged.needed) == (verdict, needed)
    assert evidence in judged.evidence


def test_claim_e_does_not_count_a_stop_at_the_look_of_convergence(tmp_path):
    write_arm(tmp_path / "kept" / "lstm20", [360])
    # The minimum is at the second look, and the fifth look without a new one is the third in a row below 0.005.
    looks = enumerate([0.69, 0.004, 0.02, 0.02, 0.0045, 0.0045, 0.0045])
    run = "seed=0,learning_rate=0.001"
    lines = [json.dumps({"run": run, "seed": 0, "step": 60 * i, "loss": loss, "accuracy": 1}) for i, loss in looks]
    (tmp_path / "kept" / "lstm20" / "metrics.jsonl").write_text("\n".join(lines))

    assert "0 of 1" in verdicts(tmp_path)["e"].evidence


@pytest.mark.parametrize(("share", "threshold"), [(1.0, 0.8), (0.0, 0.8), (0.4, 0.5), (0.9, 0.8)])
def test_seeds_to_clear(share, threshold):
    """That many decide and half of them do not, by the binomial tails that define the interval."""

    def decides(runs: int) -> bool:
        seen = round(share * runs)
        weights = [comb(runs, k) * threshold**k * (1 - threshold) ** (runs - k) for k in range(runs + 1)]
        return min(sum(weights[seen:]), sum(weights[: seen + 1])) < 0.025

    seeds = study.seeds_to_clear(share, threshold)

    assert seeds is not None
    assert all(decides(runs) for runs in range(seeds, seeds + 20))
    assert not decides(seeds - 1)
    assert study.seeds_to_clear(threshold, threshold) is None


# --- Tables -----------------------------------------------------------------------------------------------------------


def test_published_means_follow_from_the_published_steps():
    for arm, steps in study.PUBLISHED_STEPS.items():
        assert np.mean(steps) == study.PUBLISHED_MEANS[arm]


def test_nothing_was_run():
    sections = study.sections([])

    first = table_rows(sections, "Table 1 of the report")
    assert [row["steps, report"] for row in first] == ["300", "300", "360", "320", "1260", "1080", "2280", "1540"]
    second = table_rows(sections, "Table 2 of the report")
    assert [row["steps, report"] for row in second] == ["480", "420", "420", "440", "480", "720", "420", "540"]
    for row in [*first, *second]:
        assert {row[f"{what}, {kind}"] for what in ("steps", "test accuracy") for kind in ("kept", "this machine")} == {
            "not run"
        }
        assert row["source"] == ""
    assert {row["seeds"] for row in table_rows(sections, "The arms of Tables 1 and 2")} == {"not run"}
    assert len(table_rows(sections, "The arms of Tables 1 and 2")) == 8
    assert not any(isinstance(block, Figure) for section in sections for block in section.blocks)


def test_seeds_stand_beside_the_published_ones(tmp_path, no_pictures):
    write_arm(tmp_path / "kept" / "all", [420, None, 600, 300])
    write_arm(tmp_path / "own" / "some", [480, -617])
    write_arm(tmp_path / "own" / "elsewhere", [300, 300, 360], digits=10, accuracy=0.999)

    sections = study.sections(read(tmp_path))

    table = table_rows(sections, "Table 1 of the report")
    of_20 = [row for row in table if row["T"] == "20"]
    assert [row["steps, kept"] for row in of_20] == ["420", "> 3000", "600", "≥ 1340"]
    assert [row["steps, this machine"] for row in of_20] == ["480", "NaN at 617", "not run", "not run"]
    assert [row["test accuracy, kept"] for row in of_20] == ["1.0000", "0.7000", "1.0000", "0.9000"]
    assert [row["test accuracy, this machine"] for row in of_20] == ["1.0000", "-", "not run", "not run"]
    kept, own = f"`{tmp_path}/kept/all`", f"`{tmp_path}/own/some`"
    assert [row["source"] for row in of_20] == [f"{kept}; {own}", f"{kept}; {own}", kept, kept]
    of_10 = [row for row in table if row["T"] == "10"]
    assert [row["steps, this machine"] for row in of_10] == ["300", "300", "360", "320"]
    assert of_10[-1]["test accuracy, this machine"] == "0.9990"


def test_arms_over_all_seeds(tmp_path, no_pictures):
    write_arm(tmp_path / "kept" / "first", [600, None])
    write_arm(tmp_path / "kept" / "second", [900, 1200], first=2, chunk_steps=120, seeds_per_program=2)

    sections = study.sections(read(tmp_path))

    (row,) = (row for row in table_rows(sections, "The arms of Tables 1 and 2") if row["seeds"] != "not run")
    assert (row["cell"], row["T"], row["width"], row["runs"], row["seeds"]) == ("LSTM", "20", "162", "kept", "4")
    assert row["converged"] == "3 of 4: 0.75 [0.19, 0.99]"  # Clopper-Pearson: 0.1941, 0.9937
    assert row["restricted mean steps"].startswith("1425 [")  # (600 + 900 + 1200 + 3000) / 4
    assert row["median steps"].startswith("900 [")  # half have converged then
    assert row["mean test accuracy"].startswith("0.9250 [")
    assert row["mean test accuracy"].endswith(", 1.0000]")
    assert row["test accuracy ≥ 0.995"] == row["converged"]
    assert row["note"] == "4 seeds: the bootstrap interval is too narrow"
    assert row["source"] == f"`{tmp_path}/kept`: `first`, `second`"


def test_medians_beyond_the_horizon(tmp_path, no_pictures):
    write_arm(tmp_path / "kept" / "lstm", [600, None, None])

    (row,) = (row for row in table_rows(study.sections(read(tmp_path)), "The arms") if row["seeds"] != "not run")

    assert row["median steps"].startswith("> 3000 [")
    assert row["median steps"].endswith("> 3000]")


def test_an_end_of_an_interval_that_is_not_known_is_not_beyond_the_horizon(tmp_path, no_pictures):
    write_arm(tmp_path / "kept" / "lstm", [360, 300, 300])

    (row,) = (row for row in table_rows(study.sections(read(tmp_path)), "The arms") if row["seeds"] != "not run")

    assert row["median steps"] == "300 [300, -]"


def test_plateau_table(tmp_path, no_pictures):
    write_arm(tmp_path / "own" / "peephole", [600, 900, None], cell="peephole", wait=5)

    (row,) = (
        row for row in table_rows(study.sections(read(tmp_path)), "Claims (b) and (e)") if row["curves"] != "not run"
    )

    assert (row["cell"], row["runs"], row["curves"]) == ("Peephole LSTM", "this machine", "3")
    # 6 of 11 looks, 11 of 16, and 51 of 51.
    assert row["share of looks with loss 0.5 to 0.7"].startswith(f"{(6 / 11 + 11 / 16 + 1) / 3:.2f} [")
    assert row["looks from 0.5 to 0.05"] == "2.0"
    assert row["longest wait for a new minimum in looks: median, most"] == "5, 5"
    assert row["stopped too early with a patience of 5"].startswith("2 of 2")


def test_runs_that_end_make_place(tmp_path, no_pictures):
    write_arm(tmp_path / "kept" / "lstm", [900, 300, 300, 600, -120])

    (row,) = (row for row in table_rows(study.sections(read(tmp_path)), "Steps with and") if row["seeds"] == "5")

    # Steps are counted from 0, so that a run which ends at step 900 takes one more.
    assert row["their steps"] == "2225"
    # One core has 901 and 121, the other 301, 301 and 601; or pairs take 901, 601 and 121.
    assert (row["time on 2 cores"], row["where they wait for each other"]) == ("1203", "1623")
    # All five to 121, four to 301, two to 601, one to 901; or five to 901.
    assert row["steps in one program"] == str(5 * 121 + 4 * 180 + 2 * 300 + 300)
    assert row["where it does not shrink"] == str(5 * 901)


def test_no_drop_takes_less_than_no_time():
    estimate = study._mean_drop([1, 9])
    assert (estimate.value, estimate.low) == (5, 0)
    assert estimate.high > 9


def test_other_settings_are_listed_apart(tmp_path, no_pictures):
    write_arm(tmp_path / "own" / "explicit", [300], embedding_size=162)
    write_arm(tmp_path / "own" / "default", [360], first=1, clip_norm=10)
    write_arm(tmp_path / "own" / "gru", [420], cell="gru")
    write_arm(tmp_path / "own" / "new", [540], new_field=1)
    write_arm(tmp_path / "own" / "quick", [None], max_steps=3000, batch_size=32)
    write_arm(tmp_path / "own" / "sums", [480], task="baum_sweet", digits=7)
    write_arm(tmp_path / "kept" / "medium", [540], embedding_size=81)

    sections = study.sections(read(tmp_path))

    (tabled,) = (row for row in table_rows(sections, "The arms of Tables 1 and 2") if row["seeds"] != "not run")
    assert tabled["seeds"] == "2"
    others = [
        (row["task"], row["cell"], row["n"], row["width"], row["setting, where not the report's"], row["source"])
        for row in table_rows(sections, "Arms that are not part")
    ]
    assert others == [
        ("palindrome", "`gru`", "20", "162", "-", f"`{tmp_path}/own/gru`"),
        ("palindrome", "`lstm`", "20", "162", UNKNOWN_FIELD, f"`{tmp_path}/own/new`"),
        ("palindrome", "`lstm`", "20", "162", "`batch_size=32`", f"`{tmp_path}/own/quick`"),
        ("baum_sweet", "`lstm`", "7", "default", "-", f"`{tmp_path}/own/sums`"),
    ]
    widths = {(row["width"], row["runs"]): row["seeds"] for row in table_rows(sections, "Claim (d)")}
    assert widths["81", "kept"] == "1"
    assert widths["40", "kept"] == "not run"


def test_a_sweep_is_one_arm_per_learning_rate(tmp_path, no_pictures):
    write_arm(tmp_path / "own" / "sweep", [300, 360], learning_rate=[0.001, 0.01])
    results = tmp_path / "own" / "sweep" / "results.json"
    document = json.loads(results.read_text())
    document["runs"] += [
        {**run, "run": run["run"].replace("001", "01"), "learning_rate": 0.01} for run in document["runs"]
    ]
    results.write_text(json.dumps(document))

    sections = study.sections(read(tmp_path))

    assert [row["seeds"] for row in table_rows(sections, "The arms") if row["seeds"] != "not run"] == ["2"]
    (other,) = table_rows(sections, "Arms that are not part")
    assert other["setting, where not the report's"] == "`learning_rate=0.01`"


# --- Remarks and figures ----------------------------------------------------------------------------------------------


def remarks(sections: list[Section]) -> str:
    return next((str(s.blocks[0]) for s in sections if s.title.endswith("remarks")), "")


def test_what_cannot_be_used_is_remarked_upon(tmp_path, no_pictures):
    for name in ("cut", "text", "late", "setting", "twice", "whole"):
        first = {"whole": 10, "twice": 10}.get(name, 0)
        write_arm(tmp_path / "own" / name, [600, 900], first=first)

    def edit(name: str, old: str, new: str) -> None:
        path = tmp_path / "own" / name
        path.write_text(path.read_text().replace(old, new, 1))

    cut = tmp_path / "own" / "cut" / "metrics.jsonl"
    cut.write_text("".join(cut.read_text().splitlines(keepends=True)[:20]))
    edit("text/results.json", '"steps": 600', '"steps": "soon"')
    edit("late/results.json", '"steps": 900', '"steps": 3060')
    edit("setting/config.json", '"digits": 20', '"digits": 0')

    sections = study.sections(read(tmp_path))

    told = remarks(sections).splitlines()
    where = f"- `{tmp_path}/own"
    assert len(told) == 5
    assert told[0].startswith(f"{where}/cut`: 1 curves are not whole, the first is `seed=1,learning_rate=0.001`")
    assert told[1].startswith(f"{where}/late`: steps 3060 of seed=1,learning_rate=0.001 are beyond max_steps: left out")
    assert told[2].startswith(f"{where}/setting`: digits: Input should be greater than or equal to 1: left out")
    assert told[3].startswith(f"{where}/text`: steps: Input should be a valid integer")
    assert told[4].startswith(
        f"- 2 runs of `{tmp_path}/own/whole` are also in `{tmp_path}/own/twice`, the first is `seed=10"
    )
    (row,) = (row for row in table_rows(sections, "Claims (b) and (e)") if row["curves"] != "not run")
    assert row["curves"] == "3"  # seed 0 of the one cut short, seeds 10 and 11


def test_figures_for_each_kind_of_runs(tmp_path):
    for kind in ("kept", "own"):
        write_arm(tmp_path / kind / "lstm10", [300, 360], digits=10)
        write_arm(tmp_path / kind / "lstm20", [600, None, -60, -600])
    write_arm(tmp_path / "kept" / "width40", [None, None], embedding_size=40)
    write_arm(tmp_path / "own" / "peephole20", [480], cell="peephole")

    figures = [block for s in study.sections(read(tmp_path)) for block in s.blocks if isinstance(block, Figure)]

    names = [figure.path.removeprefix("figures/palindrome_").removesuffix(".png") for figure in figures]
    own = ["lstm_seeds", "lstm_mean", "peephole_seeds", "peephole_mean", "survival", "arms"]
    kept = [f"kept_{name}" for name in own if not name.startswith("peephole")]
    assert names == kept + [f"this_machine_{name}" for name in own]
    assert all(figure.png.startswith(b"\x89PNG") and figure.alt for figure in figures)
    assert all(figure.caption.endswith(("(kept)", "(this machine)")) for figure in figures)
