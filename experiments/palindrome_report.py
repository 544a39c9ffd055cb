"""The palindrome study's part of the report: Tables 1 and 2, Figures 1 and 2, and a verdict on each claim.

What was published, and the thresholds by which each claim is judged, stand here as constants: they are not to be chosen
after the runs were seen.
"""

import heapq
import itertools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, Field

from jaxrnn.data.formal import palindrome
from jaxrnn.study import plots, stats
from jaxrnn.study.report import (
    KINDS,
    NONE,
    NOT_RUN,
    UNDECIDED,
    Arm,
    Block,
    Curve,
    Figure,
    Kind,
    Lane,
    Run,
    Section,
    Table,
    Verdict,
    code,
    describe,
    fraction,
    interval,
    merge_arms,
    paths,
    side,
    study_figure,
)

EXPERIMENT = "palindrome"
LENGTHS = (10, 20)
HORIZON = 3000

# Steps until convergence of seeds 0, 1 and 2, chosen by hand by the report's author (report, Tables 1 and 2).
PUBLISHED_STEPS = {
    ("lstm", 10): (300, 300, 360),
    ("lstm", 20): (1260, 1080, 2280),
    ("peephole", 10): (480, 420, 420),
    ("peephole", 20): (480, 720, 420),
}
# Their means as printed there; the test accuracy is 1.00 in every row, with a standard deviation of 0.
PUBLISHED_MEANS = {("lstm", 10): 320, ("lstm", 20): 1540, ("peephole", 10): 440, ("peephole", 20): 540}
PUBLISHED_ACCURACY = 1.0

# The setting of Tables 1 and 2, for either cell and either length.
REPORTED = {
    "task": "palindrome",
    "bidirectional": False,
    "hidden_size": 256,
    "batch_size": 256,
    "learning_rate": 0.001,
    "max_steps": HORIZON,
    "eval_every": 60,
    "tolerance": 0.005,
    "patience": 3,
    "clip_norm": 10.0,
    "test_samples": 5000,
    "initializer": "kaiming",
    "precision": "highest",
}

ALPHA = 0.05  # of a claim, after Holm's correction over (b), (c) and (d)
CORRECTED = ("b", "c", "d")
ACCURATE = 0.995  # a run with this test accuracy prints as the report's 1.00
ACCURATE_SHARE = 0.8  # (a): the share of accurate runs that its interval is held against
STOPPED_SHARE = 0.5  # (e): likewise, the share of runs that would have been stopped too early
PATIENCE = 5  # (e): looks without a new minimum
CORES = 2  # that the runs which end are counted on
MOST_SEEDS = 1000  # beyond this a number of seeds is not worth naming


CLAIMS = {
    "a": "Both cells reach perfect test accuracy at both lengths",
    "b": "T=20 is much harder for the LSTM than T=10 (its plateau and sudden drop are measured beside it)",
    "c": "At T=20 the peephole LSTM converges much sooner than the LSTM",
    "d": "With a smaller embedding the LSTM's drop at T=20 often never comes",
    "e": "A rule that stops when the loss stands still would have stopped the LSTM at T=20 too early",
}

CELL_NAMES = {"lstm": "LSTM", "peephole": "Peephole LSTM"}
COLOURS = {"lstm": plots.BLUE, "peephole": plots.ORANGE}
_METRICS = ("loss", "accuracy")


class Slot(NamedTuple):
    """Which of the report's arms an arm is, all else being as in Tables 1 and 2."""

    cell: str
    digits: int
    width: int
    """Width of the embedding."""

    def __str__(self) -> str:
        width = "" if self.width == _default_width(self.digits) else f" width {self.width}"
        return f"{CELL_NAMES[self.cell]} T={self.digits}{width}"


def _default_width(digits: int) -> int:
    """The report's rule, twice the length of the input: 82 at T=10, 162 at T=20."""
    return 2 * palindrome.task(digits).input_length


TABLED = [Slot(cell, digits, _default_width(digits)) for cell in CELL_NAMES for digits in LENGTHS]
LSTM_10, LSTM_20, _, PEEPHOLE_20 = TABLED
WIDTHS = [Slot("lstm", 20, 40), Slot("lstm", 20, 81), LSTM_20]
WIDTH_COLOURS = dict(zip(WIDTHS, (plots.VERMILION, plots.PURPLE, plots.BLUE), strict=True))

Arms = Mapping[Slot, Arm]


