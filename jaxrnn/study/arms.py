"""Arms: runs from any directories that differ only in the seed.

An arm is a setting of all fields of the study's config, except for those marked as bookkeeping. A field that a file
lacks has the value that its mark `Absent` declares. So a new field changes no arm, and another value makes another arm.
"""

import dataclasses
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from jaxrnn.rundir.fields import marked, saved_fields
from jaxrnn.rundir.read import Curve, Directory, Run, describe
from jaxrnn.study.format import NONE, value_text

Source = Literal["archive", "own"]
"""Whether a directory came with the code or belongs to the reader."""
Setting = Mapping[str, Any]


@dataclass(frozen=True, eq=False)
class Arm:
    """Runs of one setting.

    Attributes:
        setting: all fields except bookkeeping.
        source: archived and own runs never share an arm.
        runs: in the order of their seeds.
        data: what the runs were trained on, as recorded in ``config.json``.
        is_complete: False while runs are in training. Such an arm is shown, but never judged.
        asked: how many runs the directories ask for, started or not.
        is_trained: False for a baseline without training and without seeds, whose single run holds its results.
    """

    title: str
    setting: Setting
    source: Source
    runs: Sequence[Run]
    data: Mapping[str, Any] = field(default_factory=dict)
    is_complete: bool = True
    asked: int = 0
    is_trained: bool = True

    @property
    def paths(self) -> list[Path]:
        """The run directories that the runs come from."""
        return sorted({run.path for run in self.runs})

    @property
    def curves(self) -> dict[int, Curve]:
        """The whole curves by seed."""
        return {run.seed: run.curve for run in self.runs if run.curve is not None}

    @property
    def count(self) -> str:
        """How many runs have ended, and how many of them met a NaN."""
        if not self.is_trained:
            return NONE
        ended = [run.result for run in self.runs if run.result is not None]
        failed = sum(result.get("failed_at") is not None for result in ended)
        if not self.is_complete:
            return f"{len(ended)} of {self.asked} have ended"
        return f"{len(ended)}" + (f", {failed} met a NaN" if failed else "")


def with_values(text: str, setting: Setting, names: Iterable[str]) -> str:
    """A text, which may be empty, followed by the values of some fields: `LSTM, hidden_size=32`."""
    return ", ".join(filter(None, [text, *(f"{name}={value_text(setting[name])}" for name in names)]))


def varying(settings: Sequence[Setting]) -> list[str]:
    """The fields in which the settings differ."""
    return [name for name in settings[0] if any(setting[name] != settings[0][name] for setting in settings)]


def varying_fields(arms: Sequence[Arm], named: Sequence[str]) -> list[str]:
    """The fields in which the trained arms differ, and the `named` fields in which a baseline differs from them."""
    trained = {*varying([arm.setting for arm in arms if arm.is_trained])}
    return [name for name in varying([arm.setting for arm in arms]) if name in trained or name in named]


