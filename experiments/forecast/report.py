"""What the study of forecasts declares: its arms and baselines, claims, tables and figures."""

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from configs.forecast import Config
from experiments.forecast.build import build, build_model, check, describe_data
from experiments.forecast.errors import ForecastError, forecast_error
from experiments.forecast.results import FIGURES, finish, problem_of
from jaxrnn.data import signals
from jaxrnn.nn.forecasters import MODELS
from jaxrnn.rundir.directory import METRICS
from jaxrnn.study import forecast_plots, plots
from jaxrnn.study.arms import Arm, ArmScheme, Found, Setting
from jaxrnn.study.baselines import baseline_arms, read_list
from jaxrnn.study.claims import ALPHA, Claim, Finding, Part, larger, side_of
from jaxrnn.study.figures import SeedCurves
from jaxrnn.study.format import NONE, format_p
from jaxrnn.study.page import Figure
from jaxrnn.study.quantities import Mean, at_best, result
from jaxrnn.study.study import ArmTable, Evidence, Study

LOS: Setting = {"dataset": "los_loop"}
JAPAN: Setting = {"dataset": "flu_japan", "horizon": 5}
CHICKENPOX: Setting = {"dataset": "chickenpox", "horizon": 1}
# Zhao et al. 2020: RMSE and MAE 15 minutes ahead, at the epoch that is best on the test part.
PUBLISHED = "5.126 / 3.180"

rmse, mae = forecast_error("rmse"), forecast_error("mae")
validation = Mean("validation RMSE", lambda run: (run.result or {}).get("validation_rmse"), ".4g", (0, np.inf))
best_step = Mean("step of the weights", result("best_step", optional=True), ".0f")


def _title(setting: Setting) -> str:
    return f"{setting['model']} on {setting['dataset'].rpartition('/')[2]}, {setting['horizon']} ahead"


SCHEME = ArmScheme(
    Config,
    ("model", "dataset", "horizon"),
    _title,
    problem=("dataset", "horizon", "input_length", "split", "season"),
)


# --- Tables -----------------------------------------------------------------------------------------------------------


def _test_best(arm: Arm) -> dict[str, str]:
    """T-GCN's protocol, which looks at the test part: the errors at the evaluation with the lowest test RMSE."""
    values = [[at_best(f"test_{name}", "test_rmse", METRICS)(run) for run in arm.runs] for name in ("rmse", "mae")]
    if not arm.is_trained or None in values[0] + values[1]:
        return {}
    means = (np.mean(np.array(one, float)) for one in values)
    return {"RMSE / MAE at the best test epoch": " / ".join(f"{x:.4g}" for x in means)}


def _published(arm: Arm) -> str:
    is_theirs = arm.setting["model"] == "tgcn" and arm.setting["dataset"] == "los_loop" and arm.setting["horizon"] == 3
    return PUBLISHED if is_theirs else NONE


def _by_horizon(arm: Arm) -> dict[str, str]:
    """RMSE and MAE at some horizons, the first and the last among them."""
    last = arm.setting["horizon"]
    cells = {}
    for horizon in [h for h in (1, 2, 3, 5, 6, 9, 10, 12, 15) if h < last] + [last]:
        at = [forecast_error(name, horizon).brief(arm) for name in ("rmse", "mae")]
        cells[f"{horizon} ahead"] = " / ".join(at)
    return cells


# --- Claims -----------------------------------------------------------------------------------------------------------


def _best(found: Found, problem: Setting) -> Arm | None:
    """The arm with the lowest mean validation RMSE among the models that see the graph."""
    arms = [arm for model in MODELS if model != "gru" and (arm := found.arm({**problem, "model": model}))]
    with_value = [(value, arm) for arm in arms if (value := validation.estimate(arm).value) is not None]
    return min(with_value, key=lambda one: one[0])[1] if with_value else None


