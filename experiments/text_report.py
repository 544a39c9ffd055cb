"""The character LSTM's part of the report: Table 3, Figures 3 to 5, samples, and a verdict on each claim.

The verdicts are taken from kept runs on Grimm with the settings of Table 3, by the texts that `experiments.text_claims`
measured; (b2) also from runs that differ in nothing but the training window W and the number of steps. Texts continue
prompts of 5 to 30 characters that were cut from the book, where no other start is named; the prompt is no part of them.
A part of a claim holds where its 95 % interval lies wholly on the claim's side, does not hold where it lies wholly on
the other one, and is undecided in between. A claim holds if all its parts do, and does not hold if one does not. There
is one trained model for each setting: an interval resamples prompts, and holds for that model, not for others that were
trained in the same way. The rules were fixed before the runs were seen, but for the length of the long texts: it was
500, which shows no loop of more than 166 characters, and most loops turned out to be longer. The rules:

- (a1) Step 2000, greedy, the first 120 characters: the share of texts that end in a loop over 1 to 3 distinct words is
  above 0.5 (Clopper-Pearson).
- (a2) The same at steps 10 000 and 40 000: the share of texts with 8 distinct words or more (of the loop, or of the
  text where there is none) is above 0.8, and the mean of these numbers is higher than at step 2000 (bootstrap of the
  paired differences).
- (b1) W = 30, greedy, 5000 characters, steps 10 000 and 40 000: the share of texts that end in a loop is above 0.8.
- (b2) W = 15, 30 and 60, greedy, 5000 characters, last step: the median period of the texts that end in a loop lies in
  [W / sqrt(2), W sqrt(2)) (bootstrap of these texts).
- (b3) No verdict but a description: the ratio of the medians at W = 60 and 15, and the number of distinct loops.
- (c1) Last step, random first characters, the first 120 characters: the mean share of generated words that occur in the
  book rises from tau 0.5 to 1 and from 1 to 2 (permutation test of the paired differences, p < 0.05 after Holm's
  correction over the two).
- (c2) At tau 0.5 this mean is below 0.75; a Markov chain of order 3 that was fitted to the book has 0.76.
- (d) Last step, 5000 characters: the share of texts that end in a loop is below 0.05 at tau 1 and at tau 2, from random
  first characters, while that of greedy texts is above 0.5. Where the latter is below, there is nothing to escape from.
"""

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
import scipy
from numpy.typing import NDArray
from pydantic import BaseModel, Field, FiniteFloat, ValidationError

from experiments.text import LENGTHS, SAMPLES, TAUS, VALIDATION
from experiments.text_claims import BOOK, CENSUS, CLAIMS, LONG, PROMPTS, RANDOM, SHORT, Claims, Start, Texts
from experiments.text_measures import MIN_TAIL
from jaxrnn.study import plots, stats
from jaxrnn.study.report import (
    KINDS,
    NONE,
    NOT_RUN,
    Arm,
    Block,
    Curve,
    Figure,
    Kind,
    Lane,
    Run,
    Section,
    Table,
    code,
    describe,
    fraction,
    interval,
    merge_arms,
    paths,
    read_curves,
    side,
    study_figure,
    valid_runs,
)

EXPERIMENT = "text"

# The report's Table 3; what it leaves open is as in its author's code.
REPORTED = {
    "cell": "lstm",
    "num_layers": 2,
    "hidden_size": 512,
    "embedding_size": 60,
    "seq_length": 30,
    "batch_size": 64,
    "learning_rate": 0.002,
    "learning_rate_decay": 1.0,
    "dropout": 0.0,
    "carry_state": False,
    "clip_norm": 5.0,
    "validation_fraction": 0.0,
    "test_fraction": 0.0,
    "eval_every": 100,
    "precision": "highest",
}
REPORTED_STEPS = {"grimm": 40_000, "darwin": 42_000, "democracy": 50_000}
PUBLISHED_ACCURACY = {"grimm": "0.70 to 0.75"}
"""Of the training windows after 40 000 steps (report, Question 2.1a)."""
FIGURE_NUMBERS = {"grimm": 3, "democracy": 4, "darwin": 5}

EARLY, MIDDLE, LATE = 2000, 10_000, 40_000
WINDOW, WINDOWS = 30, (15, 30, 60)
FEW, FEW_SHARE = 3, 0.5  # (a1)
MANY, MANY_SHARE = 8, 0.8  # (a2)
LOOPING_SHARE = 0.8  # (b1)
ALPHA = 0.05  # (c1)
GIBBERISH_SHARE = 0.75  # (c2)
ESCAPED_SHARE, CAUGHT_SHARE = 0.05, 0.5  # (d)
LAST_LOOKS = 10

Verdict = Literal["holds", "does not hold", "undecided", "nothing to escape from"]

CLAIMS_MADE = {
    "a": "Early samples repeat one to three words, later ones form phrases",
    "b": "Greedy samples longer than the training windows fall into loops that are roughly as long as these windows",
    "c": "A lower tau is more random, and tau = 0.5 gives gibberish",
    "d": "Sampling with a tau of 1 or 2 escapes the loops",
}

