"""Configs of any values, as an attacker or a tired person would give them, are taken or refused in one line."""

import math

import pooch
import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments import report
from jaxrnn.data.files import DataError
from jaxrnn.rundir.fields import make_config
from jaxrnn.training.definition import ConfigError

STUDIES = {study.name: study for study in report.find_studies()}
INTEGERS = st.sampled_from([0, -1, 1, 3, 2**15, 2**31 - 1, 2**31, 2**63, 10**30]) | st.integers()
NUMBERS = st.sampled_from([0.0, -0.0, math.nan, math.inf, -math.inf, 1e-320, 1e308, 0.5]) | st.floats()
NAMES = st.sampled_from(["", " ", "lstm", "LSTM", "gru_cho", "../..", "/", "karate", "utf-8", "\ud800", "a" * 300])
VALUES = INTEGERS | NUMBERS | NAMES | st.text(max_size=8) | st.none() | st.booleans() | st.binary(max_size=4)
ANYTHING = VALUES | st.lists(VALUES, max_size=3) | st.lists(VALUES, max_size=3).map(tuple) | st.just({})


@pytest.fixture(autouse=True, scope="module")
def no_network():
    """Made-up names may be those of known data."""

    def refuse(*_, **__):
        raise DataError("not fetched in tests")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pooch, "retrieve", refuse)
        yield


@pytest.mark.parametrize("name", STUDIES)
@given(data=st.data())
def test_a_config_of_any_values_is_taken_or_refused_in_one_line(name, data):
    study = STUDIES[name]
    fields = st.sampled_from(sorted(study.config.__dataclass_fields__))
    made_up = data.draw(st.dictionaries(fields, ANYTHING, min_size=1, max_size=3))
    try:
        study.validate(make_config(study.config, made_up))
    except (ConfigError, DataError) as error:
        assert len(str(error).splitlines()) == 1
