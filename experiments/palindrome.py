"""Binary palindromes (Soons 2020, Question 1.2, Tables 1 and 2).

    python -m experiments.palindrome --config=configs/palindrome.py --workdir=DIR

This is the study `formal` with the paper's task and its claims. The published values, and the thresholds by which
claims are judged, were fixed before the runs.
"""

import heapq
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike

from configs.palindrome import Config
from experiments import formal
from experiments._cli import main
from jaxrnn.rundir.read import Run
from jaxrnn.study import claims, stats
from jaxrnn.study.arms import Arm, Setting
from jaxrnn.study.claims import Claim
from jaxrnn.study.figures import Dots, SeedCurves, Survival
from jaxrnn.study.format import NONE, NOT_RUN
from jaxrnn.study.page import Table
from jaxrnn.study.quantities import Mean, Share, TimeToEvent, steps_until_stop
from jaxrnn.study.study import ArmTable, Evidence, Study
from jaxrnn.training.definition import ConfigError

HORIZON = 3000
ACCURATE = 0.995  # A run with this test accuracy prints as the paper's 1.00.
PATIENCE = 5  # (e): evaluations without a new minimum.
CORES = 2  # In the table of runs that end.

TABLED: Sequence[Setting] = [{"cell": cell, "digits": n} for cell in ("lstm", "peephole") for n in (10, 20)]
LSTM_10, LSTM_20, PEEPHOLE_10, PEEPHOLE_20 = TABLED
NARROW, MIDDLE = ({**LSTM_20, "embedding_size": width} for width in (40, 81))

# Steps until convergence of seeds 0, 1 and 2, which the author chose by hand (Soons 2020, Tables 1 and 2); their means
# as printed there; the test accuracy is 1.00 in every row, with a standard deviation of 0.
PUBLISHED_STEPS = ((300, 300, 360), (1260, 1080, 2280), (480, 420, 420), (480, 720, 420))
PUBLISHED_MEANS = (320, 1540, 440, 540)


def check(config: Config) -> None:
    """Refuses other tasks, which the paper's claims are not about, and what `experiments.formal` refuses."""
    if config.task != "palindrome":
        raise ConfigError("task", config.task, "is not the paper's; for other tasks, use python -m experiments.formal")
    formal.check(config)


# --- Quantities -------------------------------------------------------------------------------------------------------


def _stopped_early(run: Run) -> float | None:
    """Whether replaying the rule would have stopped a converged run before it converged."""
    if run.curve is None or not (run.result or {})["stopped"]:
        return None
    loss = run.curve.metrics["loss"]
    stop = stats.would_stop_at(loss, PATIENCE)
    # The last evaluation is the one at which the run was seen to have converged.
    return stop is not None and stop < len(loss) - 1


def _of_losses(measure: Callable[[ArrayLike], float | None]) -> Callable[[Run], float | None]:
    """Applies a function to all losses of a run; gives None for a run without a whole curve."""
    return lambda run: measure(run.curve.metrics["loss"]) if run.curve else None


steps = TimeToEvent("steps until convergence", steps_until_stop)
test_accuracy = formal.TEST_ACCURACY
accurate = Share(f"test accuracy ≥ {ACCURATE}", lambda run: ((run.result or {})["test_accuracy"] or 0) >= ACCURATE)
converged = Share("converged", lambda run: (run.result or {})["stopped"])
early = Share(f"stopped too early with a patience of {PATIENCE}", _stopped_early)
on_plateau = Mean("share of evaluations with loss 0.5 to 0.7", _of_losses(stats.plateau_share), ".2f", (0, 1))
drop = Mean("evaluations from loss 0.5 to 0.05", _of_losses(stats.plateau_drop), ".1f", (0, math.inf))


def _longest_wait(arm: Arm) -> str:
    """The median and maximum of the converged runs' longest waits, in evaluations."""
    curves = [run.curve for run in arm.runs if run.curve and early.value(run) is not None]
    waits = [stats.longest_wait(curve.metrics["loss"]) for curve in curves]
    return f"{np.median(waits):g}, {max(waits)}" if waits else NONE


def _plateau_words(arm: Arm) -> str:
    share, fall = on_plateau.format(on_plateau.estimate(arm)), drop.estimate(arm)
    takes = f"the drop takes {drop.format(fall)} evaluations" if fall.value is not None else "no drop"
    return f"{share} of the evaluations are on the plateau, {takes}"


