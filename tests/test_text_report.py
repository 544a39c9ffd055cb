"""Run directories by hand, verdicts by binomial tails and enumeration."""

import itertools
import json
import re
from pathlib import Path

import numpy as np
import pytest
import scipy.stats
from tables import table_rows

from experiments import report as binary
from experiments import text_report as study
from jaxrnn.study import stats
from jaxrnn.study.report import Figure, read_runs, write_report

CONFIG = {
    "corpus": "grimm",
    "encoding": "utf-8",
    "cell": "lstm",
    "num_layers": 2,
    "hidden_size": 512,
    "embedding_size": 60,
    "dropout": 0.0,
    "seq_length": 30,
    "batch_size": 64,
    "carry_state": False,
    "learning_rate": [0.002],
    "learning_rate_decay": 1.0,
    "clip_norm": 5.0,
    "max_steps": 40_000,
    "eval_every": 100,
    "sample_steps": [2000, 10_000, 40_000],
    "validation_fraction": 0.0,
    "test_fraction": 0.0,
    "num_seeds": 1,
    "first_seed": 0,
    "seeds_per_program": 0,
    "chunk_steps": 100,
    "precision": "highest",
}
NUM = 100
NO_RUN = "no kept run on Grimm with training windows of "


def write_run(path: Path, seeds=(0,), *, looks=12, failed=(), bits=(1.9,), samples=(), validation=False, **config):
    """A run directory with a curve whose loss falls from 4 by 0.1 a look and whose accuracy rises by 0.05."""
    path.mkdir(parents=True)
    config = {**CONFIG, "first_seed": seeds[0], "num_seeds": len(seeds), **config}
    (path / "config.json").write_text(json.dumps({"experiment": "text", "config": config}))
    results, lines, validated = [], [], []
    for seed, its_bits in zip(seeds, itertools.cycle(bits), strict=False):
        where = {"run": f"seed={seed},learning_rate=0.002", "seed": seed}
        result = {**where, "learning_rate": 0.002, "last_step": config["max_steps"]}
        for part in ("train", "validation") if validation else ("train",):
            result |= {f"{part}_bits_per_character": its_bits, f"{part}_accuracy": 0.6}
        if seed in failed:
            result |= {"failed_at": 100, "train_bits_per_character": None}
        results.append(result)
        for i in range(looks):
            loss = None if seed in failed and i == looks - 1 else 4 - 0.1 * i
            lines.append({**where, "step": 100 * i, "loss": loss, "accuracy": 0.05 * i})
            look = {**where, "step": 100 * i, "bits_per_character": 5 - 0.1 * i, "accuracy": 0.04 * i}
            tested = {"test_bits_per_character": 6 - 0.1 * i, "test_accuracy": 0.03 * i}
            validated.append(look | (tested if config["test_fraction"] else {}))
    (path / "results.json").write_text(json.dumps({"complete": True, "runs": results}))
    files = {
        "metrics.jsonl": lines,
        "samples.jsonl": samples,
        **({"validation.jsonl": validated} if validation else {}),
    }
    for name, rows in files.items():
        (path / name).write_text("".join(json.dumps(row) + "\n" for row in rows))


def texts(step, start, tau=None, *, looping=NUM, period=30, words=(10,), known=(0.9,), short_looping=None, num=NUM):
    """An entry of claims.json: so many of the texts end in a loop, in 120 characters as in 5000 where not said."""

    def cycled(values):
        return list(itertools.islice(itertools.cycle(values), num))

    def part(length, looping):
        periods = [period if i < looping else 0 for i in range(num)]
        starts = [40 if p else length for p in periods]
        grams = [0.5] * num
        shares = {"word_share": cycled(known), "distinct_ngrams": grams}
        return {"period": periods, "loop_start": starts, "words": cycled(words), **shares}

    return {
        "step": step,
        "start": start,
        "tau": tau,
        "measures": {
            "120": part(120, looping if short_looping is None else short_looping),
            "5000": part(5000, looping),
        },
        "loop": [0 if i < looping else -1 for i in range(num)],
        "loops": ["and the king said,\n"] if looping else [],
        "examples": [{"prompt": "Once ", "text": "upon a time"}],
    }