NEWLINE, SPACE, UNPRINTABLE = "\N{RETURN SYMBOL}", "\N{OPEN BOX}", "\N{REPLACEMENT CHARACTER}"
_SIGNS = f"{NEWLINE} is a new line, {SPACE} a space beside another or at an end"
_UNSEEN_SPACE = re.compile("(?<![^ ]) | (?![^ ])")
_METRICS = ("accuracy", "loss")
_COLUMNS = 3
_SAMPLES_SHOWN = 2
_LOOPS_SHOWN = 5


class Model(NamedTuple):
    """An arm's one run that texts were measured of."""

    arm: Arm
    path: Path
    claims: Claims

    @property
    def last(self) -> int:
        """The last step of its training, which is always kept."""
        return int(self.arm.config["max_steps"])


class Collected(NamedTuple):
    """What the run directories hold.

    Attributes:
        arms: runs that differ in nothing but the seed, the report's first.
        claims: by run directory.
        validation: by run directory and run.
        samples: by run directory.
        remarks: on what was left out.
    """

    arms: Sequence[Arm]
    claims: Mapping[Path, Claims]
    validation: Mapping[Path, Mapping[str, Curve]]
    samples: Mapping[Path, Sequence["_Sample"]]
    remarks: Sequence[str]

    def of(self, kind: Kind) -> list[Arm]:
        """The arms of one kind of runs."""
        return [arm for arm in self.arms if arm.kind == kind]

    def model(self, arm: Arm) -> Model | None:
        """The arm's first run that was measured, by its seed."""
        for lane in arm.lanes:
            claims = self.claims.get(lane.path)
            if claims is not None and claims.run == lane.result["run"]:
                return Model(arm, lane.path, claims)
        return None


def sections(runs: Sequence[Run]) -> list[Section]:
    """The study's sections from all run directories; those of other experiments are passed over."""
    found = collect(runs)
    judged = judge(found)
    models = [model for arm in found.arms if (model := found.model(arm))]
    blocks: dict[str, Sequence[Block]] = {
        "Table 3": [_RUNS_NOTE, _runs_table(found.arms), *_best_tables(found)],
        "the claims": [_verdicts_list(judged), _RULES, _verdicts_table(judged)],
        "Figures 3 to 5": [figure for kind in KINDS for figure in _figures(kind, found)],
        "measured texts": [_TEXTS_NOTE, _texts_table(models), _loops_table(models)] if models else [],
        "samples": _samples_blocks(found, models),
        "remarks": ["\n".join(f"- {remark}" for remark in found.remarks)] if found.remarks else [],
    }
    return [Section(f"Character LSTM: {title}", content) for title, content in blocks.items() if content]


def summary(runs: Sequence[Run]) -> tuple[list[Block], Table | None, bytes | None]:
    """What a reader wants first, from kept runs.

    Returns:
        What came of Table 3, and the verdicts; the report's sentences as the first model with its settings continues
        them; and the training curves of the runs with its settings as a PNG. Empty and None where there are no runs.
    """
    found = collect(run for run in runs if run.kind == "kept")
    rows = [
        [
            _title(arm),
            str(arm.config["max_steps"]),
            PUBLISHED_ACCURACY.get(arm.config["corpus"], NONE) if is_reported(arm) else NONE,
            interval(_mean("accuracy", _at_the_end(_ended(arm), "accuracy")), ".3f"),
            interval(_mean(_BITS, _bits(_ended(arm), "train")), ".2f"),
            *_best_cells(_best_looks(arm, found), (_BITS, f"test_{_BITS}")),
        ]
        for arm in found.arms
    ]
    bits = ("training bits per character", "step of the lowest validation bits", "these", "test bits there")
    columns = ("character LSTM on", "steps", "report: training accuracy", "training accuracy", *bits)
    caption = f"The report's Table 3 and what came of it; training accuracies are means of the last {LAST_LOOKS} looks"
    blocks: list[Block] = [Table(columns, rows, caption), _verdicts_list(judge(found))] if rows else []

    reported = [arm for arm in found.arms if is_reported(arm)]
    models = [model for arm in reported if (model := found.model(arm)) and model.claims.completions]
    figures = _figures("kept", found._replace(arms=reported))
    return blocks, _sentences_table(models[:1]) if models else None, figures[0].png if figures else None


# --- Reading ----------------------------------------------------------------------------------------------------------


class _Setting(BaseModel, extra="allow"):
    """The fields of a config that are looked at here."""

    corpus: str
    encoding: str
    cell: str
    num_layers: Annotated[int, Field(ge=1)]
    hidden_size: Annotated[int, Field(ge=1)]
    embedding_size: Annotated[int, Field(ge=1)]
    seq_length: Annotated[int, Field(ge=1)]
    batch_size: Annotated[int, Field(ge=1)]
    max_steps: Annotated[int, Field(ge=0)]
    learning_rate: list[float]


