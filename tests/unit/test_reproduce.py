"""The runs of each preset."""

import pytest

from experiments import palindrome, reproduce


@pytest.mark.parametrize(
    ("name", "lengths", "seeds", "widths"),
    [("quick", {10}, 3, {0}), ("paper", {10, 20}, 3, {0}), ("seeds", {10, 20}, 100, {0, 40, 81})],
)
def test_presets_are_the_runs_of_the_paper(name, lengths, seeds, widths):
    found = list(reproduce.preset_runs(name))
    for _, study, config in found:
        if not study.needs:
            study.validate(config)
    # Those that need a package are left out where it is not installed.
    others = [name for name, study, _ in found if study is not palindrome.STUDY and not study.needs]
    usual = ["gradients", "gcn_karate", "gat_karate", "paths", "formal", "grnn", "forecast", "recommend", "text"]
    assert [name for name in others if name != "digits"] == usual
    configs = [config for _, study, config in found if study is palindrome.STUDY]
    assert {(config.cell, config.digits) for config in configs} == {
        (c, n) for c in ("lstm", "peephole") for n in lengths
    }
    assert {config.num_seeds for config in configs} == {seeds}
    assert {config.embedding_size for config in configs} == widths
