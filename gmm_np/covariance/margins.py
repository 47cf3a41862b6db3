"""Covariances of some of the columns, and what these say of the whitened residuals of all.

Of each covariance E sets of columns are taken. A set has the factor A of its own covariance, and
whitened residuals u = A^-1 (x - mu) of what is seen, equation (68). Both keep their places among
the D columns, with zeros at those that are missing. Residuals z of all columns have u = R z; given
u they are normal with mean R^T u and covariance P = 1 - R^T R, equation (69).

Letters in shapes: E sets, K components, G covariances (K, or 1 where all share it), D dimensions,
B samples; `...` are the axes of one covariance.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np
from numpy.typing import NDArray

from gmm_np.checks import FloatArray
from gmm_np.covariance.family import Family
from gmm_np.covariance.sums import Bools, Sums
from gmm_np.linalg import triangles
from gmm_np.linalg.triangles import diagonal_of


class Margins(ABC):
    """The covariances of E sets of columns.

    Attributes
    ----------
    family : Family
    seen : ndarray of bool, shape [E, D]
    inverse : ndarray, shape [E, G, ...]
        A^-1.
    half_log_det : ndarray, shape [E, G]
        Of the covariances of what is seen.
    hidden : ndarray, shape [E, G or 1, ...]
        P, as second moments are held.
    """

    inverse: FloatArray
    half_log_det: FloatArray
    hidden: FloatArray

    def __init__(self, family: Family, seen: Bools) -> None:
        self.family, self.seen = family, seen

    @abstractmethod
    def lift(self, first: FloatArray) -> FloatArray:
        """Return R^T v [E, K, D] of vectors v like u."""

    @abstractmethod
    def lift_residuals(self, index: int, u: FloatArray) -> FloatArray:
        """Return R^T u [K, D, B] of residuals of one set."""

    @abstractmethod
    def lift_second(self, second: FloatArray) -> FloatArray:
        """Return R^T M R [E, G, ...] of second moments M of u."""

    @abstractmethod
    def lower(self, step: FloatArray) -> FloatArray:
        """Return R b [E, K, D] of vectors b [K, D] like z."""

    @abstractmethod
    def lower_relative(self, relative: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return steps of the factors A in units of themselves [E, G, ...], and their traces.

        Of steps [G, ...] of the factors of all columns, equation (72). Traces are [E, G].
        """

    @abstractmethod
    def hide(self, index: int, owner: NDArray[np.integer], noise: FloatArray) -> FloatArray:
        """Return P e [N, D] of vectors e like z, for one set and the components owner [N]."""

    @abstractmethod
    def spread(
        self,
        step: FloatArray,
        relative: FloatArray,
        mass: FloatArray,
        first: FloatArray,
        second: FloatArray,
    ) -> Sums:
        """Return the covariances, given u, of 1, z and z z^T with z^T (A z + b): equation (73).

        For steps b [K, D] and A [G, ...], summed over samples and sets. Moments are those of
        R^T u about the means: mass [E, K], first [E, K, D], second [E, G, ...].
        """

    def lifted(self, sums: Sums) -> Sums:
        """Return the moments of z, from those of u: equation (70). Both central, or neither."""
        mass, first, second = sums
        if self.family.learned:
            own = self.family.structure.of_each(self.masses(mass))
            second = self.lift_second(second) + own * self.hidden
        return Sums(mass, self.lift(first), second)

    def masses(self, mass: FloatArray) -> FloatArray:
        """Return the mass [E, G] of each covariance, of masses [E, K]."""
        return mass.sum(axis=1, keepdims=True) if self.family.shared else mass

    def _total(self, first: FloatArray, second: FloatArray) -> Sums:
        """Add up over sets; without mass."""
        added = second.sum(axis=0)
        added = added[0] if self.family.shared else added
        return Sums(np.zeros(first.shape[1]), first.sum(axis=0), added)


