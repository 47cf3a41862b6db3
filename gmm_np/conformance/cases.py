"""The certified vectors: read from their files, expanded, and checked against their digests.

Letters in shapes: N samples, K components, D dimensions.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "BY_COVARIANCE",
    "COVARIANCES",
    "DIRECTORY",
    "FUNCTIONS",
    "LEVELS",
    "ROWWISE",
    "VALUE",
    "Case",
    "CaseFamily",
    "Family",
    "RunnerError",
    "VectorError",
    "array_of",
    "family_of",
    "read_family",
    "read_vectors",
]

DIRECTORY: Final = Path(__file__).parent / "vectors"
LEVELS: Final = ("lower", "average", "higher")
DTYPES: Final = {"binary64": "<f8", "binary32": "<f4"}

#: What most cases ask for: the loss and its gradients.
VALUE: Final = "value_and_gradient"
#: Formats that are read here. A later one has functions and parametrizations that a reader of the
#: one before does not know, and nothing else.
VERSIONS: Final = (1, 2, 3)
#: How fast logits, means and factors move.
DIRECTION: Final = ("v_logits", "v_means", "v_chol")

#: Families of covariances with a scale of their own, as gmm_np.covariance has them: deviations of
#: each component and column [K, D], one lower Cholesky factor for all [D, D], a deviation each [K].
COVARIANCES: Final = ("diag", "tied", "spherical")
#: A mixture for each row, as gmm_np.mdn has them: an axis of rows before each of the parameters'.
ROWWISE: Final = ("rowwise_full", "rowwise_diag", "rowwise_spherical")
#: Covariances or precisions [K, D, D], symmetric, and variances [K, D] or [K], with gradients in
#: them: the symmetric G with df = sum_ij G_ij dSigma_ij.
BY_COVARIANCE: Final = ("covariances", "precisions", "diag_variances", "spherical_variances")

#: The outputs of a parametrization: the value, then the gradients of mixture weights, means and
#: scale. A gradient has the name of its argument.
OUTPUTS: Final[dict[str, tuple[str, ...]]] = {
    "cholesky": ("nll", "logits", "means", "chol"),
    "precision": ("objective", "alpha", "means", "icf"),
    **dict.fromkeys((*COVARIANCES, *ROWWISE, *BY_COVARIANCE), ("nll", "logits", "means", "scale")),
}
#: The inputs in the order in which the digest takes them: what has a gradient, and what has none.
INPUTS: Final[dict[str, tuple[str, ...]]] = {
    **{name: (*outputs[1:], "x", "weights") for name, outputs in OUTPUTS.items()},
    "cholesky": ("logits", "means", "chol", "x", "weights", *DIRECTION, "columns"),
    "precision": ("alpha", "means", "icf", "x", "gamma", "m"),
}
#: What else a case by Cholesky factors may ask for: the Hessian's product with a direction, the
#: gradient of each sample's log density, that density, responsibilities, the gradient of the loss
#: in x, the mixture after a step of EM, and the density of some columns. The outputs stand in the
#: places of those above.
OTHERS: Final[dict[str, tuple[str | None, ...]]] = {
    "hvp": (None, "logits", "means", "chol"),
    "scores": (None, "logits", "means", "chol"),
    "log_prob": ("log_prob", None, None, None),
    "responsibilities": (None, "responsibilities", None, None),
    "d_x": (None, None, "x", None),
    "em_step": (None, "pi", "means", "covariances"),
    "marginal": ("log_prob", None, None, None),
}
FUNCTIONS: Final = (VALUE, *OTHERS)


class RunnerError(Exception):
    """The runner itself failed: nothing was found out about the implementation."""


class VectorError(RunnerError):
    """A file of vectors that is not what its schema or its digests say."""


@dataclass(frozen=True, eq=False)
class Case:
    """One test: inputs, and what has to come out.

    Attributes
    ----------
    id, family, level, comment : str
    flags, kills : tuple of str
        Special traits of the inputs, and mutants that fail here.
    n_samples, n_components, n_features : int
    parametrization : str
        A key of `OUTPUTS`.
    function : str
        What is asked for: "value_and_gradient", or a key of `OTHERS`.
    dtype : {"binary64", "binary32"}
    reduction : {"mean", "sum"}
    result : {"valid", "invalid", "either"}
        Whether it has to be answered, has to be rejected, or may be either.
    inputs : dict
        As they stand in the file: nested lists of numbers, and strings for what is not finite.
    outputs : dict
        For each output four lists of decimal strings: certified, spread, scale, floor.
    factor : float
        C of the allowance C (spread + u scale) + floor.
    """

    id: str
    family: str
    level: str
    comment: str
    flags: tuple[str, ...]
    kills: tuple[str, ...]
    n_samples: int
    n_components: int
    n_features: int
    parametrization: str
    function: str
    dtype: str
    reduction: str
    result: str
    digest: str
    factor: float
    inputs: dict[str, Any] = field(repr=False)
    outputs: dict[str, dict[str, list[str]]] = field(repr=False)

    @property
    def blocks(self) -> tuple[str, ...]:
        """Names of the outputs, in order."""
        return outputs_of(self.parametrization, self.function)

    @property
    def columns(self) -> tuple[str | None, ...]:
        """Names of the outputs in the columns of a report, None where there is none."""
        return OTHERS.get(self.function, OUTPUTS[self.parametrization])

    @property
    def optional(self) -> bool:
        """Whether it is asked only of an adapter that offers what it asks for."""
        return self.function != VALUE or self.parametrization not in ("cholesky", "precision")

    def is_triangular(self, name: str) -> bool:
        """Whether an output has lower triangles, which the file holds packed by rows."""
        return name == "chol" or (
            name == "scale" and self.parametrization in ("tied", "rowwise_full")
        )

    @property
    def shapes(self) -> tuple[tuple[int, ...], ...]:
        """Shapes of the outputs as an adapter gives them."""
        n, k, d = self.n_samples, self.n_components, self.n_features
        others: dict[str, tuple[tuple[int, ...], ...]] = {
            "log_prob": ((n,),),
            "responsibilities": ((n, k),),
            "d_x": ((n, d),),
            "em_step": ((k,), (k, d), (k, d, d)),
            "marginal": ((n,),),
        }
        if self.function in others:
            return others[self.function]
        last: dict[str, tuple[int, ...]] = {
            "cholesky": (k, d, d),
            "precision": (k, d * (d + 1) // 2),
            "diag": (k, d),
            "tied": (d, d),
            "spherical": (k,),
            "covariances": (k, d, d),
            "precisions": (k, d, d),
            "diag_variances": (k, d),
            "spherical_variances": (k,),
        }
        form = self.parametrization
        if form in ROWWISE:
            form = {"rowwise_full": "cholesky"}.get(form, form.removeprefix("rowwise_"))
        gradients: tuple[tuple[int, ...], ...] = ((k,), (k, d), last[form])
        if self.function == "scores" or self.parametrization in ROWWISE:
            gradients = tuple((n, *shape) for shape in gradients)
        return ((), *gradients) if self.function == VALUE else gradients

    def certified(self, name: str) -> NDArray[np.float64]:
        """Return a certified output, rounded to double, in the shape in which adapters give it."""
        flat = np.array([float(text) for text in self.outputs[name]["certified"]])
        shape = self.shapes[self.blocks.index(name)]
        if not self.is_triangular(name):
            return flat.reshape(shape)
        full = np.zeros(shape)
        rows, columns = np.tril_indices(shape[-1])
        full[..., rows, columns] = flat.reshape(*shape[:-2], -1)
        return full

    @cached_property
    def arrays(self) -> dict[str, Any]:
        """The inputs, rows of x repeated, in the group's dtype; ragged ones as nested lists.

        Raises
        ------
        VectorError
            If they are not those that the digest was made of.
        """
        dtype = np.dtype(DTYPES[self.dtype]).newbyteorder("=")
        arrays = {name: array_of(self.inputs[name], dtype) for name in self._names()}
        counts = self.inputs.get("count")
        for name in ("x", "weights"):
            if counts is not None and name in arrays:
                arrays[name] = np.repeat(arrays[name], counts, axis=0)
        if self._digest(arrays) != self.digest:
            raise VectorError(
                f"{self.id}: the inputs are not those of the digest: the file was changed, or "
                "this system does not read decimal numbers exactly."
            )
        return arrays

    def _names(self) -> Iterator[str]:
        return (name for name in INPUTS[self.parametrization] if name in self.inputs)

    def _digest(self, arrays: dict[str, Any]) -> str:
        digest = hashlib.sha256()
        for name in self._names():
            array = arrays[name]
            if isinstance(array, list):  # ragged
                array = np.array(list(_leaves(array)))
            digest.update(np.ascontiguousarray(array, DTYPES[self.dtype]).tobytes())
        return digest.hexdigest()


@dataclass(frozen=True, eq=False)
class CaseFamily:
    """A family of cases, one file, and what it is there for."""

    name: str
    comment: str
    notes: dict[str, dict[str, Any]]
    cases: tuple[Case, ...]


def outputs_of(parametrization: str, function: str) -> tuple[str, ...]:
    """Return the names of what comes out, in order."""
    names = OTHERS.get(function, OUTPUTS[parametrization])
    return tuple(name for name in names if name is not None)


#: Its public name, which `gmm_np.covariance` has for a family of covariances.
Family = CaseFamily


def _leaves(value: Any) -> Iterator[float]:
    if isinstance(value, list):
        for item in value:
            yield from _leaves(item)
    else:
        yield float(value)


def array_of(value: Any, dtype: np.dtype[Any]) -> NDArray[Any] | list[Any]:
    """Return nested lists as an array; as lists again where their lengths differ."""
    try:
        # float reads the strings of what is not finite as it reads numbers.
        return np.array(value, dtype=np.float64).astype(dtype)
    except ValueError:
        pass

    def convert(item: Any) -> Any:
        return [convert(i) for i in item] if isinstance(item, list) else float(item)

    return list(convert(value))


def read_family(path: Path) -> CaseFamily:
    """Read one file of vectors.

    Raises
    ------
    VectorError
        If it is no such file, or its counts are not those of what it holds.
    """
    try:
        return family_of(json.loads(path.read_text(encoding="utf-8")))
    except VectorError as error:
        raise VectorError(f"{path.name}: {error}") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise VectorError(f"{path.name}: not a file of vectors: {error!r}") from error


def family_of(file: dict[str, Any]) -> CaseFamily:
    """Return what the JSON of a file of vectors holds.

    Raises
    ------
    VectorError
        If its counts are not those of what it holds, or its format is one of a later version.
    """
    version = file["format_version"]
    if version not in VERSIONS:
        known = ", ".join(map(str, VERSIONS))
        raise VectorError(f"format_version {version}, where {known} are read: update gmm_np.")
    cases = tuple(_cases(file))
    outputs = (block["certified"] for case in cases for block in case.outputs.values())
    counted = (file["number_of_tests"], file["number_of_outputs"])
    found = (len(cases), sum(map(len, outputs)))
    if counted != found:
        raise VectorError(f"says {counted} tests and outputs, and holds {found}.")
    return CaseFamily(file["family"], file["comment"], file["notes"], cases)


def _cases(file: dict[str, Any]) -> Iterator[Case]:
    for group in file["groups"]:
        for test in group["tests"]:
            yield Case(
                id=test["id"],
                family=file["family"],
                level=test["level"],
                comment=test["comment"],
                flags=tuple(test["flags"]),
                kills=tuple(test["kills"]),
                n_samples=test["N"],
                n_components=test["K"],
                n_features=test["D"],
                parametrization=group["parametrization"],
                function=group.get("function", VALUE),
                dtype=group["dtype"],
                reduction=group["reduction"],
                result=test["result"],
                digest=test["digest"],
                factor=float(file["factor"]),
                inputs=test["inputs"],
                outputs=test.get("outputs", {}),
            )


def read_vectors(
    directory: Path = DIRECTORY,
    *,
    levels: Iterable[str] = (),
    flags: Iterable[str] = (),
    names: Iterable[str] = (),
    exclude: Iterable[str] = (),
) -> list[CaseFamily]:
    """Read all families, with the cases that are chosen; all by default.

    Parameters
    ----------
    directory : Path
    levels, flags : iterable of str
        Cases of one of these levels, and with one of these flags.
    names, exclude : iterable of str
        Families and cases by their names, such as "dense", "dense-003" or "hvp_*": these alone, and
        all but these.

    Raises
    ------
    VectorError
        If there is no file, or one is not what it should be.
    ValueError
        If a level, a flag or a name exists nowhere.
    """
    paths = sorted(path for path in directory.glob("*.json") if path.name != "schema.json")
    if not paths:
        raise VectorError(f"{directory} holds no vectors; install gmm_np again.")
    families = [read_family(path) for path in paths]
    wanted_levels, wanted_flags = set(levels), set(flags)
    known = {flag for family in families for flag in family.notes}
    for kind, wanted, choices in (
        ("level", wanted_levels, set(LEVELS)),
        ("flag", wanted_flags, known),
    ):
        if wanted - choices:
            raise ValueError(
                f"no {kind} is called {', '.join(sorted(wanted - choices))}; there are "
                f"{', '.join(sorted(choices))}."
            )
    chosen_names, left_out = (_named(families, patterns) for patterns in (names, exclude))
    chosen = []
    for family in families:
        cases = tuple(
            case
            for case in family.cases
            if (not wanted_levels or case.level in wanted_levels)
            and (not wanted_flags or wanted_flags.intersection(case.flags))
            and (chosen_names is None or case.id in chosen_names)
            and (left_out is None or case.id not in left_out)
        )
        if cases:
            chosen.append(replace(family, cases=cases))
    return chosen


def _named(families: list[CaseFamily], patterns: Iterable[str]) -> set[str] | None:
    """Return the cases that patterns name, or whose families they name; None without patterns."""
    found: set[str] | None = None
    for pattern in patterns:
        matching = {
            case.id
            for family in families
            for case in family.cases
            if fnmatchcase(case.id, pattern) or fnmatchcase(family.name, pattern)
        }
        if not matching:
            known = ", ".join(family.name for family in families)
            raise ValueError(
                f"no family or case is called {pattern}; there are the families {known}, and in "
                f"each cases such as {families[0].cases[0].id}."
            )
        found = matching | (found or set())
    return found