def _beats(quantity: ForecastError, problem: Setting, baseline: str, family: str) -> Part:
    """The best model has a smaller error than a baseline."""

    def find(found: Found) -> Finding:
        arm, other = _best(found, problem), found.arm({**problem, "model": baseline})
        if arm is None or other is None:
            return Finding(0, f"no runs of a graph network on {problem['dataset']}")
        test = quantity.compare(other, arm)
        if isinstance(test, str):
            return Finding(0, f"{other.title} and {arm.title}: {test}")
        evidence = (
            f"{quantity.name}, {other.title} minus {arm.title}: {quantity.format(test)}, {format_p(test.p_value)}"
        )
        return Finding(1 if test.difference > 0 else -1, f"{evidence}; {test.note}", test.p_value, None, [other, arm])

    rule = f"{quantity.name}: larger for {baseline} than for the network that is best in validation, p < {ALPHA}"
    return Part(find, f"{rule} after Holm's correction", family)


def _below(quantity: ForecastError, problem: Setting, limit: float) -> Part:
    """The error of the best model lies below a limit."""

    def find(found: Found) -> Finding:
        arm = _best(found, problem)
        if arm is None:
            return Finding(0, f"no runs of a graph network on {problem['dataset']}")
        estimate = quantity.estimate(arm)
        shown = ", ".join(quantity.cells(arm).values())
        return Finding(side_of(estimate, -np.inf, limit), f"{arm.title}, {arm.count} seeds: {shown}", arms=[arm])

    return Part(
        find, f"{quantity.name} of the network that is best in validation: the 95 % interval lies below {limit:g}"
    )


TGCN, GRU, DCRNN, LINEAR = ({**LOS, "model": model} for model in ("tgcn", "gru", "dcrnn", "graph_ar"))
AT_2, AT_5 = forecast_error("rmse", 2), forecast_error("rmse", 5)
CLAIMS = [
    Claim(
        "a",
        "The graph helps: on `los_loop` T-GCN has smaller errors than the same GRU of each node alone",
        [larger(rmse, GRU, TGCN, "a", 2), larger(mae, GRU, TGCN, "a", 2)],
    ),
    Claim("b", "T-GCN beats the linear autoregression on the graph in RMSE", [larger(rmse, LINEAR, TGCN, "b", 1)]),
    Claim("c", "T-GCN beats the linear autoregression on the graph in MAE", [larger(mae, LINEAR, TGCN, "c", 1)]),
    Claim(
        "d", "Diffusion convolution beats T-GCN's: `dcrnn` has the smaller RMSE", [larger(rmse, TGCN, DCRNN, "d", 1)]
    ),
    Claim(
        "e",
        "On weekly flu in Japan a graph recurrent network beats the shared autoregression, 2 and 5 weeks ahead",
        [_beats(at, JAPAN, "shared_ar", "e") for at in (AT_2, AT_5)],
    ),
    Claim(
        "f",
        "On `los_loop`, 15 minutes ahead, the best network has an RMSE of at most 5.15 and an MAE of at most 3.05",
        [_below(rmse, LOS, 5.15), _below(mae, LOS, 3.05)],
    ),
    Claim(
        "g",
        "On weekly flu in Japan the best network has an RMSE of at most 1050, 2 weeks ahead, and of 1500, 5 ahead",
        [_below(AT_2, JAPAN, 1050), _below(AT_5, JAPAN, 1500)],
    ),
    Claim(
        "h",
        "On `chickenpox` the best network has a mean squared error below .699, an RMSE below .836",
        [_below(rmse, CHICKENPOX, 0.699**0.5)],
    ),
]


# --- Figures ----------------------------------------------------------------------------------------------------------


def _horizon_figure(evidence: Evidence) -> list[Figure]:
    """Errors against the horizon, a figure for each problem."""
    problems: dict[str, list[Arm]] = {}
    for _, arm in evidence.rows():
        if arm and arm.setting["horizon"] > 1:
            problems.setdefault(json.dumps([arm.source, problem_of(arm.setting, arm.data)]), []).append(arm)
    figures = []
    for number, arms in enumerate(problems.values(), start=1):
        panels: dict[str, list[plots.Line]] = {}
        for name in ("rmse", "mae"):
            lines, horizons = [], np.arange(1, arms[0].setting["horizon"] + 1)
            for i, arm in enumerate(arms):
                values = [forecast_error(name, h).estimate(arm).value for h in horizons.tolist()]
                if None not in values:
                    colour = forecast_plots.model_colour(i) if arm.is_trained else plots.GREY
                    label = evidence.title(arm) if arm.is_trained else arm.setting["model"]
                    lines.append(plots.Line(label, colour, horizons, np.array(values, float), not arm.is_trained))
            panels[f"test {name.upper()}"] = lines
        caption = "Test errors against the horizon: means over seeds; baselines without training are grey"
        alt = f"RMSE and MAE against the horizon: {'; '.join(arm.title for arm in arms)}"
        figures.append(
            Figure(f"forecast_horizon_{number}", plots.svg(forecast_plots.errors_by_horizon(panels)), caption, alt)
        )
    return figures


