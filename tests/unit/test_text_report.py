"""Claims on made-up texts with known answers, one test for each rule, and the tables of made-up runs."""

import dataclasses
import itertools
import json

import numpy as np
import pytest
import scipy.stats
from directories import row, write_directory

from configs.text import Config
from experiments.text.records import BOOK, CENSUS, COMPLETIONS, FOLDER, PROMPTS, RANDOM, Completions, Kind, Texts
from experiments.text.report import ARMS, CLAIMS, GRIMM, NARROW, STUDY, WIDE
from jaxrnn.rundir.read import Run, read_directories
from jaxrnn.study.arms import Arm, Found, find_arms
from jaxrnn.study.claims import judge
from jaxrnn.study.format import visible
from jaxrnn.study.page import Figure, Section, Table, leaves
from jaxrnn.study.report import make_sections

NUM = 100


def texts(kind, *, looping=NUM, period=30, words=(10,), known=(0.9,), num=NUM):
    """Texts of which so many end in a loop, the values repeated in turn."""

    def cycled(values):
        return list(itertools.islice(itertools.cycle(values), num))

    loop = [0 if i < looping else -1 for i in range(num)]
    periods = [p if i < looping else 0 for i, p in enumerate(cycled(np.atleast_1d(period).tolist()))]
    shares = {"ngrams": [0.5] * num, "short_ngrams": [0.5] * num}
    lists = {"period": periods, "short_period": periods, "loop_start": [40] * num, "loop": loop, "words": cycled(words)}
    loops = ["and the king said,\n"] if looping else []
    return Texts(run="seed=0", **kind._asdict(), **lists, known_words=cycled(known), **shares, loops=loops)


EARLY, MIDDLE, LATE = (Kind(step, PROMPTS) for step in (2000, 10_000, 40_000))
DRAWN = {tau: Kind(40_000, RANDOM, tau) for tau in (0.5, 1.0, 2.0)}


def holding():
    """By window, the texts of models of which all claims hold."""
    drawn = {0.5: (0.4, 0.5), 1.0: (0.8, 0.9), 2.0: (0.9, 1.0)}
    grimm = [texts(EARLY, period=18, words=(2,)), texts(MIDDLE), texts(LATE)]
    grimm += [texts(DRAWN[tau], looping=0, known=known) for tau, known in drawn.items()]
    return {30: grimm, 15: [texts(MIDDLE, period=15)], 60: [texts(MIDDLE, period=60)]}


def write_texts(path, some):
    (path / FOLDER).mkdir(parents=True)
    for one in some:
        (path / one.kind.file).write_text(one.model_dump_json())


@pytest.fixture
def judged(tmp_path):
    """Judges models of which all claims hold, but for texts that are changed: verdicts and, by part, sides."""

    def judged(*changed, window=30):
        arms = []
        for width, fields in {15: NARROW, 30: GRIMM, 60: WIDE}.items():
            mine = {one.kind: one for one in holding()[width]}
            mine |= {one.kind: one for one in changed} if width == window else {}
            write_texts(tmp_path / str(width), mine.values())
            setting, run = ARMS.of_fields(fields), Run("seed=0", 0, {}, tmp_path / str(width), row(0))
            arms.append(Arm(ARMS.name(setting), setting, "archive", [run]))
        found = judge(CLAIMS, Found(ARMS, arms))
        sides = {}
        for part, one in [pair for j in found for pair in zip(j.claim.parts, j.findings, strict=True)]:
            sides.setdefault(part.name, []).append(one.side)
        return {j.claim.key: j.verdict for j in found}, sides

    return judged


def clears(count, threshold):
    """On which side of the threshold the Clopper-Pearson interval of so many of 100 lies, by the binomial's tails."""
    above = scipy.stats.binom.sf(count - 1, NUM, threshold) < 0.025
    below = scipy.stats.binom.cdf(count, NUM, threshold) < 0.025
    return int(above) - int(below)


def test_all_claims_may_hold(judged):
    verdicts, sides = judged()
    assert verdicts == dict.fromkeys("abcd", "holds")
    counts = {"a1": 1, "a2": 4, "b1": 2, "b2": 3, "b3": 1, "c1": 2, "c2": 1, "d": 3}
    assert sides == {name: [None if name == "b3" else 1] * count for name, count in counts.items()}


