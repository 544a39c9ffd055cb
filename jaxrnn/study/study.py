"""What a study declares; everything that is printed about a study follows from this record."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from jaxrnn.rundir.read import Curve, Directory, Run, describe
from jaxrnn.study.arms import Arm, ArmScheme, Found, Setting, Source, find_arms
from jaxrnn.study.claims import Claim
from jaxrnn.study.format import NONE, NOT_RUN, code
from jaxrnn.study.page import Block, Table
from jaxrnn.study.quantities import Quantity
from jaxrnn.training.definition import check_one_of

if TYPE_CHECKING:
    from jaxrnn.rundir.directory import RunDirectory
    from jaxrnn.training.definition import Training

Row = Mapping[str, Any]
"""A run's row of ``results.json``."""
ArmChoice = Sequence[Setting] | Callable[[Arm], bool] | None
"""Arms by their settings, or those for which a function is true; None for all."""


@dataclass(frozen=True, eq=False)
class Measured:
    """A complete directory of a study that trains nothing, with its config and its rows of ``results.json``.

    `source` is a numbered link to the directory. `suffix` ends the names of its figures; it is empty for the first one.
    """

    directory: Directory
    config: Any
    rows: Sequence[Any]
    source: str
    suffix: str

    @property
    def curves(self) -> dict[str, Curve]:
        """The curves by run; every run has one."""
        return {run.name: run.curve for run in self.directory.runs if run.curve is not None}


@dataclass(frozen=True, eq=False)
class Evidence:
    """What a study's tables and figures are made from.

    Attributes:
        directories: the study's directories, in the order of their paths.
        cite: ``cite(paths)``, numbered links to the run directories at these paths.
        measured: the complete directories of a study that trains nothing.
    """

    found: Found
    directories: Sequence[Directory]
    cite: Callable[[Sequence[Path]], str]
    measured: Sequence[Measured] = ()

    @property
    def sources(self) -> list[Source]:
        """Those of archive and own that have arms."""
        return sorted({arm.source for arm in self.found.arms})

    def rows(self, choice: ArmChoice = None) -> list[tuple[str, Arm | None]]:
        """The complete arms and their titles, from each source.

        A setting that no directory has appears once, without an arm.
        """
        if choice is None or callable(choice):
            chosen = [arm for arm in self.found.arms if arm.is_complete and (choice is None or choice(arm))]
            return [(self.title(arm), arm) for arm in chosen]
        rows: list[tuple[str, Arm | None]] = []
        for setting in choice:
            arms = [arm for source in self.sources if (arm := self.found.arm(setting, source))]
            rows += [(self.title(arm), arm) for arm in arms] or [(self.found.title(setting), None)]
        return rows

    def table(self, caption: str, rows: Sequence[tuple[str, Arm | None, Mapping[str, str]]]) -> Table:
        """A table of titles, cells by heading, and links to the arms' directories; a row may lack some cells."""
        heads = list(dict.fromkeys(head for _, _, cells in rows for head in cells))
        table = [
            [title, *(cells.get(head, NONE) for head in heads), self.cite(arm.paths if arm else [])]
            for title, arm, cells in rows
        ]
        return Table(caption, ["arm", *heads, "source"], table)

    def title(self, arm: Arm) -> str:
        """The arm's title, marked if it is the reader's own and there are archived arms, too."""
        mine = " (yours)" if arm.source == "own" and len(self.sources) > 1 else ""
        return arm.title + mine


Show = Callable[[Evidence], Sequence[Block]]
"""Tables, figures or text made from the evidence; nothing where there is nothing to show."""


def each(show: Callable[[Measured], Iterable[Block]]) -> Show:
    """Shows something for each directory of a study that trains nothing."""
    return lambda evidence: [block for measured in evidence.measured for block in show(measured)]


@dataclass(frozen=True, eq=False)
class ArmTable:
    """A table with a row for each arm.

    Attributes:
        columns: a pair is one column, its heading and a function from an arm to its cell. A function alone gives one or
            more columns: it returns their cells by heading, as `Quantity.cells` does.
        settings: which arms have a row, see `ArmChoice`; all by default.
    """

    caption: str
    columns: Sequence[tuple[str, Callable[[Arm], str]] | Callable[[Arm], Mapping[str, str]]]
    settings: ArmChoice = None

    def __call__(self, evidence: Evidence) -> list[Table]:
        """The table, if there is any arm."""
        rows = [(title, arm, self._cells(arm)) for title, arm in evidence.rows(self.settings)]
        return [evidence.table(self.caption, rows)] if any(arm for _, arm, _ in rows) else []

    def _cells(self, arm: Arm | None) -> dict[str, str]:
        if arm is None:
            return {"seeds": NOT_RUN}
        found = {"seeds": arm.count}
        for column in self.columns:
            found |= {column[0]: column[1](arm)} if isinstance(column, tuple) else column(arm)
        return found


