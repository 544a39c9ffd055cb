"""What the study of graph recurrent networks declares: arms, quantities, claims, tables and figures."""

import json
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from configs.grnn import Config
from experiments.grnn.build import LENGTHS, PERTURBATIONS, build, build_model, describe_data
from experiments.grnn.example import EXAMPLE, write_example
from jaxrnn.data import on_graphs
from jaxrnn.nn.on_graphs import MODELS, SIZED
from jaxrnn.rundir.read import Run
from jaxrnn.study import plots
from jaxrnn.study.arms import Arm, ArmScheme, Found, Setting
from jaxrnn.study.claims import Claim, Finding, Part, describe, larger, within
from jaxrnn.study.compare import Differences
from jaxrnn.study.figures import Dots
from jaxrnn.study.format import NONE, format_p
from jaxrnn.study.page import Block, Figure, Table
from jaxrnn.study.quantities import Mean, result
from jaxrnn.study.study import ArmTable, Evidence, Study

NAMES = {"rnn": "RNN", "gnn": "GNN", "grnn": "GRNN"} | {
    "time": "GRNN, time gate",
    "time_vec": "GRNN, time gate on vec(z)",
    "node": "GRNN, node gate",
    "edge": "GRNN, edge gate",
}
FREE = tuple(model for model in MODELS if model not in SIZED)
"""Models that do not depend on the number and the order of the nodes."""
HOLM = "a to c"
_NUM_TESTS = 7


def kstep(model: str, length: int, correlation: float) -> Setting:
    """An arm of the diffusion."""
    return {"task": "kstep", "model": model, "length": length, "temporal_correlation": correlation}


def label(setting: Setting) -> str:
    """The model, and what it predicts."""
    if setting["task"] == "epidemic":
        return f"{NAMES[setting['model']]}, epidemic on {setting['network']}, T={setting['length']}"
    return f"{NAMES[setting['model']]}, T={setting['length']}, r_t={setting['temporal_correlation']:g}"


def normalize(setting: dict[str, Any]) -> dict[str, Any]:
    """Fills in the length, resets fields that only the other task reads, and identifies files by name."""
    usual, task = Config(), setting["task"]
    unread = ("network",) if task == "kstep" else ("temporal_correlation", "num_nodes")
    found = setting | {name: getattr(usual, name) for name in unread}
    found["length"] = setting["length"] or LENGTHS[task]
    return found | {"network": found["network"].rpartition("/")[2]}


def optional(key: str) -> Callable[[Run], float | None]:
    """As `result`, for a key that only one task has."""
    return result(key, optional=True)


SHARE = Mean("share of the attainable", result("attainable_share"), ".3f", paired=True)
RMSE = Mean("relative RMSE", optional("relative_rmse"), ".4f", paired=True, is_better="smaller")
F1 = Mean("F1", optional("f1"), ".3f", (0, 1), paired=True)
BRIER = Mean("Brier score", optional("brier"), ".4f", (0, 1), paired=True, is_better="smaller")
RELABELLING = Mean("change by relabelling", result("relabelling"), ".1e", is_better="smaller")
LARGER_SHARE = Mean("share of the attainable on 4 times as many nodes", optional("larger_share"), ".3f")
CONTACTS: Setting = {"task": "epidemic", "model": "grnn", "network": "contacts"}


def means_of(*names: str) -> Callable[[Arm], str]:
    """The means over seeds of values that the test reports beside the model's."""

    def cell(arm: Arm) -> str:
        rows = [run.result for run in arm.runs if run.result and run.result.get(names[0]) is not None]
        return " / ".join(f"{np.mean([row[name] for row in rows]):.3f}" for name in names) if rows else NONE

    return cell


# --- Claims -----------------------------------------------------------------------------------------------------------


def _either_gate() -> Part:
    """The node or the edge gate, whichever shows a gain more clearly, with its p-value doubled."""
    settings = {gate: kstep(gate, 40, 0.3) for gate in ("node", "edge")}

    def find(found: Found) -> Finding:
        plain, arms = found.arm(kstep("grnn", 40, 0.3)), {gate: found.arm(one) for gate, one in settings.items()}
        if plain is None or not all(arms.values()):
            return Finding(0, "not all runs of the GRNN, of the node gate and of the edge gate are there")
        tests = {gate: SHARE.compare(arm, plain) for gate, arm in arms.items() if arm}
        usable = {gate: test for gate, test in tests.items() if not isinstance(test, str)}
        if not usable:
            return Finding(0, "; ".join(map(str, tests.values())))
        said = [f"{gate} gate minus none {SHARE.format(t)}, {format_p(t.p_value)}" for gate, t in usable.items()]
        best = min(usable.values(), key=lambda test: (test.difference <= 0, test.p_value))
        p_value = min(1.0, 2 * best.p_value)
        used = [plain, *(arm for arm in arms.values() if arm)]
        return Finding(1 if best.difference > 0 else -1, f"{SHARE.name}: {'; '.join(said)}", p_value, arms=used)

    return Part(find, f"{SHARE.name}: larger with one of the gates, p (doubled) < 0.05 after Holm's correction", HOLM)


