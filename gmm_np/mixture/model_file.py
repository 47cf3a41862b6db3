"""Fitted mixtures in .npz files: no pickle, written whole or not at all, checked when read."""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gmm_np.files import atomic_write
from gmm_np.parameters import Parameters

FORMAT: Final = "gmm_np.GaussianMixture/1"
STATE: Final = "state."  # begins the names of what else a file may hold: the state of a fit
# Members of a file: the kinds of dtype that each may have, and its number of axes.
MEMBERS: Final[dict[str, tuple[str, tuple[int, ...]]]] = {
    "format": ("U", (0,)),
    "hyperparameters": ("U", (0,)),
    "family": ("U", (0,)),
    "pi_logits": ("f", (1,)),
    "means": ("f", (2,)),
    "scale": ("f", (0, 1, 2, 3)),
    "feature_names": ("U", (1,)),
    "converged": ("b", (0,)),
    "lower_bounds": ("f", (1,)),
    "n_iter": ("iu", (0,)),
    "weight_seen": ("f", (0,)),
    "collapsed": ("i", (1,)),
}


class Stored(NamedTuple):
    """What a file holds."""

    hyperparameters: dict[str, Any]
    parameters: Parameters
    feature_names: NDArray[Any] | None
    converged: bool
    lower_bounds: list[float]
    n_iter: int
    weight_seen: float
    collapsed: list[int]


def save(
    path: str | PathLike[str], stored: Stored, state: Mapping[str, NDArray[Any]] | None = None
) -> None:
    """Write a fitted mixture; of its hyperparameters those that are numbers, texts or None.

    `state`, of the fit that it is of, is for `load_state`, and nothing to `load`.
    """
    given = dict(stored.hyperparameters)
    if np.ndim(given["reg_covar"]) == 1:  # the floor is for the next block too
        given["reg_covar"] = [float(value) for value in given["reg_covar"]]
    hyperparameters = {
        name: value.item() if isinstance(value, np.generic) else value
        for name, value in given.items()
        if value is None
        or isinstance(value, bool | int | float | str | np.generic)
        or name == "reg_covar"
    }
    parameters = stored.parameters
    names = [] if stored.feature_names is None else [str(name) for name in stored.feature_names]
    members: dict[str, Any] = {
        "format": FORMAT,
        "hyperparameters": json.dumps(hyperparameters, sort_keys=True),
        "family": parameters.family,
        "pi_logits": parameters.pi_logits.astype(np.float64),
        "means": parameters.means.astype(np.float64),
        "scale": parameters.scale.astype(np.float64),
        "feature_names": np.array(names, dtype=np.str_),
        "converged": np.bool_(stored.converged),
        "lower_bounds": np.array(stored.lower_bounds, dtype=np.float64),
        "n_iter": np.int64(stored.n_iter),
        "weight_seen": np.float64(stored.weight_seen),
        "collapsed": np.array(stored.collapsed, dtype=np.int64),
    }
    members |= {f"{STATE}{name}": array for name, array in (state or {}).items()}
    with atomic_write(path) as stream:
        np.savez(stream, **members)


def load(path: str | PathLike[str], names: set[str]) -> Stored:
    """Read what `save` wrote; `names` are those that hyperparameters may have.

    Raises
    ------
    ValueError
        If the file is not of this format, or a member is not what it has to be.
    OSError
        If it cannot be read.
    """
    members = _read(path)
    for name, (kinds, axes) in MEMBERS.items():
        array = members[name]
        if array.dtype.kind not in kinds or array.ndim not in axes:
            raise _wrong(path, f"{name} is an array of {array.dtype} with {array.ndim} axes")
    if str(members["format"]) != FORMAT:
        raise _wrong(path, f"its format is {str(members['format'])!r}, expected {FORMAT!r}")
    try:
        hyperparameters = json.loads(str(members["hyperparameters"]))
    except json.JSONDecodeError as error:
        raise _wrong(path, f"hyperparameters are not JSON ({error})") from None
    if not isinstance(hyperparameters, dict) or not set(hyperparameters) <= names:
        raise _wrong(path, "hyperparameters have names that GaussianMixture does not know")
    try:
        parameters = Parameters(
            members["pi_logits"], members["means"], members["scale"], str(members["family"])
        )
    except (TypeError, ValueError) as error:
        raise _wrong(path, str(error)) from None
    if hyperparameters.get("covariance_type") != parameters.family:
        raise _wrong(path, "covariance_type and family disagree")
    if hyperparameters.get("n_components") != parameters.n_components:
        raise _wrong(path, "n_components and the parameters disagree")
    columns = members["feature_names"]
    if len(columns) not in (0, parameters.n_features):
        raise _wrong(path, f"it has {len(columns)} feature names for {parameters.n_features}")
    bounds, weight = members["lower_bounds"], float(members["weight_seen"])
    if not np.isfinite(bounds).all() or not (np.isfinite(weight) and weight >= 0):
        raise _wrong(path, "lower_bounds or weight_seen are not finite")
    if int(members["n_iter"]) < 0:
        raise _wrong(path, "n_iter is negative")
    collapsed = [int(k) for k in members["collapsed"]]
    if not set(collapsed) <= set(range(parameters.n_components)):
        raise _wrong(path, f"collapsed names components that are not there: {collapsed}")
    return Stored(
        hyperparameters,
        parameters,
        columns.astype(object) if len(columns) else None,
        bool(members["converged"]),
        [float(bound) for bound in bounds],
        int(members["n_iter"]),
        weight,
        collapsed,
    )


def load_state(path: str | PathLike[str]) -> dict[str, NDArray[Any]]:
    """Return the state of a fit that `save` wrote beside the mixture, empty if it wrote none.

    Raises
    ------
    ValueError, OSError
        As `load` does.
    """
    return _read(path, state=True)


def _read(path: str | PathLike[str], *, state: bool = False) -> dict[str, NDArray[Any]]:
    """Return the members of an .npz file that has those of `MEMBERS`, or the state beside them."""
    with Path(path).open("rb") as stream:
        try:
            archive = np.load(stream, allow_pickle=False)
            if not isinstance(archive, np.lib.npyio.NpzFile):
                raise _wrong(path, "it is a single array")
            with archive:
                # Files of before do not say which components collapsed.
                found = {"collapsed": np.zeros(0, dtype=np.int64)}
                own = [name for name in archive.files if not name.startswith(STATE)]
                if sorted({*found, *own}) != sorted(MEMBERS):
                    raise _wrong(path, f"its members are {sorted(archive.files)}")
                if state:
                    more = (name for name in archive.files if name.startswith(STATE))
                    return {name[len(STATE) :]: archive[name] for name in more}
                return found | {name: archive[name] for name in own}
        except (zipfile.BadZipFile, EOFError, KeyError) as error:
            raise _wrong(path, str(error)) from None
        except ValueError as error:
            if isinstance(error, ModelFileError):
                raise
            raise _wrong(path, str(error)) from None


class ModelFileError(ValueError):
    """A file is no model, or a broken one."""


def _wrong(path: str | PathLike[str], reason: str) -> ModelFileError:
    return ModelFileError(
        f"{os.fspath(path)} is not a model that GaussianMixture.save wrote: {reason}. Save it anew."
    )