def _drawn(arm: Arm) -> Mapping[str, Any] | None:
    """What the directory of an arm has for its figures."""
    swept = dict(arm.runs[0].swept)
    found = [one for one in read_list(arm.paths[0] / FIGURES) if one["values"] == swept]
    return found[0] if found else None


def _forecast_figures(evidence: Evidence) -> list[Figure]:
    """Truth and forecast at three nodes, and errors on the graph, for each trained arm."""
    figures = []
    for number, (title, arm) in enumerate(evidence.rows(lambda arm: arm.is_trained), start=1):
        drawn = _drawn(arm) if arm else None
        if drawn is None:
            continue
        panels = {
            f"{node} ({place} error)": forecast_plots.Forecast(
                np.array(drawn["rows"]), *(np.array(series[name], float) for name in ("truth", "mean", "spread"))
            )
            for (node, series), place in zip(drawn["nodes"].items(), ("lowest", "median", "highest"), strict=False)
        }
        caption = (
            f"{title}: truth, and the mean forecast {drawn['horizon']} ahead with its standard deviation over seeds"
        )
        alt = f"Truth and forecast of nodes {', '.join(drawn['nodes'])}: {title}"
        figures.append(
            Figure(f"forecast_nodes_{number}", plots.svg(forecast_plots.truth_and_forecast(panels)), caption, alt)
        )
        on_graph = forecast_plots.errors_on_graph(
            {title: drawn["rmse_by_node"]}, np.array(drawn["places"]), np.array(drawn["edges"], int).reshape(2, -1)
        )
        caption = f"{title}: test RMSE of each node on the graph, over all horizons and seeds"
        figures.append(
            Figure(f"forecast_graph_{number}", plots.svg(on_graph), caption, f"{caption}; neighbours are close")
        )
    return figures


STUDY = Study(
    name="forecast",
    title="Forecasts on graphs",
    config=Config,
    build=build,
    model=lambda config, data: build_model(config),
    choices={"model": MODELS, "dataset": signals.NAMES},
    check=check,
    data=describe_data,
    finish=finish,
    arms=SCHEME,
    quantities=[rmse, mae, validation],
    baselines=lambda arms: baseline_arms(SCHEME, arms, problem_of),
    metrics=("loss", "validation_rmse", "test_rmse"),
    claims=CLAIMS,
    headline=ArmTable(
        "Test errors in the data's units, over all horizons; an arm without seeds needs no training; brackets are "
        "95 % intervals over seeds",
        [rmse.cells, mae.cells, ("published", _published), _test_best],
        lambda arm: any(arm.setting.items() >= problem.items() for problem in (LOS, JAPAN, CHICKENPOX)),
    ),
    sections={
        "Errors": [
            ArmTable(
                "Test errors over all horizons together, in the data's units; an arm without seeds needs no training",
                [rmse.cells, mae.cells, validation.cells, best_step.cells, _test_best],
            ),
            ArmTable("Test RMSE / MAE by horizon, means over seeds", [_by_horizon]),
        ],
        "Figures": [
            _horizon_figure,
            _forecast_figures,
            SeedCurves(
                "forecast_training",
                "Losses and errors of each run; the weights are those with the lowest validation error",
                {"loss": "loss", "validation_rmse": "validation RMSE", "test_rmse": "test RMSE"},
                settings=lambda arm: arm.is_trained,
            ),
        ],
    },
    note=(
        "Errors are in the units of the data, over all nodes and windows of the test part that have a value, with the "
        "weights that were best in validation. The best test epoch has the lowest test RMSE; T-GCN's protocol looks at "
        "the test part. Baselines are fitted to the whole training part."
    ),
    tiny={"hidden_size": 4, "batch_size": 8, "max_steps": 4, "eval_every": 2, "chunk_steps": 2, "num_seeds": 2},
)
