"""What every framework needs of the loss: values, products with its Jacobian and its Hessian.

Arguments are float64 arrays, and gradients come in their order: x, pi_logits, means, scale. Where
the logits have two axes, [N, K], each row has a mixture of its own. Everything is a weighted sum
over rows, with weights of either sign: w_n / W times what comes back for the value of row n.

Letters in shapes: N rows, K components, D dimensions.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from gmm_np import mdn, reference
from gmm_np.checks import FloatArray, as_reduction, check_choice, check_sample_weight
from gmm_np.covariance import FAMILIES
from gmm_np.density import log_prob_grad
from gmm_np.hessian import scores
from gmm_np.likelihood import nll, nll_value_and_grad, reduce_loss
from gmm_np.parameters import Gradients, Parameters
from gmm_np.parametrizations import Cholesky
from gmm_np.second_order import nll_hvp

Blocks: TypeAlias = tuple[FloatArray, FloatArray, FloatArray, FloatArray]

# Rows whose scores are held at a time.
_ROWS = 4096


@dataclass(frozen=True)
class Loss:
    """The loss with its options, which frameworks do not differentiate; it can be hashed.

    Parameters
    ----------
    family : str
        As for `gmm_np.nll`, or `gmm_np.mdn.nll`.
    reduction : {"mean", "sum", "none"}

    Raises
    ------
    ValueError
        If an option is unknown.
    """

    family: str
    reduction: str

    def __post_init__(self) -> None:
        check_choice("family", self.family, tuple(FAMILIES))
        as_reduction(self.reduction)

    def value(self, weight: FloatArray | None, arguments: Blocks) -> FloatArray:
        """Value of the loss, [] or [N], with the checks of `gmm_np.nll` or `gmm_np.mdn.nll`."""
        function = mdn.nll if _of_rows(arguments) else nll
        return np.asarray(
            function(*arguments, family=self.family, sample_weight=weight, reduction=self.reduction)
        )

    def pullback(
        self, weight: FloatArray | None, d_value: FloatArray, arguments: Blocks, with_x: bool = True
    ) -> Blocks:
        """Vector-Jacobian product with d_value, [] or [N]; zeros for x if it is not wanted."""
        x = arguments[0]
        c = self._coefficients(weight, len(x)) * d_value  # [N]
        if _of_rows(arguments):
            found = mdn.nll_value_and_grad(
                *arguments, family=self.family, reduction="none", d_value=c
            )[1]
            return _blocks(found, arguments)

        def gradient(part: FloatArray) -> Gradients:
            return nll_value_and_grad(
                *arguments, family=self.family, sample_weight=part, reduction="sum"
            )[1]

        d_x, *others = _blocks(_signed(gradient, c), arguments)
        if with_x:
            pulled = log_prob_grad(*arguments, family=self.family)
            d_x = np.where(c[:, None] == 0, 0.0, -c[:, None] * pulled)
        return d_x, others[0], others[1], others[2]

    def pushforward(
        self, weight: FloatArray | None, moves: Blocks, arguments: Blocks, with_x: bool = True
    ) -> FloatArray:
        """Jacobian-vector product with `moves`, [] or [N]: the transpose of `pullback`.

        `with_x`: whether x moves.
        """
        own = self._coefficients(weight, len(arguments[0]))
        slopes = own * self._slopes(self._direction(moves), arguments, with_x)  # [N]
        return np.asarray(slopes if self.reduction == "none" else slopes.sum())

    def hvp(
        self,
        weight: FloatArray | None,
        d_value: FloatArray,
        moves: Blocks,
        arguments: Blocks,
        with_x: bool = True,
    ) -> Blocks:
        """Rate of `pullback` where the arguments move, a symmetric product, linear in `moves`.

        `with_x`: whether x moves, or its gradient's rate is wanted.
        """
        direction, of_rows = self._direction(moves), _of_rows(arguments)

        def product(part: FloatArray) -> Gradients:
            options: dict[str, Any] = {
                "family": self.family,
                "sample_weight": part,
                "reduction": "sum",
            }
            if of_rows:
                return mdn.nll_hvp(*arguments, direction, **options)
            if with_x:
                return self._hvp_with_x(arguments, direction, part)
            still = direction._replace(x=None)
            return nll_hvp(*arguments, still, **options)

        own = self._coefficients(weight, len(arguments[0]))
        return _blocks(_signed(product, own * d_value), arguments)

    def _direction(self, moves: Blocks) -> Gradients:
        form, (x, d_logits, d_means, d_scale) = FAMILIES[self.family], moves
        # The gradient of a factor has nothing above the diagonal, whatever comes back for it.
        lower = np.tril(d_scale) if form.has_factors else d_scale
        return Gradients(d_logits, d_means, lower if form.learned else None, x)

    def _coefficients(self, weight: FloatArray | None, n_samples: int) -> FloatArray:
        """w_n / W, or w_n where the reduction is not the mean; [N]."""
        weight = check_sample_weight(weight, n_samples)
        own = np.ones(n_samples) if weight is None else weight
        return reduce_loss(np.zeros(n_samples), own, as_reduction(self.reduction))[1]

    def _slopes(self, direction: Gradients, arguments: Blocks, with_x: bool) -> FloatArray:
        """Rate of minus each row's log-likelihood along a direction, [N]."""
        x = arguments[0]
        if _of_rows(arguments):
            own = mdn.nll_value_and_grad(*arguments, family=self.family, reduction="none")[1]
            pairs = zip(_blocks(own, arguments), _blocks(direction, arguments), strict=True)
            products = [(g * move).reshape(len(x), -1).sum(axis=1) for g, move in pairs]
            return np.asarray(np.sum(products, axis=0))
        parameters = Parameters(*arguments[1:], self.family)
        vector = Cholesky.of(parameters).pullback(parameters, direction._replace(x=None))
        slopes = np.empty(len(x))
        for start in range(0, len(x), _ROWS):
            part = slice(start, start + _ROWS)
            slopes[part] = -scores(x[part], *arguments[1:], family=self.family) @ vector
        if with_x:
            assert direction.x is not None
            pulled = log_prob_grad(*arguments, family=self.family)
            slopes -= np.einsum("nd,nd->n", pulled, direction.x)
        return slopes

    def _hvp_with_x(self, arguments: Blocks, direction: Gradients, weight: FloatArray) -> Gradients:
        """Hessian-vector product by the reference, which has x among what moves; (33), (34)."""
        form, (x, logits, means, scale) = FAMILIES[self.family], arguments
        moved = None
        if direction.scale is not None:
            moved = form.expand(np.asarray(direction.scale), *means.shape)
        found = reference.nll_hvp(
            x,
            logits,
            means,
            form.expand(scale, *means.shape),
            direction._replace(scale=moved),
            sample_weight=weight,
            reduction="sum",
        )
        d_scale = form.reduce(np.asarray(found.scale)) if form.learned else None
        return found._replace(scale=d_scale)