def holding() -> dict[str, dict]:
    """The texts of a model of which all claims hold."""
    return {
        "early": texts(2000, "prompts", period=18, words=(2,), known=(1.0,)),
        "middle": texts(10_000, "prompts"),
        "late": texts(40_000, "prompts"),
        "tau 0.5": texts(40_000, "random characters", 0.5, looping=0, known=(0.4, 0.5)),
        "tau 1": texts(40_000, "random characters", 1.0, looping=0, known=(0.8, 0.9)),
        "tau 2": texts(40_000, "random characters", 2.0, looping=0, known=(0.9, 1.0)),
        "census": texts(40_000, "every character", num=7, looping=4),
        "book": texts(None, "book", looping=0),
    }


def write_claims(path: Path, entries, seed=0, completions=()) -> None:
    document = {
        "run": f"seed={seed},learning_rate=0.002",
        "digest": "0",
        "texts": list(entries),
        "completions": list(completions),
    }
    (path / "claims.json").write_text(json.dumps(document))


def write_model(root: Path, **changed) -> None:
    """Kept runs of all three windows, all claims of which hold but for what is changed."""
    write_run(root / "kept" / "w30")
    write_claims(root / "kept" / "w30", {**holding(), **changed}.values())
    for window in (15, 60):
        path = root / "kept" / f"w{window}"
        write_run(path, seq_length=window, max_steps=10_000)
        write_claims(path, [changed.get(f"w{window}") or texts(10_000, "prompts", period=window)])


def read(root: Path):
    """All runs below root: those in `kept` as kept, those in `own` as this machine's."""
    return [*read_runs(root / "kept", "kept"), *read_runs(root / "own", "this machine")]


def judged(root: Path) -> dict[str, study.Judgement]:
    return {one.claim: one for one in study.judge(study.collect(read(root)))}


def parts(root: Path, name: str) -> list[study.Part]:
    return [part for one in judged(root).values() for part in one.parts if part.name == name]


@pytest.fixture(autouse=True)
def fewer_resamples(monkeypatch):
    """Enough for what is asked here."""
    monkeypatch.setattr(stats, "RESAMPLES", 999)


@pytest.fixture
def no_pictures(monkeypatch):
    """Tables alone: drawing is slow."""
    monkeypatch.setattr(study, "_figures", lambda kind, found: [])


def clears(count: int, threshold: float) -> int:
    """On which side of the threshold the Clopper-Pearson interval of so many of 100 lies, by the binomial's tails."""
    above = scipy.stats.binom.sf(count - 1, NUM, threshold) < 0.025
    below = scipy.stats.binom.cdf(count, NUM, threshold) < 0.025
    return int(above) - int(below)


# --- Verdicts ---------------------------------------------------------------------------------------------------------


def test_all_claims_may_hold(tmp_path):
    write_model(tmp_path)
    found = judged(tmp_path)
    assert {claim: one.verdict for claim, one in found.items()} == dict.fromkeys("abcd", "holds")
    named = [(part.name, part.side) for one in found.values() for part in one.parts]
    expected = ["a1", *["a2"] * 4, "b1", "b1", "b2", "b2", "b2", "b3", "c1", "c1", "c2", "d", "d", "d"]
    assert named == [(name, None if name == "b3" else 1) for name in expected]
    # Each part's numbers come from the run of its window.
    b2 = [(part.source[0].name, part.evidence) for part in parts(tmp_path, "b2")]
    assert b2[0] == ("w15", "W=15, step 10000: median period 15 [15, 15] of 100 texts, claimed to lie in [10.6, 21.2)")
    assert b2[1][0] == "w30"
    assert b2[1][1].startswith("W=30, step 40000: median period 30 [30, 30]")
    (b3,) = parts(tmp_path, "b3")
    assert b3.evidence.startswith("median period at W=60 over that at W=15: 4.00; W=15: 1 distinct loops in 100 texts")


def test_without_kept_runs_nothing_is_decided(tmp_path, no_pictures):
    write_run(tmp_path / "own" / "grimm")
    write_claims(tmp_path / "own" / "grimm", holding().values())
    found = judged(tmp_path)
    assert {one.verdict for one in found.values()} == {"undecided"}
    assert {part.evidence for part in found["a"].parts} == {f"{NO_RUN}30"}
    assert [part.evidence for part in parts(tmp_path, "b2")] == [f"{NO_RUN}{window}" for window in (15, 30, 60)]
    assert parts(tmp_path, "b3")[0].evidence == "median period at W=60 over that at W=15: not known"
    table = table_rows(study.sections(read(tmp_path)), "The report's claims")
    assert {row["verdict"] for row in table} == {"undecided", "-"}
    assert {row["source"] for row in table} == {""}