def _free_of_size(model: str) -> Part:
    setting = kstep(model, 10, 0.3) if model in ("gnn", "grnn") else kstep(model, 40, 0.3)

    def find(found: Found) -> Finding:
        arm = found.arm(setting)
        if arm is None:
            return Finding(0, f"no runs of {found.title(setting)}")
        rows = [run.result for run in arm.runs if run.result and run.result["failed_at"] is None]
        runs_there = all(np.isfinite(row["larger_share"]) for row in rows)
        is_free = all(row["parameters"] == row["parameters_larger"] for row in rows)
        shown = LARGER_SHARE.format(LARGER_SHARE.estimate(arm))
        evidence = f"{arm.title}: {rows[0]['parameters']} parameters; {LARGER_SHARE.name} {shown}"
        return Finding(1 if is_free and runs_there else -1, evidence, arms=[arm])

    return Part(find, f"{NAMES[model]}: as many parameters, and trained on 80 nodes it runs on 320")


def _relabelled(model: str) -> Part:
    setting = kstep(model, 10, 0.3) if model in ("gnn", "grnn") else kstep(model, 40, 0.3)
    return within(RELABELLING, setting, -np.inf, 1e-6)


CLAIMS = [
    Claim(
        "a",
        "The GRNN beats the GNN and the RNN where the noise is correlated in time",
        [
            larger(SHARE, kstep("grnn", 10, r), kstep(other, 10, r), HOLM, _NUM_TESTS)
            for r in (0.1, 0.3)
            for other in ("gnn", "rnn")
        ],
    ),
    Claim(
        "b",
        "The time gate helps with long sequences",
        [
            larger(SHARE, kstep("time", 40, 0.3), kstep("grnn", 40, 0.3), HOLM, _NUM_TESTS),
            describe(kstep("time_vec", 40, 0.3), lambda arm: f"{SHARE.name} {SHARE.brief(arm)}"),
        ],
    ),
    Claim("c", "The node or the edge gate helps there", [_either_gate()]),
    Claim(
        "d",
        "Relabelling the nodes relabels the output, of the models on a graph but time_vec",
        [*map(_relabelled, FREE)],
    ),
    Claim(
        "f",
        "Their number of parameters depends on neither T nor N, and they run on other graphs",
        [*map(_free_of_size, FREE)],
    ),
    Claim(
        "g",
        "The GRNN reaches half of the attainable without correlation, four fifths at r_t = 0.3, and an F1 of .68",
        [
            within(SHARE, kstep("grnn", 10, 0.0), 0.5),
            within(SHARE, kstep("grnn", 10, 0.3), 0.8),
            within(F1, CONTACTS, 0.68),
        ],
    ),
]


# --- Figures ----------------------------------------------------------------------------------------------------------


def _errors(evidence: Evidence) -> list[Figure]:
    """The error against the correlation and against the length, as far as these were varied, with the optimum."""
    arms = [arm for _, arm in evidence.rows() if arm and arm.setting["task"] == "kstep"]
    names = {"temporal_correlation": "r_t", "length": "T"}
    figures = []
    for field, axis in names.items():
        groups: dict[str, list[Arm]] = {}
        for arm in arms:
            rest = {key: value for key, value in arm.setting.items() if key not in (field, "model")}
            groups.setdefault(json.dumps([arm.source, rest]), []).append(arm)
        panels: dict[str, Sequence[plots.Line]] = {}
        for group in groups.values():
            if len({arm.setting[field] for arm in group}) > 1:
                other = next(name for name in names if name != field)
                title = f"{names[other]} = {group[0].setting[other]:g}"
                panels[title if title not in panels else f"{title} ({len(panels) + 1})"] = _error_lines(group, field)
        if panels:
            caption = f"Relative RMSE against {axis}: means over seeds; the dashed line is the best predictor"
            plot = plots.lines(panels, axis, "relative RMSE")
            figures.append(Figure(f"errors_{field}", plots.svg(plot), caption, caption))
    return figures


def _error_lines(arms: Sequence[Arm], field: str) -> list[plots.Line]:
    lines = []
    for i, model in enumerate(model for model in MODELS if any(arm.setting["model"] == model for arm in arms)):
        chosen = sorted((arm for arm in arms if arm.setting["model"] == model), key=lambda arm: arm.setting[field])
        x, y = (np.array(v) for v in ([a.setting[field] for a in chosen], [RMSE.estimate(a).value for a in chosen]))
        lines.append(plots.Line(NAMES[model], plots.COLOURS[i % len(plots.COLOURS)], x, y))
    best = {arm.setting[field]: np.mean(Mean("", optional("optimum")).values(arm)) for arm in arms}
    x = np.array(sorted(best))
    return [*lines, plots.Line("optimum", plots.GREY, x, np.array([best[value] for value in x]), dashed=True)]


