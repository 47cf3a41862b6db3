"""Covariance families: what the kernels and the statistics need to know of a covariance.

One class a family. The kernels ask it for whitening, for features and natural parameters, and
for sums of second moments; the statistics ask it for gradients and updates. A family that costs
less than a full covariance saves it here, and nothing else changes.

Everything about a component is held in its own whitened coordinates z = W_k (x - mu_k), where
spreads are about one: the first moment is v = sum w r z [K, D], the second M = sum w r z z^T, of
which a family keeps what it needs. `scale` and its inverse W have the family's own shape.

Letters in shapes: B samples of a block, K components, D dimensions, P features.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Final, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from gmm_np import triangles
from gmm_np.checks import FloatArray

Bools: TypeAlias = NDArray[np.bool_]

# A variance no more than the square of this times D, relative to the second moment that it was
# computed from, or an eigenvalue of a correlation matrix no more than this times D, is rounding.
ROUNDING: Final = 64 * float(np.finfo(np.float64).eps)


class Sums(NamedTuple):
    """Weighted sums over samples: n [K], v [K, D], and second moments in the family's shape.

    Second moments are about the components' means (z = 0), or central: about v / n.
    """

    mass: FloatArray
    first: FloatArray
    second: FloatArray

    def centre(self, family: Family) -> Sums:
        """Return the same with central second moments."""
        central = self.second - family.outer(_inverse_or_zero(self.mass), self.first)
        central = np.where(np.isnan(central), self.second, central)  # infinite ones stay so
        return Sums(self.mass, self.first, central)

    def about_means(self, family: Family) -> Sums:
        """Return the same with second moments about z = 0, from central ones."""
        second = self.second + family.outer(_inverse_or_zero(self.mass), self.first)
        return Sums(self.mass, self.first, second)


def merge(family: Family, left: Sums, right: Sums) -> Sums:
    """Add sums with central second moments, without the cancellation that raw ones have."""
    step = left.first * _inverse_or_zero(left.mass)[:, None]
    step -= right.first * _inverse_or_zero(right.mass)[:, None]
    mass = left.mass + right.mass
    share = left.mass * right.mass * _inverse_or_zero(mass)
    between = family.outer(share, np.where(share[:, None] > 0, step, 0.0))
    return Sums(mass, left.first + right.first, left.second + right.second + between)


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

    # --- the scale -------------------------------------------------------------------------

    @abstractmethod
    def expand(self, scale: FloatArray, n_components: int, n_dims: int) -> FloatArray:
        """Lower Cholesky factors [K, D, D] of the covariances, equation (38)."""

    @abstractmethod
    def reduce(self, dense: FloatArray) -> FloatArray:
        """Pull [K, D, D] back through `expand`: gradients, and second moments, equation (39)."""

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
    def whiten(self, inverse: FloatArray, k: int, residual: FloatArray, out: FloatArray) -> None:
        """Whiten residuals [D, B] of component k, z = W_k e, equation (6)."""

    @abstractmethod
    def second_moments(self, n_components: int, n_dims: int) -> FloatArray:
        """Zeroes to which `add_second_moment` adds."""

    @abstractmethod
    def add_second_moment(self, total: FloatArray, k: int, weighted: FloatArray) -> None:
        """Add the second moment of sqrt(w r) z [D, B] of component k to `total`."""

    def complete(self, second: FloatArray) -> FloatArray:
        """Finish what `add_second_moment` added, in place, and return it."""
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
        """Gradient of the summed loss with respect to the scale, equations (26) and (40)."""

    def posterior_step(
        self,
        scale: FloatArray,
        mass: FloatArray,
        mean: FloatArray,
        centre: FloatArray,
        precision: float,
    ) -> FloatArray:
        """Return the maximising means less the old ones, in whitened coordinates [K, D]: (42).

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
        self, scale: FloatArray, mass: FloatArray, central: FloatArray, add: Update, n_dims: int
    ) -> tuple[FloatArray, Bools]:
        """Return the scale that maximises, and which components [K] collapsed: (27), (41).

        `central` holds second moments about the new means, in whitened coordinates. A covariance
        of no samples and no prior stays what it is.
        """


