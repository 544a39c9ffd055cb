from pathlib import Path

from experiments import soak_report
from experiments.report import KEPT
from jaxrnn.study.report import Run, Table, read_runs

RESULTS = [{"run": "kill -9", "seed": 0, "times": 50}, {"run": "damaged files", "seed": 0, "times": 900}]


def test_the_record_is_a_table():
    record = Run(Path("kept/soak"), "kept", "soak", {"command": "make soak"}, complete=True, results=RESULTS)
    (section,) = soak_report.sections([record])
    (table,) = (block for block in section.blocks if isinstance(block, Table))
    assert [row[:2] for row in table.rows] == [["kill -9", "50"], ["damaged files", "900"]]
    assert "kept/soak" in table.rows[0][2]


def test_a_damaged_record_is_left_out_with_a_remark():
    record = Run(Path("kept/soak"), "kept", "soak", {}, complete=True, results=RESULTS)
    (section,) = soak_report.sections([record])
    assert "left out" in str(section.blocks[-1])


def test_the_kept_record_is_read():
    assert soak_report.sections(read_runs(KEPT, "kept"))
    assert soak_report.sections([]) == []
