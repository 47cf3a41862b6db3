"""The benchmark of rows with mixtures of their own."""

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))

import benchmark_mdn
from benchmark_mdn import Case, Measurement, agree, main, measure, row

pytestmark = [
    pytest.mark.needs_extras,
    pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="memory by Linux"),
]


@pytest.mark.parametrize("family", ["full", "diag"])
def test_libraries_agree_before_anything_is_timed(family):
    ours, theirs = (measure(name, Case(family, 20, 3, 2), 1, 1) for name in ("gmm_np", "torch"))
    assert agree(ours, theirs)
    assert len(ours.gradients) == 4
    assert min(ours.bytes, theirs.bytes) >= 0
    for i in range(4):
        wrong = list(ours.gradients)
        wrong[i] *= 1 + 1e-6
        assert not agree(ours._replace(gradients=wrong), theirs)
    assert not agree(ours._replace(value=ours.value + 1e-6), theirs)


def test_row_has_medians_and_theirs_over_ours():
    ours = [Measurement(s, 2_000_000, 0.0, []) for s in (0.001, 0.002, 0.009)]
    theirs = [Measurement(s, 8_000_000, 0.0, []) for s in (0.005, 0.006, 0.001)]
    texts = row(Case("diag", 9, 3, 2), ours, theirs).split()
    assert texts == ["diag", "9", "3", "2", "2.0", "5.0", "2.50", "2.0", "8.0", "4.00"]


def test_memory_is_that_of_the_step_and_not_of_what_was_drawn():
    held = benchmark_mdn._reset_peak()
    np.ones(5_000_000)  # 40 MB, and free again
    assert benchmark_mdn._peak() - held > 30e6
    assert benchmark_mdn._reset_peak() - held < 10e6


@pytest.mark.slow  # four processes, two of which load PyTorch
def test_it_measures_each_library_in_a_process_of_its_own(capsys):
    assert main(["--rows", "30", "--rounds", "1", "--repeats", "1"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:4] for line in lines[1:]] == [
        ["full", "30", "10", "8"],
        ["diag", "30", "10", "2"],
    ]


def test_libraries_that_disagree_end_it(monkeypatch, capsys):
    value = iter(range(10))
    monkeypatch.setattr(
        benchmark_mdn, "_in_process", lambda *_: Measurement(1.0, 1, next(value), [])
    )
    assert main(["--rounds", "1"]) == 1
    assert "disagree" in capsys.readouterr().err