class Full(Family):
    """Full covariances by their lower Cholesky factors, ``scale`` [K, D, D]."""

    name = "full"
    frames = (False, True)

    def expand(self, scale: FloatArray, n_components: int, n_dims: int) -> FloatArray:
        return scale

    def reduce(self, dense: FloatArray) -> FloatArray:
        return dense

    def densify(self, second: FloatArray, n_components: int, n_dims: int) -> FloatArray:
        return second

    def half_log_det(self, scale: FloatArray, n_components: int, n_dims: int) -> FloatArray:
        return np.asarray(np.log(np.diagonal(scale, axis1=1, axis2=2)).sum(axis=1))

    def inverse(self, scale: FloatArray) -> FloatArray:
        return triangles.inverses(scale)

    def inverse_norm(self, inverse: FloatArray) -> FloatArray:
        return triangles.inverse_norms(inverse)

    def into_frame(self, scale: FloatArray) -> FloatArray:
        return triangles.inverses(triangles.common_factor(scale)[None])[0]

    def in_frame(self, inverse: FloatArray, into: FloatArray, scale: FloatArray) -> FloatArray:
        factor = triangles.common_factor(scale)
        return np.asarray(np.matmul(inverse, factor))

    def whiten(self, inverse: FloatArray, k: int, residual: FloatArray, out: FloatArray) -> None:
        triangles.multiply(inverse[k], residual, out)

    def second_moments(self, n_components: int, n_dims: int) -> FloatArray:
        return np.zeros((n_components, n_dims, n_dims))

    def add_second_moment(self, total: FloatArray, k: int, weighted: FloatArray) -> None:
        triangles.add_square(total[k], weighted)

    def complete(self, second: FloatArray) -> FloatArray:
        return triangles.complete(second)

    def outer(self, mass: FloatArray, vectors: FloatArray) -> FloatArray:
        return (mass[:, None] * vectors)[:, :, None] * vectors[:, None, :]

    def diagonal(self, second: FloatArray) -> FloatArray:
        return np.einsum("...ii->...i", second)

    def n_features(self, n_dims: int) -> int:
        return (n_dims + 1) * (n_dims + 2) // 2  # 1, y_i, and y_i y_j for i <= j

    def write_features(self, y: FloatArray, out: FloatArray) -> None:
        n_dims = len(y)
        out[0] = 1.0
        out[1 : n_dims + 1] = y
        start = n_dims + 1
        for i in range(n_dims):
            stop = start + n_dims - i
            np.multiply(y[i], y[i:], out=out[start:stop])
            start = stop

    def natural_parameters(
        self, constant: FloatArray, means: FloatArray, inverse: FloatArray
    ) -> FloatArray:
        n_components, n_dims = means.shape
        whitened = np.matmul(inverse, means[:, :, None])  # [K, D, 1]
        precision = triangles.transposed_times(inverse, inverse)  # [K, D, D]
        theta = np.empty((n_components, self.n_features(n_dims)))
        theta[:, 0] = constant - 0.5 * np.einsum("kdi,kdi->k", whitened, whitened)
        theta[:, 1 : n_dims + 1] = np.matmul(inverse.transpose(0, 2, 1), whitened)[:, :, 0]
        start = n_dims + 1
        for i in range(n_dims):
            stop = start + n_dims - i
            np.negative(precision[:, i, i:], out=theta[:, start:stop])
            theta[:, start] *= 0.5
            start = stop
        return theta

    def whitened_moments(
        self, sums: FloatArray, means: FloatArray, inverse: FloatArray, cross: FloatArray | None
    ) -> Sums:
        n_components, n_dims = means.shape
        mass, first = _about_means(sums, means)
        # sum (y - mu)(y - mu)^T = sum y y^T - a mu^T - mu a^T with a = first + mass mu / 2
        half = first + 0.5 * mass[:, None] * means  # [K, D]
        second = np.zeros((n_components, n_dims, n_dims))
        start = n_dims + 1
        for i in range(n_dims):  # the upper triangles
            stop = start + n_dims - i
            second[:, i, i:] = sums[:, start:stop]
            second[:, i, i:] -= half[:, i, None] * means[:, i:] + means[:, i, None] * half[:, i:]
            start = stop
        v_k = np.matmul(inverse, first[:, :, None])[:, :, 0]
        return Sums(mass, v_k, triangles.congruences(inverse, second))

    def unwhiten_first(self, scale: FloatArray, first: FloatArray) -> FloatArray:
        return np.asarray(np.matmul(scale, first[:, :, None])[:, :, 0])

    def pull(self, inverse: FloatArray, first: FloatArray) -> FloatArray:
        return np.asarray(np.matmul(inverse.swapaxes(-2, -1), first[:, :, None])[:, :, 0])

    def unwhiten(self, scale: FloatArray, second: FloatArray) -> FloatArray:
        return np.asarray(np.matmul(np.matmul(scale, second), scale.swapaxes(-2, -1)))

    def gradient(
        self,
        scale: FloatArray,
        inverse: FloatArray,
        mass: FloatArray,
        second: FloatArray,
        n_dims: int,
    ) -> FloatArray:
        # tril(Sigma^-1 S Sigma^-1 L) = tril(L^-T M), which has no cancellation in it.
        gradient = triangles.transposed_times(inverse, second)
        np.negative(gradient, out=gradient)
        for i in range(n_dims - 1):
            gradient[:, i, i + 1 :] = 0.0
        self.diagonal(gradient)[...] += mass[:, None] / self.diagonal(scale)
        return gradient

    def em_update(
        self, scale: FloatArray, mass: FloatArray, central: FloatArray, add: Update, n_dims: int
    ) -> tuple[FloatArray, Bools]:
        updated, collapsed = scale.copy(), np.zeros(len(mass), dtype=bool)
        for k in np.flatnonzero(_has_update(mass, add)):
            try:
                updated[k] = _maximising_factor(scale[k], mass[k], central[k], add)
            except np.linalg.LinAlgError:
                collapsed[k] = True
        return updated, collapsed