@pytest.mark.parametrize("count", [100, 61, 60, 40, 39])
def test_a1_is_about_loops_over_one_to_three_words(judged, count):
    # Four words, no word at all, and three words without a loop do not count.
    others = itertools.cycle([(18, 4), (18, 0), (0, 3)])
    pairs = [(18, 1 + i % 3) if i < count else next(others) for i in range(NUM)]
    early = texts(EARLY, words=[words for _, words in pairs])
    early.short_period = [period for period, _ in pairs]
    assert judged(early)[1]["a1"] == [clears(count, 0.5)]


@pytest.mark.parametrize("count", [72, 73, 87, 88])
def test_a2_counts_texts_of_eight_words(judged, count):
    assert judged(texts(MIDDLE, words=[8] * count + [7] * (NUM - count)))[1]["a2"] == [clears(count, 0.8), 1, 1, 1]


@pytest.mark.parametrize(("before", "side"), [(2, 1), (9, 0), (20, -1)])
def test_a2_compares_the_same_prompts(judged, before, side):
    assert judged(texts(EARLY, words=(before,)), texts(MIDDLE, words=(8, 10)))[1]["a2"][2] == side


@pytest.mark.parametrize("count", [71, 80, 88])
def test_b1_counts_loops(judged, count):
    assert judged(texts(LATE, looping=count))[1]["b1"] == [1, clears(count, 0.8)]


# W / sqrt(2) and W sqrt(2) are 10.6 and 21.2, 42.4 and 84.9.
@pytest.mark.parametrize(
    ("window", "period", "side"),
    [(15, 10, -1), (15, 11, 1), (15, 21, 1), (15, 22, -1), (60, 42, -1), (60, 43, 1), (60, 85, -1), (15, (10, 15), 0)],
)
def test_b2_is_about_the_median_period(judged, window, period, side):
    verdicts, sides = judged(texts(MIDDLE, period=period, looping=90), window=window)
    assert sides["b2"] == ([side, 1, 1] if window == 15 else [1, 1, side])
    assert verdicts["b"] == {1: "holds", 0: "undecided", -1: "does not hold"}[side]


# Where all n texts know more words, the sign-flip test has p = 2 / 2^n; it counts twice after Holm's correction.
@pytest.mark.parametrize(("num", "side"), [(6, 0), (7, 1)])
def test_c1_is_corrected_for_two(judged, num, side):
    some = [texts(DRAWN[tau], known=(known,), num=num) for tau, known in ((0.5, 0.5), (1.0, 0.6), (2.0, 0.7))]
    assert judged(*some)[1]["c1"] == [side, side]


def test_c1_leaves_out_texts_without_a_word(judged):
    assert judged(texts(DRAWN[1.0], looping=0, known=(None, 0.3)))[1]["c1"] == [-1, 1]


@pytest.mark.parametrize(("known", "side"), [((0.7,), 1), ((0.5, 1.0), 0), ((0.76,), -1)])
def test_c2_is_about_known_words(judged, known, side):
    assert judged(texts(DRAWN[0.5], looping=0, known=known))[1]["c2"] == [side]


@pytest.mark.parametrize("count", [1, 2, 10, 11])
def test_d_counts_loops_of_drawn_texts(judged, count):
    assert judged(texts(DRAWN[2.0], looping=count))[1]["d"] == [1, 1, -clears(count, 0.05)]


@pytest.mark.parametrize(("count", "verdict"), [(61, "does not hold"), (60, "does not hold"), (39, "undecided")])
def test_d_needs_something_to_escape_from(judged, count, verdict):
    assert judged(texts(LATE, looping=count), texts(DRAWN[2.0], looping=50))[0]["d"] == verdict


# --- Runs -------------------------------------------------------------------------------------------------------------


def write_run(path, seeds=(0,), **fields):
    """Runs whose loss falls from 4 by 0.1 an evaluation, on the validation text too."""
    config = dataclasses.asdict(Config(**{"corpus": "grimm", "encoding": "latin-1", "eval_every": 4000} | fields))
    rows = [row(seed, config["max_steps"], train_bits_per_character=1.9 + seed) for seed in seeds]
    steps = range(0, config["max_steps"] + 1, 4000)
    curve = [(step, {"loss": 4 - 0.1 * i, "accuracy": 0.05 * i}) for i, step in enumerate(steps)]
    write_directory(path, "text", config, rows, curves={one["run"]: curve for one in rows}, data={"sha256": "0"})
    return path


