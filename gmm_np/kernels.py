"""How rows become log-likelihoods and sums: two kernels, and the guard that chooses.

"direct" whitens residuals, and is accurate whatever the offset or the separation. "moments"
writes log_joint as a linear function of the features 1, y_i, y_i y_j of centred samples, so that
a block costs two matrix products; it loses digits where components are tight compared with their
spread. The guard bounds that loss from the inputs, chunk by chunk, before the work is done.

Samples lie along the last axis here, so that each pass over a block runs along contiguous memory.
Functions in this module check nothing. Letters in shapes: B samples of a block, K components that
are on, D dimensions, P features.
"""

from __future__ import annotations

import math
from functools import cached_property
from types import EllipsisType
from typing import Final, Literal, TypeAlias

import numpy as np
from scipy.linalg.blas import dgemm, dgemv

from gmm_np import triangles
from gmm_np.checks import FloatArray
from gmm_np.families import FAMILIES
from gmm_np.families.family import ROUNDING, SMALLEST_VARIANCE, Bools, Family, Sums, merge
from gmm_np.parameters import Parameters

Method: TypeAlias = Literal["auto", "direct", "moments"]
METHODS: Final = ("auto", "direct", "moments")

LOG_2_PI: Final = math.log(2 * math.pi)
UNIT_ROUNDOFF: Final = 2.0**-53
# moments is admitted where the bound on its relative error promises ten digits.
LARGEST_ERROR: Final = 1e-10
# Frames whose unit is further from 1 than this power of two are brought to it.
LARGEST_EXPONENT: Final = 200
# Bytes of work memory of a block. Products with long rows gain more from threads, and what no
# longer fits one core's cache is not taken back from another's.
BLOCK_BYTES: Final = 24 * 2**20
DIRECT_BLOCK_BYTES: Final = 31 * 2**20
# glibc returns memory to the system beyond twice the largest array, of up to 32 MiB, that it has
# seen freed; then each call waits for new pages, for up to half its time. Having seen one (which
# is never written to, and so takes no memory) it keeps that of the kernels for the next call.
np.empty(DIRECT_BLOCK_BYTES // 8)
SMALLEST_BLOCK: Final = 128
LARGEST_BLOCK: Final = 8192
# Up to so many coordinates of residuals (0.1 ms) there is no time to save, only digits to lose.
LITTLE_WORK: Final = 2**14


class OutOfRangeError(ArithmeticError):
    """A distance has no finite square. The reference knows what to do."""


class Mixture:
    """A mixture prepared for the kernels: everything K-sized that does not depend on data.

    Components that are off (a logit of -inf) are left out. Both arguments that describe the
    covariances are those of the family.

    Parameters
    ----------
    family : Family
    pi_logits : ndarray, shape [K]
    means : ndarray, shape [K, D]
    inverse : ndarray
        Inverse factors W_k, in the family's shape.
    half_log_det : ndarray, shape [K]
        Half the log-determinants of the covariances.
    scale : ndarray, optional
        The scale, if it is at hand.
    """

    def __init__(
        self,
        family: Family,
        pi_logits: FloatArray,
        means: FloatArray,
        inverse: FloatArray,
        half_log_det: FloatArray,
        scale: FloatArray | None = None,
    ) -> None:
        self.family = family
        with np.errstate(over="ignore", under="ignore", divide="ignore"):
            shifted = pi_logits - pi_logits.max()
            log_pi = shifted - np.log(np.exp(shifted).sum())  # (4)
        self.on = log_pi > -np.inf
        chosen: EllipsisType | Bools = ... if self.on.all() else self.on
        own = chosen if family.per_component else ...
        self.log_pi: FloatArray = log_pi[chosen]
        self.all_inverses = inverse
        self.means, self.inverse = means[chosen], inverse[own]
        self.n_components, self.n_dims = self.means.shape
        self.n_features = self.family.n_features(self.n_dims)
        # log_joint = constant - |z|^2 / 2, equation (9)
        self.constant = self.log_pi - half_log_det[chosen] - 0.5 * self.n_dims * LOG_2_PI
        self.centre: FloatArray = (self.means / self.n_components).sum(axis=0)  # [D]
        self._scale = None if scale is None else scale[own]
        # A subnormal factor has no inverse; then all is left to the reference.
        self.in_range = bool(np.isfinite(self.inverse).all())

    @classmethod
    def of(cls, parameters: Parameters) -> Mixture:
        """Prepare parameters."""
        family = FAMILIES[parameters.family]
        logits, means, scale = (
            a.astype(np.float64, copy=False)
            for a in (parameters.pi_logits, parameters.means, parameters.scale)
        )
        with np.errstate(all="ignore"):
            inverse = family.inverse(scale)
        half_log_det = family.half_log_det(scale, *means.shape)
        return cls(family, logits, means, inverse, half_log_det, scale)

    @cached_property
    def scale(self) -> FloatArray:
        """The scale, in the family's shape."""
        return self.family.inverse(self.inverse) if self._scale is None else self._scale

    @cached_property
    def factors(self) -> FloatArray:
        """Lower Cholesky factors [K, D, D]."""
        return self.family.expand(self.scale, self.n_components, self.n_dims)

    def spread(self, values: FloatArray) -> FloatArray:
        """Put what belongs to components that are on among zeros for those that are off."""
        if self.on.all():
            return values
        spread = np.zeros((len(self.on), *values.shape[1:]))
        spread[self.on] = values
        return spread

    def spread_sums(self, sums: Sums) -> Sums:
        """Put sums of components that are on among zeros for those that are off."""
        mass, first, second = sums
        if second.size and self.family.per_component:
            second = self.spread(second)
        return Sums(self.spread(mass), self.spread(first), second)


class Direct:
    """Residuals first, then whitening: z = W_k (x - mu_k)."""

    holds_moments = False

    def __init__(
        self, mixture: Mixture, n_samples: int = LARGEST_BLOCK, *, central: bool = False
    ) -> None:
        self.mixture, self.central = mixture, central
        k, d = mixture.n_components, mixture.n_dims
        self.block = _block_size(DIRECT_BLOCK_BYTES, k * (d + 2), n_samples)
        self.near = self._zeros()
        self.far: Sums | None = None
        self._z, self._spare = np.empty(k * d * self.block), np.empty(d * self.block)
        self._quadratic, self._terms = np.empty(k * self.block), np.empty(k * self.block)

    def start(self, x: FloatArray) -> None:
        """Take a block of samples x [D, B].

        Raises
        ------
        OutOfRangeError
            If the square of a distance is not finite.
        """
        m, b = self.mixture, x.shape[1]
        self.z = _carve(self._z, (m.n_components, m.n_dims, b))
        self.quadratic = _carve(self._quadratic, (m.n_components, b))
        spare = _carve(self._spare, x.shape)
        for k in range(m.n_components):
            m.family.whiten(m.inverse, k, x, m.means[k], out=self.z[k], spare=spare)  # (6)
            np.einsum("db,db->b", self.z[k], self.z[k], out=self.quadratic[k])  # (7)
        if not math.isfinite(self.quadratic.max()):
            raise OutOfRangeError

    def log_joint(self, shift: float) -> FloatArray:
        """Return log_joint - shift of the block, [K, B]."""
        terms = _carve(self._terms, self.quadratic.shape)
        np.multiply(self.quadratic, -0.5, out=terms)
        terms += (self.mixture.constant - shift)[:, None]  # (9)
        return terms

    def add(
        self,
        exponentials: FloatArray,
        factor: FloatArray,
        weight: FloatArray | None = None,  # noqa: ARG002  of samples, for kernels that need their sum
    ) -> None:
        """Add the block's moments, weighted by exponentials [K, B] times factor [B]."""
        self.holds_moments = True
        family, far = self.mixture.family, None
        exponentials *= factor
        mass = exponentials.sum(axis=1)
        root = np.sqrt(exponentials, out=self.quadratic)
        for k in np.flatnonzero(mass > 0).tolist():
            z, sums = self.z[k], self.near
            # Fortran sees z^T [B, D].
            first = dgemv(1.0, z.T, exponentials[k], trans=1)
            z *= root[k]
            if self.central:
                square = np.einsum("db,db->d", z, z)
                if (first**2 > (1 - SMALLEST_VARIANCE) * mass[k] * square).any():
                    z -= (first / mass[k])[:, None] * root[k]
                    sums = far = self._zeros() if far is None else far
            sums.mass[k] += mass[k]
            sums.first[k] += first
            family.add_second_moment(sums.second, k, z)
        if far is not None:
            far = Sums(far.mass, far.first, family.complete(far.second))
            self.far = far if self.far is None else merge(family, self.far, far)

    def sums(self) -> Sums:
        """Return n [K], v [K, D] and second moments, central ones if asked for, of all blocks."""
        family = self.mixture.family
        near = Sums(self.near.mass, self.near.first, family.complete(self.near.second))
        if not self.central:
            return near
        near = near.centre(family)
        return near if self.far is None else merge(family, near, self.far)

    def _zeros(self) -> Sums:
        k, d = self.mixture.n_components, self.mixture.n_dims
        return Sums(np.zeros(k), np.zeros((k, d)), self.mixture.family.second_moments(k, d))


class Frame:
    """Coordinates in which features are written: y = x - centre, or C^-1 (x - centre).

    Multiplying all data by the inverse of one common factor C removes whatever anisotropy the
    components share, and leaves z as it is.
    """

    def __init__(self, mixture: Mixture, *, common: bool) -> None:
        family, self.centre = mixture.family, mixture.centre
        self.means: FloatArray = mixture.means - mixture.centre  # [K, D]
        self.inverse = mixture.inverse
        self.into: FloatArray | None = None
        if common:
            self.into = family.into_frame(mixture.scale)
            columns = np.ascontiguousarray(mixture.means.T)
            self.means = np.ascontiguousarray(self._turn(columns, self.centre).T)
            self.inverse = family.in_frame(mixture.inverse, self.into, mixture.scale)
        # In units so large or small that squares could leave the range, a power of two mends it.
        self.sharpness = family.inverse_norm(self.inverse)  # [K] or []
        exponent = int(np.frexp(self.sharpness.max())[1])
        self.unit = 2.0**exponent if LARGEST_EXPONENT < abs(exponent) < 1000 else 1.0
        if self.unit != 1.0:
            self.means, self.inverse = self.means * self.unit, self.inverse / self.unit
            self.sharpness = self.sharpness / self.unit
        self.reach = np.sqrt(np.einsum("kd,kd->k", self.means, self.means))  # [K]

    def write(self, x: FloatArray) -> FloatArray:
        """Return the samples x [D, B] in this frame."""
        y = self._turn(x, self.centre)
        if self.unit != 1.0:
            y *= self.unit
        return y

    def _turn(self, x: FloatArray, centre: FloatArray) -> FloatArray:
        """Return x - centre [D, B], times C^-1 if there is a common factor."""
        y = np.empty_like(x)
        if self.into is None:
            np.subtract(x, centre[:, None], out=y)
        elif self.into.ndim == 1:
            np.subtract(x, centre[:, None], out=y)
            y *= self.into[:, None]
        else:
            triangles.multiply_difference(self.into, x, centre, out=y, spare=np.empty_like(x))
        return y

    def error(self, y: FloatArray) -> float:
        """Bound the relative error of moments on samples y [D, B].

        u max_k |L_k^-1|^2 (max_n |y_n| + |mu_k|)^2, each norm an upper bound: what cancels in
        log_joint is no larger than this over u. (A common factor costs no more than whitening
        does in any case, u times its condition.)
        """
        radius = math.sqrt(float(np.einsum("db,db->b", y, y).max()))
        widest = float((self.sharpness * (self.reach + radius)).max())
        return UNIT_ROUNDOFF * widest * widest


class Moments:
    """Two products with the features of a block: log_joint, and its weighted sums."""

    holds_moments = False

    def __init__(
        self,
        mixture: Mixture,
        frame: Frame,
        n_samples: int = LARGEST_BLOCK,
        *,
        central: bool = False,
    ) -> None:
        self.mixture, self.frame, self.central = mixture, frame, central
        family, k, d, p = mixture.family, *mixture.means.shape, mixture.n_features
        self.block = _block_size(BLOCK_BYTES, p + k, n_samples)
        self.theta = family.natural_parameters(
            mixture.constant, frame.means, frame.inverse
        )  # [K, P]
        self.constant = self.theta[:, 0].copy()
        self.summed = family.n_sums(d)
        self._sums, self._cross = np.zeros((k, self.summed)), family.cross_moment(d)
        self._features, self._terms = np.empty(p * self.block), np.empty(k * self.block)

    def start(self, y: FloatArray) -> None:
        """Take a block of samples y [D, B], in the frame."""
        self.y = y
        self.features = _carve(self._features, (self.mixture.n_features, y.shape[1]))
        self.mixture.family.write_features(y, self.features)

    def log_joint(self, shift: float) -> FloatArray:
        """Return log_joint - shift of the block, [K, B]."""
        terms = _carve(self._terms, (self.mixture.n_components, self.features.shape[1]))
        np.subtract(self.constant, shift, out=self.theta[:, 0])
        # Fortran sees every array transposed: terms^T = features^T theta^T.
        dgemm(1.0, self.features.T, self.theta.T, c=terms.T, overwrite_c=1)
        return terms

    def add(
        self, exponentials: FloatArray, factor: FloatArray, weight: FloatArray | None = None
    ) -> None:
        """Add the block's moments, weighted by exponentials [K, B] times factor [B].

        `weight` [B] is that of the samples, None for ones.
        """
        self.holds_moments = True
        features = self.features[: self.summed]
        smaller = min(features, exponentials, key=len)
        smaller *= factor
        # sums += exponentials features^T, as one addition a block: BLAS would make many
        self._sums += dgemm(1.0, features.T, exponentials.T, trans_a=1).T
        if self._cross is not None:
            weighted = self.y if weight is None else self.y * np.sqrt(weight)
            triangles.add_square(self._cross, np.ascontiguousarray(weighted))

    def sums(self) -> Sums:
        """Return n [K], v [K, D] and second moments, central ones if asked for, of all blocks."""
        family, frame = self.mixture.family, self.frame
        sums = Sums(*family.whitened_moments(self._sums, frame.means, frame.inverse, self._cross))
        if not self.central:
            return sums
        central = sums.centre(family)
        # What is left where all digits cancelled is no variance.
        variance, square = family.diagonal(central.second), family.diagonal(sums.second)
        variance[variance <= ROUNDING * self.mixture.n_dims * square] = 0.0
        return central


Kernel: TypeAlias = Direct | Moments


class Guard:
    """Chooses the kernel for a chunk of samples, and makes those that are needed.

    The cheaper one, by `moments_is_cheaper`, among those that are accurate enough.
    """

    def __init__(
        self,
        mixture: Mixture,
        method: Method,
        *,
        n_samples: int,
        gradient: bool,
        central: bool = False,
    ) -> None:
        self.mixture, self.n_samples, self.central = mixture, n_samples, central
        self.method = method
        if method == "auto":
            little = n_samples * mixture.n_components * mixture.n_dims <= LITTLE_WORK
            if little or not moments_is_cheaper(mixture, n_samples, gradient=gradient):
                self.method = "direct"
        self.direct: Direct | None = None
        self.frames: dict[bool, Frame] = {}
        self.moments: dict[bool, Moments] = {}

    def choose(self, x: FloatArray) -> tuple[Kernel, FloatArray]:
        """Return the kernel for samples x [D, B], and the samples as it wants them."""
        if self.method != "direct":
            for common in self.mixture.family.frames:
                if common not in self.frames:
                    self.frames[common] = Frame(self.mixture, common=common)
                frame = self.frames[common]
                y = frame.write(x)
                if self.method == "moments" or frame.error(y) <= LARGEST_ERROR:
                    if common not in self.moments:
                        self.moments[common] = Moments(
                            self.mixture, frame, self.n_samples, central=self.central
                        )
                    return self.moments[common], y
        if self.direct is None:
            self.direct = Direct(self.mixture, self.n_samples, central=self.central)
        return self.direct, x

    def kernels(self) -> list[Kernel]:
        """Return the kernels that hold moments."""
        made: list[Kernel] = [*self.moments.values()]
        if self.direct is not None:
            made.append(self.direct)
        return [kernel for kernel in made if kernel.holds_moments]


def moments_is_cheaper(mixture: Mixture, n_samples: int, *, gradient: bool) -> bool:
    """Return whether moments costs less than direct, by a model of the time that a sample takes.

    In nanoseconds of one core, of which only the ratios matter; fitted to K from 5 to 200 and D
    from 10 to 128. moments: each feature is written once, and multiplied by K coefficients. direct:
    elementwise passes over K D coordinates of residuals, and half a matrix product. Both twice if
    there is a gradient. moments also turns parameters into coefficients, and sums into moments,
    which costs D^3 for each component, however few the samples.
    """
    k, d, dense = mixture.n_components, mixture.n_dims, mixture.family.dense
    products = 2 if gradient else 1
    moments = mixture.n_features * (1.6 + 0.05 * products * k)
    direct = products * k * d * 1.7
    if dense:
        moments += 0.05 * products * k * d**3 / n_samples
        direct += products * k * d * 0.026 * d
    return bool(moments <= direct)


def _block_size(n_bytes: int, doubles: int, n_samples: int) -> int:
    """Return the samples of a block of so many bytes that holds so many doubles for each."""
    rows = n_bytes // (8 * doubles)
    return min(max(rows, SMALLEST_BLOCK), LARGEST_BLOCK, n_samples)


def _carve(memory: FloatArray, shape: tuple[int, ...]) -> FloatArray:
    """Return the start of `memory` as a contiguous array of this shape."""
    return memory[: math.prod(shape)].reshape(shape)