def test_a_run_that_was_not_measured_names_the_command(tmp_path):
    path = tmp_path / "kept" / "grimm"
    write_run(path)
    command = f"not measured: `python -m experiments.text_claims --workdir={path}`"
    assert {part.evidence for claim in "acd" for part in judged(tmp_path)[claim].parts} == {command}
    write_claims(path, [holding()["early"], holding()["middle"]])
    found = judged(tmp_path)
    assert parts(tmp_path, "a1")[0].side == 1
    assert [part.evidence for part in found["d"].parts] == [f"step 40000: {command}"] * 3
    assert {one.verdict for one in found.values()} == {"undecided"}


# The intervals of 60 and 40 of 100 hold 0.5, those of 61 and 39 do not.
@pytest.mark.parametrize(("count", "side"), [(100, 1), (61, 1), (60, 0), (40, 0), (39, -1)])
def test_claim_a1_is_about_loops_over_one_to_three_words(tmp_path, count, side):
    early = holding()["early"]
    # Four words, no word at all, and three words without a loop do not count.
    others = itertools.cycle([(18, 4), (18, 0), (0, 3)])
    measures = early["measures"]["120"]
    pairs = [(18, 1 + i % 3) if i < count else next(others) for i in range(NUM)]
    measures["period"], measures["words"] = map(list, zip(*pairs, strict=True))
    write_model(tmp_path, early=early)
    (part,) = parts(tmp_path, "a1")
    assert part.side == side == clears(count, 0.5)
    assert f"step 2000: {count} of 100: {count / 100:.2f} [" in part.evidence
    assert judged(tmp_path)["a"].verdict == {1: "holds", 0: "undecided", -1: "does not hold"}[side]


@pytest.mark.parametrize("count", [72, 73, 79, 87, 88, 89])
def test_claim_a2_counts_texts_of_eight_words(tmp_path, count):
    words = [8] * count + [7] * (NUM - count)
    write_model(tmp_path, middle=texts(10_000, "prompts", words=words))
    share, difference, *late = parts(tmp_path, "a2")
    assert share.side == clears(count, 0.8)
    assert (difference.side, [part.side for part in late]) == (1, [1, 1])


@pytest.mark.parametrize(("before", "side"), [((2,), 1), ((9,), 0), ((20,), -1)])
def test_claim_a2_compares_the_same_prompts(tmp_path, before, side):
    early = texts(2000, "prompts", words=before)
    later = texts(10_000, "prompts", words=(8, 10))
    write_model(tmp_path, early=early, middle=later)
    part = parts(tmp_path, "a2")[1]
    assert part.side == side
    assert part.evidence.startswith(f"distinct words at step 10000 minus those at 2000: {9 - before[0]:+.1f} [")
    # Half of the differences lie one above their mean, half one below: the mean of 100 has 2 Bin(100, 1/2) / 100 - 1.
    half = 1 - 2 * scipy.stats.binom.ppf(0.025, NUM, 0.5) / NUM
    low, high = map(float, re.search(r"\[(.*), (.*)\]", part.evidence).groups())
    assert (low, high) == pytest.approx((9 - before[0] - half, 9 - before[0] + half), abs=0.051)


@pytest.mark.parametrize("count", [71, 80, 88, 100])
def test_claim_b1(tmp_path, count):
    write_model(tmp_path, late=texts(40_000, "prompts", looping=count, short_looping=0))
    middle, late = parts(tmp_path, "b1")
    assert (middle.side, late.side) == (1, clears(count, 0.8))


# W / sqrt(2) and W sqrt(2) are 10.6 and 21.2, 21.2 and 42.4, 42.4 and 84.9.
@pytest.mark.parametrize(
    ("window", "period", "side"),
    [(15, 10, -1), (15, 11, 1), (15, 21, 1), (15, 22, -1), (60, 42, -1), (60, 43, 1), (60, 84, 1), (60, 85, -1)],
)
def test_claim_b2(tmp_path, window, period, side):
    write_model(tmp_path, **{f"w{window}": texts(10_000, "prompts", period=period, looping=90)})
    found = {part.source[0].name: part.side for part in parts(tmp_path, "b2")}
    assert found.pop(f"w{window}") == side
    assert set(found.values()) == {1}
    assert judged(tmp_path)["b"].verdict == ("holds" if side == 1 else "does not hold")


def test_claim_b2_is_undecided_where_the_interval_crosses_the_line(tmp_path):
    crossing = texts(10_000, "prompts", period=15)
    crossing["measures"]["5000"]["period"] = [10] * 50 + [15] * 50
    write_model(tmp_path, w15=crossing)
    part = parts(tmp_path, "b2")[0]
    assert part.side == 0
    assert "median period 12.5 [10, 15] of 100 texts" in part.evidence
    assert judged(tmp_path)["b"].verdict == "undecided"


