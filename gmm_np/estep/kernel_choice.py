"""Which kernel takes a chunk of samples: the cheaper of those that are accurate enough."""

from __future__ import annotations

from typing import Final, Literal, TypeAlias

from gmm_np import tuning
from gmm_np.checks import FloatArray
from gmm_np.estep.prepared_mixture import PreparedMixture
from gmm_np.estep.standardization import Standardization

Method: TypeAlias = Literal["auto", "direct", "moments"]
METHODS: Final = ("auto", "direct", "moments")

# The feature kernel is admitted where the bound on its relative error promises ten digits.
LARGEST_ERROR: Final = 1e-10


def choose_kernel(
    mixture: PreparedMixture, method: Method, x: FloatArray
) -> tuple[Standardization, FloatArray] | None:
    """Return the coordinates that the feature kernel takes, and samples x [D, B] in them.

    None for the residual kernel, which takes them as they are.
    """
    if method == "direct":
        return None
    for common in mixture.family.frames:
        standardization = mixture.standardization(common=common)
        if standardization.unit != 1.0 and not mixture.family.whitened:
            continue  # plain residuals are in the units of the data
        y = standardization.transform(x)
        if method == "moments" or standardization.error_bound(y) <= LARGEST_ERROR:
            return standardization, y
    return None


def costs(mixture: PreparedMixture, n_samples: int, *, gradient: bool) -> dict[Method, float]:
    """Return what a sample costs by each kernel: nanoseconds of one core, about.

    Fitted to K from 2 to 200 and D from 2 to 128. What is made of parameters, and of sums, costs
    D^3 for each component, however few the samples.
    """
    t = tuning.current()
    k, d, p = mixture.n_components, mixture.n_dims, mixture.n_features
    products = 2 if gradient else 1
    write = t.feature_write + t.feature_cache * p
    features = p * (write + t.feature_multiply * products * k) + t.feature_component * k
    if not mixture.family.dense:
        residuals = products * k * d * t.diagonal_pass + t.residual_component * k
        return {"moments": features, "direct": residuals}
    features += t.feature_cube * products * k * d**3 / n_samples
    residuals = products * k * d * (t.residual_pass + t.residual_triangle * d)
    residuals += t.residual_component * k
    residuals += t.residual_cube * k * d**3 / n_samples
    return {"moments": features, "direct": residuals}


def cheapest(mixture: PreparedMixture, cost: dict[Method, float], n_samples: int) -> Method:
    """Return "direct" where that is as cheap as "moments", else "auto"."""
    work = n_samples * mixture.n_components * mixture.n_dims
    little = work <= tuning.current().little_work
    return "direct" if little or cost["moments"] > cost["direct"] else "auto"