# --- Claims -----------------------------------------------------------------------------------------------------------

CLAIMS = [
    Claim(
        "a",
        "Both cells reach perfect test accuracy at both lengths",
        [claims.within(accurate, arm, 0.8) for arm in TABLED],
    ),
    Claim(
        "b",
        "T=20 is much harder for the LSTM than T=10 (its plateau and sudden drop are measured beside it)",
        [
            claims.larger(steps, LSTM_20, LSTM_10, family="bcd", tests=3),
            *(claims.describe(arm, _plateau_words) for arm in (LSTM_20, LSTM_10)),
        ],
    ),
    Claim(
        "c",
        "At T=20 the peephole LSTM converges much sooner than the LSTM",
        [claims.larger(steps, LSTM_20, PEEPHOLE_20, family="bcd", tests=3)],
    ),
    Claim(
        "d",
        "With a smaller embedding the LSTM's drop at T=20 often never comes",
        [
            claims.larger(converged, LSTM_20, NARROW, family="bcd", tests=3),
            *(claims.describe(arm, lambda arm: converged.cells(arm)["converged"]) for arm in (NARROW, MIDDLE, LSTM_20)),
        ],
    ),
    Claim(
        "e",
        "A rule that stops when the loss stands still would have stopped the LSTM at T=20 too early",
        [claims.within(early, LSTM_20, 0.5)],
    ),
]


# --- Tables -----------------------------------------------------------------------------------------------------------


def _published_mean(arm: Arm) -> str:
    means = zip(TABLED, PUBLISHED_MEANS, strict=True)
    return next(str(mean) for setting, mean in means if setting.items() <= arm.setting.items())


def _by_seed(evidence: Evidence) -> list[Table]:
    """The paper's Tables 1 and 2, with our seeds 0, 1 and 2 beside its own."""
    rows = []
    for setting, published, mean in zip(TABLED, PUBLISHED_STEPS, PUBLISHED_MEANS, strict=True):
        for title, arm in evidence.rows([setting]):
            for seeds, theirs in zip(([0], [1], [2], [0, 1, 2]), (*published, mean), strict=True):
                until, tested = _steps_and_accuracy(arm, seeds)
                rows.append([title, str(seeds[0]) if len(seeds) == 1 else "mean", str(theirs), until, "1.00", tested])
    columns = ("arm", "seed", "steps, Soons (2020)", "steps", "test accuracy, Soons (2020)", "test accuracy")
    caption = "Seeds 0, 1 and 2; the paper's were chosen by hand, and its test accuracy is 1.00 in every row"
    return [Table(caption, columns, rows)]


def _steps_and_accuracy(arm: Arm | None, seeds: Sequence[int]) -> list[str]:
    runs = [run for run in arm.runs if run.seed in seeds] if arm else []
    if arm is None or len(runs) < len(seeds):
        return [NOT_RUN, NONE]
    some = replace(arm, runs=runs)
    sample, accuracy = steps.sample(some), test_accuracy.estimate(some).value
    bound = "" if sample.converged.all() else "> " if len(runs) == 1 else "≥ "
    return [f"{bound}{sample.steps.mean():.0f}", NONE if accuracy is None else f"{accuracy:.4f}"]


def _endings(evidence: Evidence) -> list[Table]:
    """What is saved if runs that have ended make room for others, from the finishing times of the arms."""
    rows = []
    for title, arm in evidence.rows(TABLED):
        if arm:
            counts = [run.result["last_step"] + 1 for run in arm.runs if run.result]
            numbers = len(counts), sum(counts), *steps_on_cores(counts, CORES), *steps_in_a_program(counts)
            rows.append([title, *map(str, numbers)])
    columns = ["arm", "seeds", "their steps", f"time on {CORES} cores", "where they wait for each other"]
    columns += ["steps in one program", "where it does not shrink"]
    caption = (
        "Steps with and without taking out runs that have ended: a run on each core, or all in one program, which "
        "shrinks to the power of two that holds the others"
    )
    return [Table(caption, columns, rows)] if rows else []


def steps_on_cores(counts: Sequence[int], cores: int) -> tuple[int, int]:
    """The time until all runs have ended: each starts in order on the first free core, or they run in groups."""
    ends = [0] * cores
    for count in counts:
        heapq.heapreplace(ends, ends[0] + count)
    return max(ends), sum(max(counts[i : i + cores]) for i in range(0, len(counts), cores))