class Constant(Full):
    """Full covariances that are not learned: no gradient, no update, no second moments."""

    name = "constant"

    def reduce(self, dense: FloatArray) -> FloatArray:
        return np.zeros(0)

    def densify(self, second: FloatArray, n_components: int, n_dims: int) -> FloatArray:
        return np.zeros((n_components, n_dims, n_dims))

    def second_moments(self, n_components: int, n_dims: int) -> FloatArray:
        return np.zeros(0)

    def add_second_moment(self, total: FloatArray, k: int, weighted: FloatArray) -> None:
        pass

    def complete(self, second: FloatArray) -> FloatArray:
        return second

    def outer(self, mass: FloatArray, vectors: FloatArray) -> FloatArray:
        return np.zeros(0)

    def diagonal(self, second: FloatArray) -> FloatArray:
        return second

    def n_sums(self, n_dims: int) -> int:
        return n_dims + 1

    def whitened_moments(
        self, sums: FloatArray, means: FloatArray, inverse: FloatArray, cross: FloatArray | None
    ) -> Sums:
        mass, first = _about_means(sums, means)
        return Sums(mass, np.matmul(inverse, first[:, :, None])[:, :, 0], np.zeros(0))

    def unwhiten(self, scale: FloatArray, second: FloatArray) -> FloatArray:
        return second

    def gradient(
        self,
        scale: FloatArray,
        inverse: FloatArray,
        mass: FloatArray,
        second: FloatArray,
        n_dims: int,
    ) -> FloatArray:
        return np.zeros(0)

    def em_update(
        self, scale: FloatArray, mass: FloatArray, central: FloatArray, add: Update, n_dims: int
    ) -> tuple[FloatArray, Bools]:
        return scale, np.zeros(len(mass), dtype=bool)