class _Outcome(BaseModel):
    """The fields of a result that are looked at here."""

    learning_rate: float
    train_bits_per_character: FiniteFloat | None = None
    validation_bits_per_character: FiniteFloat | None = None
    test_bits_per_character: FiniteFloat | None = None
    failed_at: int | None = None


class _Sample(BaseModel):
    """A line of ``samples.jsonl``."""

    run: str
    step: int
    tau: float | None
    length: int
    text: str


def collect(runs: Iterable[Run]) -> Collected:
    """The study's runs, whatever their settings, with what their directories hold besides."""
    usable, remarks = valid_runs((run for run in runs if run.experiment == EXPERIMENT), _Setting, _Outcome)
    arms, twice = merge_arms(usable)
    arms.sort(key=lambda arm: not is_reported(arm))
    claims, validation, samples = {}, {}, {}
    for path in dict.fromkeys(path for arm in arms for path in arm.sources):
        try:
            claims[path] = Claims.model_validate_json((path / CLAIMS).read_bytes())
        except FileNotFoundError:
            pass
        except (OSError, ValidationError) as error:
            remarks.append(f"{code(path)}: {CLAIMS} is damaged ({describe(error)}): left out")
        if (path / VALIDATION).exists():
            validation[path], damaged = read_curves(path / VALIDATION)
            remarks += [f"{code(path)}: {remark}" for remark in damaged]
        samples[path], damaged = _read_samples(path / SAMPLES)
        remarks += [f"{code(path)}: {remark}" for remark in damaged]
    return Collected(arms, {p: c for p, c in claims.items() if c.texts}, validation, samples, [*remarks, *twice])


def _read_samples(path: Path) -> tuple[list[_Sample], list[str]]:
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        return [], [f"{path.name} cannot be read ({describe(error)})"]
    samples, damaged = [], []
    for number, line in enumerate(lines, start=1):
        try:
            samples.append(_Sample.model_validate_json(line))
        except ValidationError:
            damaged.append(number)
    remark = f"{path.name}: {len(damaged)} damaged lines left out, the first is line {damaged[0]}" if damaged else ""
    return samples, [remark] if remark else []


# --- What an arm is ---------------------------------------------------------------------------------------------------


def is_reported(arm: Arm) -> bool:
    """Whether the arm has the settings of a row of Table 3, which leaves the encoding open."""
    return not _differences(arm)


def _differences(arm: Arm) -> dict[str, Any]:
    """The fields in which the arm differs from Table 3, with its values; for the number of steps by its corpus."""
    corpus = arm.config["corpus"]
    wanted = {**REPORTED, "max_steps": REPORTED_STEPS.get(corpus)}
    different = arm.differences(wanted)
    return different if corpus in REPORTED_STEPS else {"corpus": corpus, **different}


def _title(arm: Arm) -> str:
    """The corpus, and in what the setting is neither the report's nor the default."""
    others = [f"{name}={value}" for name, value in _differences(arm).items() if name != "corpus"]
    encoding = [] if arm.config["encoding"] == "utf-8" else [arm.config["encoding"]]
    return ", ".join([Path(arm.config["corpus"]).name, *encoding, *others])


def _ended(arm: Arm) -> list[Lane]:
    """The runs that did not meet a NaN."""
    return [lane for lane in arm.lanes if lane.result.get("failed_at") is None]


def _curves(arm: Arm) -> dict[str, Curve]:
    return {
        f"seed {lane.seed}": lane.curve
        for lane in arm.lanes
        if lane.curve is not None and set(_METRICS) <= lane.curve.metrics.keys()
    }


# --- Verdicts ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Part:
    """A part of a claim.

    Attributes:
        name: its letter and number.
        side: 1 where the whole interval is on the claim's side, -1 on the other, 0 where it is on both; None for a
            description.
        evidence: the numbers, or the reason why there are none.
        source: the run directories that they come from.
    """

    name: str
    side: int | None
    evidence: str
    source: Sequence[Path] = ()


@dataclass(frozen=True)
class Judgement:
    """A verdict on one claim, from its parts."""

    claim: str
    verdict: Verdict
    parts: Sequence[Part]


def judge(found: Collected) -> list[Judgement]:
    """Verdicts on claims (a) to (d), from kept runs alone."""
    models = {window: _judged_by(found, window) for window in WINDOWS}
    model = models[WINDOW]
    parts = {"a": _phrases(model), "b": _loops(models), "c": _randomness(model), "d": _escape(model)}
    return [Judgement(claim, _verdict(claim, some), some) for claim, some in parts.items()]


def _verdict(claim: str, parts: Sequence[Part]) -> Verdict:
    if claim == "d" and parts[0].side == -1:
        return "nothing to escape from"
    sides = [part.side for part in parts if part.side is not None]
    return _SIDES[-1 if -1 in sides else 0 if 0 in sides else 1]


