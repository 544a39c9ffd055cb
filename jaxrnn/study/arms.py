"""Arms: runs that differ in nothing but the seed, from any directories.

An arm is a setting of all fields of the study's config but those that are marked as bookkeeping. A field that a file
lacks has the value that its mark `Absent` declares. So a new field changes no arm, and another value is another arm.
"""

import dataclasses
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import ValidationError

from jaxrnn.rundir.fields import marked, saved_fields
from jaxrnn.rundir.read import Curve, Directory, Run, describe

Source = Literal["archive", "own"]
"""Whether a directory came with the code, or is the reader's."""
Setting = Mapping[str, Any]


@dataclass(frozen=True, eq=False)
class Arm:
    """Runs of one setting.

    Attributes:
        title: what it is, in words.
        setting: every field but the bookkeeping.
        source: archived and own runs never share an arm.
        runs: in the order of their seeds.
        data: what they were trained on, as ``config.json`` has it.
        is_complete: False while runs are in training: such an arm is shown, and never judged.
    """

    title: str
    setting: Setting
    source: Source
    runs: Sequence[Run]
    data: Mapping[str, Any] = field(default_factory=dict)
    is_complete: bool = True

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
        """How many runs there are, and what became of them."""
        ended = [run.result for run in self.runs if run.result is not None]
        failed = sum(result.get("failed_at") is not None for result in ended)
        if not self.is_complete:
            return f"{len(ended)} of {len(self.runs)} have ended"
        return f"{len(ended)}" + (f", {failed} met a NaN" if failed else "")


