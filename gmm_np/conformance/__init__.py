"""Certified vectors for any implementation of the mixture likelihood, and what runs them.

`run` is the whole of it from Python, ``gmm-np conformance`` from the command line;
docs/conformance.md says how to write an adapter.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gmm_np.conformance.cases import Case, Family, RunnerError, VectorError, read_vectors
    from gmm_np.conformance.compare import CaseResult
    from gmm_np.conformance.diagnosis import Suspect
    from gmm_np.conformance.files_adapter import write_cases
    from gmm_np.conformance.function_adapter import ToolError
    from gmm_np.conformance.report import FamilyResult, Report
    from gmm_np.conformance.runner import run

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
    "write_cases",
]

if not TYPE_CHECKING:
    # Late: the command line registers its command, and need not load the mutants for that.
    _PLACES = {
        "cases": ("Case", "Family", "RunnerError", "VectorError", "read_vectors"),
        "compare": ("CaseResult",),
        "files_adapter": ("write_cases",),
        "function_adapter": ("ToolError",),
        "report": ("FamilyResult", "Report"),
        "runner": ("run",),
        "diagnosis": ("Suspect",),
    }

    def __getattr__(name):
        for module, names in _PLACES.items():
            if name in names:
                from importlib import import_module

                return getattr(import_module(f"gmm_np.conformance.{module}"), name)
        raise AttributeError(f"module 'gmm_np.conformance' has no attribute {name!r}")
