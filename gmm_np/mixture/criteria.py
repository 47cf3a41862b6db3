"""The criteria that set the free parameters of a mixture against its likelihood."""

from __future__ import annotations

import math
from typing import Final

# Each is the smaller the better.
CRITERIA: Final = ("bic", "aic", "icl")


def criteria(
    nll: float, weight: float, n_free: int, entropy: float | None = None
) -> dict[str, float]:
    """Return log-likelihood, BIC and AIC from the mean NLL over data of this weight.

    With the entropy of the responsibilities, a sum over the data in nats, also the ICL, that of
    Biernacki, Celeux and Govaert (2000) with responsibilities in place of hard labels.
    """
    total = -nll * weight
    bic = -2.0 * total + n_free * math.log(weight)
    found = {"nll": nll, "log_likelihood": total, "bic": bic, "aic": -2.0 * total + 2.0 * n_free}
    return found if entropy is None else {**found, "icl": bic + 2.0 * entropy}
