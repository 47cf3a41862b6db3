"""Model files, as `gmm-np fit --out` writes them and the other commands read them."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from gmm_np import GaussianMixture
from gmm_np.mixture.model_file import ModelFileError


def save_model(model: GaussianMixture, names: Sequence[str] | None, path: Path) -> None:
    """Write a model, with the names of its columns where the table has names."""
    if names is not None:
        model.feature_names_in_ = np.array(names, dtype=object)
    model.save(path)


def load_model(path: Path) -> tuple[GaussianMixture, list[str] | None]:
    """Read a model, and the names of its columns if it has any.

    Raises
    ------
    ValueError, OSError
        If the file cannot be read or is no model; one line says what helps.
    """
    remedy = "give a model that gmm-np fit --out wrote"
    if path.is_dir():
        raise IsADirectoryError(f"{path}: is a directory; {remedy}")
    try:
        if not zipfile.is_zipfile(path):  # says no where there is no file as well
            path.stat()
            raise ModelFileError(f"{path}: is not a model file; {remedy}")
        model = GaussianMixture.load(path)
    except FileNotFoundError:
        what = f"no such file; relative paths start from {Path.cwd()}"
        raise FileNotFoundError(f"{path}: {what}") from None
    except PermissionError:
        what = "no permission to read it; change its mode or its owner"
        raise PermissionError(f"{path}: {what}") from None
    names = getattr(model, "feature_names_in_", None)
    if names is None:
        return model, None
    del model.feature_names_in_  # the commands give it plain arrays
    return model, [str(name) for name in names]
