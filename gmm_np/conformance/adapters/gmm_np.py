"""The library itself: the reference, and the engine's kernels."""

from __future__ import annotations

from typing import Any

import numpy as np

REQUIRES = ("gmm_np", "numpy", "scipy")


def reference(
    x: Any,
    logits: Any,
    means: Any,
    chol: Any,
    *,
    sample_weight: Any = None,
    reduction: str = "mean",
) -> tuple[Any, ...]:
    """Call the reference, which is the chain rule."""
    from gmm_np.reference import nll_backward, nll_forward

    value, cache = nll_forward(
        x, logits, means, chol, sample_weight=sample_weight, reduction=reduction
    )
    return (value, *nll_backward(cache)[:3])


def auto(
    x: Any,
    logits: Any,
    means: Any,
    chol: Any,
    *,
    sample_weight: Any = None,
    reduction: str = "mean",
) -> tuple[Any, ...]:
    """Call the engine, which chooses its kernel."""
    return _engine(x, logits, means, chol, sample_weight, reduction, "auto")


def direct(
    x: Any,
    logits: Any,
    means: Any,
    chol: Any,
    *,
    sample_weight: Any = None,
    reduction: str = "mean",
) -> tuple[Any, ...]:
    """Call the engine's direct kernel."""
    return _engine(x, logits, means, chol, sample_weight, reduction, "direct")


def _engine(
    x: Any, logits: Any, means: Any, chol: Any, weight: Any, reduction: str, method: str
) -> tuple[Any, ...]:
    from gmm_np import nll_value_and_grad

    value, gradients = nll_value_and_grad(
        x, logits, means, chol, sample_weight=weight, reduction=reduction, method=method
    )
    return (value, *gradients[:3])


def reference_hvp(
    x: Any,
    logits: Any,
    means: Any,
    chol: Any,
    v_logits: Any,
    v_means: Any,
    v_chol: Any,
    *,
    sample_weight: Any = None,
    reduction: str = "mean",
) -> tuple[Any, ...]:
    """Call the reference's Hessian-vector product, the chain rule once more."""
    from gmm_np import Gradients
    from gmm_np.reference import nll_hvp

    direction = Gradients(v_logits, v_means, v_chol)
    return nll_hvp(
        x, logits, means, chol, direction, sample_weight=sample_weight, reduction=reduction
    )[:3]


def auto_hvp(
    x: Any,
    logits: Any,
    means: Any,
    chol: Any,
    v_logits: Any,
    v_means: Any,
    v_chol: Any,
    *,
    sample_weight: Any = None,
    reduction: str = "mean",
) -> tuple[Any, ...]:
    """Call the engine's Hessian-vector product, Louis' identity."""
    from gmm_np import Gradients, nll_hvp

    direction = Gradients(v_logits, v_means, v_chol)
    return nll_hvp(
        x, logits, means, chol, direction, sample_weight=sample_weight, reduction=reduction
    )[:3]


def auto_scores(x: Any, logits: Any, means: Any, chol: Any) -> tuple[Any, ...]:
    """Call the engine's scores, and take their rows apart."""
    from gmm_np import scores

    rows = scores(x, logits, means, chol)  # [N, V]
    n, (k, d) = len(rows), np.shape(means)
    d_chol = np.zeros((n, k, d, d))
    below = np.tril_indices(d)
    d_chol[:, :, below[0], below[1]] = rows[:, k + k * d :].reshape(n, k, -1)
    return rows[:, :k], rows[:, k : k + k * d].reshape(n, k, d), d_chol


def _of_family(family: str) -> Any:
    def value_and_gradient(
        x: Any,
        logits: Any,
        means: Any,
        scale: Any,
        *,
        sample_weight: Any = None,
        reduction: str = "mean",
    ) -> tuple[Any, ...]:
        """Call the engine for a family of covariances."""
        from gmm_np import nll_value_and_grad

        value, gradients = nll_value_and_grad(
            x, logits, means, scale, family=family, sample_weight=sample_weight, reduction=reduction
        )
        return (value, *gradients[:3])

    return value_and_gradient


def _by_rows(family: str) -> Any:
    def value_and_gradient(
        x: Any,
        logits: Any,
        means: Any,
        scale: Any,
        *,
        sample_weight: Any = None,
        reduction: str = "mean",
    ) -> tuple[Any, ...]:
        """Call `gmm_np.mdn` for mixtures that rows have of their own."""
        from gmm_np.mdn import nll_value_and_grad

        value, gradients = nll_value_and_grad(
            x, logits, means, scale, family=family, sample_weight=sample_weight, reduction=reduction
        )
        return (value, *gradients[:3])

    return value_and_gradient