class Tied(Full):
    """One full covariance for all components by its lower Cholesky factor, ``scale`` [D, D]."""

    name = "tied"
    per_component = False
    frames = (True,)  # in which it is the identity

    def expand(self, scale: FloatArray, n_components: int, n_dims: int) -> FloatArray:
        return np.broadcast_to(scale, (n_components, n_dims, n_dims))

    def reduce(self, dense: FloatArray) -> FloatArray:
        return np.asarray(dense.sum(axis=0))

    def densify(self, second: FloatArray, n_components: int, n_dims: int) -> FloatArray:
        return np.broadcast_to(second / n_components, (n_components, n_dims, n_dims))

    def half_log_det(self, scale: FloatArray, n_components: int, n_dims: int) -> FloatArray:
        return np.full(n_components, np.log(np.diagonal(scale)).sum())

    def inverse(self, scale: FloatArray) -> FloatArray:
        return triangles.inverses(scale[None])[0]

    def inverse_norm(self, inverse: FloatArray) -> FloatArray:
        return triangles.inverse_norms(inverse[None])[0]

    def into_frame(self, scale: FloatArray) -> FloatArray:
        return self.inverse(scale)

    def in_frame(self, inverse: FloatArray, into: FloatArray, scale: FloatArray) -> FloatArray:
        return np.eye(len(inverse))

    def whiten(self, inverse: FloatArray, k: int, residual: FloatArray, out: FloatArray) -> None:
        triangles.multiply(inverse, residual, out)

    def second_moments(self, n_components: int, n_dims: int) -> FloatArray:
        return np.zeros((n_dims, n_dims))

    def add_second_moment(self, total: FloatArray, k: int, weighted: FloatArray) -> None:
        triangles.add_square(total, weighted)

    def outer(self, mass: FloatArray, vectors: FloatArray) -> FloatArray:
        return np.asarray((mass[:, None] * vectors).T @ vectors)

    def n_features(self, n_dims: int) -> int:
        return n_dims + 2  # 1, y_i, |y|^2

    def n_sums(self, n_dims: int) -> int:
        return n_dims + 1

    def write_features(self, y: FloatArray, out: FloatArray) -> None:
        _write_isotropic_features(y, out)

    def natural_parameters(
        self, constant: FloatArray, means: FloatArray, inverse: FloatArray
    ) -> FloatArray:
        return _isotropic_parameters(constant, means, np.ones(len(means)))

    def cross_moment(self, n_dims: int) -> FloatArray | None:
        return np.zeros((n_dims, n_dims))

    def whitened_moments(
        self, sums: FloatArray, means: FloatArray, inverse: FloatArray, cross: FloatArray | None
    ) -> Sums:
        mass, first = _about_means(sums, means)
        half = first + 0.5 * mass[:, None] * means  # as for "full"
        product = half.T @ means
        assert cross is not None
        second = triangles.complete(cross.copy()) - product - product.T
        return Sums(mass, first, second)

    def gradient(
        self,
        scale: FloatArray,
        inverse: FloatArray,
        mass: FloatArray,
        second: FloatArray,
        n_dims: int,
    ) -> FloatArray:
        total = np.atleast_1d(mass.sum())
        return super().gradient(scale[None], inverse[None], total, second[None], n_dims)[0]

    def em_update(
        self, scale: FloatArray, mass: FloatArray, central: FloatArray, add: Update, n_dims: int
    ) -> tuple[FloatArray, Bools]:
        total = np.atleast_1d(mass.sum())
        updated, collapsed = super().em_update(scale[None], total, central[None], add, n_dims)
        return updated[0], np.full(len(mass), collapsed[0])


