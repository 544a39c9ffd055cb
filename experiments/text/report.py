"""What the character LSTM's runs show: Table 3, Figures 3 to 5, samples, and the claims (Soons 2020, Question 2).

Claims are judged by the texts that `experiments.text.generate` measured. Their rules were fixed before the runs were
seen, except for the length of the long texts: 500 characters show no loop of over 166, and most loops are longer.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import groupby, islice
from math import inf, sqrt
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from configs.text import Config
from experiments.text.build import NAME, SAMPLES, TAUS, VALIDATION, build, build_model, check, describe_corpus
from experiments.text.measures import MIN_TAIL
from experiments.text.records import BOOK, CENSUS, LONG, PROMPTS, RANDOM, SHORT, Completions, Kind, Texts, read_texts
from jaxrnn.cells import CELLS
from jaxrnn.rundir.read import read_lines
from jaxrnn.study import stats
from jaxrnn.study.arms import Arm, ArmScheme, Found, Setting
from jaxrnn.study.claims import Claim, Finding, Part, side_of
from jaxrnn.study.figures import SeedCurves
from jaxrnn.study.format import NONE, SIGNS, code, format_estimate, format_p, format_share, visible
from jaxrnn.study.page import Block, Section, Table
from jaxrnn.study.quantities import Mean, at_best, last_mean, result
from jaxrnn.study.study import ArmTable, Evidence, Study

# Table 3 and Figures 3 to 5; what they leave open is as in their author's code.
PAPER_STEPS = {"grimm": 40_000, "democracy": 50_000, "darwin": 42_000}
PUBLISHED_ACCURACY = {"grimm": "0.70 to 0.75"}  # On the training windows (Question 2.1a).
TABLED: Sequence[Setting] = [{"corpus": corpus} for corpus in PAPER_STEPS]
GRIMM = TABLED[0]
EARLY, MIDDLE, LATE = 2000, 10_000, 40_000
NARROW, WIDE = ({**GRIMM, "seq_length": window, "max_steps": MIDDLE} for window in (15, 60))

# --- Quantities and arms ----------------------------------------------------------------------------------------------

_LAST = 10
loss = Mean("training loss", last_mean("loss", _LAST), ".3f", (0, inf), is_better="smaller")
accuracy = Mean("training accuracy", last_mean("accuracy", _LAST), ".3f", (0, 1))
BITS = [
    Mean(f"bits per character, {part}", result(key, optional=True), ".3f", (0, inf), is_better="smaller")
    for part in ("train", "validation", "test")
    for key in [f"{part}_bits_per_character"]
]
BEST = [
    Mean(f"{name} at best", at_best(metric, "bits_per_character", VALIDATION), form, (0, most))
    for name, metric, form, most in (
        ("step", "step", ".0f", inf),
        ("validation bits", "bits_per_character", ".3f", inf),
        ("validation accuracy", "accuracy", ".3f", 1),
        ("test bits", "test_bits_per_character", ".3f", inf),
        ("test accuracy", "test_accuracy", ".3f", 1),
    )
]
"""Values at the evaluation at which a run needed the fewest bits for its validation text."""


def _table_3(setting: Setting) -> Config:
    """The setting of Table 3 for a book of the paper, else the defaults."""
    corpus = setting["corpus"]
    steps = PAPER_STEPS.get(corpus)
    return Config(corpus=corpus, encoding="latin-1", max_steps=steps) if steps else Config(corpus=corpus)


def _normalize(setting: dict[str, Any]) -> dict[str, Any]:
    """Identifies a file by its name (another text of that name has another digest); one layer has no dropout."""
    dropout = setting["dropout"] if setting["num_layers"] > 1 else 0.0
    return {**setting, "corpus": Path(setting["corpus"]).name, "dropout": dropout}


ARMS = ArmScheme(
    Config,
    ["corpus"],
    lambda setting: str(setting["corpus"]),
    problem=["corpus"],
    paper=[*TABLED, NARROW, WIDE],
    defaults=_table_3,
    normalize=_normalize,
)


def _is_other(arm: Arm) -> bool:
    """Whether the arm differs from Table 3."""
    return all(arm.setting != ARMS.of_fields(setting) for setting in TABLED)


# --- Measured texts ---------------------------------------------------------------------------------------------------


def find_texts(arm: Arm | None) -> tuple[dict[Kind, Texts], Completions | None]:
    """The measured texts and the completions of the arm's first run, by seed, that has any; empty without one."""
    for run in arm.runs if arm else ():
        texts, completions, _ = read_texts(run.path)
        if mine := {one.kind: one for one in texts if one.run == run.name}:
            return mine, completions
    return {}, None