def sections(runs: Sequence[Run]) -> list[Section]:
    """The study's sections from all run directories; those of other experiments are passed over."""
    arms, others, remarks = collect(runs)
    judged, lanes = judge(arms["kept"]), _lanes_table(arms)
    blocks: dict[str, Sequence[Block]] = {
        "Tables 1 and 2": [_STEPS_NOTE, *(_seeds_table(arms, cell) for cell in CELL_NAMES), _arms_table(arms)],
        "the claims": [
            _verdicts_list(judged),
            _RULES,
            _verdicts_table(judged),
            _widths_table(arms),
            _plateau_table(arms),
        ],
        "Figures 1 and 2": [figure for kind in KINDS for figure in _figures(kind, arms[kind])],
        "other arms": [_others_table(others)] if others else [],
        "runs that end": [_LANES_NOTE, lanes] if lanes.rows else [],
        "remarks": ["\n".join(f"- {remark}" for remark in remarks)] if remarks else [],
    }
    return [Section(f"Binary palindromes: {title}", content) for title, content in blocks.items() if content]


def summary(runs: Sequence[Run]) -> tuple[list[Block], bytes | None]:
    """What a reader wants first, from kept runs: one table, the verdicts, and the survival curves as a PNG."""
    kept = collect(runs)[0]["kept"]
    survival = [figure.png for figure in _survival_figures("kept", kept)]
    return [_summary_table(kept), _verdicts_list(judge(kept))], survival[0] if survival else None


def collect(runs: Iterable[Run]) -> tuple[dict[Kind, dict[Slot, Arm]], list[Arm], list[str]]:
    """The report's arms by kind of runs, the study's arms of other settings, and remarks on what was left out."""
    usable, damaged = _usable(run for run in runs if run.experiment == EXPERIMENT)
    merged, twice = merge_arms(usable)
    arms: dict[Kind, dict[Slot, Arm]] = {kind: {} for kind in KINDS}
    others = []
    for arm in merged:
        slot = _slot(arm)
        if slot is None or arms[arm.kind].setdefault(slot, arm) is not arm:
            others.append(arm)
    return arms, others, [*damaged, *twice]


# --- Checking what was read -------------------------------------------------------------------------------------------


class _Setting(BaseModel, extra="allow"):
    """The fields of a config that are looked at here."""

    task: str
    cell: str
    digits: Annotated[int, Field(ge=1)]
    embedding_size: Annotated[int, Field(ge=0)]
    max_steps: Annotated[int, Field(ge=0)]
    eval_every: Annotated[int, Field(ge=1)]
    learning_rate: list[float]
    clip_norm: float | None
    tolerance: float


class _Outcome(BaseModel):
    """The fields of a result that are looked at here."""

    steps: Annotated[int, Field(ge=0)] | None
    last_step: Annotated[int, Field(ge=0)]
    learning_rate: float
    test_accuracy: Annotated[float, Field(ge=0, le=1)] | None
    failed_at: int | None = None


def _usable(runs: Iterable[Run]) -> tuple[list[Run], list[str]]:
    """The runs whose contents are as they should be, the embedding's width made explicit, and remarks on the rest."""
    usable, remarks = [], []
    for run in runs:
        try:
            setting = _Setting.model_validate(run.config)
            for result in run.results:
                outcome = _Outcome.model_validate(result)
                if outcome.steps is not None and outcome.steps > setting.max_steps:
                    raise ValueError(f"steps {outcome.steps} of {result['run']} are beyond max_steps")
        except ValueError as error:  # pydantic's errors are ValueErrors
            remarks.append(f"{code(run.path)}: {describe(error)}: left out")
            continue
        if setting.task == "palindrome" and setting.embedding_size == 0:
            setting.embedding_size = _default_width(setting.digits)
        results = {result["run"]: result for result in run.results}
        curves = {name: _without_failure(curve, results[name]) for name, curve in run.curves.items() if name in results}
        broken = [name for name, curve in curves.items() if not _whole(curve, results[name], setting)]
        if broken:
            remarks.append(
                f"{code(run.path)}: {len(broken)} curves are not whole, the first is {code(broken[0])}: "
                "these are left out of the figures, the plateau and claim (e)"
            )
        curves = {name: curve for name, curve in curves.items() if name not in broken}
        usable.append(replace(run, config=setting.model_dump(), curves=curves))
    return usable, remarks


def _without_failure(curve: Curve, result: Mapping[str, Any]) -> Curve:
    """The curve without the look at a NaN that ended the run, which may stand between two others."""
    before = curve.steps != result.get("failed_at")
    return Curve(curve.steps[before], {name: values[before] for name, values in curve.metrics.items()})


def _whole(curve: Curve, result: Mapping[str, Any], setting: _Setting) -> bool:
    """Whether the curve has every look from step 0 to the end of its run, or to the NaN that ended it."""
    if not curve.steps.size or not {*_METRICS} <= curve.metrics.keys():
        return False
    failed_at = result.get("failed_at")
    end = result["last_step"] + 1 if failed_at is None else failed_at
    expected = np.arange(0, end, setting.eval_every)
    return np.array_equal(curve.steps, expected) and bool(np.isfinite([curve.metrics[m][0] for m in _METRICS]).all())


