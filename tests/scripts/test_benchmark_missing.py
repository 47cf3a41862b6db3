"""The benchmark of rows with missing values."""

import re
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))

import benchmark_missing
from benchmark_missing import check, draw, main


def test_it_times_both_and_prints_their_ratio(capsys):
    assert main(["--rows", "400", "--features", "3", "--components", "2", "--repeat", "1"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("400 rows, 3 columns, 8 patterns")
    assert [line.split()[0] for line in lines[2:]] == ["full", "tied", "diag"]
    for line in lines[2:]:
        complete, missing, ratio = map(float, line.split()[2:])
        assert ratio == pytest.approx(missing / complete, rel=0.2)
        assert re.search(r"\d\.\d\d$", line)


def test_wrong_densities_are_not_timed(monkeypatch):
    rng = np.random.default_rng(0)
    parameters, x = draw(rng, "full", 2, 3), rng.normal(size=(4, 3))
    x[0, 0] = np.nan
    check(x, parameters)
    right = benchmark_missing.log_prob
    monkeypatch.setattr(
        benchmark_missing, "log_prob", lambda *a, **options: right(*a, **options) + 1e-8
    )
    with pytest.raises(AssertionError, match="SciPy has"):
        check(x, parameters)
