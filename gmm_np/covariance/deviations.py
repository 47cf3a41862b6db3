"""What the structures have in common whose scale holds standard deviations.

Letters in shapes: N rows, K components, G of them, D dimensions; `...` as in `Structure`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gmm_np.checks import FloatArray
from gmm_np.covariance.structure import Structure
from gmm_np.covariance.sums import Bools, Update


class Deviations(Structure):
    """Covariances with zeros off the diagonal, by standard deviations."""

    # Of the axes of one covariance, for einsum.
    letters: str

    def expand(self, scale: FloatArray, n_dims: int) -> FloatArray:
        return np.asarray(self.deviations(scale)[..., None] * np.eye(n_dims))

    def inverse(self, scale: FloatArray) -> FloatArray:
        return 1.0 / scale

    def apply(self, scale: FloatArray, vectors: FloatArray) -> FloatArray:
        return self.deviations(scale) * vectors

    def apply_to_rows(
        self, scale: FloatArray, rows: FloatArray, owner: NDArray[np.integer]
    ) -> FloatArray:
        own = scale if scale.ndim == len(self.places) else scale[owner]
        return rows * self.deviations(own)

    def apply_transposed(self, scale: FloatArray, vectors: FloatArray) -> FloatArray:
        return self.apply(scale, vectors)

    def whiten(
        self, w: FloatArray, x: FloatArray, means: FloatArray, out: FloatArray, spare: FloatArray
    ) -> None:
        np.subtract(x, means[:, :, None], out=out)
        out *= self.deviations(w)[..., None]

    def relative(self, inverse: FloatArray, d_scale: FloatArray) -> FloatArray:
        return inverse * d_scale

    def apply_to_residuals(self, relative: FloatArray, z: FloatArray, out: FloatArray) -> None:
        np.multiply(self.deviations(relative)[..., None], z, out=out)

    def pull_residuals(self, inverse: FloatArray, z: FloatArray) -> FloatArray:
        return self.deviations(inverse)[..., None] * z

    def total_pull(self, inverse: FloatArray, weighted: FloatArray) -> FloatArray:
        deviations = self.deviations(inverse)
        if inverse.ndim == len(self.places):  # one for all
            return np.asarray(deviations[:, None] * weighted.sum(axis=0))
        spread = np.broadcast_to(deviations, weighted.shape[:2])
        return np.asarray(np.einsum("kd,kdb->db", spread, weighted))

    def precisions(self, inverse: FloatArray, n_dims: int) -> FloatArray:
        return self.expand(inverse**2, n_dims)

    def square_coefficients(self, relative: FloatArray, inverse: FloatArray) -> FloatArray:
        return self.deviations(inverse**2 * relative)

    def add_second_moments(self, total: FloatArray, weighted: FloatArray, z: FloatArray) -> None:
        by_component = "k" if total.ndim > len(self.places) else ""
        total += np.einsum(f"kdb,kdb->{by_component}{self.letters}", weighted, z)

    def diagonal(self, second: FloatArray) -> FloatArray:
        return second

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
        return np.asarray((self.of_each(self.n_equal(n_dims) * mass) - second) / scale)

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
        n = self.n_equal(n_dims)
        own = self.of_each(n * dot_mass) - self.of_each(n * mass) * relative
        return np.asarray((own - dot_second + 3.0 * relative * second) / scale)

    def posterior_step(
        self,
        scale: FloatArray,
        mass: FloatArray,
        mean: FloatArray,
        centre: FloatArray,
        precision: float,
    ) -> FloatArray:
        length, share = self.deviations(scale), mass[:, None]
        pulled = share * mean + precision * length * centre
        return np.asarray(pulled / (share + precision * length**2))

    def em_update(
        self,
        scale: FloatArray,
        mass: FloatArray,
        central: FloatArray,
        lost: FloatArray,
        add: Update,
    ) -> tuple[FloatArray, Bools]:
        mass = self.of_each(mass)
        # As lengths, which do not leave the range where their squares would.
        divisor = np.where(mass + add.freedom > 0, mass + add.freedom, 1.0)
        length = np.hypot(scale * np.sqrt(np.maximum(central, 0.0)), np.sqrt(add.scatter))
        updated = np.hypot(length / np.sqrt(divisor), np.sqrt(add.ridge))
        says = add.says(mass)
        flat = says & ~(updated > 0)
        collapsed = np.asarray(flat.reshape(len(flat), -1).any(axis=1))
        return np.where(~says | self.of_each(collapsed), scale, updated), collapsed

    def unit_moments(self, scale: FloatArray, floor: FloatArray) -> FloatArray:
        return np.asarray(np.maximum(1.0 - floor / np.square(scale), 0.0))

    def scatter(self, rows: FloatArray, weights: FloatArray, means: FloatArray) -> FloatArray:
        return np.stack([weight @ (rows - means[k]) ** 2 for k, weight in enumerate(weights.T)])

    def from_variances(self, variances: FloatArray) -> FloatArray:
        return variances
