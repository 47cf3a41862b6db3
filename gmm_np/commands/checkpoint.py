"""--checkpoint and --resume: a file with the mixture so far and the state of the fit."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np

from gmm_np import GaussianMixture
from gmm_np.checks import FloatArray
from gmm_np.commands.models import load_model
from gmm_np.commands.options import new_file
from gmm_np.commands.samples import Samples, names_to_save
from gmm_np.mixture import model_file
from gmm_np.mixture.model_file import ModelFileError
from gmm_np.parameters import Parameters
from gmm_np.solvers.checkpoint import Checkpoint, State, pack, unpack

# The options that decide what a fit comes to.
_OPTIONS: Final = (
    *("components", "family", "solver", "max_iter", "n_init", "seed", "tol", "reg_covar"),
    *("on_collapse", "allow_collapsed", "standardize", "weights"),
)


def add_checkpoint(group: Any) -> None:
    """Add --checkpoint and --resume."""
    file = new_file(".npz", what="a checkpoint is an .npz file; name it so,")
    group.add_argument(
        "--checkpoint",
        type=file,
        metavar="FILE",
        help="the mixture so far and the state of the fit, after each iteration",
    )
    group.add_argument(
        "--resume",
        type=Path,
        metavar="FILE",
        help="go on from that of the same fit, to the same bits, and write it on",
    )


def checkpoint_file(options: argparse.Namespace) -> Path | None:
    """Return the file that checkpoints are written to, if they are."""
    found: Path | None = options.checkpoint or options.resume
    return found


def open_checkpoint(
    samples: Samples,
    variances: FloatArray,
    options: argparse.Namespace,
    restore: Callable[[Parameters], Parameters],
) -> Checkpoint | None:
    """Return what a fit goes on from and leaves its state with, if options name a file.

    Parameters
    ----------
    samples : Samples
        Which are fitted.
    variances : ndarray, shape [D]
        Of their columns: by these the data are known again.
    options : argparse.Namespace
    restore : callable
        From parameters of the fit to those in the units of the data.

    Raises
    ------
    ModelFileError, OSError
        If the file cannot be read, or is no checkpoint, or one of another fit.
    """
    path = checkpoint_file(options)
    if path is None:
        return None
    settings = _settings(samples, variances, options)
    fit: State = {}
    if options.resume is not None:
        fit = _read(options.resume, settings)
    names = names_to_save(samples.table, samples.names)

    def keep(state: State, parameters: Parameters) -> None:
        p = restore(parameters)
        model = GaussianMixture(p.n_components, covariance_type=p.family)
        model._set_parameters(p)
        if names is not None:
            model.feature_names_in_ = np.array(names, dtype=object)
        model_file.save(path, model._stored(), pack({"settings": settings, "fit": state}))

    return Checkpoint(keep, fit)


def _settings(samples: Samples, variances: FloatArray, options: argparse.Namespace) -> State:
    """Return what has to be the same where a fit goes on, under the names of options."""
    kind = "in memory" if isinstance(samples.x, np.ndarray) else "as a stream"
    own = {name: getattr(options, name) for name in _OPTIONS}
    return own | {
        "columns": samples.names,
        "data": "by --workers" if samples.parts else kind,
        "variances": [float(value).hex() for value in variances],
    }


def _read(path: Path, settings: State) -> State:
    load_model(path)
    members = model_file.load_state(path)
    remedy = "give a file that gmm-np fit --checkpoint wrote"
    if not members:
        raise ModelFileError(f"{path}: is a model without the state of a fit; {remedy}")
    try:
        found = unpack(members)
        before, fit = dict(found["settings"]), dict(found["fit"])
    except (KeyError, TypeError, ValueError) as error:
        raise ModelFileError(f"{path}: is a damaged checkpoint ({error}); {remedy}") from None
    for name, value in settings.items():
        if before.get(name) == value:
            continue
        if name == "variances":
            what = "the rows of DATA are others: their variances differ"
        elif name == "data":
            what = f"DATA were read {before.get(name)}, and are read {value}"
        else:
            said = f"--{name.replace('_', '-')}"
            what = f"{said} was {_text(before.get(name))}, and is {_text(value)}"
        raise ModelFileError(
            f"{path}: is of another fit: {what}; repeat the command that wrote it, with --resume, "
            "or leave --resume out"
        )
    return fit


def _text(value: Any) -> str:
    if value is None:
        return "left out"
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)
