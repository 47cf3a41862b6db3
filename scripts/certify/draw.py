"""Inputs drawn from seeded numbers that no version of a library can change.

`random.Random.random` is the one generator whose sequence Python promises to keep; everything is
made of it by additions and products, and rounded to few decimals.
"""

from __future__ import annotations

import random

from certify.problem import Matrix, Vector


class Draw:
    """A seeded source of inputs."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def normal(self, digits: int = 3) -> float:
        """About normal: the sum of twelve uniform numbers, less their mean."""
        return round(sum(self._random.random() for _ in range(12)) - 6.0, digits)

    def uniform(self, low: float, high: float, digits: int = 3) -> float:
        """Uniform in an interval."""
        return round(low + (high - low) * self._random.random(), digits)

    def vector(self, size: int, spread: float = 1.0, digits: int = 3) -> Vector:
        """Numbers about normal."""
        return [round(spread * self.normal(6), digits) for _ in range(size)]

    def matrix(self, rows: int, columns: int, spread: float = 1.0, digits: int = 3) -> Matrix:
        """Rows of numbers about normal."""
        return [self.vector(columns, spread, digits) for _ in range(rows)]

    def factor(
        self, size: int, low: float = 0.4, high: float = 1.9, off: float = 0.6, band: int = 10**6
    ) -> Matrix:
        """Draw a lower triangle; only `band` entries left of the diagonal differ from zero."""
        rows = [[0.0] * size for _ in range(size)]
        for i in range(size):
            for j in range(max(0, i - band), i):
                rows[i][j] = round(off * self.normal(6), 3)
            rows[i][i] = self.uniform(low, high)
        return rows

    def factors(self, count: int, size: int, **options: float) -> list[Matrix]:
        """Draw several."""
        return [self.factor(size, **options) for _ in range(count)]  # type: ignore[arg-type]

    def around(self, means: Matrix, count: int, spread: float = 1.3, digits: int = 3) -> Matrix:
        """Draw samples, in turn about each mean."""
        rows = []
        for n in range(count):
            noise = self.vector(len(means[0]), spread)
            mean = means[n % len(means)]
            rows.append([round(m + e, digits) for m, e in zip(mean, noise, strict=True)])
        return rows


def diagonal(values: Vector) -> Matrix:
    """Return a diagonal factor."""
    return [[v if i == j else 0.0 for j in range(len(values))] for i, v in enumerate(values)]


def identity(size: int) -> Matrix:
    """Return the identity."""
    return diagonal([1.0] * size)


def placed(mean: Vector, factor: Matrix, whitened: Vector) -> Vector:
    """Return mean + L z in double precision: the sample whose whitened residual is about z."""
    row = []
    for i, m in enumerate(mean):
        total = 0.0
        for j in range(i + 1):
            total += factor[i][j] * whitened[j]
        row.append(m + total)
    return row


def scaled(factor: Matrix, by: float) -> Matrix:
    """Return the factor times a number."""
    return [[v * by for v in row] for row in factor]