def steps_in_a_program(counts: Sequence[int]) -> tuple[int, int]:
    """Steps of all places in one program until all runs have ended; it shrinks by powers of two, or not at all."""
    ends, left = np.sort(counts), np.arange(len(counts), 0, -1)
    sizes = np.minimum(len(ends), 2 ** np.ceil(np.log2(left)).astype(int))
    return int(sizes @ np.diff(ends, prepend=0)), len(ends) * int(ends[-1])


def _figures() -> Iterator[SeedCurves]:
    """The paper's Figure 1 (LSTM) and Figure 2 (peephole): each seed, and mean with band."""
    for number, (cell, arms) in enumerate({"LSTM": TABLED[:2], "Peephole LSTM": TABLED[2:]}.items(), start=1):
        names, stem = {"loss": "loss", "accuracy": "accuracy"}, cell.replace(" ", "_").lower()
        caption = f"{cell}: training loss and accuracy of each seed (Figure {number}a, b)"
        yield SeedCurves(f"{stem}_seeds", caption, names, arms)
        caption = f"{cell}: mean and one standard deviation over seeds; a run that has ended keeps its last value"
        yield SeedCurves(f"{stem}_mean", f"{caption} (Figure {number}c, d)", names, arms, is_band=True)


_survival = Survival(
    "survival",
    steps,
    {
        "T = 10": [("LSTM", LSTM_10), ("Peephole LSTM", PEEPHOLE_10)],
        "T = 20": [("LSTM", LSTM_20), ("Peephole LSTM", PEEPHOLE_20)],
        "LSTM, T = 20, by width": [("width 162", LSTM_20), ("width 81", MIDDLE), ("width 40", NARROW)],
    },
)
_dots = Dots(
    "arms",
    f"Each run, and the mean with its 95 % interval; runs that have not converged stand at {HORIZON} steps",
    {"steps until convergence": steps, on_plateau.name: on_plateau, drop.name: drop},
    TABLED,
)

STUDY = Study(
    name="palindrome",
    title="Binary palindromes",
    config=Config,
    build=formal.build,
    choices={name: formal.CHOICES[name] for name in ("cell", "initializer")},
    model=formal.STUDY.model,
    check=check,
    arms=replace(
        formal.ARMS,
        named=("task", "cell", "digits"),
        problem=("task", "digits"),
        paper=[*TABLED, NARROW, MIDDLE],
        defaults=None,
    ),
    quantities=[steps, test_accuracy],
    claims=CLAIMS,
    headline=ArmTable(
        f"Tables 1 and 2: steps until convergence, runs that did not get there counted as {HORIZON}; brackets are 95 % "
        "intervals over seeds",
        [
            ("Soons (2020), mean of 3 seeds", _published_mean),
            converged.cells,
            ("mean steps", lambda arm: steps.format(steps.estimate(arm))),
            accurate.cells,
        ],
        TABLED,
    ),
    sections={
        "Tables 1 and 2": [
            _by_seed,
            ArmTable("Tables 1 and 2 over all seeds", [steps.cells, test_accuracy.cells, accurate.cells], TABLED),
        ],
        "The embedding's width (claim d)": [
            ArmTable("The LSTM at T=20", [steps.cells, test_accuracy.cells, accurate.cells], [NARROW, MIDDLE, LSTM_20])
        ],
        "The plateau (claims b and e)": [
            ArmTable(
                "Plateau and drop over all runs; waiting and stopping over those that converged",
                [
                    ("curves", lambda arm: str(len(arm.curves))),
                    on_plateau.cells,
                    drop.cells,
                    ("longest wait for a new minimum: median, most", _longest_wait),
                    early.cells,
                ],
                TABLED,
            )
        ],
        "Figures 1 and 2": [_survival, _dots, *_figures()],
        "Runs that end": [_endings],
    },
    note=(
        "Steps until convergence are detection times: the loss has been at or below 0.005 at three evaluations in a "
        "row, 60 steps apart, so it crossed that line 120 to 179 steps before. A run that did not converge within "
        "`max_steps` is censored there; a run that met a NaN never converged."
    ),
    tiny={"digits": 2, "hidden_size": 4, "batch_size": 8, "test_samples": 16, "max_steps": 12, "eval_every": 4}
    | {"chunk_steps": 4, "num_seeds": 2},
)

if __name__ == "__main__":
    main(STUDY)