def as_parameters(model: Any) -> Parameters:
    """Return the parameters of a fitted estimator, or parameters as they are.

    Raises
    ------
    TypeError
        If it is neither.
    """
    found = model if isinstance(model, Parameters) else getattr(model, "parameters_", None)
    if not isinstance(found, Parameters):
        raise TypeError(
            "model must be gmm_np.Parameters or a fitted gmm_np.GaussianMixture; got "
            f"{type(model).__name__}. gmm_np.Parameters.from_covariances makes them of weights, "
            "means and covariances."
        )
    return found


def _of_rows(arguments: Blocks) -> bool:
    return np.ndim(arguments[1]) > 1


def _signed(product: Callable[[FloatArray], Gradients], weight: FloatArray) -> Gradients | None:
    """Return what is linear in weights [N] of either sign; None where all are zero."""
    parts = [(sign, np.maximum(sign * weight, 0.0)) for sign in (1.0, -1.0)]
    found = [(sign, product(part)) for sign, part in parts if part.any()]
    if not found:
        return None
    (sign, total), *rest = found
    for _, other in rest:  # what weighs less than nothing
        total = total.plus(other, -1.0)
    return total if sign > 0 else _negative(total)


def _negative(gradients: Gradients) -> Gradients:
    logits, means, scale, x = (None if g is None else -g for g in gradients)
    assert logits is not None
    assert means is not None
    return Gradients(logits, means, scale, x)


def _blocks(gradients: Gradients | None, arguments: Blocks) -> Blocks:
    """Return gradients in the order of the arguments, zeros for what there is none of."""
    zeros = tuple(np.zeros(np.shape(argument)) for argument in arguments)
    if gradients is None:
        return zeros[0], zeros[1], zeros[2], zeros[3]
    logits, means, scale, x = (None if g is None else np.asarray(g, np.float64) for g in gradients)
    found = [
        zero if block is None else block
        for block, zero in zip((x, logits, means, scale), zeros, strict=True)
    ]
    return found[0], found[1], found[2], found[3]