class Diagonal(Family):
    """Diagonal covariances by their standard deviations, ``scale`` [K, D]."""

    name = "diag"
    frames = (False, True)
    dense = False

    def expand(self, scale: FloatArray, n_components: int, n_dims: int) -> FloatArray:
        return np.asarray(scale[:, :, None] * np.eye(n_dims))

    def reduce(self, dense: FloatArray) -> FloatArray:
        return np.diagonal(dense, axis1=1, axis2=2).copy()

    def densify(self, second: FloatArray, n_components: int, n_dims: int) -> FloatArray:
        return self.expand(second, n_components, n_dims)

    def half_log_det(self, scale: FloatArray, n_components: int, n_dims: int) -> FloatArray:
        return np.asarray(np.log(scale).sum(axis=1))

    def inverse(self, scale: FloatArray) -> FloatArray:
        return 1.0 / scale

    def inverse_norm(self, inverse: FloatArray) -> FloatArray:
        return np.asarray(inverse.max(axis=1))

    def into_frame(self, scale: FloatArray) -> FloatArray:
        # over the geometric means, which neither overflow nor underflow
        return np.asarray(np.exp(-np.log(scale).mean(axis=0)))

    def in_frame(self, inverse: FloatArray, into: FloatArray, scale: FloatArray) -> FloatArray:
        return inverse / into

    def whiten(self, inverse: FloatArray, k: int, residual: FloatArray, out: FloatArray) -> None:
        np.multiply(residual, inverse[k, :, None], out=out)

    def second_moments(self, n_components: int, n_dims: int) -> FloatArray:
        return np.zeros((n_components, n_dims))

    def add_second_moment(self, total: FloatArray, k: int, weighted: FloatArray) -> None:
        total[k] += np.einsum("db,db->d", weighted, weighted)

    def outer(self, mass: FloatArray, vectors: FloatArray) -> FloatArray:
        return mass[:, None] * vectors**2

    def diagonal(self, second: FloatArray) -> FloatArray:
        return second

    def n_features(self, n_dims: int) -> int:
        return 2 * n_dims + 1  # 1, y_i, y_i^2

    def write_features(self, y: FloatArray, out: FloatArray) -> None:
        out[0] = 1.0
        out[1 : len(y) + 1] = y
        np.multiply(y, y, out=out[len(y) + 1 :])

    def natural_parameters(
        self, constant: FloatArray, means: FloatArray, inverse: FloatArray
    ) -> FloatArray:
        whitened = inverse * means  # [K, D]
        first = inverse * whitened
        offset = constant - 0.5 * np.einsum("kd,kd->k", whitened, whitened)
        return np.hstack([offset[:, None], first, -0.5 * inverse**2])

    def whitened_moments(
        self, sums: FloatArray, means: FloatArray, inverse: FloatArray, cross: FloatArray | None
    ) -> Sums:
        n_dims = means.shape[1]
        mass, first = _about_means(sums, means)
        # sum (y - mu)^2 = sum y^2 - mu (sum y + sum (y - mu))
        second = sums[:, n_dims + 1 :] - means * (sums[:, 1 : n_dims + 1] + first)
        return Sums(mass, inverse * first, inverse**2 * second)

    def unwhiten_first(self, scale: FloatArray, first: FloatArray) -> FloatArray:
        return scale * first

    def posterior_step(
        self,
        scale: FloatArray,
        mass: FloatArray,
        mean: FloatArray,
        centre: FloatArray,
        precision: float,
    ) -> FloatArray:
        length, share = scale, mass[:, None]
        pulled = share * mean + precision * length * centre
        return np.asarray(pulled / (share + precision * length**2))

    def pull(self, inverse: FloatArray, first: FloatArray) -> FloatArray:
        return inverse * first

    def unwhiten(self, scale: FloatArray, second: FloatArray) -> FloatArray:
        return scale**2 * second

    def gradient(
        self,
        scale: FloatArray,
        inverse: FloatArray,
        mass: FloatArray,
        second: FloatArray,
        n_dims: int,
    ) -> FloatArray:
        return (mass[:, None] - second) / scale

    def em_update(
        self, scale: FloatArray, mass: FloatArray, central: FloatArray, add: Update, n_dims: int
    ) -> tuple[FloatArray, Bools]:
        updated, collapsed = _maximising_deviation(scale, mass[:, None], central, add)
        return updated, collapsed.any(axis=1)