def test_claim_b2_without_any_loop(tmp_path):
    write_model(tmp_path, w15=texts(10_000, "prompts", looping=0))
    assert parts(tmp_path, "b2")[0].side == 0
    assert "median period - of 0 texts" in parts(tmp_path, "b2")[0].evidence
    assert "W=15: not known" in parts(tmp_path, "b3")[0].evidence


def test_claim_b2_takes_runs_that_differ_in_window_and_steps_alone(tmp_path):
    write_model(tmp_path)
    for name, config in {"cell": {"cell": "gru"}, "size": {"hidden_size": 64}, "book": {"corpus": "democracy"}}.items():
        write_run(tmp_path / "kept" / name, seq_length=15, max_steps=20_000, **config)
        write_claims(tmp_path / "kept" / name, [texts(20_000, "prompts", period=60)])
    assert [part.source[0].name for part in parts(tmp_path, "b2")] == ["w15", "w30", "w60"]
    write_run(tmp_path / "kept" / "longer", seq_length=15, max_steps=20_000)
    write_claims(tmp_path / "kept" / "longer", [texts(20_000, "prompts", period=60)])
    assert [part.side for part in parts(tmp_path, "b2")] == [-1, 1, 1]


# With so many texts all of whose differences are positive, the permutation test has p = 2 / 2^n: 7 texts have 0.0156,
# 6 have 0.031, which is no longer below 0.05 twice.
@pytest.mark.parametrize(("num", "side"), [(5, 0), (6, 0), (7, 1)])
def test_claim_c1_is_corrected_for_two(tmp_path, num, side):
    taus = {
        f"tau {tau:g}": texts(40_000, "random characters", tau, looping=0, num=num, known=known)
        for tau, known in ((0.5, (0.5,)), (1.0, (0.6,)), (2.0, (0.7,)))
    }
    write_model(tmp_path, **taus)
    found = parts(tmp_path, "c1")
    assert [part.side for part in found] == [side, side]
    assert f"+0.100 [+0.100, +0.100], p = {min(1, 4 / 2**num):.2g} after Holm" in found[0].evidence


def test_claim_c1_leaves_out_texts_without_a_word(tmp_path):
    write_model(tmp_path, **{"tau 1": texts(40_000, "random characters", 1.0, looping=0, known=(None, 0.3))})
    rising, falling = parts(tmp_path, "c1")
    # Every second text, which had 0.5 at tau 0.5 and has 1.0 at tau 2.
    assert (rising.side, falling.side) == (-1, 1)
    assert "at tau 1 minus that at 0.5: -0.200 [" in rising.evidence
    assert judged(tmp_path)["c"].verdict == "does not hold"


@pytest.mark.parametrize(("known", "side"), [((0.7,), 1), ((0.5, 1.0), 0), ((0.76,), -1)])
def test_claim_c2(tmp_path, known, side):
    write_model(tmp_path, **{"tau 0.5": texts(40_000, "random characters", 0.5, looping=0, known=known)})
    (part,) = parts(tmp_path, "c2")
    assert part.side == side


@pytest.mark.parametrize("count", [0, 1, 2, 5, 10, 11])
def test_claim_d(tmp_path, count):
    write_model(tmp_path, **{"tau 2": texts(40_000, "random characters", 2.0, looping=count)})
    side = -clears(count, 0.05)
    assert [part.side for part in parts(tmp_path, "d")] == [1, 1, side]
    assert judged(tmp_path)["d"].verdict == {1: "holds", 0: "undecided", -1: "does not hold"}[side]


@pytest.mark.parametrize(("count", "verdict"), [(61, "holds"), (60, "undecided"), (39, "nothing to escape from")])
def test_claim_d_needs_something_to_escape_from(tmp_path, count, verdict):
    write_model(tmp_path, late=texts(40_000, "prompts", looping=count))
    assert judged(tmp_path)["d"].verdict == verdict


@pytest.mark.parametrize("field", ["hidden_size", "max_steps", "validation_fraction", "carry_state"])
def test_runs_of_other_settings_are_not_judged_by(tmp_path, field):
    write_run(tmp_path / "kept" / "other", **{field: {"hidden_size": 8, "max_steps": 100}.get(field, 1)})
    write_claims(tmp_path / "kept" / "other", holding().values())
    assert {part.evidence for part in judged(tmp_path)["a"].parts} == {f"{NO_RUN}30"}