_SIDES: dict[int, Verdict] = {1: "holds", -1: "does not hold", 0: "undecided"}


def _judged_by(found: Collected, window: int) -> Model | str:
    """The kept run with this training window that texts were measured of, the longest; or why there is none."""
    free = set() if window == WINDOW else {"seq_length", "max_steps"}
    arms = [
        arm
        for arm in found.of("kept")
        if (arm.config["corpus"], arm.config["seq_length"]) == ("grimm", window) and _differences(arm).keys() <= free
    ]
    if not arms:
        return f"no kept run on Grimm with training windows of {window}"
    models = [model for arm in arms if (model := found.model(arm))]
    return max(models, key=lambda model: model.last) if models else _not_measured(arms[0].sources[0])


def _not_measured(path: Path) -> str:
    return f"not measured: {code(f'python -m experiments.text_claims --workdir={path}')}"


def _measured(model: Model | str, step: int | None, start: Start, tau: float | None = None) -> Texts | str:
    """Texts of a model, or why there are none; without a step those of its last one."""
    if isinstance(model, str):
        return model
    step = model.last if step is None else step
    texts = model.claims.find(step, start, tau)
    return f"step {step}: {_not_measured(model.path)}" if texts is None else texts


def _part(name: str, model: Model | str, texts: Sequence[Texts | str], compare: Callable[..., tuple[int, str]]) -> Part:
    """A part by a comparison of these texts, which gives side and evidence, or the reason why there is none."""
    missing = list(dict.fromkeys(one for one in texts if isinstance(one, str)))
    if missing or isinstance(model, str):
        return Part(name, 0, "; ".join(missing))
    where, evidence = compare(*texts)
    return Part(name, where, evidence, [model.path])


def _share(
    name: str,
    model: Model | str,
    texts: Texts | str,
    count: Callable[[Texts], int],
    what: str,
    *,
    above: float | None = None,
    below: float | None = None,
) -> Part:
    """A part by the share of texts that are counted, which is claimed to be above or below a threshold."""

    def compare(texts: Texts) -> tuple[int, str]:
        counted, trials = count(texts), len(texts.loop)
        share = stats.proportion(counted, trials)
        where = side(share, above) if above is not None else 0
        where -= side(share, below) if below is not None else 0
        return where, f"step {texts.step}: {fraction(counted, trials)} {what}"

    return _part(name, model, [texts], compare)


def _phrases(model: Model | str) -> list[Part]:
    """Claim (a)."""

    def few(texts: Texts) -> int:
        one = texts.measures[SHORT]
        return sum(period > 0 and 1 <= words <= FEW for period, words in zip(one.period, one.words, strict=True))

    def many(texts: Texts) -> int:
        return sum(words >= MANY for words in texts.measures[SHORT].words)

    def more(later: Texts, earlier: Texts) -> tuple[int, str]:
        difference = bootstrap(np.subtract(later.measures[SHORT].words, earlier.measures[SHORT].words), np.mean)
        steps = f"distinct words at step {later.step} minus those at {earlier.step}"
        return side(difference, 0), f"{steps}: {interval(difference, '+.1f')}"

    early = _measured(model, EARLY, PROMPTS)
    parts = [_share("a1", model, early, few, f"loop over 1 to {FEW} distinct words", above=FEW_SHARE)]
    for step in (MIDDLE, LATE):
        texts = _measured(model, step, PROMPTS)
        parts += [
            _share("a2", model, texts, many, f"have {MANY} distinct words or more", above=MANY_SHARE),
            _part("a2", model, [texts, early], more),
        ]
    return parts


def _loops(models: Mapping[int, Model | str]) -> list[Part]:
    """Claim (b)."""

    def near(window: int) -> Callable[[Texts], tuple[int, str]]:
        low, high = window / math.sqrt(2), window * math.sqrt(2)

        def compare(texts: Texts) -> tuple[int, str]:
            median = _median_period(texts)
            shown = f"W={window}, step {texts.step}: median period {interval(median, 'g')} of {_looping(texts)} texts"
            return _inside(median, low, high), f"{shown}, claimed to lie in [{low:.1f}, {high:.1f})"

        return compare

    late = [_measured(models[WINDOW], step, PROMPTS) for step in (MIDDLE, LATE)]
    last = {window: _measured(models[window], None, PROMPTS) for window in WINDOWS}
    return [
        *(_share("b1", models[WINDOW], texts, _looping, "end in a loop", above=LOOPING_SHARE) for texts in late),
        *(_part("b2", models[window], [last[window]], near(window)) for window in WINDOWS),
        _loops_described({window: texts for window, texts in last.items() if isinstance(texts, Texts)}),
    ]


def _loops_described(last: Mapping[int, Texts]) -> Part:
    """(b3), from whichever windows there are."""
    shortest, longest = (_median(last[window]) if window in last else None for window in (WINDOWS[0], WINDOWS[-1]))
    ratio = f"{longest / shortest:.2f}" if shortest and longest else "not known"
    shown = [f"median period at W={WINDOWS[-1]} over that at W={WINDOWS[0]}: {ratio}"]
    shown += [f"W={window}: {_num_loops(one)} distinct loops in {_looping(one)} texts" for window, one in last.items()]
    return Part("b3", None, "; ".join(shown))