def _by_covariance(form: str) -> Any:
    def value_and_gradient(
        x: Any,
        logits: Any,
        means: Any,
        scale: Any,
        *,
        sample_weight: Any = None,
        reduction: str = "mean",
    ) -> tuple[Any, ...]:
        """Factor what comes in, call the engine, and pull the gradient back."""
        from gmm_np import Parameters, nll_value_and_grad
        from gmm_np.linalg.factors import invert_factors
        from gmm_np.parametrizations import covariance_gradient

        options: dict[str, Any] = {"sample_weight": sample_weight, "reduction": reduction}
        flat = np.full(len(means), 1.0 / len(means))
        scale = np.asarray(scale, dtype=np.float64)
        family = form.removesuffix("_variances")
        if form in ("covariances", "precisions"):
            family = "full"
        # Of a precision, from the last row and column on: P = Q^T Q with Q lower, and L = Q^-1.
        given = scale[..., ::-1, ::-1] if form == "precisions" else scale
        roots = np.asarray(
            Parameters.from_covariances(flat, means, given, family).scale, dtype=np.float64
        )
        if form == "precisions":
            q = np.ascontiguousarray(np.swapaxes(roots[:, ::-1, ::-1], 1, 2))
            lower = invert_factors(q)
            value, (d_logits, d_means, d_scale, _) = nll_value_and_grad(
                x, logits, means, lower, **options
            )
            turned = np.swapaxes(lower, 1, 2)
            d_q = -np.tril(turned @ np.asarray(d_scale) @ turned)
            d_roots = np.swapaxes(d_q, 1, 2)[:, ::-1, ::-1]
            d_precisions = covariance_gradient(roots, d_roots)[:, ::-1, ::-1]
            return value, d_logits, d_means, d_precisions
        value, (d_logits, d_means, d_scale, _) = nll_value_and_grad(
            x, logits, means, roots, family=family, **options
        )
        d_roots = np.asarray(d_scale)
        if form == "covariances":
            return value, d_logits, d_means, covariance_gradient(roots, d_roots)
        return value, d_logits, d_means, 0.5 * d_roots / roots

    return value_and_gradient


def reference_d_x(
    x: Any,
    logits: Any,
    means: Any,
    chol: Any,
    *,
    sample_weight: Any = None,
    reduction: str = "mean",
) -> tuple[Any, ...]:
    """Call the reference for the gradient of the loss in x."""
    from gmm_np.reference import nll_backward, nll_forward

    _, cache = nll_forward(x, logits, means, chol, sample_weight=sample_weight, reduction=reduction)
    return (nll_backward(cache).x,)


def auto_d_x(
    x: Any,
    logits: Any,
    means: Any,
    chol: Any,
    *,
    sample_weight: Any = None,
    reduction: str = "mean",
) -> tuple[Any, ...]:
    """Call the engine for the gradients of log densities in x, and weight them."""
    from gmm_np import log_prob_grad
    from gmm_np.checks import check_sample_weight

    weight = check_sample_weight(sample_weight, len(x))
    weight = np.ones(len(x)) if weight is None else weight
    share = weight / weight.sum() if reduction == "mean" else weight
    return (-share[:, None] * log_prob_grad(x, logits, means, chol),)


def auto_log_prob(x: Any, logits: Any, means: Any, chol: Any) -> tuple[Any, ...]:
    """Call the engine for log densities."""
    from gmm_np import log_prob

    return (log_prob(x, logits, means, chol),)


def auto_responsibilities(x: Any, logits: Any, means: Any, chol: Any) -> tuple[Any, ...]:
    """Call the engine for responsibilities."""
    from gmm_np import responsibilities

    return (responsibilities(x, logits, means, chol),)


def auto_em_step(
    x: Any, logits: Any, means: Any, chol: Any, *, sample_weight: Any = None
) -> tuple[Any, ...]:
    """Call the engine for a step of EM, by the kernel that works with residuals.

    The other keeps ten digits where clusters are apart, and the vectors ask for more.
    """
    from gmm_np import Parameters, em_step, statistics

    parameters = Parameters(logits, means, chol)
    sums = statistics(x, parameters, sample_weight=sample_weight, method="direct")
    updated = em_step(parameters, sums)
    return updated.weights(), updated.means, updated.covariances()


def auto_marginal(x: Any, logits: Any, means: Any, chol: Any, columns: Any) -> tuple[Any, ...]:
    """Call the engine for log densities of some columns."""
    from gmm_np import Parameters, log_prob

    chosen = Parameters(logits, means, chol).marginal(columns)
    return (log_prob(x, chosen.pi_logits, chosen.means, chosen.scale),)


# Second derivatives, and other families, are offered as attributes of what gives the first.
reference.hvp = reference_hvp  # type: ignore[attr-defined]
auto.hvp = auto_hvp  # type: ignore[attr-defined]
auto.scores = auto_scores  # type: ignore[attr-defined]
reference.d_x = reference_d_x  # type: ignore[attr-defined]
auto.d_x = auto_d_x  # type: ignore[attr-defined]
auto.log_prob = auto_log_prob  # type: ignore[attr-defined]
auto.responsibilities = auto_responsibilities  # type: ignore[attr-defined]
auto.em_step = auto_em_step  # type: ignore[attr-defined]
auto.marginal = auto_marginal  # type: ignore[attr-defined]
auto.diag = _of_family("diag")  # type: ignore[attr-defined]
auto.tied = _of_family("tied")  # type: ignore[attr-defined]
auto.spherical = _of_family("spherical")  # type: ignore[attr-defined]
auto.covariances = _by_covariance("covariances")  # type: ignore[attr-defined]
auto.precisions = _by_covariance("precisions")  # type: ignore[attr-defined]
auto.diag_variances = _by_covariance("diag_variances")  # type: ignore[attr-defined]
auto.spherical_variances = _by_covariance("spherical_variances")  # type: ignore[attr-defined]
auto.rowwise_full = _by_rows("full")  # type: ignore[attr-defined]
auto.rowwise_diag = _by_rows("diag")  # type: ignore[attr-defined]
auto.rowwise_spherical = _by_rows("spherical")  # type: ignore[attr-defined]


def precision(x: Any, alpha: Any, means: Any, icf: Any, gamma: Any, m: Any) -> tuple[Any, ...]:
    """Call the objective of ADBench and GradBench."""
    from gmm_np.parametrizations import precision_value_and_grad

    d = np.shape(means)[1]
    q, lower = icf[:, :d], icf[:, d:]
    value, (d_alpha, d_mu, d_q, d_l) = precision_value_and_grad(
        x, alpha, means, q, lower, gamma=float(gamma), m=float(m)
    )
    return value, d_alpha, d_mu, np.concatenate([d_q, d_l], axis=1)