def test_of_several_runs_the_first_seed_that_was_measured_is_judged_by(tmp_path):
    for seed in (0, 1, 2):
        write_run(tmp_path / "kept" / f"seed{2 - seed}", [seed])
    write_claims(
        tmp_path / "kept" / "seed0", {**holding(), "early": texts(2000, "prompts", looping=0)}.values(), seed=2
    )
    write_claims(tmp_path / "kept" / "seed1", holding().values(), seed=1)
    (part,) = parts(tmp_path, "a1")
    assert (part.side, part.source) == (1, [tmp_path / "kept" / "seed1"])


def test_the_page_states_the_rules_of_the_code():
    stated = " ".join((study.__doc__ or "").split())
    assert " ".join(study._RULES.split()) in stated
    for number in (study.FEW_SHARE, study.MANY_SHARE, study.LOOPING_SHARE, study.GIBBERISH_SHARE, study.CAUGHT_SHARE):
        assert f"above {number:g}" in study._RULES or f"below {number:g}" in study._RULES
    assert f"below {study.ESCAPED_SHARE:g} at tau 1 and at tau 2" in " ".join(study._RULES.split())
    assert f"p < {study.ALPHA:g}" in study._RULES
    assert "one trained model for each setting" in stated


# --- Statistics -------------------------------------------------------------------------------------------------------


def test_bootstrap_of_ones_and_zeros_is_binomial():
    values = np.array([0, 1] * 20)
    found = study.bootstrap(values, np.mean)
    ends = scipy.stats.binom.ppf([0.025, 0.975], 40, 0.5) / 40
    assert (found.value, found.low, found.high) == pytest.approx((0.5, *ends), abs=0.026)
    one, none = study.bootstrap(values[1:2], np.mean), study.bootstrap(values[:0], np.median)
    assert (one.value, one.low, one.high) == (1, None, None)
    assert (none.value, none.low, none.high) == (None, None, None)


def test_sign_flip_counts_the_signs():
    differences = np.array([0.3, -0.1, 0.2, 0.5, 0.4, 0.25])
    means = [np.mean(differences * signs) for signs in itertools.product((1, -1), repeat=6)]
    tail = np.mean([mean >= differences.mean() - 1e-12 for mean in means])
    assert study.sign_flip(differences) == pytest.approx(2 * tail)
    assert study.sign_flip(differences[:1]) == study.sign_flip(differences[:0]) == 1
    assert study.sign_flip(np.zeros(4)) == 1


# --- Tables -----------------------------------------------------------------------------------------------------------


def test_nothing_was_run():
    sections = study.sections([])
    table = table_rows(sections, "Table 3")
    assert [(row["corpus"], row["steps"], row["seeds"]) for row in table] == [
        ("`grimm`", "40000", "not run"),
        ("`darwin`", "42000", "not run"),
        ("`democracy`", "50000", "not run"),
    ]
    assert [row["training accuracy, report"] for row in table] == ["0.70 to 0.75", "-", "-"]
    assert not any(isinstance(block, Figure) for section in sections for block in section.blocks)


def test_runs_table(tmp_path, no_pictures):
    write_run(tmp_path / "own" / "tiny", corpus="/books/tale.txt", hidden_size=8, max_steps=100, dropout=0.1, looks=3)
    write_run(tmp_path / "kept" / "a", [0, 1, 2], failed=[2], bits=[1.8, 2.0])
    write_run(tmp_path / "kept" / "b", [3], bits=[1.9], looks=22)
    write_run(tmp_path / "own" / "split", validation_fraction=0.1, validation=True, bits=[2.125])

    first, *others = table_rows(study.sections(read(tmp_path)), "Table 3")

    assert (first["corpus"], first["runs"], first["seeds"]) == ("`grimm`", "kept", "4, 1 met a NaN")
    assert (first["layers"], first["embedding"], first["window"], first["batch"]) == ("2 x 512", "60", "30", "64")
    # Looks 2 to 11 of two runs and 12 to 21 of one: losses 3.35, 3.35 and 2.35, accuracies 0.325 twice and 0.825.
    assert first["training loss"].startswith("3.017 [")
    assert first["training accuracy"].startswith("0.492 [")
    assert first["training accuracy, report"] == "0.70 to 0.75"
    # Student's t: 1.9 plus or minus 4.303 * 0.1 / sqrt(3).
    assert first["bits per character, train"] == "1.900 [1.652, 2.148]"
    assert first["bits per character, validation"] == "-"
    assert first["source"] == f"`{tmp_path}/kept`: `a`, `b`"
    by_corpus = {row["corpus"]: row for row in others if row["runs"] == "this machine"}
    tiny, split = by_corpus["`tale.txt`"], by_corpus["`grimm`"]
    assert (tiny["layers"], tiny["steps"], tiny["training accuracy, report"]) == ("2 x 8", "100", "-")
    assert tiny["setting, where not the report's"] == "`dropout=0.1`"
    assert tiny["training loss"] == "3.900"
    assert (split["bits per character, validation"], split["bits per character, train"]) == ("2.125", "2.125")
    assert split["setting, where not the report's"] == "`validation_fraction=0.1`"
    assert [row["corpus"] for row in others if row["seeds"] == "not run"] == ["`darwin`", "`democracy`"]