def _randomness(model: Model | str) -> list[Part]:
    """Claim (c)."""
    texts = {tau: _measured(model, None, RANDOM, tau) for tau in TAUS}
    pairs = list(pairwise(TAUS))
    rises = {pair: _rise(texts[pair[0]], texts[pair[1]]) for pair in pairs}
    # The two were to be corrected together: one that could not be made counts as if it had shown nothing.
    adjusted = stats.holm({str(pair): sign_flip(rise) for pair, rise in rises.items()})

    def rise(*both: Texts) -> tuple[int, str]:
        low, high = (one.tau for one in both)
        pair = next(pair for pair in pairs if pair == (low, high))
        mean, p = bootstrap(rises[pair], np.mean), adjusted[str(pair)]
        shown = f"share of known words at tau {high:g} minus that at {low:g}: {interval(mean, '+.3f')}"
        return int(np.sign(mean.value or 0.0)) if p < ALPHA else 0, f"{shown}, p = {p:.2g} after Holm"

    def gibberish(one: Texts) -> tuple[int, str]:
        known = _known(one)
        mean = bootstrap(known[~np.isnan(known)], np.mean)
        return -side(mean, GIBBERISH_SHARE), f"share of known words at tau {TAUS[0]:g}: {interval(mean, '.3f')}"

    return [
        *(_part("c1", model, [texts[low], texts[high]], rise) for low, high in pairs),
        _part("c2", model, [texts[TAUS[0]]], gibberish),
    ]


def _escape(model: Model | str) -> list[Part]:
    """Claim (d), the greedy texts first."""
    caught = _measured(model, None, PROMPTS)
    return [
        _share("d", model, caught, _looping, "end in a loop, greedy", above=CAUGHT_SHARE),
        *(
            _share("d", model, texts, _looping, f"end in a loop, tau {tau:g}", below=ESCAPED_SHARE)
            for tau in TAUS[1:]
            for texts in [_measured(model, None, RANDOM, tau)]
        ),
    ]


def _looping(texts: Texts, length: int = LONG) -> int:
    """How many end in a loop."""
    return sum(period > 0 for period in texts.measures[length].period)


def _num_loops(texts: Texts) -> int:
    """Distinct loops, up to a rotation."""
    return max(texts.loop, default=-1) + 1


def _periods(texts: Texts) -> NDArray[np.int64]:
    """Of the texts that end in a loop."""
    periods = np.array(texts.measures[LONG].period, np.int64)
    return periods[periods > 0]


def _median(texts: Texts) -> float | None:
    periods = _periods(texts)
    return float(np.median(periods)) if periods.size else None


def _median_start(texts: Texts) -> float | None:
    """Where the loops begin."""
    long = texts.measures[LONG]
    starts = [start for start, period in zip(long.loop_start, long.period, strict=True) if period > 0]
    return float(np.median(starts)) if starts else None


def _median_period(texts: Texts) -> stats.Estimate:
    return bootstrap(_periods(texts), np.median)


def _known(texts: Texts) -> NDArray[np.float64]:
    """Share of known words by text, NaN where there is no word."""
    return np.array(texts.measures[SHORT].word_share, np.float64)


def _rise(before: Texts | str, after: Texts | str) -> NDArray[np.float64]:
    """How much more of the words are known, by first character, where both texts have a word."""
    if isinstance(before, str) or isinstance(after, str):
        return np.array([])
    differences = _known(after) - _known(before)
    return differences[~np.isnan(differences)]


def _inside(estimate: stats.Estimate, low: float, high: float) -> int:
    """1 where the whole interval lies in [low, high), -1 where it lies wholly outside, else 0."""
    if estimate.low is None or estimate.high is None:
        return 0
    return int(low <= estimate.low and estimate.high < high) - int(estimate.high < low or estimate.low >= high)


def bootstrap(values: NDArray, statistic: Callable[..., Any]) -> stats.Estimate:
    """A statistic of `[n]` values with its percentile bootstrap interval; none for fewer than two values."""
    if values.size == 0:
        return stats.Estimate(None, None, None, "no values")
    value = float(statistic(values))
    if values.size == 1:
        return stats.Estimate(value, None, None, "one value")
    found = scipy.stats.bootstrap(
        (values,),
        statistic,
        vectorized=True,
        n_resamples=stats.RESAMPLES,
        confidence_level=stats.CONFIDENCE,
        method="percentile",
        batch=1000,
        rng=np.random.default_rng(0),
    ).confidence_interval
    return stats.Estimate(value, float(found.low), float(found.high))


