"""A structure of covariances: the work that grows with the data, and what no family changes.

A scale, its inverse W and second moments have the axes of one covariance ([D, D], [D] or none),
and before them [K], or nothing where all components share one; `...` stands for these.

Letters in shapes: B samples of a block, N rows, K components, D dimensions, P features.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gmm_np.checks import FloatArray
from gmm_np.covariance.sums import Bools, Update


class Split(NamedTuple):
    """A covariance by the columns that are known, and the others.

    Attributes
    ----------
    known, rest : ndarray
        Scales of the known columns alone, and of the others given these, each in the shape of the
        structure.
    slope : ndarray, shape [..., R, Q], or None
        What a residual of the known columns, whitened, adds to the means of the others. None
        where it adds nothing.
    """

    known: FloatArray
    rest: FloatArray
    slope: FloatArray | None


class Structure(ABC):
    """What a structure knows. Methods hold no state and check nothing.

    Those without a word are described where `Family` has them.
    """

    # What the axes of one covariance are called in messages, and what its scale and it are.
    places: tuple[str, ...]
    nouns: tuple[str, str] = ("standard deviation", "variance")
    # Whether a scale is a Cholesky factor, and not standard deviations.
    has_factors = False
    # Whether the variances of columns may differ.
    by_column = True
    frames: tuple[bool, ...] = (False, True)

    def of_each(self, values: NDArray[Any]) -> NDArray[Any]:
        """Return values [...] with the axes of a covariance, of length one."""
        return values.reshape(values.shape + (1,) * len(self.places))

    def n_equal(self, n_dims: int) -> int:
        """How many directions one number of a covariance stands for."""
        return 1

    @abstractmethod
    def expand(self, scale: FloatArray, n_dims: int) -> FloatArray: ...

    @abstractmethod
    def reduce(self, dense: FloatArray) -> FloatArray:
        """Pull [K, D, D] back through `expand`, also where components share a scale."""

    @abstractmethod
    def half_log_det(self, scale: FloatArray, n_dims: int) -> FloatArray:
        """Half the log-determinants [...], equation (8)."""

    @abstractmethod
    def inverse(self, scale: FloatArray) -> FloatArray:
        """Return W, so that whitening is a product."""

    @abstractmethod
    def inverse_norm(self, inverse: FloatArray) -> FloatArray:
        """Return upper bounds of the spectral norms of W, [...]."""

    @abstractmethod
    def split(self, scale: FloatArray, columns: NDArray[np.intp], n_first: int) -> Split:
        """Return the parts of a scale whose columns are taken in another order.

        The first `n_first` of `columns` are those that are known.
        """

    @abstractmethod
    def deviations(self, scale: FloatArray) -> FloatArray:
        """Return standard deviations along each axis, [..., D], or [..., 1] for all axes."""

    @abstractmethod
    def apply(self, scale: FloatArray, vectors: FloatArray) -> FloatArray:
        """L_k v_k [K, D] of vectors [K, D]."""

    @abstractmethod
    def apply_transposed(self, scale: FloatArray, vectors: FloatArray) -> FloatArray:
        """L_k^T v_k [K, D] of vectors [K, D]."""

    @abstractmethod
    def apply_to_rows(
        self, scale: FloatArray, rows: FloatArray, owner: NDArray[np.integer]
    ) -> FloatArray:
        """L_k z_n [N, D] of rows [N, D], with k the owner [N] of each."""

    @abstractmethod
    def relative(self, inverse: FloatArray, d_scale: FloatArray) -> FloatArray:
        """Return A = W dL [...]: a step of the scale in units of itself."""

    @abstractmethod
    def trace(self, relative: FloatArray, n_dims: int) -> FloatArray:
        """Return tr A_k [...], by how much half the log-determinant grows, equation (53)."""

    @abstractmethod
    def apply_to_residuals(self, relative: FloatArray, z: FloatArray, out: FloatArray) -> None:
        """Write A_k z to `out` [G, D, B], for residuals z of as much."""

    @abstractmethod
    def pull_residuals(self, inverse: FloatArray, z: FloatArray) -> FloatArray:
        """Return W_k^T z [K, D, B] of residuals z [K, D, B]: Sigma_k^-1 (x - mu_k), (18)."""

    @abstractmethod
    def total_pull(self, inverse: FloatArray, weighted: FloatArray) -> FloatArray:
        """Return the sum over components of `pull_residuals` [D, B] of weighted [K, D, B]."""

    @abstractmethod
    def scale_scores(self, scale: FloatArray, z: FloatArray, pulled: FloatArray) -> FloatArray:
        """Return gradients of each sample's log density in the scale [K, S, B], (20) and (21).

        Its S free entries, of triangles row by row. `pulled` is what `pull_residuals` returns.
        """

    @abstractmethod
    def precisions(self, inverse: FloatArray, n_dims: int) -> FloatArray:
        """Return Sigma_k^-1, [..., D, D]."""

    @abstractmethod
    def square_coefficients(self, relative: FloatArray, inverse: FloatArray) -> FloatArray:
        """Return those of the features of second degree in z^T A z [K, ...], with z = W y."""

    # These two, and `pooled_moments`, are not asked of a structure without `by_column`.

    def into_frame(self, scale: FloatArray) -> FloatArray:
        raise NotImplementedError

    def in_frame(self, inverse: FloatArray, into: FloatArray, scale: FloatArray) -> FloatArray:
        raise NotImplementedError

    @abstractmethod
    def whiten(
        self, w: FloatArray, x: FloatArray, means: FloatArray, out: FloatArray, spare: FloatArray
    ) -> None: ...

    @abstractmethod
    def add_second_moments(self, total: FloatArray, weighted: FloatArray, z: FloatArray) -> None:
        """Add those of each component; of all together where the total has no axis of them."""

    def complete(self, second: FloatArray) -> FloatArray:
        return second

    @abstractmethod
    def outer(self, mass: FloatArray, vectors: FloatArray) -> FloatArray: ...

    def total_outer(self, mass: FloatArray, vectors: FloatArray) -> FloatArray:
        """Return the sum of `outer` over components."""
        return np.asarray(self.outer(mass, vectors).sum(axis=0))

    @abstractmethod
    def outer_twice(self, left: FloatArray, right: FloatArray) -> FloatArray:
        """Return u v^T + v u^T [K, ...] of vectors u and v [K, D], as second moments."""

    def total_outer_twice(self, left: FloatArray, right: FloatArray) -> FloatArray:
        """Return the sum of `outer_twice` over components."""
        return np.asarray(self.outer_twice(left, right).sum(axis=0))

    @abstractmethod
    def diagonal(self, second: FloatArray) -> FloatArray: ...

    @abstractmethod
    def n_features(self, n_dims: int) -> int:
        """P, the number of features of a sample."""

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

    @abstractmethod
    def feature_moments(
        self, sums: FloatArray, means: FloatArray, first: FloatArray, inverse: FloatArray | None
    ) -> FloatArray:
        """Second moments of each component from sums of features [K, P], about the means.

        `first` are the first ones, not whitened; those returned are whitened by the inverse.
        """

    def pooled_moments(self, cross: FloatArray, means: FloatArray, half: FloatArray) -> FloatArray:
        """Sum over components of sum w r (y - mu)(y - mu)^T, from that of w y y^T.

        Of which `cross` may be the lower triangle; `half` [K, D] is the first moment about mu / 2.
        """
        raise NotImplementedError

    @abstractmethod
    def unwhiten(self, scale: FloatArray, second: FloatArray) -> FloatArray: ...

    @abstractmethod
    def gradient(
        self,
        scale: FloatArray,
        inverse: FloatArray,
        mass: FloatArray,
        second: FloatArray,
        n_dims: int,
    ) -> FloatArray:
        """As `Family` has it, of masses [...]."""

    @abstractmethod
    def gradient_tangent(
        self,
        scale: FloatArray,
        inverse: FloatArray,
        relative: FloatArray,
        mass: FloatArray,
        second: FloatArray,
        dot_mass: FloatArray,
        dot_second: FloatArray,
        n_dims: int,
    ) -> FloatArray:
        """As `Family` has it, of masses [...] and their tangents."""

    @abstractmethod
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

    @abstractmethod
    def em_update(
        self,
        scale: FloatArray,
        mass: FloatArray,
        central: FloatArray,
        lost: FloatArray,
        add: Update,
    ) -> tuple[FloatArray, Bools]:
        """As `Family` has it, of covariances [K, ...]; masses [K] times `n_equal`."""

    @abstractmethod
    def unit_moments(self, scale: FloatArray, floor: FloatArray) -> FloatArray:
        """Second moments, whitened, of mass one and the covariance of this scale less a floor."""

    @abstractmethod
    def scatter(self, rows: FloatArray, weights: FloatArray, means: FloatArray) -> FloatArray:
        """Return sums of w (x - mu)(x - mu)^T: rows [N, D], weights [N, K], means [K, D].

        [K, D, D], or the diagonals [K, D].
        """

    @abstractmethod
    def from_variances(self, variances: FloatArray) -> FloatArray:
        """Return variances [D] as `scatter` has them."""

    def pool(self, covariances: FloatArray) -> FloatArray:
        """Return covariances of this structure from such as `scatter` has them."""
        return covariances