@dataclass(frozen=True, eq=False)
class ArmScheme:
    """How a study tells its arms apart.

    Attributes:
        named: the fields that a label is made from.
        label: a short text made from these fields; a title begins with it.
        problem: fields that say which problem is solved; only arms that agree in them are compared.
        paper: the paper's arms, each given by the fields that are not at their defaults.
        defaults: ``defaults(fields) -> config``, the usual config of an arm with these named fields. A title lists the
            other fields only where they differ from it. If None, the defaults of the config's class are used.
        normalize: maps settings that mean the same to the same setting.
    """

    config: type[Any]
    named: Sequence[str] = ()
    label: Callable[[Setting], str] = lambda setting: ""
    problem: Sequence[str] = ()
    paper: Sequence[Setting] = ()
    defaults: Callable[[Setting], Any] | None = None
    normalize: Callable[[dict[str, Any]], dict[str, Any]] = lambda setting: setting

    def read(self, fields: Mapping[str, Any]) -> Any:
        """The config with these fields, given as a file stores them.

        Raises:
            ValueError: a required field is missing, or the value of a field is not allowed.
        """
        values = saved_fields(self.config, fields)
        known = {*values, *marked(self.config, "Bookkeeping")}
        missing = [f.name for f in dataclasses.fields(self.config) if f.name not in known]
        if missing:
            raise ValueError(f"the config lacks {missing[0]}")
        return self.config(**values)

    def setting(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        """The complete setting of a config's fields, without bookkeeping; raises as `read` does."""
        bookkeeping = marked(self.config, "Bookkeeping")
        complete = dataclasses.asdict(self.read(fields))
        return self.normalize({name: value for name, value in complete.items() if name not in bookkeeping})

    def of_fields(self, fields: Setting) -> dict[str, Any]:
        """The setting with these fields, and with defaults for all others."""
        defaults = self.defaults(fields) if self.defaults else self.config()
        return self.setting({**dataclasses.asdict(defaults), **fields})

    def differences(self, setting: Setting) -> list[str]:
        """The fields that are not in the label and not at their defaults."""
        usual = self.of_fields({name: setting[name] for name in self.named})
        return [name for name, value in setting.items() if value != usual[name]]

    def name(self, setting: Setting) -> str:
        """The title: the label, followed by the other fields that are not at their defaults."""
        return with_values(self.label(setting), setting, self.differences(setting))

    def count_changes(self, config: Mapping[str, Any]) -> int:
        """How many fields of a config from a file are not at the defaults of the config's class."""
        values, bookkeeping = saved_fields(self.config, config), marked(self.config, "Bookkeeping")
        fields = [one for one in dataclasses.fields(self.config) if one.name not in bookkeeping]
        return sum(values.get(one.name, one.default) != one.default for one in fields)

    def off_paper(self, setting: Setting) -> dict[str, Any]:
        """The fields of the nearest of the paper's arms that differ from a setting; the paper must have arms."""
        papers = [self.of_fields(fields) for fields in self.paper]
        return min(({k: paper[k] for k in paper if paper[k] != setting[k]} for paper in papers), key=len)

    def is_paper(self, arm: Arm) -> bool:
        """Whether the arm has the setting of one of the paper's arms."""
        return bool(self.paper) and not self.off_paper(arm.setting)


@dataclass(frozen=True, eq=False)
class Found:
    """The arms in some directories.

    Attributes:
        arms: the complete arms, the paper's first, then those in training.
        remarks: what was left out or merged, and why, each with the source that it is about.
    """

    scheme: ArmScheme
    arms: Sequence[Arm]
    remarks: Sequence[tuple[Source, str]] = ()

    def arm(self, fields: Setting, source: Source | None = None) -> Arm | None:
        """The complete arm with these fields; if `source` is None, an archived arm comes first."""
        setting = self.scheme.of_fields(fields)
        found = [a for a in self.arms if a.is_complete and a.setting == setting and source in (None, a.source)]
        return min(found, key=lambda arm: arm.source) if found else None

    def title(self, fields: Setting) -> str:
        """The title of the arm with these fields, whether or not there is such an arm."""
        return self.scheme.name(self.scheme.of_fields(fields))


def find_arms(scheme: ArmScheme, directories: Iterable[tuple[Directory, Source]], check: Callable[[Run], Any]) -> Found:
    """Groups the runs of one study's directories that differ only in the seed.

    The arms of a directory are in the order of its sweep. The directory whose config is nearest to its defaults comes
    first; equally near ones stay in the order given.

    ``check(run)`` raises an error for a run that has ended without the results that the study needs.
    """

    def arm_of(run: Run, directory: Directory, source: Source) -> Arm:
        fields = {**directory.config, **run.swept}
        setting = scheme.setting(fields)
        if run.result is not None:
            check(run)
        run = replace(run, curve=whole_curve(run, fields.get("eval_every")))
        return Arm(scheme.name(setting), setting, source, [run], run.data, directory.complete)

    groups: dict[str, list[tuple[Directory, Arm]]] = {}
    remarks: list[tuple[Source, str]] = []
    for directory, source in sorted(directories, key=lambda one: (one[1], scheme.count_changes(one[0].config))):
        try:
            alone = [arm_of(run, directory, source) for run in directory.runs]
        except (ValueError, KeyError, TypeError) as error:
            reason = f"has no {error}" if isinstance(error, KeyError) else describe(error)
            remarks.append((source, f"`{directory.path}`: {reason}: left out"))
            continue
        for arm in alone:
            key = json.dumps([source, arm.is_complete, arm.setting, arm.data], sort_keys=True)
            groups.setdefault(key, []).append((directory, arm))
    arms = []
    for group in groups.values():
        first, runs = group[0][1], dict[int, Run]()
        for _, arm in group:
            (run,) = arm.runs
            taken = runs.setdefault(run.seed, run)
            if taken is not run:
                alike = "" if taken.result == run.result else ", though their results differ"
                which = f"`{taken.path}`, not `{run.path}`, is taken"
                remarks.append((arm.source, f"{arm.title}, {run.name}: {which}{alike}"))
        origins = dict.fromkeys(origin for directory, _ in group for origin in directory.origins)
        if len(origins) > 1:
            remarks.append((first.source, f"{first.title}: its runs were made with {' and '.join(origins)}"))
        asked = {seed for directory, _ in group for seed in _seeds(directory.config)}
        arms.append(replace(first, runs=[runs[seed] for seed in sorted(runs)], asked=len(asked | runs.keys())))
    for title in dict.fromkeys(arm.title for arm in arms):
        same = [arm for arm in arms if arm.title == title]
        if len({json.dumps(arm.data, sort_keys=True) for arm in same}) > 1:
            source = max(arm.source for arm in same)  # The reader's, if any is.
            remarks.append((source, f"{title}: the same setting, but other data: kept apart"))
    arms.sort(key=lambda arm: (not arm.is_complete, not scheme.is_paper(arm)))
    return Found(scheme, arms, remarks)


def _seeds(config: Mapping[str, Any]) -> range:
    first = config.get("first_seed", 0)
    return range(first, first + config.get("num_seeds", 0))


def whole_curve(run: Run, every: int | None) -> Curve | None:
    """The run's curve up to a NaN, or as far as the training has come; None if an evaluation is missing.

    `every` is the number of steps from one evaluation to the next, or None for a study without such a field.
    """
    curve = run.curve
    if curve is None or every is None:
        return curve
    result = run.result or {"last_step": curve.steps[-1]}
    failed_at = result.get("failed_at")
    end = result["last_step"] + 1 if failed_at is None else failed_at
    keep = curve.steps < end
    curve = Curve(curve.steps[keep], {name: values[keep] for name, values in curve.metrics.items()})
    finite = all(len(values) and np.isfinite(values[0]) for values in curve.metrics.values())
    evaluations = np.count_nonzero((curve.steps % every == 0) & (curve.steps >= 0))
    return curve if finite and evaluations == -(-end // every) else None