def _slot(arm: Arm) -> Slot | None:
    """The report's arm that this is, or None where its setting is another one."""
    slot = Slot(arm.config["cell"], arm.config["digits"], arm.config["embedding_size"])
    known = slot in TABLED or slot in WIDTHS
    return slot if known and not arm.differences(REPORTED) else None


# --- What an arm says -------------------------------------------------------------------------------------------------


def _sample(lanes: Iterable[Lane], horizon: int = HORIZON) -> stats.StepsSample:
    return stats.steps_sample([lane.result["steps"] for lane in lanes], horizon)


def _converged(arm: Arm) -> list[Lane]:
    return [lane for lane in arm.lanes if lane.result["steps"] is not None]


def _accurate(arm: Arm) -> int:
    """Runs that test as the report's 1.00; one that met a NaN was not tested and is none of them."""
    return sum((lane.result["test_accuracy"] or 0) >= ACCURATE for lane in arm.lanes)


def _losses(lanes: Iterable[Lane]) -> list[NDArray[np.float64]]:
    return [lane.curve.metrics["loss"] for lane in lanes if lane.curve is not None]


def _stopped_early(arm: Arm) -> tuple[int, int]:
    """Converged runs with a curve that the replayed rule would have stopped before, and how many there are."""
    losses = _losses(_converged(arm))
    stops = [stats.would_stop_at(loss, PATIENCE) for loss in losses]
    # The last look is the one at which the run was seen to have converged.
    early = sum(stop is not None and stop < len(loss) - 1 for stop, loss in zip(stops, losses, strict=True))
    return early, len(losses)


# --- Verdicts ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Judgement:
    """A verdict on one claim.

    Attributes:
        claim: its letter.
        verdict: one of the three.
        evidence: the numbers, or the reason why there are none.
        needed: for an undecided claim, seeds per arm that would decide it, in words.
        arms: what it was judged by.
    """

    claim: str
    verdict: Verdict
    evidence: str
    needed: str
    arms: Sequence[Arm]


@dataclass(frozen=True)
class _Test:
    """One of the tests that are corrected together; `difference` is positive where the claim says that it is."""

    p_value: float
    difference: float
    evidence: str
    needed: int | None
    arms: Sequence[Arm]


def judge(kept: Arms) -> list[Judgement]:
    """Verdicts on claims (a) to (e), from kept runs alone."""
    tests = {
        "b": _compare_steps(kept, LSTM_20, LSTM_10),
        "c": _compare_steps(kept, LSTM_20, PEEPHOLE_20),
        "d": _compare_widths(kept),
    }
    # The three were to be corrected together: one that could not be made counts as if it had shown nothing.
    adjusted = stats.holm({claim: test.p_value if isinstance(test, _Test) else 1.0 for claim, test in tests.items()})
    return [
        _judge_accuracy(kept),
        *(_judge_test(claim, tests[claim], adjusted[claim]) for claim in CORRECTED),
        _judge_stopping(kept),
    ]


def _missing(kept: Arms, slots: Iterable[Slot]) -> str:
    return "; ".join(f"no kept runs of {slot}" for slot in slots if slot not in kept)


def _compare_steps(kept: Arms, slower: Slot, faster: Slot) -> _Test | str:
    """The primary comparison of two arms, or why there is none."""
    if missing := _missing(kept, (slower, faster)):
        return missing
    arms = kept[slower], kept[faster]
    a, b = (_sample(arm.lanes) for arm in arms)
    primary, beside = stats.compare_restricted_means(a, b), stats.log_rank(a, b)
    log_rank = f"z = {beside.z:.2f}, p = {beside.p_value:.2g}" if beside.z is not None else beside.note
    difference = interval(stats.Estimate(primary.difference, primary.low, primary.high), "+.0f")
    return _Test(
        p_value=primary.p_value,
        difference=primary.difference,
        evidence=_sentence(
            f"restricted mean steps, {slower} minus {faster}: {difference}, p = {primary.p_value:.2g}",
            primary.note,
            f"log-rank {log_rank}",
        ),
        needed=stats.seeds_to_decide(a, b, alpha=ALPHA / len(CORRECTED), limit=MOST_SEEDS),
        arms=arms,
    )


