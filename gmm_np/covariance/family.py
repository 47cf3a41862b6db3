"""What a covariance family has to know, and the sums that it is asked to make sense of.

The kernels ask it for whitening, for features and natural parameters, and for sums of second
moments; the statistics ask it for gradients and updates.

Everything about a component is held in its own whitened coordinates z = W_k (x - mu_k), where
spreads are about one: the first moment is v = sum w r z [K, D], the second M = sum w r z z^T, of
which a family keeps what it needs. `scale` and its inverse W have the family's own shape.

Letters in shapes: B samples of a block, K components, G of them, D dimensions, P features.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Final, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from gmm_np import extended_range
from gmm_np.checks import FloatArray

Bools: TypeAlias = NDArray[np.bool_]

# A variance no more than the square of this times D, relative to the second moment that it was
# computed from, or an eigenvalue of a correlation matrix no more than this times D, is rounding.
ROUNDING: Final = 64 * float(np.finfo(np.float64).eps)
# A component's second moment in a block is taken about the block's mean where a variance is less
# than this part of it: more than three digits would cancel.
SMALLEST_VARIANCE: Final = 1e-3


def _inverse_or_zero(mass: FloatArray) -> FloatArray:
    """1 / mass, and 0 where there is none."""
    return np.divide(1.0, mass, out=np.zeros_like(mass), where=mass > 0)


class Sums(NamedTuple):
    """Weighted sums over samples: n [K], v [K, D], and second moments in the family's shape.

    Second moments are about the components' means (z = 0), or central: about v / n.
    """

    mass: FloatArray
    first: FloatArray
    second: FloatArray

    def centre(self, family: Family) -> Sums:
        """Return the same with central second moments.

        Where the difference leaves the range of a double, moments stay about z = 0.
        """
        with np.errstate(all="ignore"):
            outer = family.outer(_inverse_or_zero(self.mass), self.first)
            central = np.where(np.isfinite(outer), self.second - outer, self.second)
        return Sums(self.mass, self.first, central)

    def about_means(self, family: Family) -> Sums:
        """Return the same with second moments about z = 0, from those that `centre` gives."""
        with np.errstate(all="ignore"):
            outer = family.outer(_inverse_or_zero(self.mass), self.first)
            second = np.where(np.isfinite(outer), self.second + outer, self.second)
        return Sums(self.mass, self.first, second)


def merge(family: Family, left: Sums, right: Sums) -> Sums:
    """Add sums with central second moments, without the cancellation that raw ones have."""
    with np.errstate(all="ignore"):
        step = left.first * _inverse_or_zero(left.mass)[:, None]
        step -= right.first * _inverse_or_zero(right.mass)[:, None]
        mass = left.mass + right.mass
        share = left.mass * right.mass * _inverse_or_zero(mass)
        between = family.outer(share, np.where(share[:, None] > 0, step, 0.0))
        second = np.asarray(left.second + right.second + between)
    if np.isnan(second).any():  # infinities of both signs
        second = extended_range.add(extended_range.add(left.second, right.second), between)
    return Sums(mass, left.first + right.first, second)


class Update(NamedTuple):
    """What the M-step adds to a learned covariance: (scatter + s I) / (mass + f) + ridge I."""

    scatter: float = 0.0
    freedom: float = 0.0
    ridge: float = 0.0

    @property
    def regularises(self) -> bool:
        """Whether a singular covariance becomes regular."""
        return self.scatter > 0 or self.ridge > 0

    def times(self, n: int) -> Update:
        """Return the same for n directions that share one variance."""
        return Update(n * self.scatter, n * self.freedom, self.ridge)


class Family(ABC):
    """What a family knows. Its methods hold no state and check nothing."""

    name: str
    # Whether each component has a scale of its own.
    per_component = True
    # Whether `Frame`s are worth trying: in the data's coordinates (False), in common ones (True).
    frames: tuple[bool, ...] = (False,)
    # Whether whitening is a product with a matrix.
    dense = True
    # Whether sums are of whitened residuals z, or (False) of plain ones, e = x - mu.
    whitened = True

    # --- the scale -------------------------------------------------------------------------

    @abstractmethod
    def expand(self, scale: FloatArray, n_components: int, n_dims: int) -> FloatArray:
        """Lower Cholesky factors [K, D, D] of the covariances, equation (33)."""

    @abstractmethod
    def reduce(self, dense: FloatArray) -> FloatArray:
        """Pull [K, D, D] back through `expand`: gradients, and second moments, equation (34)."""

    @abstractmethod
    def densify(self, second: FloatArray, n_components: int, n_dims: int) -> FloatArray:
        """Return second moments [K, D, D] that have the same gradient once they are reduced."""

    @abstractmethod
    def half_log_det(self, scale: FloatArray, n_components: int, n_dims: int) -> FloatArray:
        """Half the log-determinants [K], equation (8)."""

    @abstractmethod
    def inverse(self, scale: FloatArray) -> FloatArray:
        """Return W, so that whitening is a product."""

    @abstractmethod
    def inverse_norm(self, inverse: FloatArray) -> FloatArray:
        """Return upper bounds of the spectral norms of W, [K] or []."""

    def into_frame(self, scale: FloatArray) -> FloatArray:
        """Return C^-1 of a common factor C, [D, D] or [D], by which data may be multiplied."""
        raise NotImplementedError

    def in_frame(self, inverse: FloatArray, into: FloatArray, scale: FloatArray) -> FloatArray:
        """Return W for data that were multiplied by `into`."""
        raise NotImplementedError

    # --- direct ----------------------------------------------------------------------------

    @abstractmethod
    def whiten(
        self,
        inverse: FloatArray,
        part: slice,
        x: FloatArray,
        means: FloatArray,
        out: FloatArray,
        spare: FloatArray,
    ) -> None:
        """Write z = W_k (x - mu_k) to `out` [G, D, B] for samples x [D, B], equation (6).

        Of G components, `part`, with means [G, D]. `spare` [G, D, B] may be written to.
        """

    @abstractmethod
    def second_moments(self, n_components: int, n_dims: int) -> FloatArray:
        """Zeroes to which `add_second_moments` adds."""

    @abstractmethod
    def add_second_moments(
        self, total: FloatArray, part: slice, weighted: FloatArray, z: FloatArray
    ) -> None:
        """Add sums of weighted z^T for components `part` to `total`.

        Both [G, D, B]: `weighted` is w r z, or both are one array, sqrt(w r) z.
        """

    def complete(self, second: FloatArray) -> FloatArray:
        """Finish what `add_second_moments` added, in place, and return it."""
        return second

    @abstractmethod
    def outer(self, mass: FloatArray, vectors: FloatArray) -> FloatArray:
        """Second moments of masses [K] at points [K, D]."""

    @abstractmethod
    def diagonal(self, second: FloatArray) -> FloatArray:
        """View of the diagonals of second moments, that can be written to."""

    # --- moments ---------------------------------------------------------------------------

    @abstractmethod
    def n_features(self, n_dims: int) -> int:
        """P, the number of features of a sample."""

    def n_sums(self, n_dims: int) -> int:
        """How many of them, from the first, are to be summed by component."""
        return self.n_features(n_dims)

    @abstractmethod
    def write_features(self, y: FloatArray, out: FloatArray) -> None:
        """Write the features of centred samples y [D, B] to `out` [P, B]."""

    @abstractmethod
    def natural_parameters(
        self, constant: FloatArray, means: FloatArray, inverse: FloatArray
    ) -> FloatArray:
        """Coefficients [K, P] of the features in log_joint, for means about the same centre.

        constant - |W (y - mu)|^2 / 2, written out in the features.
        """

    def cross_moment(self, n_dims: int) -> FloatArray | None:
        """Zeroes [D, D] for sum w y y^T over samples, if the family needs it."""
        return None

    @abstractmethod
    def whitened_moments(
        self, sums: FloatArray, means: FloatArray, inverse: FloatArray, cross: FloatArray | None
    ) -> Sums:
        """Turn weighted sums of the features [K, P] into n [K], v [K, D] and M.

        `means` and `inverse` are those of the frame in which the features were written; `cross`
        is the lower triangle of sum w y y^T, if the family needs it.
        """

    # --- from statistics -------------------------------------------------------------------

    @abstractmethod
    def unwhiten_first(self, scale: FloatArray, first: FloatArray) -> FloatArray:
        """m_k = L_k v_k [K, D], equation (25)."""

    @abstractmethod
    def pull(self, inverse: FloatArray, first: FloatArray) -> FloatArray:
        """Sigma^-1 m_k = W_k^T v_k [K, D], equation (26)."""

    @abstractmethod
    def unwhiten(self, scale: FloatArray, second: FloatArray) -> FloatArray:
        """S_k = L_k M_k L_k^T, equation (25)."""

    @abstractmethod
    def gradient(
        self,
        scale: FloatArray,
        inverse: FloatArray,
        mass: FloatArray,
        second: FloatArray,
        n_dims: int,
    ) -> FloatArray:
        """Gradient of the summed loss with respect to the scale, equations (26) and (35).

        `second` may be overwritten.
        """

    def posterior_step(
        self,
        scale: FloatArray,
        mass: FloatArray,
        mean: FloatArray,
        centre: FloatArray,
        precision: float,
    ) -> FloatArray:
        """Return the maximising means less the old ones, in whitened coordinates [K, D]: (43).

        `mean` [K, D] is that of the samples, whitened; `centre` [K, D] that of a normal prior of
        this precision, less the old means.
        """
        factors = self.expand(scale, *mean.shape)
        transposed = factors.swapaxes(1, 2)
        system = mass[:, None, None] * np.eye(mean.shape[1])
        system = system + precision * np.matmul(transposed, factors)
        right = mass[:, None] * mean
        right = right + precision * np.matmul(transposed, centre[:, :, None])[:, :, 0]
        return np.linalg.solve(system, right[:, :, None])[:, :, 0]

    @abstractmethod
    def em_update(
        self, scale: FloatArray, sums: Sums, lost: FloatArray, add: Update
    ) -> tuple[FloatArray, Bools]:
        """Return the scale that maximises, and which components [K] collapsed: (27), (36).

        Second moments are about the new means. `lost` says, in the shape of their diagonals, how
        many times its own size the rounding error of each may be. A covariance of no samples and
        no prior stays what it is.
        """


def about_means(sums: FloatArray, means: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Masses [K] and first moments about the means [K, D] from sums of 1 and y [K, P]."""
    mass = sums[:, 0].copy()
    return mass, sums[:, 1 : means.shape[1] + 1] - mass[:, None] * means


def write_isotropic_features(y: FloatArray, out: FloatArray) -> None:
    """Write 1, y and |y|^2."""
    out[0] = 1.0
    out[1:-1] = y
    np.einsum("db,db->b", y, y, out=out[-1])


def isotropic_parameters(
    constant: FloatArray, means: FloatArray, inverse: FloatArray
) -> FloatArray:
    """Coefficients [K, D + 2] of 1, y and |y|^2 for inverse deviations [K]."""
    precision = inverse**2
    offset = constant - 0.5 * precision * np.einsum("kd,kd->k", means, means)
    return np.hstack([offset[:, None], precision[:, None] * means, -0.5 * precision[:, None]])


def has_update(mass: FloatArray, add: Update) -> Bools:
    """Whether samples or a prior say anything of a covariance."""
    return (mass + add.freedom > 0) & ((mass > 0) | (add.scatter > 0))