def found(root):
    return find_arms(ARMS, [(one, "own") for one in read_directories(root)], lambda run: None)


def test_a_text_is_known_by_its_files_name_and_a_book_of_the_paper_by_its_setting(tmp_path):
    write_run(tmp_path / "a", eval_every=100)
    write_run(tmp_path / "b", corpus="/books/tale.txt", encoding="utf-8", eval_every=100, num_layers=1, dropout=0.5)
    write_run(tmp_path / "c", encoding="utf-8", eval_every=100)
    arms = {arm.title: ARMS.is_paper(arm) for arm in found(tmp_path).arms}
    assert arms == {"grimm": True, "tale.txt, num_layers=1": False, "grimm, encoding=utf-8": False}


def test_the_page_shows_texts_samples_and_best_evaluations(tmp_path):
    path = write_run(tmp_path / "a", validation_fraction=0.1)
    bits = [{"step": 4000 * i, "bits_per_character": 5 - 0.1 * i, "accuracy": 0.04 * i} for i in range(5)]
    bits[2]["bits_per_character"] = 1.0
    samples = [{"step": 40_000, "tau": None, "length": 15, "text": f"text {i}"} for i in range(5)]
    for name, lines in {"validation.jsonl": bits, "samples.jsonl": samples}.items():
        (path / name).write_text("".join(json.dumps({"run": "seed=0", "seed": 0, **line}) + "\n" for line in lines))
    write_texts(path, [texts(LATE), texts(Kind(None, BOOK), looping=0), texts(Kind(40_000, CENSUS), looping=3, num=7)])
    completed = Completions(run="seed=0", step=40_000, sentences={"Once": "Once upon"})
    (path / COMPLETIONS).write_text(completed.model_dump_json())
    write_run(tmp_path / "paper", eval_every=100)

    sections = make_sections([STUDY], [(one, "own") for one in read_directories(tmp_path)])
    tables, todo = {}, [*sections]
    while todo:
        block = todo.pop()
        todo += block.blocks if isinstance(block, Section) else []
        if isinstance(block, Table):
            tables[block.caption] = [dict(zip(block.columns, line, strict=True)) for line in block.rows]

    def table(caption):
        return next(rows for title, rows in tables.items() if title.startswith(caption))

    assert table("Where runs were best")[0]["step at best"] == "8000"
    census, late, book = table("What the texts are like")
    assert (late["median period"], late["characters before it"], book["median period"]) == ("30", "40", "-")
    assert census["in a loop, 5000"] == "3 of 7"
    assert table("The greedy loops")[0]["loop"] == visible("and the king said,\n")
    assert [one["text"] for one in table("Samples of grimm")] == ["`text 0`", "`text 1`"]
    assert table("The paper's unfinished")[0]["continued"] == "`Once upon`"


def test_the_page_of_a_text_of_ones_own_shows_its_validation_text(tmp_path):
    path = write_run(tmp_path / "a", corpus="tale.txt", validation_fraction=0.1)
    bits = [{"step": 4000 * i, "bits_per_character": 5 - 0.1 * i, "accuracy": 0.04 * i} for i in range(5)]
    lines = [json.dumps({"run": "seed=0", "seed": 0, **line}) + "\n" for line in bits]
    (path / "validation.jsonl").write_text("".join(lines))
    sections = make_sections([STUDY], [(one, "own") for one in read_directories(tmp_path)])
    shown = [block for block in leaves(sections) if isinstance(block, Table | Figure)]
    assert any(one.caption.startswith("Where runs were best") for one in shown)
    assert "text_validation" in [one.name for one in shown if isinstance(one, Figure)]


def test_a_damaged_file_is_left_out_and_what_is_missing_decides_nothing(tmp_path):
    path = write_run(tmp_path / "a", eval_every=100)
    write_texts(path, [texts(LATE)])
    (path / EARLY.file).write_text("{")
    judgements = judge(CLAIMS, found(tmp_path))
    assert [one.verdict for one in judgements] == ["undecided"] * 4
    assert "not measured: grimm, step 2000" in judgements[0].findings[0].evidence


def test_every_character_of_a_text_is_seen():
    assert visible(" a  b\nc\t") == "`␣a␣␣b⏎c\N{REPLACEMENT CHARACTER}`"