def _compare_widths(kept: Arms) -> _Test | str:
    """Fisher's exact test of the converged fraction at the narrowest embedding against the widest."""
    first, last = WIDTHS[0], WIDTHS[-1]
    if missing := _missing(kept, (first, last)):
        return missing
    counts = [(len(_converged(kept[slot])), len(kept[slot].lanes)) for slot in (first, last)]
    shares = [successes / trials for successes, trials in counts]
    p_value = stats.fisher_exact(*counts[0], *counts[1])
    fractions = [
        f"width {slot.width}: {fraction(len(_converged(kept[slot])), len(kept[slot].lanes))}" if slot in kept
        else f"width {slot.width}: {NOT_RUN}"
        for slot in WIDTHS
    ]  # fmt: skip
    return _Test(
        p_value=p_value,
        difference=shares[1] - shares[0],
        evidence=_sentence(
            f"converged at {', '.join(fractions)}",
            f"Fisher's exact, {first.width} against {last.width}: p = {p_value:.2g}",
        ),
        needed=stats.seeds_to_decide_proportions(*shares, alpha=ALPHA / len(CORRECTED), limit=MOST_SEEDS),
        arms=[kept[slot] for slot in WIDTHS if slot in kept],
    )


def _judge_test(claim: str, test: _Test | str, adjusted: float) -> Judgement:
    if isinstance(test, str):
        return Judgement(claim, UNDECIDED, test, NONE, ())
    verdict: Verdict = UNDECIDED
    if adjusted < ALPHA:
        verdict = "holds" if test.difference > 0 else "does not hold"
    evidence = _sentence(
        test.evidence, f"after Holm p = {adjusted:.2g}", _plateau_evidence(test.arms) if claim == "b" else ""
    )
    return Judgement(claim, verdict, evidence, _needed(test.needed) if verdict == UNDECIDED else NONE, test.arms)


def _plateau_evidence(arms: Sequence[Arm]) -> str:
    """The plateau measured, for arms in the order T=20, T=10."""
    parts = []
    for arm in arms:
        shares, drops = _plateaus(arm)
        if shares:
            drop = f"the drop takes {interval(_mean_drop(drops), '.1f')} looks" if drops else "no drop"
            share = interval(stats.mean(shares, within=(0, 1)), ".2f")
            parts.append(f"T={arm.config['digits']}: {share} of the looks on the plateau, {drop}")
    return "; ".join(parts)


def _judge_accuracy(kept: Arms) -> Judgement:
    """Claim (a): the interval of the share of accurate runs, in every cell and length, against `ACCURATE_SHARE`."""
    slots = [slot for slot in TABLED if slot in kept]
    arms = [kept[slot] for slot in slots]
    counts = [(_accurate(arm), len(arm.lanes)) for arm in arms]
    sides = [side(stats.proportion(*count), ACCURATE_SHARE) for count in counts]
    verdict: Verdict = UNDECIDED
    if -1 in sides:
        verdict = "does not hold"
    elif sides == [1] * len(TABLED):
        verdict = "holds"
    shares = [f"{slot}: {fraction(*count)}" for slot, count in zip(slots, counts, strict=True)]
    evidence = _sentence(f"runs with test accuracy of at least {ACCURATE}", *shares, _missing(kept, TABLED))
    return Judgement(
        "a", verdict, evidence, _needed_shares(counts, ACCURATE_SHARE) if verdict == UNDECIDED else NONE, arms
    )