class Spherical(Family):
    """Spherical covariances by their standard deviations, ``scale`` [K]."""

    name = "spherical"
    dense = False

    def expand(self, scale: FloatArray, n_components: int, n_dims: int) -> FloatArray:
        return np.asarray(np.broadcast_to(scale, n_components)[:, None, None] * np.eye(n_dims))

    def reduce(self, dense: FloatArray) -> FloatArray:
        return np.asarray(np.trace(dense, axis1=1, axis2=2))

    def densify(self, second: FloatArray, n_components: int, n_dims: int) -> FloatArray:
        shares = n_dims * (1 if self.per_component else n_components)
        return self.expand(second / shares, n_components, n_dims)

    def half_log_det(self, scale: FloatArray, n_components: int, n_dims: int) -> FloatArray:
        return np.broadcast_to(n_dims * np.log(scale), n_components)

    def inverse(self, scale: FloatArray) -> FloatArray:
        return 1.0 / scale

    def inverse_norm(self, inverse: FloatArray) -> FloatArray:
        return inverse

    def whiten(self, inverse: FloatArray, k: int, residual: FloatArray, out: FloatArray) -> None:
        np.multiply(residual, inverse[k], out=out)

    def second_moments(self, n_components: int, n_dims: int) -> FloatArray:
        return np.zeros(n_components)

    def add_second_moment(self, total: FloatArray, k: int, weighted: FloatArray) -> None:
        total[k] += np.einsum("db,db->", weighted, weighted)

    def outer(self, mass: FloatArray, vectors: FloatArray) -> FloatArray:
        return np.asarray(mass * np.einsum("kd,kd->k", vectors, vectors))

    def diagonal(self, second: FloatArray) -> FloatArray:
        return second

    def n_features(self, n_dims: int) -> int:
        return n_dims + 2  # 1, y_i, |y|^2

    def write_features(self, y: FloatArray, out: FloatArray) -> None:
        _write_isotropic_features(y, out)

    def natural_parameters(
        self, constant: FloatArray, means: FloatArray, inverse: FloatArray
    ) -> FloatArray:
        return _isotropic_parameters(constant, means, np.broadcast_to(inverse, len(means)))

    def whitened_moments(
        self, sums: FloatArray, means: FloatArray, inverse: FloatArray, cross: FloatArray | None
    ) -> Sums:
        mass, first = _about_means(sums, means)
        second = sums[:, -1] - np.einsum("kd,kd->k", means, sums[:, 1:-1] + first)  # as for "diag"
        return Sums(mass, inverse[..., None] * first, self._gather(inverse**2 * second))

    def unwhiten_first(self, scale: FloatArray, first: FloatArray) -> FloatArray:
        return scale[..., None] * first

    def posterior_step(
        self,
        scale: FloatArray,
        mass: FloatArray,
        mean: FloatArray,
        centre: FloatArray,
        precision: float,
    ) -> FloatArray:
        length, share = scale[..., None], mass[:, None]
        pulled = share * mean + precision * length * centre
        return np.asarray(pulled / (share + precision * length**2))

    def pull(self, inverse: FloatArray, first: FloatArray) -> FloatArray:
        return inverse[..., None] * first

    def unwhiten(self, scale: FloatArray, second: FloatArray) -> FloatArray:
        return np.asarray(scale**2 * second)

    def gradient(
        self,
        scale: FloatArray,
        inverse: FloatArray,
        mass: FloatArray,
        second: FloatArray,
        n_dims: int,
    ) -> FloatArray:
        return np.asarray((n_dims * self._gather(mass) - second) / scale)

    def em_update(
        self, scale: FloatArray, mass: FloatArray, central: FloatArray, add: Update, n_dims: int
    ) -> tuple[FloatArray, Bools]:
        # D directions share one variance: as many times the samples, and the prior as often.
        total, all_add = n_dims * self._gather(mass), add.times(n_dims)
        updated, collapsed = _maximising_deviation(scale, total, central, all_add)
        return updated, np.broadcast_to(collapsed, len(mass)).copy()

    def _gather(self, values: FloatArray) -> FloatArray:
        return values