@dataclass(frozen=True, eq=False)
class ArmScheme:
    """How a study tells its arms apart.

    Attributes:
        config: the config's dataclass.
        named: the fields that a title is made of.
        label: a title from these fields.
        problem: fields that say what is solved: only arms that agree in them are compared.
        paper: the paper's arms, each by the fields that are not at their defaults.
        defaults: the config that a setting is held against, for the fields that a title does not name.
        normalize: a setting in which values that mean the same are the same.
    """

    config: type[Any]
    named: Sequence[str] = ()
    label: Callable[[Setting], str] = lambda setting: ""
    problem: Sequence[str] = ()
    paper: Sequence[Setting] = ()
    defaults: Callable[[Setting], Any] | None = None
    normalize: Callable[[dict[str, Any]], dict[str, Any]] = lambda setting: setting

    def read(self, fields: Mapping[str, Any]) -> Any:
        """The config with these fields, as a file has them.

        Raises:
            ValueError: a field is missing that always had to be there, or has no possible value.
        """
        values = saved_fields(self.config, fields)
        known = {*values, *marked(self.config, "Bookkeeping")}
        missing = [f.name for f in dataclasses.fields(self.config) if f.name not in known]
        if missing:
            raise ValueError(f"the config lacks {missing[0]}")
        return self.config(**values)

    def setting(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        """The setting of a config's fields, complete and without the bookkeeping; raises as `read` does."""
        bookkeeping = marked(self.config, "Bookkeeping")
        complete = dataclasses.asdict(self.read(fields))
        return self.normalize({name: value for name, value in complete.items() if name not in bookkeeping})

    def of_fields(self, fields: Setting) -> dict[str, Any]:
        """The setting with these fields, and defaults elsewhere."""
        defaults = self.defaults(fields) if self.defaults else self.config()
        return self.setting({**dataclasses.asdict(defaults), **fields})

    def differences(self, setting: Setting) -> list[str]:
        """The fields that no title names and that are not at their defaults."""
        usual = self.of_fields({name: setting[name] for name in self.named})
        return [name for name, value in setting.items() if value != usual[name]]

    def name(self, setting: Setting) -> str:
        """The title, with the other fields that are not at their defaults."""
        return ", ".join([self.label(setting), *(f"{name}={setting[name]}" for name in self.differences(setting))])

    def is_paper(self, arm: Arm) -> bool:
        """Whether the arm has the setting of one of the paper's."""
        return any(arm.setting == self.of_fields(fields) for fields in self.paper)


@dataclass(frozen=True, eq=False)
class Found:
    """The arms in some directories.

    Attributes:
        scheme: how they were told apart.
        arms: complete ones, the paper's first, then those in training.
        remarks: what was left out or put together, and why.
    """

    scheme: ArmScheme
    arms: Sequence[Arm]
    remarks: Sequence[str] = ()

    def arm(self, fields: Setting, source: Source | None = None) -> Arm | None:
        """The complete arm with these fields, the archived one unless another source is asked for."""
        setting = self.scheme.of_fields(fields)
        found = [a for a in self.arms if a.is_complete and a.setting == setting and source in (None, a.source)]
        return min(found, key=lambda arm: arm.source) if found else None

    def title(self, fields: Setting) -> str:
        """The title of the arm with these fields, whether it is there or not."""
        return self.scheme.name(self.scheme.of_fields(fields))


def find_arms(scheme: ArmScheme, directories: Iterable[tuple[Directory, Source]], check: Callable[[Run], Any]) -> Found:
    """Puts the runs of one study's directories together that differ in nothing but the seed.

    Args:
        scheme: tells arms apart.
        directories: of this study, each with its source.
        check: raises an error for a run that has ended without what the study asks of it.
    """
    groups: dict[str, list[tuple[Arm, Directory]]] = {}
    remarks = []
    for directory, source in directories:
        try:
            for run in directory.runs:
                setting = scheme.setting({**directory.config, **run.swept})
                if run.result is not None:
                    check(run)
                run = replace(run, curve=whole_curve(run, directory.config.get("eval_every")))
                arm = Arm(scheme.name(setting), setting, source, [run], directory.data, directory.complete)
                key = json.dumps([source, directory.complete, setting, directory.data], sort_keys=True)
                groups.setdefault(key, []).append((arm, directory))
        except (ValidationError, ValueError, KeyError, TypeError) as error:
            reason = f"has no {error}" if isinstance(error, KeyError) else describe(error)
            remarks.append(f"`{directory.path}`: {reason}: left out")
    arms = []
    for group in groups.values():
        runs: dict[int, Run] = {}
        for arm, _ in group:
            first = runs.setdefault(arm.runs[0].seed, arm.runs[0])
            if first is not arm.runs[0]:
                alike = "" if first.result == arm.runs[0].result else ", though their results differ"
                taken = f"`{first.path}`, not `{arm.runs[0].path}`, is taken"
                remarks.append(f"{arm.title}, {first.name}: {taken}{alike}")
        arms.append(replace(group[0][0], runs=[runs[seed] for seed in sorted(runs)]))
        origins = dict.fromkeys(origin for _, directory in group for origin in directory.origins)
        if len(origins) > 1:
            remarks.append(f"{group[0][0].title}: its runs were made with {' and '.join(origins)}")
    titles = dict.fromkeys(arm.title for arm in arms)
    data = {title: {json.dumps(arm.data, sort_keys=True) for arm in arms if arm.title == title} for title in titles}
    remarks += [f"{title}: the same setting, but other data: kept apart" for title in titles if len(data[title]) > 1]
    arms.sort(key=lambda arm: (not arm.is_complete, not scheme.is_paper(arm)))
    return Found(scheme, arms, remarks)


def whole_curve(run: Run, every: int | None) -> Curve | None:
    """The run's curve up to a NaN, or as far as the training is; None where an evaluation is missing.

    Args:
        run: the run.
        every: steps from one evaluation to the next, where the study has such a thing.
    """
    curve = run.curve
    if curve is None or every is None:
        return curve
    result = run.result or {"last_step": curve.steps[-1]}
    failed_at = result.get("failed_at")
    keep = np.ones(len(curve.steps), bool) if failed_at is None else curve.steps < failed_at
    curve = Curve(curve.steps[keep], {name: values[keep] for name, values in curve.metrics.items()})
    end = result["last_step"] + 1 if failed_at is None else failed_at
    finite = all(len(values) and np.isfinite(values[0]) for values in curve.metrics.values())
    evaluations = np.count_nonzero((curve.steps % every == 0) & (curve.steps >= 0) & (curve.steps < end))
    return curve if finite and evaluations == -(-end // every) else None