def _judge_stopping(kept: Arms) -> Judgement:
    """Claim (e): the interval of the share of runs that the rule stops too early against `STOPPED_SHARE`."""
    if missing := _missing(kept, (LSTM_20,)):
        return Judgement("e", UNDECIDED, missing, NONE, ())
    arm = kept[LSTM_20]
    early, runs = _stopped_early(arm)
    if runs == 0:
        return Judgement("e", UNDECIDED, f"no converged run of {LSTM_20} with a whole curve", NONE, (arm,))
    where = side(stats.proportion(early, runs), STOPPED_SHARE)
    verdict: Verdict = "holds" if where > 0 else "does not hold" if where < 0 else UNDECIDED
    evidence = f"of the converged runs, stopped before they converged: {fraction(early, runs)}"
    needed = NONE
    if verdict == UNDECIDED:
        # Only runs that converge count, and that many seeds more are needed.
        converging = seeds_to_clear(early / runs, STOPPED_SHARE)
        needed = _needed(None if converging is None else -(-converging * len(arm.lanes) // runs))
    return Judgement("e", verdict, evidence, needed, (arm,))


def _needed_shares(counts: Sequence[tuple[int, int]], threshold: float) -> str:
    """Runs per arm with which the undecided shares would be clear of the threshold, were they the truth."""
    undecided = [count for count in counts if side(stats.proportion(*count), threshold) == 0]
    if not undecided:
        return NONE
    needed = [seeds_to_clear(successes / trials, threshold) for successes, trials in undecided]
    return _needed(None if None in needed else max(n for n in needed if n is not None))


def seeds_to_clear(share: float, threshold: float) -> int | None:
    """The runs from which on a share of successes as given has its interval on one side of the threshold, if any."""
    undecided = (
        runs for runs in range(MOST_SEEDS, 0, -1) if side(stats.proportion(round(share * runs), runs), threshold) == 0
    )
    last = next(undecided, 0)
    return last + 1 if last < MOST_SEEDS else None


def _needed(seeds: int | None) -> str:
    return f"about {seeds}" if seeds is not None else f"more than {MOST_SEEDS}, or no estimate from these runs"


# --- Tables -----------------------------------------------------------------------------------------------------------

_STEPS_NOTE = f"""\
Steps until convergence are detection times: the loss has been at or below 0.005 at three looks in a row, 60 steps
apart, so it crossed that line 120 to 179 steps before. A run that did not converge within {HORIZON} steps is
censored there; a run that met a NaN never converged. Intervals, in brackets, are 95 %. *kept* are the results that
came with the code, *this machine* the runs made here. Where all runs converged, the restricted mean is the mean."""


def _seeds_table(arms: Mapping[Kind, Arms], cell: str) -> Table:
    """The report's Table 1 or 2 with our seeds 0, 1 and 2 beside it."""
    rows = []
    for slot in (slot for slot in TABLED if slot.cell == cell):
        published = PUBLISHED_STEPS[cell, slot.digits]
        lanes = [{lane.seed: lane for lane in arm.lanes} if (arm := arms[kind].get(slot)) else {} for kind in KINDS]
        for seed, steps in enumerate(published):
            ours = [by_seed.get(seed) for by_seed in lanes]
            row = [str(seed), str(steps), *map(_steps, ours), f"{PUBLISHED_ACCURACY:.2f}", *map(_accuracy, ours)]
            rows.append([str(slot.digits), *row, paths(lane.path for lane in ours if lane)])
        all_seeds = [[by_seed[seed] for seed in range(len(published)) if seed in by_seed] for by_seed in lanes]
        all_seeds = [some if len(some) == len(published) else [] for some in all_seeds]
        mean = str(PUBLISHED_MEANS[cell, slot.digits])
        row = ["mean", mean, *map(_mean_steps, all_seeds), f"{PUBLISHED_ACCURACY:.2f}", *map(_mean_accuracy, all_seeds)]
        rows.append([str(slot.digits), *row, paths(sorted({lane.path for some in all_seeds for lane in some}))])
    steps_columns = ("steps, report", *(f"steps, {kind}" for kind in KINDS))
    accuracy_columns = ("test accuracy, report", *(f"test accuracy, {kind}" for kind in KINDS))
    number = list(CELL_NAMES).index(cell) + 1
    caption = f"Table {number} of the report ({CELL_NAMES[cell]}): its seeds 0, 1 and 2, chosen by hand, beside ours"
    return Table(("T", "seed", *steps_columns, *accuracy_columns, "source"), rows, caption)


def _steps(lane: Lane | None) -> str:
    if lane is None:
        return NOT_RUN
    if lane.result.get("failed_at") is not None:
        return f"NaN at {lane.result['failed_at']}"
    steps = lane.result["steps"]
    return f"> {HORIZON}" if steps is None else f"{steps}"


def _accuracy(lane: Lane | None) -> str:
    if lane is None:
        return NOT_RUN
    accuracy = lane.result["test_accuracy"]
    return NONE if accuracy is None else f"{accuracy:.4f}"


def _mean_steps(lanes: Sequence[Lane]) -> str:
    """Restricted mean of a few seeds: a lower bound of their mean where one did not converge."""
    if not lanes:
        return NOT_RUN
    sample = _sample(lanes)
    return ("" if sample.converged.all() else "≥ ") + f"{sample.steps.mean():.0f}"


def _mean_accuracy(lanes: Sequence[Lane]) -> str:
    if not lanes:
        return NOT_RUN
    accuracies = [lane.result["test_accuracy"] for lane in lanes]
    return NONE if None in accuracies else f"{np.mean(accuracies):.4f}"


_ARM_COLUMNS = (
    "seeds",
    "converged",
    "restricted mean steps",
    "median steps",
    "mean test accuracy",
    f"test accuracy ≥ {ACCURATE}",
    "note",
)


def _arm_cells(arm: Arm) -> list[str]:
    """One arm over all its seeds, in the order of `_ARM_COLUMNS`."""
    horizon = arm.config["max_steps"]
    sample = _sample(arm.lanes, horizon)
    mean = stats.restricted_mean(sample)
    tested = [lane.result["test_accuracy"] for lane in arm.lanes if lane.result["test_accuracy"] is not None]
    return [
        f"{len(arm.lanes)}",
        fraction(len(_converged(arm)), len(arm.lanes)),
        interval(mean, ".0f"),
        interval(stats.median_steps(sample), ".0f", beyond=NONE if sample.converged.all() else f"> {horizon}"),
        interval(stats.mean(tested, within=(0, 1)), ".4f"),
        fraction(_accurate(arm), len(arm.lanes)),
        mean.note,
    ]


def _arms_table(arms: Mapping[Kind, Arms]) -> Table:
    """Every arm of Tables 1 and 2 over all its seeds."""
    return _slots_table(arms, TABLED, _ARM_COLUMNS, _arm_cells, "The arms of Tables 1 and 2 over all seeds")


def _summary_table(kept: Arms) -> Table:
    """Tables 1 and 2 in four rows."""
    rows = []
    for slot in TABLED:
        arm = kept.get(slot)
        cells = [NOT_RUN, NONE, NONE, NONE]
        if arm:
            mean = stats.restricted_mean(_sample(arm.lanes))
            cells = [
                str(len(arm.lanes)),
                fraction(len(_converged(arm)), len(arm.lanes)),
                interval(mean, ".0f"),
                fraction(_accurate(arm), len(arm.lanes)),
            ]
        published = f"{PUBLISHED_MEANS[slot.cell, slot.digits]}"
        rows.append([CELL_NAMES[slot.cell], str(slot.digits), published, *cells])
    columns = ("cell", "T", "report: mean steps of 3 seeds", "our seeds", "converged", "mean steps")
    caption = (
        f"Steps until convergence, runs that did not get there counted as {HORIZON}; brackets are 95 % intervals over "
        "seeds"
    )
    return Table((*columns, f"test accuracy ≥ {ACCURATE}"), rows, caption)


def _widths_table(arms: Mapping[Kind, Arms]) -> Table:
    """Claim (d): the LSTM at T=20 with narrower embeddings."""
    return _slots_table(
        arms,
        WIDTHS,
        _ARM_COLUMNS,
        _arm_cells,
        "Claim (d): the LSTM at T=20 by width of the embedding (162: the report's)",
    )


def _plateau_table(arms: Mapping[Kind, Arms]) -> Table:
    """Claims (b) and (e): the plateau, the drop, and the rule that stops when the loss stands still."""

    def cells(arm: Arm) -> list[str]:
        losses = _losses(_converged(arm))
        shares, drops = _plateaus(arm)
        waits = [stats.longest_wait(loss) for loss in losses]
        return [
            f"{len(shares)}",
            interval(stats.mean(shares, within=(0, 1)), ".2f"),
            interval(_mean_drop(drops), ".1f"),
            f"{np.median(waits):g}, {max(waits)}" if waits else NONE,
            fraction(*_stopped_early(arm)),
        ]

    columns = (
        "curves",
        "share of looks with loss 0.5 to 0.7",
        "looks from 0.5 to 0.05",
        "longest wait for a new minimum in looks: median, most",
        f"stopped too early with a patience of {PATIENCE}",
    )
    caption = (
        "Claims (b) and (e): the plateau, over all runs with a whole curve; the drop, over those whose loss came to "
        "0.05; waiting and stopping, over those that converged"
    )
    return _slots_table(arms, TABLED, columns, cells, caption)


def _mean_drop(drops: Sequence[int]) -> stats.Estimate:
    return stats.mean(drops, within=(0, math.inf))


def _plateaus(arm: Arm) -> tuple[list[float], list[int]]:
    """Share of looks on the plateau per run, and the drops of those runs that had one."""
    measured = [stats.plateau(loss) for loss in _losses(arm.lanes)]
    return [one.share for one in measured], [one.drop for one in measured if one.drop is not None]


_LANES_NOTE = f"""\
What it saves that a run which has ended makes place for the next one, or that its program shrinks, by the steps that
the runs above took. With a run on each of {CORES} cores it is time that counts: the steps until the last run has ended.
In one program on one device, as on a GPU, a run costs its steps whether it has ended or not; the program shrinks to the
power of two that holds the others. Ends within a chunk are not counted."""


def _lanes_table(arms: Mapping[Kind, Arms]) -> Table:
    """What taking out runs that ended saves, by the finishing times of the arms of Tables 1 and 2."""
    rows = []
    for slot, kind in itertools.product(TABLED, KINDS):
        if arm := arms[kind].get(slot):
            # The first step is step 0.
            steps = [lane.result["last_step"] + 1 for lane in arm.lanes]
            counts = len(steps), sum(steps), *steps_on_cores(steps, CORES), *steps_in_a_program(steps)
            rows.append([CELL_NAMES[slot.cell], str(slot.digits), kind, *map(str, counts), paths(arm.sources)])
    columns = (
        "cell",
        "T",
        "runs",
        "seeds",
        "their steps",
        f"time on {CORES} cores",
        "where they wait for each other",
        "steps in one program",
        "where it does not shrink",
        "source",
    )
    return Table(columns, rows, "Steps with and without taking out runs that ended")


def steps_on_cores(steps: Sequence[int], cores: int) -> tuple[int, int]:
    """The time until all runs have ended, in their order: each next one on the first free core, or in groups."""
    ends = [0] * cores
    for count in steps:
        heapq.heapreplace(ends, ends[0] + count)
    return max(ends), sum(max(steps[i : i + cores]) for i in range(0, len(steps), cores))


def steps_in_a_program(steps: Sequence[int]) -> tuple[int, int]:
    """Steps of all lanes of one program until all runs have ended: shrinking by powers of two, or not at all."""
    ends, size, before, total = sorted(steps), len(steps), 0, 0
    for ended, end in enumerate(ends):
        size = min(size, 1 << (len(ends) - ended - 1).bit_length())
        total += size * (end - before)
        before = end
    return total, len(ends) * ends[-1]


def _slots_table(
    arms: Mapping[Kind, Arms],
    slots: Iterable[Slot],
    columns: Sequence[str],
    cells: Callable[[Arm], list[str]],
    caption: str,
) -> Table:
    """A row for each arm and kind of runs, which says so where there are none."""
    rows = []
    for slot in slots:
        for kind in KINDS:
            arm = arms[kind].get(slot)
            ours = cells(arm) if arm else [NOT_RUN, *[NONE] * (len(columns) - 1)]
            name = (CELL_NAMES[slot.cell], str(slot.digits), str(slot.width), kind)
            rows.append([*name, *ours, paths(arm.sources if arm else ())])
    return Table(("cell", "T", "width", "runs", *columns, "source"), rows, caption)


_RULES = f"""\
Verdicts are taken from kept runs only; a quick run on one machine cannot judge the claims. (a) holds where the
interval of the share of runs with a test accuracy of at least {ACCURATE} lies above {ACCURATE_SHARE} in every cell
and length, and does not where it lies below in one. (b) and (c) are decided by the difference of restricted mean
steps (permutation test), (d) by Fisher's exact test of the converged fractions at the narrowest and the widest
embedding, each where p < {ALPHA} after Holm's correction over the three; a test that could not be made counts in it
with p = 1. (e) is decided by replaying the curves of the LSTM at T=20 with a patience of {PATIENCE} looks without a
new minimum: it holds where the interval of the share of converged runs that would have been stopped before lies
above {STOPPED_SHARE}, and does not where it lies below. The seeds that would decide an undecided claim are per arm,
were the means, variances and shares seen the truth; for (b), (c) and (d) with a power of 0.8 at the strictest level
of the correction."""


def _verdicts_list(judged: Sequence[Judgement]) -> str:
    return "\n".join(f"- ({one.claim}) {CLAIMS[one.claim]}: **{one.verdict}**" for one in judged)


def _verdicts_table(judged: Sequence[Judgement]) -> Table:
    rows = [
        [
            f"({one.claim})",
            one.verdict,
            one.evidence,
            one.needed,
            paths(sorted({path for arm in one.arms for path in arm.sources})),
        ]
        for one in judged
    ]
    columns = ("claim", "verdict", "evidence", "seeds that would decide it", "source")
    return Table(columns, rows, "The report's claims, judged by the kept runs")


def _others_table(arms: Iterable[Arm]) -> Table:
    """Arms of other settings: other cells, tasks, sizes, learning rates."""
    rows = [
        [
            arm.kind,
            arm.config["task"],
            code(arm.config["cell"]),
            str(arm.config["digits"]),
            str(arm.config["embedding_size"] or "default"),
            _other_setting(arm),
            *_arm_cells(arm),
            paths(arm.sources),
        ]
        for arm in arms
    ]
    columns = ("runs", "task", "cell", "n", "width", "setting, where not the report's", *_ARM_COLUMNS, "source")
    return Table(columns, rows, "Arms that are not part of Tables 1 and 2")


def _other_setting(arm: Arm) -> str:
    """What sets the arm apart, besides the fields that have a column of their own."""
    if _slot(arm) is not None:
        return "as an arm above but for a field that the report does not know: see config.json"
    return (
        ", ".join(code(f"{name}={value}") for name, value in arm.differences(REPORTED).items() if name != "task")
        or NONE
    )


def _sentence(*parts: str) -> str:
    return "; ".join(part for part in parts if part)


# --- Figures ----------------------------------------------------------------------------------------------------------


def _figures(kind: Kind, arms: Arms) -> list[Figure]:
    """Figures 1 and 2 of the report, survival curves and the plateau, for one kind of runs."""
    return [*_curve_figures(kind, arms), *_survival_figures(kind, arms), *_dot_figures(kind, arms)]


def _figure(kind: Kind, name: str, plot: plots.Figure, caption: str, alt: str) -> Figure:
    return study_figure("palindrome", kind, name, plots.png(plot), caption, alt)


def _curve_figures(kind: Kind, arms: Arms) -> list[Figure]:
    """The report's Figure 1 (LSTM) and Figure 2 (peephole): each seed, and mean with band."""
    figures = []
    for number, (cell, name) in enumerate(CELL_NAMES.items(), start=1):
        slots = [slot for slot in TABLED if slot.cell == cell and slot in arms and _losses(arms[slot].lanes)]
        if not slots:
            continue
        columns = [_curves(slot, arms[slot]) for slot in slots]
        figures += [
            _figure(
                kind,
                f"{cell}_seeds",
                plots.seed_curves(columns, COLOURS[cell]),
                f"{name}: training loss and accuracy of each seed (the report's Figure {number}a, b)",
                f"Training loss and accuracy of each seed of the {name} against the training step",
            ),
            _figure(
                kind,
                f"{cell}_mean",
                plots.mean_band(columns, COLOURS[cell]),
                f"{name}: mean and one standard deviation over seeds; a finished run keeps its last value "
                f"(the report's Figure {number}c, d)",
                f"Mean training loss and accuracy of the {name} with a band of one standard deviation",
            ),
        ]
    return figures


def _survival_figures(kind: Kind, arms: Arms) -> list[Figure]:
    """Kaplan-Meier curves of the cells by length, and of the widths where a narrower one was run."""
    panels = {}
    for digits in LENGTHS:
        slots = [slot for slot in TABLED if slot.digits == digits and slot in arms]
        if slots:
            panels[f"T = {digits}"] = [
                _survival(arms[slot], CELL_NAMES[slot.cell], COLOURS[slot.cell]) for slot in slots
            ]
    if any(slot in arms for slot in WIDTHS[:-1]):
        panels["LSTM, T = 20, by width"] = [
            _survival(arms[slot], f"width {slot.width}", WIDTH_COLOURS[slot]) for slot in WIDTHS if slot in arms
        ]
    if not panels:
        return []
    return [
        _figure(
            kind,
            "survival",
            plots.survival_curves(panels),
            "Share of runs not yet converged (Kaplan-Meier), with 95 % intervals",
            "Survival curves of the arms: share of runs not yet converged against the training step",
        )
    ]


def _dot_figures(kind: Kind, arms: Arms) -> list[Figure]:
    """Steps, plateau and drop of each run, and what they are on average."""
    tabled = {slot: arms[slot] for slot in TABLED if slot in arms}
    if not tabled:
        return []
    samples = {slot: _sample(arm.lanes) for slot, arm in tabled.items()}
    panels = {
        "steps until convergence (restricted mean)": [
            _dots(slot, sample.steps.tolist(), stats.restricted_mean(sample)) for slot, sample in samples.items()
        ]
    }
    plateaus = {slot: _plateaus(arm) for slot, arm in tabled.items()}
    if any(shares for shares, _ in plateaus.values()):
        panels["share of looks with loss 0.5 to 0.7"] = [
            _dots(slot, shares, stats.mean(shares, within=(0, 1))) for slot, (shares, _) in plateaus.items()
        ]
        panels["looks from loss 0.5 to 0.05"] = [
            _dots(slot, drops, _mean_drop(drops)) for slot, (_, drops) in plateaus.items()
        ]
    return [
        _figure(
            kind,
            "arms",
            plots.dots_and_intervals(panels),
            f"Steps until convergence (censored runs at {HORIZON}), the plateau and the drop: each run, and the mean "
            "with its 95 % interval",
            "Dot plots of the arms: steps until convergence, share of looks on the plateau, length of the drop",
        )
    ]


def _curves(slot: Slot, arm: Arm) -> plots.Curves:
    curves = {f"seed {lane.seed}": lane.curve for lane in arm.lanes if lane.curve is not None}
    return plots.Curves(
        title=str(slot),
        labels=list(curves),
        steps=[curve.steps for curve in curves.values()],
        metrics={metric: [curve.metrics[metric] for curve in curves.values()] for metric in _METRICS},
    )


def _survival(arm: Arm, label: str, colour: str) -> plots.Survival:
    return plots.Survival(f"{label}, {len(arm.lanes)} runs", colour, stats.survival_curve(_sample(arm.lanes)))


def _dots(slot: Slot, values: Sequence[float], estimate: stats.Estimate) -> plots.Dots:
    return plots.Dots(str(slot), COLOURS[slot.cell], values, estimate)
