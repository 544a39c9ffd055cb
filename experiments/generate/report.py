"""What the study of generated molecules declares: its arms, quantities, claims, tables and figures."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from math import inf
from typing import Any

from configs.generate import Config
from experiments.generate import training
from experiments.molecules.pictures import draw
from jaxrnn.data.files import DataError
from jaxrnn.rundir.read import Run
from jaxrnn.study import molecule_plots, plots
from jaxrnn.study.arms import Arm, ArmScheme, Found, Setting
from jaxrnn.study.claims import Claim, Finding, Part, describe, within
from jaxrnn.study.figures import Dots
from jaxrnn.study.format import NONE, format_count
from jaxrnn.study.page import Figure
from jaxrnn.study.quantities import Mean, result
from jaxrnn.study.study import ArmTable, Evidence, Study

WAYS = {
    training.RANDOM: "untaught moves",
    training.CLIMB: "hill climbing",
    training.ZINC: "ZINC at random",
    "chain": "chain of carbon",
}
"""The ways to find molecules beside the policy, with their titles."""
PUBLISHED = {"qed": 0.948, "plogp": 7.98}
"""The best rewards of GCPN (You et al. 2018, Table 1)."""
QED: Setting = {"reward": "qed"}
PLOGP: Setting = {"reward": "plogp"}
_DRAWN = 8

mean = Mean("mean reward of the last 1000", result("policy_mean"), ".3f")
unique = Mean("unique among them", result("policy_unique", optional=True), ".3f", within=(0, 1))
new = Mean("new against ZINC", result("policy_new", optional=True), ".3f", within=(0, 1))
best = Mean("best reward", result("policy_best"), ".3f")
_KEYS = ("mean", "best", "unique", "new", "top")


# --- What stands beside -----------------------------------------------------------------------------------------------


def beside(arm: Arm, keys: Sequence[str] = _KEYS) -> list[Arm]:
    """The other ways to find molecules, with as many scored in the same runs; the chain needs only one run."""
    found = []
    for way, title in WAYS.items():
        ended = [run for run in arm.runs if run.result and run.result.get("failed_at") is None]
        runs = [run for run in (_run_of(way, title, run, keys) for run in ended) if run.result]
        if runs:
            some, setting = runs[:1] if way == "chain" else runs, {**arm.setting, "model": title}
            found.append(replace(arm, title=ARMS.name(setting), setting=setting, runs=some, is_trained=False))
    return found


def _run_of(way: str, title: str, run: Run, keys: Sequence[str]) -> Run:
    """The run as if this way had been the policy; without a result if the run did not have this way."""
    row: Mapping[str, Any] = run.result or {}
    own = {f"policy_{key}": row[f"{way}_{key}"] for key in keys if f"{way}_{key}" in row}
    if way == "chain" and "chain" in run.data:
        own = {"policy_mean": None, "policy_best": run.data["chain"]}
    return replace(run, name=title, result=own or None)


def baselines(arms: Sequence[Arm]) -> list[Arm]:
    """The other ways beside the arms, which depend on seeds and numbers of molecules but not on the policy."""
    found: dict[str, Arm] = {}
    for arm in (arm for arm in arms if arm.is_complete):
        same = [arm.setting[name] for name in ("reward", "calls", "batch_size", "max_atoms")]
        for one in beside(arm, ("mean", "best")):
            found.setdefault(str([arm.source, arm.data, one.setting["model"], *same]), one)
    return list(found.values())


def _trained(arm: Arm) -> bool:
    return arm.is_trained


def _with_others(evidence: Evidence) -> list[Any]:
    """A table with the policy and the other ways."""
    rows = []
    for title, arm in evidence.rows(_trained):
        for name, one in [(title, arm), *((f"{title}: {_way(b)}", b) for b in beside(arm))] if arm else []:
            cells = {"seeds": one.count if one.is_trained else NONE}
            for quantity in (mean, best, unique, new):
                cells |= quantity.cells(one)
            tops = [run.result["policy_top"] for run in one.runs if run.result and run.result.get("policy_top")]
            flat = sorted((x for top in tops for x in top if x is not None), reverse=True)[:3]
            cells["three best of all seeds"] = ", ".join(f"{x:.3f}" for x in flat) or NONE
            rows.append((name, one, cells))
    caption = "The policy and the other ways to find molecules; each has as many molecules scored in each seed"
    return [evidence.table(caption, rows)] if rows else []


def _way(arm: Arm) -> str:
    return arm.runs[0].name


# --- Claims -----------------------------------------------------------------------------------------------------------


def reached(arm: Setting, low: float, high: Callable[[Arm], float] = lambda arm: inf) -> Part:
    """The best molecule of all seeds, as it is printed, is at least as good as the published one, and below `high`."""

    def find(found: Found) -> Finding:
        runs = found.arm(arm)
        values = best.values(runs) if runs else []
        if not runs or not values:
            return Finding(0, f"no runs of {found.title(arm)}")
        top, digits = max(values), len(f"{low:g}".partition(".")[2])
        count = sum(round(value, digits) >= low for value in values)
        side = 1 if round(top, digits) >= low and top < high(runs) else -1
        evidence = f"{runs.title}: {top:.4f}, and {count} of {len(values)} seeds reach {low:g}"
        return Finding(side, evidence, arms=[runs])

    return Part(find, f"best reward of all seeds, rounded as published: at least {low:g}")


def _chain(arm: Arm) -> float:
    return float(arm.data["chain"])


def _others_in_words(arm: Arm) -> str:
    shown = [f"{_way(one)} {best.format(best.estimate(one))}" for one in beside(arm)]
    return f"best of the others, mean over seeds: {'; '.join(shown)}"


CLAIMS = [
    Claim(
        "a",
        "The policy is directed by its goal: mean QED of the last 1000 molecules above 0.70, and 0.9 of them unique",
        [within(mean, QED, 0.70), within(unique, QED, 0.9)],
    ),
    Claim(
        "b",
        "The published best QED, 0.948, is reached (2000 molecules of ZINC taken at random reach 0.947)",
        [reached(QED, PUBLISHED["qed"]), describe(QED, _others_in_words)],
    ),
    Claim(
        "c",
        "The published best penalised logP, 7.98, is reached, and stays below a chain of 38 carbon atoms, 11.19",
        [reached(PLOGP, PUBLISHED["plogp"], _chain), describe(PLOGP, _others_in_words)],
    ),
]


# --- Figures ----------------------------------------------------------------------------------------------------------


def _curves(evidence: Evidence) -> list[Figure]:
    """Rewards against scored molecules: the policy and the others, over seeds."""
    figures = []
    for number, (title, arm) in enumerate(evidence.rows(_trained), start=1):
        curves = list(arm.curves.values()) if arm else []
        if not arm or not curves:
            continue
        size, steps = arm.setting["batch_size"], arm.setting["steps_per_batch"]
        panels: dict[str, dict[str, Any]] = {}
        for what, shown in (("mean", "mean reward of the last 1000"), ("best", "best reward so far")):
            for way, name in {training.POLICY: "policy", **WAYS}.items():
                if f"{way}_{what}" in curves[0].metrics:
                    scored = [(curve.steps // steps + 1) * size for curve in curves]
                    values = [curve.metrics[f"{way}_{what}"] for curve in curves]
                    panels.setdefault(shown, {})[name] = (scored, values)
        marks = {f"GCPN, {PUBLISHED[arm.setting['reward']]:g}": PUBLISHED[arm.setting["reward"]]}
        if "chain" in arm.data:
            marks[f"chain of carbon, {_chain(arm):.2f}"] = _chain(arm)
        plot = molecule_plots.rewards_against_scored(panels, {"best reward so far": marks})
        seeds = format_count(len(curves), "seed") + (": mean and one standard deviation" if len(curves) > 1 else "")
        caption = f"{title}: rewards against the molecules that have been scored, {seeds}"
        figures.append(Figure(f"generate_rewards_{number}", plots.svg(plot), caption, caption))
    return figures


def _drawn(evidence: Evidence) -> list[Figure]:
    """The best molecules of all seeds, drawn by RDKit where it is installed."""
    figures = []
    for number, (title, arm) in enumerate(evidence.rows(_trained), start=1):
        rows = [row for run in arm.runs for row in _written(run)] if arm else []
        rewards = {row["smiles"]: row["reward"] for row in rows if row["way"] == training.POLICY}
        top = sorted(rewards, key=lambda smiles: -rewards[smiles])[:_DRAWN]
        shown = tuple((smiles, f"{rewards[smiles]:.3f}") for smiles in top)
        if not shown:
            continue
        try:
            svg = draw(shown)
        except DataError:  # RDKit is not needed for reading results.
            return []
        caption = f"{title}: the best molecules of all seeds, with their rewards"
        figures.append(Figure(f"generate_drawn_{number}", svg, caption, "; ".join(map(": ".join, shown))))
    return figures


def _written(run: Run) -> list[Mapping[str, Any]]:
    file = run.path / training.MOLECULES
    rows = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
    return [row for row in rows if row["run"] == run.name]


ARMS = ArmScheme(
    Config,
    ("reward", "model"),
    lambda setting: f"{setting['model']} for {setting['reward']}",
    problem=("reward", "max_atoms"),
    paper=[QED, PLOGP],
)

STUDY = Study(
    name="generate",
    title="Molecules towards a goal",
    config=Config,
    build=training.build_training,
    model=training.build_model,
    check=training.check,
    choices={"model": ["policy"]},
    data=training.describe,
    arms=ARMS,
    quantities=[mean, best, unique, new],
    baselines=baselines,
    metrics=("loss", "policy_mean"),
    claims=CLAIMS,
    headline=ArmTable(
        "Rewards; brackets are 95 % intervals over seeds",
        [
            ("published best (GCPN)", lambda arm: f"{PUBLISHED[arm.setting['reward']]:g}"),
            mean.cells,
            unique.cells,
            best.cells,
        ],
        lambda arm: arm.is_trained and ARMS.is_paper(arm),
    ),
    sections={
        "The policy and the others": [_with_others],
        "Figures": [_curves, _drawn, Dots("rewards", "Rewards of each seed", {mean.name: mean, best.name: best})],
    },
    pictures=(_curves, _drawn),
    note=(
        "Each seed has the same number of molecules scored from the policy, from untaught moves, from hill climbing "
        "with the same moves and, where its file is available, from ZINC. All molecules are valid: moves that valences "
        "forbid are masked."
    ),
    needs="rdkit",
    tiny={
        "calls": 24,
        "batch_size": 4,
        "max_atoms": 8,
        "hidden_size": 8,
        "num_layers": 1,
        "steps_per_batch": 2,
        "moves_per_step": 8,
        "eval_batches": 1,
        "num_seeds": 2,
    },
)
