"""The arguments of a loss whose rows have mixtures of their own, and every check of them.

Letters in shapes: N rows, K components, D dimensions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike

from gmm_np.checks import (
    FloatArray,
    Reduction,
    as_float64,
    as_reduction,
    as_scalar_reduction,
    check_axes,
    check_choice,
    check_sample_weight,
    check_x,
)
from gmm_np.covariance import FAMILIES, Family
from gmm_np.parameters import (
    Gradients,
    cast_gradient,
    check_direction,
    check_values,
    gradient_dtype,
)

# Of the others a row has nothing to share, or nothing to learn.
FAMILIES_OF_ROWS: Final = tuple(
    name for name, form in FAMILIES.items() if form.per_component and form.learned
)
ROWS: Final = ("row",)


@dataclass(frozen=True, eq=False)
class RowMixtures:
    """Rows and their mixtures, checked, as float64.

    Attributes
    ----------
    x : ndarray, shape [N, D]
    pi_logits : ndarray, shape [N, K]
    means : ndarray, shape [N, K, D]
    scale : ndarray, shape [N, K, D, D], [N, K, D] or [N, K]
    family : Family
    weight : ndarray, shape [N]
        Weights w_n.
    reduction : {"mean", "sum", "none"}
    dtypes : tuple of dtype, length 4
        In which the gradients of logits, means, scale and x go back.
    """

    x: FloatArray
    pi_logits: FloatArray
    means: FloatArray
    scale: FloatArray
    family: Family
    weight: FloatArray
    reduction: Reduction
    dtypes: tuple[np.dtype[np.floating[Any]], ...]

    @classmethod
    def of(
        cls,
        x: ArrayLike,
        pi_logits: ArrayLike,
        means: ArrayLike,
        scale: ArrayLike,
        family: str,
        sample_weight: ArrayLike | None,
        reduction: str,
    ) -> RowMixtures:
        """Check the arguments of `gmm_np.mdn.nll`.

        Raises
        ------
        TypeError
            If an argument is not made of real numbers.
        ValueError
            If shapes disagree, a value cannot be what it has to be, or an option is unknown.
        """
        reduce = as_reduction(reduction)
        check_choice("family", family, FAMILIES_OF_ROWS)
        form = FAMILIES[family]
        data = check_x(x)
        logits = as_float64("pi_logits", pi_logits, (*ROWS, "component"))
        centres = as_float64("means", means, (*ROWS, "component", "column"))
        scales = as_float64("scale", scale, (*ROWS, *form.places))
        one_for_all = "For one mixture of all rows use gmm_np.nll, or np.broadcast_to."
        check_axes("means", centres, "[N, K, D]", one_for_all)
        _check_shape("x", data, "[N, D]", (len(centres), centres.shape[2]), centres)
        axes = {
            "pi_logits": (logits, "[N, K]", centres.shape[:2]),
            "scale": (
                scales,
                f"[N, {form.axes[1:]}",
                (len(centres), *form.shape(*centres.shape[1:])),
            ),
        }
        for name, (array, letters, shape) in axes.items():
            check_axes(name, array, letters, one_for_all)
            _check_shape(name, array, letters, shape, centres)
        check_values(logits, centres, scales, form, rows=ROWS)
        weight = check_sample_weight(sample_weight, len(data))
        weight = np.ones(len(data)) if weight is None else weight
        dtypes = tuple(gradient_dtype(argument) for argument in (pi_logits, means, scale, x))
        return cls(data, logits, centres, scales, form, weight, reduce, dtypes)

    def check_direction(self, direction: Gradients) -> Gradients:
        """Return how fast all arguments move, as float64, zero where a direction leaves one out.

        Raises
        ------
        TypeError, ValueError
            If it is not what it has to be, or the loss is not one number.
        """
        as_scalar_reduction(self.reduction)
        moves = check_direction(direction, self.means, self.scale, self.x, self.family.name, ROWS)
        return Gradients(*moves)

    @property
    def arrays(self) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
        """The four arguments, in the order of the public functions."""
        return self.x, self.pi_logits, self.means, self.scale

    def zeros(self) -> Gradients:
        """Return zeros in the shape of each argument."""
        x, logits, means, scale = (np.zeros(array.shape) for array in self.arrays)
        return Gradients(logits, means, scale, x)

    def as_gradients(self, gradients: Gradients) -> Gradients:
        """Return gradients each in the dtype of its argument."""
        pairs = zip(gradients, self.dtypes, strict=True)
        return Gradients(*(cast_gradient(np.asarray(g), dtype) for g, dtype in pairs))


def _check_shape(
    name: str, array: FloatArray, letters: str, shape: tuple[int, ...], means: FloatArray
) -> None:
    if array.shape != shape:
        raise ValueError(
            f"means and {name} disagree: means has shape {means.shape}, so {name} must have shape "
            f"{letters} = {shape}; got {array.shape}. Give each row of x a mixture of its own."
        )