def _loops(texts: Texts) -> NDArray[np.bool_]:
    """Whether each text ends in a loop."""
    return np.array(texts.period) > 0


def _known(texts: Texts) -> NDArray[np.float64]:
    """Share of known words by text, NaN where there is no word."""
    return np.array(texts.known_words, np.float64)


def _mean(values: NDArray[Any]) -> stats.Estimate:
    return stats.bootstrap(values[~np.isnan(values)], np.mean)


# --- Claims -----------------------------------------------------------------------------------------------------------


Wanted = tuple[Setting, Kind]


def _part(name: str, rule: str, judge: Callable[..., Finding], *wanted: Wanted, family: str = "") -> Part:
    """A part that is judged by texts of some arms' models; undecided where there are none."""

    def find(found: Found) -> Finding:
        arms = [found.arm(setting) for setting, _ in wanted]
        texts = [find_texts(arm)[0].get(kind) for arm, (_, kind) in zip(arms, wanted, strict=True)]
        if None in texts:
            setting, kind = wanted[texts.index(None)]
            command = code("python -m experiments.text.generate --workdir=DIR")
            return Finding(0, f"not measured: {found.title(setting)}, {kind} ({command})")
        finding = judge(*texts)
        return replace(finding, evidence=f"{wanted[0][1]}: {finding.evidence}", arms=[arm for arm in arms if arm])

    return Part(find, rule, family, name)


def _share(
    name: str, what: str, counts: Callable[[Texts], NDArray[np.bool_]], wanted: Wanted, low: float, high: float = inf
) -> Part:
    """The share of the texts that count lies between two thresholds."""

    def judge(texts: Texts) -> Finding:
        share = int(counts(texts).sum()), len(texts.loop)
        return Finding(side_of(stats.proportion(*share), low, high), f"{format_share(*share)} {what}")

    limit = f"above {low:g}" if high == inf else f"below {high:g}"
    return _part(name, f"share of texts that {what}: the 95 % interval lies {limit}", judge, wanted)


def _repeat_few_words(texts: Texts) -> NDArray[np.bool_]:
    return (np.array(texts.short_period) > 0) & np.isin(texts.words, (1, 2, 3))


def _more_words(later: Texts, earlier: Texts) -> Finding:
    rise = _mean(np.subtract(later.words, earlier.words))
    shown = f"distinct words minus those at step {earlier.step}: {format_estimate(rise, '+.1f')}"
    return Finding(side_of(rise, 0), shown)


def _period_near(window: int, wanted: Wanted) -> Part:
    low, high = window / sqrt(2), window * sqrt(2)

    def judge(texts: Texts) -> Finding:
        periods = np.array(texts.period)[_loops(texts)]
        median = stats.bootstrap(periods, np.median)
        shown = f"W={window}: median period {format_estimate(median, 'g')} of {len(periods)} texts"
        return Finding(side_of(median, low, high), f"{shown} in {max(texts.loop) + 1} distinct loops")

    rule = f"W={window}: the 95 % interval of the median period of the loops lies in {low:.1f} to {high:.1f}"
    return _part("b2", rule, judge, wanted)


