"""The parameters of the estimator, checked in scikit-learn's words when they are used."""

from __future__ import annotations

from numbers import Integral, Real
from typing import Any, Final

import numpy as np

from gmm_np.covariance import FAMILIES
from gmm_np.priors import Dirichlet, Normal, Wishart
from gmm_np.solvers.em import ON_COLLAPSE
from gmm_np.solvers.initialization import STARTS

COVARIANCE_TYPES: Final = tuple(name for name, family in FAMILIES.items() if family.learned)
SOLVERS: Final = ("em", "lbfgs", "adam")


def check_hyperparameters(estimator: Any) -> None:
    """Raise ValueError where a parameter of the estimator is out of its range."""
    for name, least in (("n_components", 1), ("max_iter", 0), ("n_init", 1)):
        _check_number(estimator, name, Integral, "an int", least)
    _check_number(estimator, "verbose_interval", Integral, "an int", 1)
    _check_number(estimator, "tol", Real, "a float", 0)
    _check_floor(estimator)
    for name, choices in (
        ("covariance_type", COVARIANCE_TYPES),
        ("init_params", STARTS),
        ("solver", SOLVERS),
        ("on_collapse", ON_COLLAPSE),
    ):
        value = getattr(estimator, name)
        if not isinstance(value, str) or value not in choices:
            raise ValueError(
                f"The {name!r} parameter of {type(estimator).__name__} must be a str among "
                f"{set(choices)}. Got {value!r} instead."
            )

    priors = () if estimator.priors is None else estimator.priors
    if not isinstance(priors, list | tuple) or not all(
        isinstance(prior, Wishart | Dirichlet | Normal) for prior in priors
    ):
        raise ValueError(
            f"The 'priors' parameter of {type(estimator).__name__} must be None or a list of "
            f"Wishart, Dirichlet and Normal of gmm_np.priors. Got {priors!r} instead."
        )


def _check_number(estimator: Any, name: str, kind: type, article: str, least: int) -> None:
    value: Any = getattr(estimator, name)
    is_number = isinstance(value, kind) and not isinstance(value, bool | np.bool_)
    if not (is_number and value >= least):
        raise ValueError(
            f"The {name!r} parameter of {type(estimator).__name__} must be {article} in the range "
            f"[{least}, inf). Got {value!r} instead."
        )


def _check_floor(estimator: Any) -> None:
    value: Any = estimator.reg_covar
    if not isinstance(value, list | tuple | np.ndarray) or np.ndim(value) == 0:
        _check_number(estimator, "reg_covar", Real, "a float", 0)
        return
    floor = np.asarray(value)
    if floor.ndim != 1 or floor.dtype.kind not in "iuf" or not (floor >= 0).all():
        raise ValueError(
            f"The 'reg_covar' parameter of {type(estimator).__name__} must be a float in the range "
            f"[0, inf), or one for each column of X. Got {value!r} instead."
        )


def as_generator(random_state: Any) -> np.random.Generator:
    """Return the generator that `random_state` stands for.

    Raises
    ------
    ValueError
        If it is none of what it may be.
    """
    if random_state is None or isinstance(random_state, np.random.Generator):
        return np.random.default_rng(random_state)
    if isinstance(random_state, np.random.RandomState):
        return np.random.default_rng(random_state.randint(0, 2**31, size=4))
    if isinstance(random_state, Integral) and int(random_state) >= 0:
        return np.random.default_rng(int(random_state))
    raise ValueError(
        f"{random_state!r} cannot be used to seed a numpy.random.Generator: random_state must be "
        "an int from 0, a Generator, a RandomState or None."
    )
