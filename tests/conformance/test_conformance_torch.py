"""The adapter of PyTorch on the certified second derivatives."""

import pytest

from gmm_np.conformance import read_vectors
from gmm_np.conformance.adapters import pytorch
from gmm_np.conformance.function_adapter import FunctionAdapter
from gmm_np.conformance.runner import run_cases

pytestmark = pytest.mark.needs_extras


def test_product_by_autograd_passes_on_the_lower_and_the_average_level():
    families = [
        family
        for family in read_vectors(levels=["lower", "average"])
        if family.name.startswith("hvp_")
    ]
    report = run_cases(FunctionAdapter(pytorch.mixture_same_family), families)
    assert report, str(report)
    assert report.counts["pass"] >= 50
    # It has no weights of samples.
    assert {case.id[:15] for case in report.cases if case.status != "pass"} == {"hvp_conventions"}
