"""Which mixture: how many components, and of which covariance family.

`select` fits candidates and chooses by a criterion; `cross_validate` scores them on rows that they
were not fitted to; `bootstrap_test` asks whether one component more is more than chance.
"""

from gmm_np.mixture.criteria import CRITERIA
from gmm_np.model_selection.resampling import (
    BootstrapTest,
    CrossValidation,
    Score,
    bootstrap_test,
    cross_validate,
)
from gmm_np.model_selection.selection import (
    SLACK,
    Candidate,
    NothingFittedError,
    Selection,
    SelectionInterrupted,
    select,
)

__all__ = [
    "CRITERIA",
    "SLACK",
    "BootstrapTest",
    "Candidate",
    "CrossValidation",
    "NothingFittedError",
    "Score",
    "Selection",
    "SelectionInterrupted",
    "bootstrap_test",
    "cross_validate",
    "select",
]