class SharedSpherical(Spherical):
    """One spherical covariance for all components by its standard deviation, ``scale`` []."""

    name = "shared_spherical"
    per_component = False

    def reduce(self, dense: FloatArray) -> FloatArray:
        return np.asarray(super().reduce(dense).sum())

    def second_moments(self, n_components: int, n_dims: int) -> FloatArray:
        return np.zeros(())

    def add_second_moment(self, total: FloatArray, k: int, weighted: FloatArray) -> None:
        total += np.einsum("db,db->", weighted, weighted)

    def whiten(self, inverse: FloatArray, k: int, residual: FloatArray, out: FloatArray) -> None:
        np.multiply(residual, inverse, out=out)

    def outer(self, mass: FloatArray, vectors: FloatArray) -> FloatArray:
        return np.asarray(super().outer(mass, vectors).sum())

    def _gather(self, values: FloatArray) -> FloatArray:
        return np.asarray(values.sum())


def _inverse_or_zero(mass: FloatArray) -> FloatArray:
    """1 / mass, and 0 where there is none."""
    return np.divide(1.0, mass, out=np.zeros_like(mass), where=mass > 0)


def _about_means(sums: FloatArray, means: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Masses [K] and first moments about the means [K, D] from sums of 1 and y [K, P]."""
    mass = sums[:, 0].copy()
    return mass, sums[:, 1 : means.shape[1] + 1] - mass[:, None] * means


def _write_isotropic_features(y: FloatArray, out: FloatArray) -> None:
    """Write 1, y and |y|^2."""
    out[0] = 1.0
    out[1:-1] = y
    np.einsum("db,db->b", y, y, out=out[-1])


def _isotropic_parameters(
    constant: FloatArray, means: FloatArray, inverse: FloatArray
) -> FloatArray:
    """Coefficients [K, D + 2] of 1, y and |y|^2 for inverse deviations [K]."""
    precision = inverse**2
    offset = constant - 0.5 * precision * np.einsum("kd,kd->k", means, means)
    return np.hstack([offset[:, None], precision[:, None] * means, -0.5 * precision[:, None]])


def _maximising_factor(
    factor: FloatArray, mass: float, central: FloatArray, add: Update
) -> FloatArray:
    """Return the factor [D, D] of the maximising covariance, equations (27) and (41).

    Raises
    ------
    LinAlgError
        If it is singular.
    """
    n_dims, divisor = len(factor), mass + add.freedom
    if add.regularises:
        covariance = factor @ (central / divisor) @ factor.T
        covariance[np.diag_indices(n_dims)] += add.scatter / divisor + add.ridge
        return np.linalg.cholesky(covariance)
    # In whitened coordinates no digits are lost to what is ill-conditioned already.
    root = np.linalg.cholesky(central)
    # Of a singular covariance rounding may leave a root: look at the correlations.
    size = np.sqrt(np.diagonal(central))
    if (np.diagonal(root) / size).min() < 1e-4:
        smallest = np.linalg.eigvalsh(central / np.outer(size, size))[0]
        if smallest <= ROUNDING * n_dims:
            raise np.linalg.LinAlgError
    return np.asarray(factor @ (root / np.sqrt(divisor)))


def _maximising_deviation(
    scale: FloatArray, mass: FloatArray, central: FloatArray, add: Update
) -> tuple[FloatArray, Bools]:
    """Return maximising standard deviations, and which collapsed, in one shape: (27), (41)."""
    # As lengths, which do not leave the range where their squares would.
    divisor = np.where(mass + add.freedom > 0, mass + add.freedom, 1.0)
    length = np.hypot(scale * np.sqrt(np.maximum(central, 0.0)), np.sqrt(add.scatter))
    updated = np.hypot(length / np.sqrt(divisor), np.sqrt(add.ridge))
    kept = ~_has_update(mass, add)
    return np.where(kept, scale, updated), ~kept & ~(updated > 0)


def _has_update(mass: FloatArray, add: Update) -> Bools:
    """Whether samples or a prior say anything of a covariance."""
    return (mass + add.freedom > 0) & ((mass > 0) | (add.scatter > 0))


FAMILIES: Final[dict[str, Family]] = {
    family.name: family
    for family in (Full(), Tied(), Diagonal(), Spherical(), SharedSpherical(), Constant())
}
