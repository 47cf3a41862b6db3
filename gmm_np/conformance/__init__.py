"""Certified vectors for any implementation of the mixture likelihood, and what runs them.

`run` is the whole of it from Python, ``gmm-np conformance`` from the command line;
docs/conformance.md says how to write an adapter.
"""

from gmm_np.conformance.cases import Case, Family, RunnerError, VectorError, read_vectors
from gmm_np.conformance.function_adapter import ToolError
from gmm_np.conformance.report import CaseResult, FamilyResult, Report
from gmm_np.conformance.runner import run
from gmm_np.conformance.suspects import Suspect

__all__ = [
    "Case",
    "CaseResult",
    "Family",
    "FamilyResult",
    "Report",
    "RunnerError",
    "Suspect",
    "ToolError",
    "VectorError",
    "read_vectors",
    "run",
]