@pytest.mark.parametrize("config", [{"eval_every": 4000}, {"precision": "default"}])
def test_accuracy_of_other_looks_or_products_does_not_stand_beside_the_reports(tmp_path, no_pictures, config):
    write_run(tmp_path / "kept" / "a", **config)
    (row,) = (row for row in table_rows(study.sections(read(tmp_path)), "Table 3") if row["seeds"] == "1")
    ((name, value),) = config.items()
    assert (row["training accuracy, report"], row["setting, where not the report's"]) == ("-", f"`{name}={value}`")


def test_intervals_do_not_leave_what_is_possible(tmp_path, no_pictures):
    write_run(tmp_path / "kept" / "a", [0], bits=[0.5])
    write_run(tmp_path / "kept" / "b", [1], bits=[1.5], looks=22)
    row, *_ = table_rows(study.sections(read(tmp_path)), "Table 3")
    assert row["training accuracy"] == "0.575 [0.000, 1.000]"
    assert row["bits per character, train"].startswith("1.000 [0.000, ")


def test_bits_that_are_no_number_are_a_remark(tmp_path, no_pictures):
    write_run(tmp_path / "kept" / "a", bits=[float("nan")])
    found = study.collect(read(tmp_path))
    assert found.arms == []
    assert "train_bits_per_character: Input should be a finite number" in found.remarks[0]


def test_the_best_look_at_the_validation_text(tmp_path, no_pictures):
    write_run(tmp_path / "own" / "a", validation_fraction=0.1, validation=True)
    write_run(tmp_path / "own" / "b", [0, 1], validation_fraction=0.1, validation=True, test_fraction=0.1)
    path = tmp_path / "own" / "b" / "validation.jsonl"
    looks = [json.loads(line) for line in path.read_text().splitlines()]
    looks[5]["bits_per_character"], looks[12 + 4]["bits_per_character"] = 1.0, 3.0
    looks[12 + 5]["bits_per_character"] = None
    path.write_text("".join(json.dumps(look) + "\n" for look in looks))

    without, with_test = table_rows(study.sections(read(tmp_path)), "Where each run was best")

    # The bits of the first run fall to its end; the other two have twelve looks each.
    assert (without["median step"], without["bits per character, validation"]) == ("1100", "3.900")
    assert (without["bits per character, test"], without["accuracy, test"]) == ("-", "-")
    assert (with_test["median step"], with_test["seeds"]) == ("450", "2")
    assert with_test["bits per character, validation"].startswith("2.000 [")
    assert with_test["bits per character, test"].startswith("5.550 [")
    assert with_test["accuracy, test"].startswith("0.135 [")