def _compare_periods(wide: Texts, narrow: Texts) -> Finding:
    periods = [np.array(texts.period)[_loops(texts)] for texts in (wide, narrow)]
    ratio = f"{np.divide(*map(np.median, periods)):.2f}" if all(map(len, periods)) else "not known"
    return Finding(None, f"median period at W=60 over that at W=15: {ratio}")


def _more_known(more: Texts, less: Texts) -> Finding:
    rise = _known(more) - _known(less)
    mean, p = _mean(rise), stats.sign_flip(rise[~np.isnan(rise)])
    shown = f"share of known words minus that at tau {less.tau:g}: {format_estimate(mean, '+.3f')}, {format_p(p)}"
    return Finding(int(np.sign(mean.value or 0)), shown, p)


def _gibberish(texts: Texts) -> Finding:
    mean = _mean(_known(texts))
    return Finding(side_of(mean, -inf, 0.75), f"share of known words: {format_estimate(mean, '.3f')}")


def _if_caught(part: Part) -> Part:
    """A part of (d), undecided where greedy texts do not end in loops."""

    def find(found: Found) -> Finding:
        finding, escapes = part.find(found), _CAUGHT.find(found).side == -1
        return replace(finding, side=0, evidence=f"{finding.evidence}; nothing to escape from") if escapes else finding

    return replace(part, find=find)


_LOOP = f"end in a loop within {LONG} characters"
_FEW = f"loop over 1 to 3 distinct words in {SHORT} characters"
_MANY = f"have 8 distinct words or more in {SHORT} characters"
_RISE = f"distinct words in {SHORT} characters: the 95 % interval of the mean rise lies above 0"
_RISES = f"share of known words in {SHORT} characters: it rises with tau, p < 0.05 after Holm's correction over both"
_IS_LOW = (
    "share of known words: the 95 % interval lies below 0.75; a Markov chain of order 3 that knows the book has 0.76"
)
_GREEDY = {step: (GRIMM, Kind(step, PROMPTS)) for step in (EARLY, MIDDLE, LATE)}
_DRAWN = {tau: (GRIMM, Kind(LATE, RANDOM, tau)) for tau in TAUS}
_BY_WINDOW = {15: (NARROW, Kind(MIDDLE, PROMPTS)), 30: _GREEDY[LATE], 60: (WIDE, Kind(MIDDLE, PROMPTS))}
_CAUGHT = _share("d", _LOOP, _loops, _GREEDY[LATE], 0.5)

CLAIMS = [
    Claim(
        "a",
        "Early samples repeat one to three words, later ones form phrases",
        [
            _share("a1", _FEW, _repeat_few_words, _GREEDY[EARLY], 0.5),
            *(_share("a2", _MANY, lambda texts: np.array(texts.words) >= 8, _GREEDY[s], 0.8) for s in (MIDDLE, LATE)),
            *(_part("a2", _RISE, _more_words, _GREEDY[s], _GREEDY[EARLY]) for s in (MIDDLE, LATE)),
        ],
    ),
    Claim(
        "b",
        "Greedy samples longer than the training windows fall into loops that are roughly as long as these windows",
        [
            *(_share("b1", _LOOP, _loops, _GREEDY[step], 0.8) for step in (MIDDLE, LATE)),
            *(_period_near(window, wanted) for window, wanted in _BY_WINDOW.items()),
            _part("b3", "", _compare_periods, _BY_WINDOW[60], _BY_WINDOW[15]),
        ],
    ),
    Claim(
        "c",
        "A lower tau is more random, and tau = 0.5 gives gibberish",
        [
            _part("c1", _RISES, _more_known, _DRAWN[1], _DRAWN[0.5], family="c1"),
            _part("c1", _RISES, _more_known, _DRAWN[2], _DRAWN[1], family="c1"),
            _part("c2", _IS_LOW, _gibberish, _DRAWN[0.5]),
        ],
    ),
    Claim(
        "d",
        "Sampling with a tau of 1 or 2 escapes the loops",
        [_if_caught(part) for part in (_CAUGHT, *(_share("d", _LOOP, _loops, _DRAWN[t], -1, 0.05) for t in (1, 2)))],
    ),
]