def sign_flip(differences: NDArray[np.float64]) -> float:
    """Two-sided p-value that the mean of paired differences is zero, by flipping signs; 1 for fewer than two."""
    if differences.size < 2:
        return 1.0
    test = scipy.stats.permutation_test(
        (differences, np.zeros_like(differences)),
        lambda a, b, axis: np.mean(a - b, axis=axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=stats.RESAMPLES,
        batch=1000,
        rng=np.random.default_rng(0),
    )
    return float(test.pvalue)


# --- Tables -----------------------------------------------------------------------------------------------------------

_RUNS_NOTE = f"""\
Training loss (nats) and accuracy are those of the training windows, the mean of a run's last {LAST_LOOKS} looks. Bits
per character are measured once a run has ended, with the state carried through the text: *train* on the first 100 000
characters of what it was trained on, *validation* and *test* on contiguous parts behind it, which the report does not
have. A run with a validation text is measured on these two at each look as well. Brackets are 95 % intervals over
seeds, where there are several. *kept* are the results that came with the code, *this machine* the runs made here."""

# The page shows the rules as they stand at the top of this file.
_RULES = (__doc__ or "").partition("\n\n")[2]

_TEXTS_NOTE = f"""\
A loop is a tail that repeats exactly up to the end of the text, at least three times and over at least {MIN_TAIL}
characters: one that is longer than a third of the text, or that began late, is not seen. The rows of *{CENSUS}* are a
census of the vocabulary and need no interval. *{BOOK}* are windows of the book itself, measured in the same way. Words
are those of the loop, or of the whole text where there is none; they are known if they occur in the book."""


def _runs_table(arms: Sequence[Arm]) -> Table:
    """Table 3 with what came of it, then the runs of other settings."""
    rows = [_run_row(arm) for arm in arms]
    there = {arm.config["corpus"] for arm in arms if is_reported(arm)}
    for corpus, steps in REPORTED_STEPS.items():
        if corpus not in there:
            sizes = f"{REPORTED['num_layers']} x {REPORTED['hidden_size']}", f"{REPORTED['embedding_size']}"
            settings = [*sizes, f"{REPORTED['seq_length']}", f"{REPORTED['batch_size']}", f"{steps}"]
            ours = [NOT_RUN, NONE, NONE, PUBLISHED_ACCURACY.get(corpus, NONE), NONE, NONE, NONE]
            rows.append([code(corpus), NONE, NONE, *settings, *ours, "", ""])
    columns = ("corpus", "encoding", "runs", "layers", "embedding", "window", "batch", "steps", "seeds")
    measured = ("training loss", "training accuracy", "training accuracy, report")
    bits = tuple(f"bits per character, {part}" for part in _PARTS)
    caption = "Table 3 of the report and what came of it, then runs of other settings"
    return Table((*columns, *measured, *bits, "setting, where not the report's", "source"), rows, caption)


_PARTS = ("train", "validation", "test")
_OWN_COLUMNS = ("corpus", "num_layers", "hidden_size", "embedding_size", "seq_length", "batch_size", "max_steps")


def _run_row(arm: Arm) -> list[str]:
    config, ended = arm.config, _ended(arm)
    failed = len(arm.lanes) - len(ended)
    others = [code(f"{name}={value}") for name, value in _differences(arm).items() if name not in _OWN_COLUMNS]
    return [
        code(Path(config["corpus"]).name),
        config["encoding"],
        arm.kind,
        f"{config['num_layers']} x {config['hidden_size']}",
        str(config["embedding_size"]),
        str(config["seq_length"]),
        str(config["batch_size"]),
        str(config["max_steps"]),
        f"{len(arm.lanes)}" + (f", {failed} met a NaN" if failed else ""),
        *(interval(_mean(metric, _at_the_end(ended, metric)), ".3f") for metric in ("loss", "accuracy")),
        PUBLISHED_ACCURACY.get(config["corpus"], NONE) if is_reported(arm) else NONE,
        *(interval(_mean(_BITS, _bits(ended, part)), ".3f") for part in _PARTS),
        ", ".join(others) or NONE,
        paths(arm.sources),
    ]


def _best_tables(found: Collected) -> list[Table]:
    """A table of the looks at which runs with a validation text were best on it, if there are such runs."""
    rows = [
        [_title(arm), arm.kind, f"{len(looks)}", *_best_cells(looks, _HELD_OUT), paths(arm.sources)]
        for arm in found.arms
        if (looks := _best_looks(arm, found))
    ]
    columns = ("corpus", "runs", "seeds", "median step", *_HELD_OUT.values(), "source")
    caption = "Where each run was best on its validation text, and how good it was there on its test text"
    return [Table(columns, rows, caption)] if rows else []


def _best_looks(arm: Arm, found: Collected) -> list[tuple[Curve, int]]:
    """Where each run with a validation text needed the fewest bits for it, if it did not meet a NaN."""
    curves = _validation_curves(replace(arm, lanes=_ended(arm)), found).values()
    measured = [curve for curve in curves if np.isfinite(curve.metrics[_BITS]).any()]
    return [(curve, int(np.nanargmin(curve.metrics[_BITS]))) for curve in measured]


def _best_cells(looks: Sequence[tuple[Curve, int]], metrics: Iterable[str]) -> list[str]:
    """The median step of these looks, and the mean of each metric there."""
    step = f"{np.median([curve.steps[look] for curve, look in looks]):g}" if looks else NONE
    return [step, *(interval(_mean(metric, _values(looks, metric)), ".3f") for metric in metrics)]


_BITS = "bits_per_character"
_HELD_OUT = {
    _BITS: "bits per character, validation",
    "accuracy": "accuracy, validation",
    f"test_{_BITS}": "bits per character, test",
    "test_accuracy": "accuracy, test",
}


def _values(looks: Iterable[tuple[Curve, int]], metric: str) -> list[float]:
    """What a metric was at a look of each curve, if it was measured at all of them."""
    values = [float(curve.metrics[metric][look]) if metric in curve.metrics else math.nan for curve, look in looks]
    return values if np.isfinite(values).all() else []


def _mean(metric: str, values: Sequence[float]) -> stats.Estimate:
    """Over seeds; an interval does not leave the values that the metric can have."""
    return stats.mean(values, within=(0, 1 if metric.endswith("accuracy") else math.inf))


def _at_the_end(lanes: Iterable[Lane], metric: str) -> list[float]:
    """The mean of each run's last looks; a curve with a hole there is passed over."""
    curves = [lane.curve.metrics[metric] for lane in lanes if lane.curve and metric in lane.curve.metrics]
    means = [float(curve[-LAST_LOOKS:].mean()) for curve in curves]
    return [mean for mean in means if math.isfinite(mean)]


def _bits(lanes: Iterable[Lane], part: str) -> list[float]:
    measured = [lane.result.get(f"{part}_bits_per_character") for lane in lanes]
    return [bits for bits in measured if bits is not None]


def _verdicts_list(judged: Sequence[Judgement]) -> str:
    return "\n".join(f"- ({one.claim}) {CLAIMS_MADE[one.claim]}: **{one.verdict}**" for one in judged)


def _verdicts_table(judged: Sequence[Judgement]) -> Table:
    rows = [
        [
            f"({part.name})",
            NONE if part.side is None else _SIDES[part.side],
            part.evidence,
            paths(sorted(set(part.source))),
        ]
        for one in judged
        for part in one.parts
    ]
    return Table(("part", "verdict", "evidence", "source"), rows, "The report's claims by their parts, from kept runs")


def _texts_table(models: Iterable[Model]) -> Table:
    """All that was measured: by step, start, tau and length."""
    rows = [
        [_title(model.arm), model.arm.kind, *_texts_cells(texts), code(model.path)]
        for model in models
        for texts in sorted(model.claims.texts, key=lambda one: (one.step is None, one.step, one.tau or 0.0))
    ]
    columns = ("corpus", "runs", "step", "start", "tau", "texts", f"in a loop, {SHORT}", f"in a loop, {LONG}")
    loops = ("median period", "characters before it", "distinct loops")
    words = (f"mean words, {SHORT}", f"known words, {SHORT}")
    ngrams = tuple(f"distinct 4-grams, {length}" for length in (SHORT, LONG))
    caption = f"What the texts are like, in their first {SHORT} and their first {LONG} characters"
    return Table((*columns, *loops, *words, *ngrams, "source"), rows, caption)


def _texts_cells(texts: Texts) -> list[str]:
    short, long = texts.measures[SHORT], texts.measures[LONG]
    known = [share for share in short.word_share if share is not None]
    tau = "greedy" if texts.tau is None else f"{texts.tau:g}"
    shares = [(_looping(texts, length), len(texts.loop)) for length in (SHORT, LONG)]
    return [
        NONE if texts.step is None else str(texts.step),
        texts.start,
        NONE if texts.start == BOOK else tau,
        str(len(short.period)),
        *(f"{count} of {trials}" if texts.start == CENSUS else fraction(count, trials) for count, trials in shares),
        *(interval(stats.Estimate(median, None, None), "g") for median in (_median(texts), _median_start(texts))),
        str(_num_loops(texts)),
        f"{np.mean(short.words):.1f}",
        f"{np.mean(known):.3f}" if known else NONE,
        *(f"{np.mean(one.distinct_ngrams):.2f}" for one in (short, long)),
    ]


def _loops_table(models: Iterable[Model]) -> Table:
    """The loops that most prompts lead to."""
    rows = []
    for model in models:
        for texts in (one for one in model.claims.texts if one.start == PROMPTS):
            for number, loop in enumerate(texts.loops[:_LOOPS_SHOWN]):
                count = f"{texts.loop.count(number)} of {len(texts.loop)}"
                rows.append([_title(model.arm), model.arm.kind, str(texts.step), count, str(len(loop)), visible(loop)])
    columns = ("corpus", "runs", "step", "prompts", "characters", "loop")
    return Table(columns, rows, f"The greedy loops that most prompts lead to; {_SIGNS}")


def _samples_blocks(found: Collected, models: Sequence[Model]) -> list[Block]:
    blocks: list[Block] = [table for arm in found.arms if (table := _samples_table(arm, found))]
    table = _sentences_table(models)
    return [*blocks, table] if table.rows else blocks


def _sentences_table(models: Iterable[Model]) -> Table:
    rows = [
        [_title(model.arm), model.arm.kind, str(one.step), visible(one.prompt), visible(one.text)]
        for model in models
        for one in model.claims.completions
    ]
    columns = ("corpus", "runs", "step", "sentence", "continued")
    return Table(columns, rows, f"The report's unfinished sentences, continued with tau = 2; {_SIGNS}")


def _samples_table(arm: Arm, found: Collected) -> Table | None:
    """The report's samples, of the arm's first run: greedy by step and length, and by tau at the last step."""
    lane = arm.lanes[0]
    samples = [one for one in found.samples[lane.path] if one.run == lane.result["run"]]
    last = max((one.step for one in samples), default=0)
    wanted = [(step, None, length) for step in sorted({one.step for one in samples}) for length in LENGTHS]
    rows = []
    for step, tau, length in [*wanted, *((last, tau, LENGTHS[-1]) for tau in TAUS)]:
        texts = [one.text for one in samples if (one.step, one.tau, one.length) == (step, tau, length)]
        choice = "greedy" if tau is None else f"tau {tau:g}"
        rows += [[str(step), choice, str(length), visible(one)] for one in texts[:_SAMPLES_SHOWN]]
    if not rows:
        return None
    start = f"from random first characters; {_SIGNS}"
    caption = f"Samples of {_title(arm)} ({arm.kind}), seed {lane.seed}, {start}"
    return Table(("step", "choice", "characters", "text"), rows, caption)


def visible(text: str) -> str:
    """A generated text as Markdown code on one line, each character as one."""
    shown = "".join(c if c.isprintable() else NEWLINE if c == "\n" else UNPRINTABLE for c in text)
    return code(_UNSEEN_SPACE.sub(SPACE, shown)) if text else ""


# --- Figures ----------------------------------------------------------------------------------------------------------


def _figures(kind: Kind, found: Collected) -> list[Figure]:
    """Figures 3 to 5, then the curves of other settings, then those on the validation text, for one kind of runs."""
    arms = [arm for arm in found.of(kind) if _curves(arm)]
    reported = sorted(filter(is_reported, arms), key=lambda arm: FIGURE_NUMBERS[arm.config["corpus"]])
    others = [arm for arm in arms if not is_reported(arm)]
    validated = {arm: curves for arm in found.of(kind) if (curves := _validation_curves(arm, found))}
    numbers = " and ".join(dict.fromkeys(str(FIGURE_NUMBERS[arm.config["corpus"]]) for arm in reported))
    return [
        *_curve_figures(
            kind,
            "training",
            [_columns(arm, _curves(arm), {metric: metric for metric in _METRICS}) for arm in reported],
            f"Training accuracy and loss of each run (the report's Figure {numbers})",
        ),
        *_curve_figures(
            kind,
            "others",
            [_columns(arm, _curves(arm), {metric: metric for metric in _METRICS}) for arm in others],
            "Training accuracy and loss of each run, other settings than the report's",
        ),
        *_curve_figures(
            kind,
            "validation",
            [
                _columns(arm, curves, {"accuracy": "accuracy", "bits_per_character": "bits per character"})
                for arm, curves in validated.items()
            ],
            "Accuracy and bits per character on the validation text",
        ),
    ]


def _validation_curves(arm: Arm, found: Collected) -> dict[str, Curve]:
    curves = {f"seed {lane.seed}": found.validation.get(lane.path, {}).get(lane.result["run"]) for lane in arm.lanes}
    wanted = {"accuracy", "bits_per_character"}
    return {seed: curve for seed, curve in curves.items() if curve is not None and wanted <= curve.metrics.keys()}


def _columns(arm: Arm, curves: Mapping[str, Curve], names: Mapping[str, str]) -> plots.Curves:
    """A column of a figure: the metrics by their names in the file and on the axis."""
    return plots.Curves(
        title=_title(arm),
        labels=list(curves),
        steps=[curve.steps for curve in curves.values()],
        metrics={shown: [curve.metrics[name] for curve in curves.values()] for name, shown in names.items()},
    )


def _curve_figures(kind: Kind, name: str, columns: Sequence[plots.Curves], caption: str) -> list[Figure]:
    """One figure for every few arms, a column each."""
    figures = []
    for first in range(0, len(columns), _COLUMNS):
        some = columns[first : first + _COLUMNS]
        number = f"_{first // _COLUMNS + 1}" if first else ""
        alt = f"{caption}, against the training step: {'; '.join(column.title for column in some)}"
        figures.append(
            study_figure("text", kind, f"{name}{number}", plots.png(plots.seed_curves(some, plots.BLUE)), caption, alt)
        )
    return figures