def _examples(evidence: Evidence) -> list[Figure]:
    """Gates over time, or an epidemic and its prediction, on the graph of a run."""
    figures = []
    for number, directory in enumerate(evidence.directories, start=1):
        if not (path := directory.path / EXAMPLE).exists():
            continue
        example = json.loads(path.read_bytes())
        if example["panels"]:
            plot = plots.node_values(example["panels"], "", example["places"], np.array(example["edges"]))
            caption = f"{example['run']}: one sequence on its graph, with some of the edges; darker is more"
            alt = f"A graph whose nodes are coloured: {'; '.join(example['panels'])}"
            figures.append(Figure(f"graph_{number}", plots.svg(plot), caption, alt))
        if example["gates"]:
            lines = [
                plots.Line(f"gate of {name}", colour, np.arange(len(values)), np.array(values))
                for (name, values), colour in zip(example["gates"].items(), plots.COLOURS, strict=False)
            ]
            caption = "The two gates over one sequence, mean over the nodes"
            plot = plots.lines({example["run"]: lines}, "step", "gate")
            figures.append(Figure(f"gates_{number}", plots.svg(plot), caption, caption))
    return figures


def _stability(evidence: Evidence) -> list[Block]:
    """How the output changes with the shift, against the size of the change and the length."""
    rows = []
    for title, arm in evidence.rows():
        found = (
            [run.result["perturbed"] for run in arm.runs if run.result and run.result.get("perturbed")] if arm else []
        )
        if found:
            rows.append([title, *(f"{value:.3f}" for value in np.mean(found, axis=0))])
    heads = ["arm", *(f"{size:g}" for size in PERTURBATIONS)]
    caption = (
        "Relative change of the output when a random symmetric matrix of this spectral norm is added to the shift, "
        "whose own is 1; means over seeds"
    )
    return [Table(caption, heads, rows)] if rows else []


ARMS = ArmScheme(
    Config,
    ("task", "model", "length", "temporal_correlation", "network"),
    label,
    ("task", "length", "temporal_correlation", "network", "num_nodes"),
    paper=[kstep(model, 10, r) for r in (0.1, 0.3) for model in ("gnn", "rnn", "grnn")],
    normalize=normalize,
)

STUDY = Study(
    name="grnn",
    title="Graph recurrent networks (Question 3.5b)",
    config=Config,
    build=build,
    model=lambda config, data: build_model(config),
    data=describe_data,
    finish=write_example,
    arms=ARMS,
    quantities=[SHARE, RMSE, F1, BRIER],
    metrics=("loss",),
    claims=CLAIMS,
    headline=ArmTable(
        f"The diffusion, {on_graphs.AHEAD} steps ahead; brackets are 95 % intervals over seeds",
        [
            RMSE.cells,
            ("persistence / mean / optimum", means_of("persistence", "training_mean", "optimum")),
            SHARE.cells,
            LARGER_SHARE.cells,
        ],
        lambda arm: arm.setting["task"] == "kstep",
    ),
    sections={
        "Epidemic": [
            ArmTable(
                f"The epidemic, {on_graphs.DAYS_AHEAD} days after the last day that is seen",
                [
                    F1.cells,
                    ("persistence / everybody / ceiling", means_of("persistence_f1", "everybody_f1", "ceiling_f1")),
                    BRIER.cells,
                    ("mean / ceiling", means_of("mean_brier", "ceiling_brier")),
                    SHARE.cells,
                ],
                lambda arm: arm.setting["task"] == "epidemic",
            ),
        ],
        "Differences": [Differences(SHARE, ARMS.paper)],
        "Figures": [
            Dots("shares", "Share of the attainable: each run, and the mean", {SHARE.name: SHARE}, from_zero=False),
            _errors,
            _examples,
        ],
        "The graph": [
            ArmTable("Change by relabelling nodes, relative to the largest output", [RELABELLING.cells]),
            _stability,
        ],
    },
    note=(
        "The share of the attainable is (mean - model) / (mean - best), of relative RMSE in the diffusion and of the "
        "Brier score in the epidemic. Here mean is the mean of the targets and best is the best predictor: the "
        "conditional mean given all inputs, which is linear in filtered inputs, or the share of infected in 150 "
        "simulations from the true state. A seed determines the data, the weights and, for `kstep`, the graph. T is "
        "the number of inputs, r_t the deviation of the noise that all steps of a sequence share."
    ),
    tiny={"model": "time", "length": 3, "num_nodes": 10, "hidden_size": 3, "num_taps": 2, "batch_size": 4}
    | {"test_samples": 8, "max_steps": 12, "eval_every": 4, "chunk_steps": 4, "num_seeds": 2},
)