class DenseMargins(Margins):
    """Those of dense covariances, by their Cholesky factors [G, D, D]."""

    def __init__(self, family: Family, seen: Bools, scale: FloatArray) -> None:
        super().__init__(family, seen)
        n_dims = seen.shape[1]
        rows = seen[:, None, :, None]
        # A^T from QR of the rows that are seen, without a covariance. A missing column has a unit
        # row of its own, at right angles to all others.
        wide = np.zeros((len(seen), len(scale), n_dims, 2 * n_dims))
        np.copyto(wide[..., :n_dims], scale, where=rows)
        diagonal_of(wide[..., n_dims:])[...] = ~seen[:, None]
        upper = np.asarray(np.linalg.qr(wide.swapaxes(-1, -2), mode="r"))
        lower = np.ascontiguousarray(upper.swapaxes(-1, -2))
        lower *= np.where(diagonal_of(lower) < 0, -1.0, 1.0)[..., None, :]
        self.half_log_det = family.structure.half_log_det(lower, n_dims)
        inverse = triangles.inverses(lower.reshape(-1, n_dims, n_dims)).reshape(lower.shape)
        self.inverse = np.where(rows & rows.swapaxes(-1, -2), inverse, 0.0)
        self.rotation: FloatArray = np.matmul(self.inverse, scale)  # R [E, G, D, D]
        self.hidden = np.eye(n_dims) - np.matmul(self.rotation.swapaxes(-1, -2), self.rotation)

    def lift(self, first: FloatArray) -> FloatArray:
        return _apply(self.rotation.swapaxes(-1, -2), first)

    def lift_residuals(self, index: int, u: FloatArray) -> FloatArray:
        out = np.empty_like(u)
        triangles.multiply(self.rotation[index].swapaxes(-1, -2), u, out=out)
        return out

    def lift_second(self, second: FloatArray) -> FloatArray:
        product = np.matmul(self.rotation.swapaxes(-1, -2), second)
        return np.asarray(np.matmul(product, self.rotation))

    def lower(self, step: FloatArray) -> FloatArray:
        return _apply(self.rotation, step)

    def lower_relative(self, relative: FloatArray) -> tuple[FloatArray, FloatArray]:
        turned = np.matmul(np.matmul(self.rotation, relative), self.rotation.swapaxes(-1, -2))
        trace = np.trace(turned, axis1=-2, axis2=-1)
        # A^-1 dSigma A^-T = B + B^T, of which the lower half is A^-1 dA.
        found = np.tril(turned + turned.swapaxes(-1, -2))
        diagonal_of(found)[...] *= 0.5
        return found, np.asarray(trace)

    def hide(self, index: int, owner: NDArray[np.integer], noise: FloatArray) -> FloatArray:
        hidden = self.hidden[index]
        if self.family.shared:
            return np.asarray(noise @ hidden[0])
        out = np.empty_like(noise)
        for k in np.unique(owner):
            out[owner == k] = noise[owner == k] @ hidden[k]
        return out

    def spread(
        self,
        step: FloatArray,
        relative: FloatArray,
        mass: FloatArray,
        first: FloatArray,
        second: FloatArray,
    ) -> Sums:
        twice = relative + relative.swapaxes(-1, -2)  # [G, D, D]
        moved = _apply(self.hidden, _apply(twice, first) + mass[..., None] * step)
        if not self.family.learned:
            return Sums(np.zeros(len(step)), moved.sum(axis=0), np.zeros(0))
        outer = step[..., None] * first[..., None, :]  # [E, K, D, D]
        outer = outer.sum(axis=1, keepdims=True) if self.family.shared else outer
        crossed = np.matmul(self.hidden, np.matmul(twice, second) + outer)
        own = self.masses(mass)[..., None, None]
        both = own * np.matmul(np.matmul(self.hidden, twice), self.hidden)
        return self._total(moved, crossed + crossed.swapaxes(-1, -2) + both)


class DiagonalMargins(Margins):
    """Those of covariances with zeros off the diagonal: R leaves what is seen as it is."""

    def __init__(self, family: Family, seen: Bools, scale: FloatArray) -> None:
        super().__init__(family, seen)
        structure = family.structure
        inverse = structure.inverse(scale)
        self.inverse = np.broadcast_to(inverse, (len(seen), *inverse.shape))
        lengths = np.log(structure.deviations(scale))  # [G, D] or [G, 1]
        each = np.broadcast_to(lengths, (len(scale), seen.shape[1]))
        self.half_log_det = seen @ each.T
        self.hidden = self._pooled((~seen)[:, None, :].astype(np.float64))

    def lift(self, first: FloatArray) -> FloatArray:
        return first

    def lift_residuals(self, index: int, u: FloatArray) -> FloatArray:
        return u

    def lift_second(self, second: FloatArray) -> FloatArray:
        return second

    def lower(self, step: FloatArray) -> FloatArray:
        return np.asarray(step * self.seen[:, None])

    def lower_relative(self, relative: FloatArray) -> tuple[FloatArray, FloatArray]:
        # Of a column that is missing it meets a residual of zero.
        trace = self._pooled(self.seen[:, None].astype(np.float64)) * relative
        trace = trace.sum(axis=-1) if self.family.structure.by_column else trace
        return np.broadcast_to(relative, (len(self.seen), *relative.shape)), trace

    def hide(self, index: int, owner: NDArray[np.integer], noise: FloatArray) -> FloatArray:
        return np.asarray(noise * ~self.seen[index])

    def spread(
        self,
        step: FloatArray,
        relative: FloatArray,
        mass: FloatArray,
        first: FloatArray,
        second: FloatArray,
    ) -> Sums:
        moved = mass[..., None] * (step * ~self.seen[:, None])
        own = self.family.structure.of_each(self.masses(mass))
        return self._total(moved, 2.0 * own * self.hidden * relative)

    def _pooled(self, by_column: FloatArray) -> FloatArray:
        """Return values [E, 1, D] as they are, or their sums where columns share a variance."""
        return by_column if self.family.structure.by_column else by_column.sum(axis=-1)


def margins_of(family: Family, seen: Bools, scale: FloatArray) -> Margins:
    """Return the covariances of the columns that are seen [E, D], of a scale of the family."""
    own = scale[None] if family.shared else scale
    kind = DenseMargins if family.has_factors else DiagonalMargins
    return kind(family, seen, own)


def _apply(matrices: FloatArray, vectors: FloatArray) -> FloatArray:
    """Products [..., K, D] of matrices [..., G, D, D] with vectors [..., K, D]."""
    return np.asarray(np.matmul(matrices, vectors[..., None])[..., 0])