@dataclass(frozen=True, eq=False)
class Study:
    """A study.

    Attributes:
        name: its name in ``config.json``, and that of its modules in `experiments` and `configs`.
        config: the dataclass of its config.
        build: ``build(config) -> Training``; or
        measure: ``measure(config, directory) -> rows``, for a study that trains nothing.
        model: ``model(config, data)``, the model that is trained, as `jaxrnn.load` returns it; data as below.
        row: the pydantic model of the rows that `measure` returns.
        choices: by field of the config, the names that it takes, where its type does not list them. ``folder:DIR``
            stands for all names that begin with ``folder:``. An empty text is left to `check`.
        check: raises `ConfigError` for what neither the dataclass nor `choices` can check.
        data: ``data(config)``, what ``config.json`` says about the data.
        finish: ``finish(path, rows)``, once all runs have ended.
        quantities: the quantities of a run, the primary one first.
        baselines: ``baselines(arms)``, the baselines without training that are shown beside the arms that were found.
        untrained: the runs of an arm that a stop rule ended before they had learned anything.
        metrics: the metrics of the learning curves, by their names in ``metrics.jsonl``.
        claims: the claims of the paper, fixed before the runs.
        headline: the table at the top of the page.
        pictures: what is still shown if no arm is one of the paper's, in which case the sections are not.
        note: how to read the numbers.
        needs: a further package that has to be installed for the study; empty for none.
        tiny: fields of a config whose runs take seconds, for the contract test of studies; never empty. A training has
            two seeds there, 0 and 1.
    """

    name: str
    title: str
    config: type[Any]
    arms: ArmScheme
    build: "Callable[[Any], Training] | None" = None
    measure: "Callable[[Any, RunDirectory], list[dict[str, Any]]] | None" = None
    model: Callable[[Any, Mapping[str, Any]], Any] | None = None
    row: type[BaseModel] | None = None
    choices: Mapping[str, Iterable[str]] = field(default_factory=dict)
    check: Callable[[Any], None] = lambda config: None
    data: Callable[[Any], dict[str, Any]] = lambda config: {}
    finish: Callable[[Path, Sequence[Row]], None] = lambda path, rows: None
    quantities: Sequence[Quantity] = ()
    baselines: Callable[[Sequence[Arm]], Sequence[Arm]] = lambda arms: ()
    untrained: Callable[[Arm], Sequence[Run]] = lambda arm: ()
    metrics: Sequence[str] = ("loss", "accuracy")
    claims: Sequence[Claim] = ()
    headline: Show = lambda evidence: ()
    sections: Mapping[str, Sequence[Show]] = field(default_factory=dict)
    pictures: Sequence[Show] = ()
    note: str = ""
    needs: str = ""
    tiny: Mapping[str, Any] = field(default_factory=dict)

    def validate(self, config: Any) -> None:
        """Raises a `ConfigError` for a config that this study cannot use."""
        for name, choices in self.choices.items():
            value = getattr(config, name)
            kinds = tuple(one.partition(":")[0] + ":" for one in choices if ":" in one)
            for one in value if isinstance(value, tuple) else (value,):
                if one and not one.startswith(kinds):
                    check_one_of(name, one, [*choices])
        self.check(config)

    def known_quantities(self, arms: Sequence[Arm]) -> list[Quantity]:
        """The quantities that at least one of these arms has; not every setting has all of them."""
        return [one for one in self.quantities if any(one.brief(arm) != NONE for arm in arms)]


def read_evidence(
    study: Study, directories: Sequence[tuple[Directory, Source]], cite: Callable[[Sequence[Path]], str]
) -> Evidence:
    """Reads a study's directories; those that cannot be read are left out and named in remarks."""
    every = [directory for directory, _ in directories]
    if study.row is None:
        found = find_arms(study.arms, directories, lambda run: [one.value(run) for one in study.quantities])
        return Evidence(replace(found, arms=[*found.arms, *study.baselines(found.arms)]), every, cite)
    measured: list[Measured] = []
    remarks: list[tuple[Source, str]] = []
    for directory, source in directories:
        try:
            config = study.arms.read(directory.config)
            rows = [study.row.model_validate(run.result) for run in directory.runs if run.result is not None]
        except ValueError as error:
            remarks.append((source, f"{code(directory.path)}: {describe(error)}: left out"))
            continue
        if directory.complete and all(run.curve for run in directory.runs):
            suffix = f"_{len(measured) + 1}" if measured else ""
            measured.append(Measured(directory, config, rows, cite([directory.path]), suffix))
    return Evidence(Found(study.arms, [], remarks), every, cite, measured)