def test_what_the_readme_shows(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(study.plots, "png", lambda figure: drawn.append(figure) or b"drawn")
    assert study.summary([]) == ([], None, None)
    write_model(tmp_path)
    split = {"validation_fraction": 0.1, "test_fraction": 0.1}
    write_run(tmp_path / "kept" / "split", validation=True, **split)
    write_run(tmp_path / "own" / "mine", corpus="democracy", max_steps=50_000)
    sentence = {"step": 40_000, "prompt": "Once", "text": "Once upon"}
    write_claims(tmp_path / "kept" / "w30", holding().values(), completions=[sentence])

    (table, verdicts), written, picture = study.summary(read(tmp_path))

    rows = [dict(zip(table.columns, row, strict=True)) for row in table.rows]
    assert [row["character LSTM on"] for row in rows] == [
        "grimm",
        "grimm, validation_fraction=0.1, test_fraction=0.1",
        "grimm, seq_length=15, max_steps=10000",
        "grimm, seq_length=60, max_steps=10000",
    ]
    assert [row["report: training accuracy"] for row in rows] == ["0.70 to 0.75", "-", "-", "-"]
    assert list(rows[0].values())[1:5] == ["40000", "0.70 to 0.75", "0.325", "1.90"]
    assert [list(row.values())[5:] for row in rows[:2]] == [["-"] * 3, ["1100", "3.900", "4.900"]]
    assert verdicts.count("**holds**") == 4
    assert written.rows == [["grimm", "kept", "40000", "`Once`", "`Once upon`"]]
    assert picture == b"drawn"
    (figure,) = drawn
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["grimm", ""]


def test_measured_texts(tmp_path, no_pictures):
    write_model(tmp_path)
    table = table_rows(study.sections(read(tmp_path)), "What the texts are like")
    grimm = {(row["step"], row["start"], row["tau"]): row for row in table if row["corpus"] == "grimm"}
    assert len(grimm) == 8
    late = grimm["40000", "prompts", "greedy"]
    assert (late["texts"], late["median period"], late["distinct loops"]) == ("100", "30", "1")
    assert late["in a loop, 5000"] == "100 of 100: 1.00 [0.96, 1.00]"
    assert late["characters before it"] == "40"
    assert (late["mean words, 120"], late["known words, 120"], late["distinct 4-grams, 5000"]) == (
        "10.0",
        "0.900",
        "0.50",
    )
    assert grimm["40000", "every character", "greedy"]["in a loop, 5000"] == "4 of 7"
    book = grimm["-", "book", "-"]
    assert (book["median period"], book["characters before it"]) == ("-", "-")
    assert grimm["40000", "random characters", "0.5"]["known words, 120"] == "0.450"
    assert {row["corpus"] for row in table} == {
        "grimm",
        "grimm, seq_length=15, max_steps=10000",
        "grimm, seq_length=60, max_steps=10000",
    }
    (loop, *_) = table_rows(study.sections(read(tmp_path)), "The greedy loops")
    assert (loop["prompts"], loop["characters"], loop["loop"]) == ("100 of 100", "19", "`and the king said,⏎`")


def sample(step, tau, length, text, seed=0):
    run = {"run": f"seed={seed},learning_rate=0.002", "seed": seed, "step": step}
    return {**run, "tau": tau, "length": length, "text": text}


def test_every_character_of_a_text_is_seen():
    assert study.visible("a b") == "`a b`"
    assert study.visible(" a  b   c ") == "`␣a␣␣b␣␣␣c␣`"
    assert study.visible("a \n b\t") == "`a ⏎ b\N{REPLACEMENT CHARACTER}`"
    assert study.visible("") == ""


def test_samples_show_the_texts(tmp_path, no_pictures):
    greedy = [
        sample(step, None, length, f"{step} {length} {i}\n|`<b>", seed)
        for step in (2000, 40_000)
        for length in (15, 30, 120)
        for i in range(5)
        for seed in (0, 1)
    ]
    drawn = [sample(step, tau, 120, f"tau {tau}") for step in (2000, 40_000) for tau in (0.5, 1.0, 2.0)]
    write_run(tmp_path / "own" / "grimm", [0, 1], samples=[*greedy, *drawn])
    completion = {"step": 40_000, "prompt": "Evolutie is", "text": "Evolutie is\x85 a frog"}
    write_claims(tmp_path / "own" / "grimm", holding().values(), completions=[completion])

    sections = study.sections(read(tmp_path))

    table = table_rows(sections, "Samples of grimm (this machine), seed 0")
    assert len(table) == 2 * 3 * 2 + 3
    shown = {"step": "2000", "choice": "greedy", "characters": "15", "text": "`2000 15 0⏎|'<b>`"}
    assert table[0] == shown
    assert [(row["step"], row["choice"], row["text"]) for row in table[-3:]] == [
        ("40000", f"tau {tau:g}", f"`tau {tau}`") for tau in (0.5, 1.0, 2.0)
    ]
    (row,) = table_rows(sections, "The report's unfinished sentences")
    assert (row["sentence"], row["continued"]) == ("`Evolutie is`", "`Evolutie is\N{REPLACEMENT CHARACTER} a frog`")
    # On the page a text is one cell, whatever is in it.
    _, page = write_report(sections, tmp_path / "out")
    assert re.search(r"<td>15</td>\s*<td><code>2000 15 0⏎\|'&lt;b&gt;</code></td>\s*</tr>", page.read_text())


# --- Remarks, figures and the binary ----------------------------------------------------------------------------------


def test_what_is_damaged_is_remarked_upon(tmp_path, no_pictures):
    for name in ("claims", "samples", "validation", "setting", "result"):
        write_run(tmp_path / "own" / name, [len(name)], batch_size=len(name), validation=True)
    (tmp_path / "own" / "claims" / "claims.json").write_text('{"run": "seed=0"}')
    (tmp_path / "own" / "samples" / "samples.jsonl").write_text('{"run": 1}\n')
    (tmp_path / "own" / "validation" / "validation.jsonl").write_text("{")
    for name, file, old, new in (
        ("setting", "config.json", '"max_steps": 40000', '"max_steps": -1'),
        ("result", "results.json", "1.9", '"low"'),
    ):
        path = tmp_path / "own" / name / file
        path.write_text(path.read_text().replace(old, new, 1))

    sections = study.sections(read(tmp_path))

    (told,) = (section.blocks[0] for section in sections if section.title.endswith("remarks"))
    where = f"- `{tmp_path}/own"
    assert str(told).splitlines() == [
        f"{where}/result`: train_bits_per_character: Input should be a valid number, unable to parse string as a "
        "number: left out",
        f"{where}/setting`: max_steps: Input should be greater than or equal to 0: left out",
        f"{where}/claims`: claims.json is damaged (digest: Field required): left out",
        f"{where}/samples`: samples.jsonl: 1 damaged lines left out, the first is line 1",
        f"{where}/validation`: validation.jsonl: 1 damaged lines left out, the first is line 1",
    ]


def test_lists_of_different_lengths_are_damage(tmp_path):
    write_run(tmp_path / "kept" / "grimm")
    late = holding()["late"]
    late["measures"]["120"]["words"].pop()
    for entries, complaint in (
        ([late], "texts.0: Value error, the lists should have an entry for each text"),
        ([holding()["early"], texts(10_000, "prompts", num=3)], "Value error, texts from prompts should be as many"),
    ):
        write_claims(tmp_path / "kept" / "grimm", entries)
        (remark,) = study.collect(read(tmp_path)).remarks
        assert f"claims.json is damaged ({complaint}" in remark


def test_figures_have_a_column_for_each_corpus(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(study.plots, "seed_curves", lambda columns, colour: drawn.append(columns))
    monkeypatch.setattr(study.plots, "png", lambda figure: b"")
    write_run(tmp_path / "own" / "democracy", [0, 1], corpus="democracy", max_steps=50_000)
    write_run(tmp_path / "own" / "grimm", encoding="latin-1")
    write_run(tmp_path / "kept" / "darwin", corpus="darwin", max_steps=42_000)
    for window in (5, 6, 7, 8):
        write_run(tmp_path / "kept" / f"{window}", seq_length=window, validation_fraction=0.1, validation=window == 8)

    figures = [block for s in study.sections(read(tmp_path)) for block in s.blocks if isinstance(block, Figure)]

    assert [figure.path.removeprefix("figures/text_") for figure in figures] == [
        "kept_training.png",
        "kept_others.png",
        "kept_others_2.png",
        "kept_validation.png",
        "this_machine_training.png",
    ]
    titles = [[column.title for column in columns] for columns in drawn]
    assert titles[0] == ["darwin"]
    assert [len(some) for some in titles[1:3]] == [3, 1]
    assert titles[4] == ["grimm, latin-1", "democracy"]
    assert figures[4].caption.startswith("Training accuracy and loss of each run (the report's Figure 3 and 4)")
    democracy = drawn[4][1]
    assert democracy.labels == ["seed 0", "seed 1"]
    assert list(democracy.metrics) == ["accuracy", "loss"]
    np.testing.assert_allclose(democracy.metrics["loss"][1], 4 - 0.1 * np.arange(12))
    (validation,) = drawn[3]
    np.testing.assert_allclose(validation.metrics["bits per character"][0], 5 - 0.1 * np.arange(12))
    np.testing.assert_array_equal(validation.steps[0], 100 * np.arange(12))


def test_the_binary_shows_the_study_and_lists_imported_models(tmp_path, capsys):
    write_model(tmp_path)
    imported = tmp_path / "own" / "imported"
    imported.mkdir(parents=True)
    (imported / "config.json").write_text(json.dumps({"experiment": "imported text model", "config": CONFIG}))

    binary.report(tmp_path / "own", tmp_path / "kept", tmp_path / "out")

    shown = capsys.readouterr().out
    assert "Table 3 of the report" in shown
    (line,) = (line for line in shown.splitlines() if line.startswith(f"| `{imported}`"))
    assert "no study reports on this experiment" in line
    page = (tmp_path / "out" / "report.html").read_text()
    assert "Greedy samples longer than the training windows fall into loops" in page
    assert page.count("<img ") == 2
    assert "<li>" in page
