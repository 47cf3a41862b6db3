"""Which functions certify a problem, by its parametrization and by what is asked for.

Those in ball arithmetic are imported when asked for: the tests recompute without Arb.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from certify import (
    by_covariance,
    covariances,
    multiple,
    rowwise,
    samples,
    samples_multiple,
    second_multiple,
)
from certify.problem import Problem

Blocks = dict[str, list[Any]]
Route = Callable[[Any, int], Blocks]  # of a problem, with so many digits, or bits
Allowance = Callable[[Any, int], dict[str, dict[str, list[str]]]]


def problem_of(parametrization: str, function: str, **inputs: Any) -> Any:
    """Return a problem of named inputs, dtype and reduction."""
    if parametrization == "cholesky":
        return Problem(function=function, **inputs)
    kind: Any = covariances.FamilyProblem
    if parametrization in rowwise.FORMS:
        kind = rowwise.RowwiseProblem
    elif parametrization in by_covariance.FORMS:
        kind = by_covariance.CovarianceProblem
    return kind(parametrization, **inputs)


def multiple_of(problem: Any) -> Route:
    """Return the route in multiple precision."""
    if problem.parametrization == "precision":
        from certify import objective

        return objective.multiple
    if problem.parametrization in rowwise.FORMS:
        return rowwise.by_multiple
    if problem.parametrization in by_covariance.FORMS:
        return by_covariance.by_multiple
    if problem.parametrization in covariances.DRAWN:
        return covariances.by_multiple
    if problem.function in samples.FUNCTIONS:
        return samples_multiple.evaluate
    if problem.function != "value_and_gradient":
        return second_multiple.evaluate
    return multiple.evaluate


def balls_of(problem: Any) -> tuple[Route, Allowance]:
    """Return the route in ball arithmetic, and what may be asked of doubles."""
    if problem.parametrization == "precision":
        from certify import objective

        return objective.balls, objective.allowance
    if problem.parametrization in rowwise.FORMS:
        from certify import rowwise_balls

        return rowwise_balls.by_balls, rowwise_balls.allowance
    if problem.parametrization in by_covariance.FORMS:
        from certify import by_covariance_balls

        return by_covariance_balls.by_balls, by_covariance_balls.allowance
    if problem.parametrization in covariances.DRAWN:
        from certify import covariance_balls

        return covariance_balls.by_balls, covariance_balls.allowance
    if problem.function in samples.FUNCTIONS:
        from certify import samples_balls

        return samples_balls.evaluate, samples_balls.allowance
    if problem.function != "value_and_gradient":
        from certify import second_allowance, second_balls

        return second_balls.evaluate, second_allowance.second_allowance
    from certify import allowance, balls

    return balls.evaluate, allowance.allowance