# --- Tables -----------------------------------------------------------------------------------------------------------


def _texts_cells(texts: Texts) -> dict[str, str]:
    known, loops, trials = _known(texts), _loops(texts), len(texts.loop)

    def share(counted: int) -> str:
        return f"{counted} of {trials}" if texts.start == CENSUS else format_share(counted, trials)

    def median(values: Sequence[int]) -> str:
        found = np.array(values)[loops]
        return f"{np.median(found):g}" if found.size else NONE

    return {
        "step": NONE if texts.step is None else str(texts.step),
        "start": texts.start,
        "tau": NONE if texts.start == BOOK else "greedy" if texts.tau is None else f"{texts.tau:g}",
        "texts": str(trials),
        f"in a loop, {SHORT}": share(sum(period > 0 for period in texts.short_period)),
        f"in a loop, {LONG}": share(int(loops.sum())),
        "median period": median(texts.period),
        "characters before it": median(texts.loop_start),
        "distinct loops": str(max(texts.loop) + 1),
        f"mean words, {SHORT}": f"{np.mean(texts.words):.1f}",
        f"known words, {SHORT}": NONE if np.isnan(known).all() else f"{np.nanmean(known):.3f}",
        f"distinct 4-grams, {SHORT}": f"{np.mean(texts.short_ngrams):.2f}",
        f"distinct 4-grams, {LONG}": f"{np.mean(texts.ngrams):.2f}",
    }


def _texts(evidence: Evidence) -> list[Block]:
    """What the texts of each kind are like, the loops that most prompts lead to, and what is damaged."""
    rows, loops = [], []
    for title, arm in evidence.rows():
        for texts in find_texts(arm)[0].values():
            rows.append({"arm": title, **_texts_cells(texts), "source": evidence.cite(arm.paths if arm else [])})
            for number, loop in enumerate(texts.loops[:5] if texts.start == PROMPTS else ()):
                count = f"{texts.loop.count(number)} of {len(texts.loop)}"
                loops.append([title, str(texts.step), count, str(len(loop)), visible(loop)])
    remarks = [f"- {remark}" for one in evidence.directories for remark in read_texts(one.path)[2]]
    blocks: list[Block] = ["\n".join(remarks)] if remarks else []
    if rows:
        caption = f"What the texts are like, in {SHORT} and in {LONG} characters"
        columns = ["arm", "step", "prompts", "characters", "loop"]
        blocks += [_NOTE, Table(caption, [*rows[0]], [[*row.values()] for row in rows])]
        blocks.append(Table(f"The greedy loops that most prompts lead to; {SIGNS}", columns, loops))
    return blocks


_NOTE = f"""\
A loop is a tail that repeats exactly up to the end of the text, at least three times and over at least {MIN_TAIL}
characters; one that is longer than a third of the text, or that began late, is missed. *{CENSUS}* is a census and
needs no interval; *{BOOK}* stands for windows of the book itself. Words are those of the loop, or of the whole text
where there is none; they are known if they occur in the book."""


def sentences(evidence: Evidence) -> list[Table]:
    """The paper's unfinished sentences, continued."""
    rows = [
        [title, str(completions.step), visible(start), visible(text)]
        for title, arm in evidence.rows()
        if (completions := find_texts(arm)[1])
        for start, text in completions.sentences.items()
    ]
    caption = f"The paper's unfinished sentences, continued with tau = 2; {SIGNS}"
    return [Table(caption, ["arm", "step", "sentence", "continued"], rows)] if rows else []


