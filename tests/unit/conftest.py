import itertools

import pytest
import tiny

from jaxrnn.rundir import recorder


@pytest.fixture
def saving_after_each_call(monkeypatch):
    monkeypatch.setattr(recorder, "SAVE_SECONDS", 0.0)


class Crash(BaseException):
    """Stands for a process that ends at once."""


@pytest.fixture
def crash(monkeypatch):
    """Trains until a method is called for the `call`-th time, and ends there as if killed."""

    def until(target, name, call, path, *args, **kwargs):
        original, calls = getattr(target, name), itertools.count(1)

        def crashing(*args, **kwargs):
            if next(calls) == call:
                raise Crash
            return original(*args, **kwargs)

        with monkeypatch.context() as patch, pytest.raises(Crash):
            patch.setattr(target, name, crashing)
            tiny.train(path, *args, **kwargs)

    return until


@pytest.fixture(scope="session")
def whole(tmp_path_factory):
    path = tmp_path_factory.mktemp("runs") / "whole"
    return path, tiny.train(path)


@pytest.fixture(scope="session")
def three_at_a_time(tmp_path_factory):
    path = tmp_path_factory.mktemp("runs") / "three"
    return path, tiny.train(path, runs_per_program=3)