def _samples(evidence: Evidence) -> list[Section]:
    """Two samples of each kind from each arm's first run: greedy ones by step and length, the last step's by tau."""
    sections = []
    for title, arm in [(title, arm) for title, arm in evidence.rows() if arm]:
        run, rows = arm.runs[0], []
        samples = [row for row in read_lines(run.path / SAMPLES)[0] if row["run"] == run.name]
        for (step, tau, length), some in groupby(samples, itemgetter("step", "tau", "length")):
            if tau is None or step == samples[-1]["step"]:
                choice = "greedy" if tau is None else f"tau {tau:g}"
                rows += [[str(step), choice, str(length), visible(row["text"])] for row in islice(some, 2)]
        if rows:
            caption = f"Samples of {title}, from random first characters; {SIGNS}"
            table = Table(caption, ["step", "choice", "characters", "text"], rows)
            sections.append(Section(f"Samples of {title}", [table], is_folded=True, name=f"text samples {title}"))
    return sections


# --- The study --------------------------------------------------------------------------------------------------------

_PUBLISHED = ("training accuracy, Soons (2020)", lambda arm: PUBLISHED_ACCURACY.get(arm.title, NONE))
_SETTING = [
    ("encoding", lambda arm: str(arm.setting["encoding"])),
    ("window", lambda arm: str(arm.setting["seq_length"])),
    ("steps", lambda arm: str(arm.setting["max_steps"])),
]
_MEASURED = [quantity.cells for quantity in (loss, accuracy, *BITS)]
_BEST = [quantity.cells for quantity in BEST]
_CURVES = {"accuracy": "accuracy", "loss": "loss"}
_HELD_OUT = {"accuracy": "accuracy", "bits_per_character": "bits per character"}
_AT_BEST = ArmTable("Where runs were best on their validation text", _BEST, lambda arm: bool(BEST[0].values(arm)))
_VALIDATION_CURVES = SeedCurves("text_validation", "On the validation text", _HELD_OUT, file=VALIDATION)

STUDY = Study(
    name=NAME,
    title="Character LSTM",
    config=Config,
    build=build,
    choices={"cell": CELLS},
    model=lambda config, data: build_model(config, data["characters"]),
    check=check,
    data=describe_corpus,
    arms=ARMS,
    quantities=[accuracy, loss, *BITS],
    claims=CLAIMS,
    headline=ArmTable("Table 3 and what came of it", [_PUBLISHED, accuracy.cells, BITS[0].cells, *_BEST]),
    sections={
        "Table 3": [
            ArmTable("Table 3 and what came of it", [*_SETTING, _PUBLISHED, *_MEASURED], TABLED),
            ArmTable("Runs of other settings", [*_SETTING, *_MEASURED], _is_other),
            _AT_BEST,
        ],
        "Figures 3 to 5": [
            SeedCurves("text_training", "Training accuracy and loss of each run (Figures 3 to 5)", _CURVES, TABLED),
            SeedCurves("text_others", "Training accuracy and loss, other settings", _CURVES, _is_other),
            _VALIDATION_CURVES,
        ],
        "Measured texts (claims a to d)": [_texts],
        "Samples": [_samples, sentences],
    },
    pictures=[_AT_BEST, _VALIDATION_CURVES, _samples],
    note=(
        f"Training loss (nats) and accuracy are means over a run's last {_LAST} evaluations, or over the second half "
        "if these are fewer. Bits per character are measured once a run has ended, with the state carried through the "
        "text: on the first 100 000 characters of the training text, and on the validation and test texts after it, "
        "which the paper does not have. There is one model for each setting of the claims, so their intervals resample "
        "prompts and hold for that model, not for others of the same setting. Texts continue prompts of 5 to 30 "
        "characters from the book, or random characters."
    ),
    tiny={
        **{"hidden_size": 4, "embedding_size": 3, "batch_size": 2, "seq_length": 5, "max_steps": 6, "num_seeds": 2},
        **{"eval_every": 2, "chunk_steps": 2, "sample_steps": (2,)},
    },
)
