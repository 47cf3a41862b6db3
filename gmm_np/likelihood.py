"""The public functions: values, gradients and responsibilities, through the engine.

Letters in shapes: N samples, K components, D dimensions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gmm_np import extended_range
from gmm_np.checks import (
    FloatArray,
    Reduction,
    as_reduction,
    check_choice,
    check_rows,
    check_sample_weight,
    unit_exponent,
    unit_weights,
)
from gmm_np.covariance import FAMILIES
from gmm_np.estep import METHODS, Block, EStep, Method, PreparedMixture, few_samples, numpy_settings
from gmm_np.missing import MISSING, Groups, MarginalEStep, out_of_range
from gmm_np.parameters import Gradients, Parameters
from gmm_np.parts import (
    DaskParts,
    Executor,
    Part,
    Parts,
    in_step,
    is_stream,
    no_blocks,
    parts_of,
)
from gmm_np.sufficient_statistics import Statistics, assemble_gradients, gradients

__all__ = ["log_prob", "nll", "nll_value_and_grad", "responsibilities", "statistics"]

Found = TypeVar("Found")


def nll(
    x: ArrayLike,
    pi_logits: ArrayLike,
    means: ArrayLike,
    scale: ArrayLike,
    *,
    family: str = "full",
    sample_weight: ArrayLike | None = None,
    reduction: str = "mean",
    method: str = "auto",
    missing: str = "error",
) -> Any:
    """Negative log-likelihood of a Gaussian mixture, equation (3).

    Parameters
    ----------
    x : array_like, shape [N, D]
        Data, one row a sample; a `numpy.memmap` is read a chunk at a time. What lies with Dask, an
        array, a data frame or a list of Delayed or Future objects, stays there: see
        docs/distributed.md.
    pi_logits : array_like, shape [K]
        Mixture logits; a logit of -inf switches its component off.
    means : array_like, shape [K, D]
    scale : array_like
        Of the family: lower Cholesky factors of the covariances for "full" and "constant"
        [K, D, D] and "tied" [D, D], standard deviations for "diag" [K, D], "tied_diag" [D],
        "spherical" [K] and "shared_spherical" [].
    family : {"full", "tied", "diag", "tied_diag", "spherical", "shared_spherical", "constant"}
        Covariance family; "constant" factors are not learned.
    sample_weight : array_like, shape [N], optional
        Weights w_n, not negative; 1 for each sample by default.
    reduction : {"mean", "sum", "none"}
        Weighted mean over samples (the default), weighted sum, or one weighted value a sample.
    method : {"auto", "direct", "moments"}
        Kernel. "auto" takes the faster one wherever a bound promises it ten digits, and the
        accurate one, "direct", elsewhere.
    missing : {"error", "marginal"}
        What NaN in x is: an error, or a value that is missing. A row then has the density of what
        is seen of it, equation (68); one of which nothing is seen has the density 1, and counts
        as a row.

    Returns
    -------
    value : float, or ndarray of shape [N] for ``reduction="none"``
        In nats. Of Dask's data "none" gives a Dask array.

    Raises
    ------
    TypeError
        If an argument is not made of real numbers.
    ValueError
        If shapes disagree, values are not finite, a factor is not a Cholesky factor, a weight is
        negative, or an option is unknown.

    See Also
    --------
    nll_value_and_grad : With the gradient.
    gmm_np.reference.nll_forward : The same by the chain rule, which this one is checked against.

    Examples
    --------
    >>> import gmm_np
    >>> x, pi_logits, means = [[0.0], [3.0]], [0.0, 0.0], [[0.0], [3.0]]
    >>> round(gmm_np.nll(x, pi_logits, means, [[[1.0]], [[1.0]]]), 6)
    1.601038
    """
    reduce = as_reduction(reduction)
    parameters = Parameters(pi_logits, means, scale, family)
    parts = parts_of(x, sample_weight)
    if parts is not None:
        return _nll_of_parts(parts, parameters, reduce, method, missing)
    log_likelihood, weight = _log_likelihood(x, parameters, sample_weight, method, missing)
    weight = np.ones(len(log_likelihood)) if weight is None else weight
    return reduce_loss(log_likelihood, weight, reduce)[0]


def reduce_loss(
    log_likelihood: FloatArray, weight: FloatArray, reduction: Reduction
) -> tuple[Any, FloatArray]:
    """Loss of log-likelihoods [N], equation (11), and the coefficients w_n / W [N] in it."""
    with numpy_settings():
        weight = unit_weights(weight) if reduction == "mean" else weight
        loss = np.where(weight == 0, 0.0, -weight * log_likelihood)  # [N]  (11)
        if reduction == "none":
            return loss, weight
        total = weight.sum() if reduction == "mean" else 1.0
        value, coefficient = loss.sum() / total, weight / total
        if np.isnan(value):  # infinities of either sign
            value = extended_range.reduce_forward(log_likelihood, coefficient, reduction)
    return float(value), coefficient


def nll_value_and_grad(
    x: ArrayLike,
    pi_logits: ArrayLike,
    means: ArrayLike,
    scale: ArrayLike,
    *,
    family: str = "full",
    sample_weight: ArrayLike | None = None,
    reduction: str = "mean",
    method: str = "auto",
    missing: str = "error",
) -> tuple[float, Gradients]:
    """Negative log-likelihood of a Gaussian mixture and its gradient: (3), (16), (22), (23).

    One pass over the data, in memory that does not grow with N.

    Parameters
    ----------
    x, pi_logits, means, scale, family, sample_weight, method, missing
        As in `nll`.
    reduction : {"mean", "sum"}
        Weighted mean (the default) or weighted sum over samples.

    Returns
    -------
    value : float
        In nats.
    gradients : Gradients
        With respect to pi_logits [K], means [K, D] and scale (in its own shape; the upper
        triangle of a factor's is exactly zero), each in the dtype of its argument. x is None, and
        scale is for "constant".

    Raises
    ------
    TypeError, ValueError
        As `nll` does; and for ``reduction="none"``, which has a Jacobian and no gradient.

    See Also
    --------
    statistics, gradients : The same in two steps, for data in parts.
    gmm_np.reference.nll_backward : For a vector-Jacobian product, or the gradient in x.

    Examples
    --------
    >>> import gmm_np
    >>> x, pi_logits, means = [[0.0], [3.0]], [0.0, 0.0], [[0.0], [3.0]]
    >>> value, gradients = gmm_np.nll_value_and_grad(x, pi_logits, means, [[[1.0]], [[1.0]]])
    >>> gradients.means.round(6).tolist()
    [[-0.01648], [0.01648]]
    """
    if as_reduction(reduction) == "none":
        raise ValueError(
            'reduction="none" has N values, and so no gradient; nll_value_and_grad needs a scalar. '
            'Use "mean" or "sum", nll for the values alone, or gmm_np.reference.nll_backward with '
            "a d_value for each sample."
        )
    parameters = Parameters(pi_logits, means, scale, family)
    parts = parts_of(x, sample_weight)
    if parts is not None:
        found_there = statistics(parts, parameters, method=method, missing=missing)
        weight_there = found_there.weight if reduction == "mean" else 1.0
        d_parameters = gradients(parameters, found_there, reduction=reduction)
        return found_there.loss / weight_there, d_parameters
    rows = check_rows(x, parameters.means.shape[1])
    weight = check_sample_weight(sample_weight, len(rows))
    return checked_value_and_grad(
        rows, weight, parameters, mean=reduction == "mean", method=method, missing=missing
    )


def checked_value_and_grad(
    rows: NDArray[Any],
    weight: FloatArray | None,
    parameters: Parameters,
    *,
    mean: bool,
    method: str,
    missing: str = "error",
    finite: bool = False,
) -> tuple[float, Gradients]:
    """Value and gradient for rows [N, D] that were checked; `finite`: also for NaN and infinity."""
    if _are_few(rows, parameters, method, missing):
        few = few_samples.value_and_grad(rows, parameters, weight, mean=mean)
        if few is not None:
            return few
    exponent = 0 if weight is None or not mean else unit_exponent(weight)
    engine = _engine(parameters, method, missing, gradient=True, n_samples=len(rows), finite=finite)
    engine.add(rows, weight, exponent)
    total = engine.weight if mean else 1.0
    found = assemble_gradients(parameters, engine.sums(), engine.mixture.all_inverses, total)
    if found is not None:
        return engine.loss / total, found
    if missing == "marginal" and np.isnan(rows).any():
        raise out_of_range()
    return _by_reference(rows, parameters, weight, exponent, total)


def log_prob(
    x: ArrayLike,
    pi_logits: ArrayLike,
    means: ArrayLike,
    scale: ArrayLike,
    *,
    family: str = "full",
    method: str = "auto",
    missing: str = "error",
) -> FloatArray:
    """Log-likelihood of each sample, equation (10).

    Parameters
    ----------
    x, pi_logits, means, scale, family, method, missing
        As in `nll`.

    Returns
    -------
    log_likelihood : ndarray, shape [N]
        In nats; -inf where it is below the range of a double. Of Dask's data a Dask array.

    Raises
    ------
    TypeError, ValueError
        As `nll` does.

    Examples
    --------
    >>> import gmm_np
    >>> gmm_np.log_prob([[0.0]], [0.0], [[0.0]], [[[1.0]]]).round(6).tolist()
    [-0.918939]
    """
    parameters = Parameters(pi_logits, means, scale, family)
    parts = parts_of(x)
    if parts is not None:
        there: FloatArray = rows_of_parts(parts, _log_prob, parameters, method, missing)
        return there
    return _log_likelihood(x, parameters, None, method, missing)[0]


def responsibilities(
    x: ArrayLike,
    pi_logits: ArrayLike,
    means: ArrayLike,
    scale: ArrayLike,
    *,
    family: str = "full",
    method: str = "auto",
    missing: str = "error",
) -> FloatArray:
    """Responsibilities of the components for each sample, equation (14).

    Parameters
    ----------
    x, pi_logits, means, scale, family, method, missing
        As in `nll`.

    Returns
    -------
    resp : ndarray, shape [N, K]
        Rows sum to one. Below 1e-290 a responsibility is zero. Of Dask's data a Dask array.

    Raises
    ------
    TypeError, ValueError
        As `nll` does.

    Examples
    --------
    >>> import gmm_np
    >>> x, pi_logits, means = [[0.0], [1.5]], [0.0, 0.0], [[0.0], [3.0]]
    >>> gmm_np.responsibilities(x, pi_logits, means, [[[1.0]], [[1.0]]]).round(3).tolist()
    [[0.989, 0.011], [0.5, 0.5]]
    """
    parameters = Parameters(pi_logits, means, scale, family)
    parts = parts_of(x)
    if parts is not None:
        tail = (parameters.n_components,)
        there: FloatArray = rows_of_parts(
            parts, _responsibilities_of, parameters, method, missing, tail=tail
        )
        return there
    return _responsibilities(check_rows(x, parameters.n_features), parameters, method, missing)


def _responsibilities(
    rows: NDArray[Any], parameters: Parameters, method: str, missing: str
) -> FloatArray:
    engine = _engine(parameters, method, missing, gradient=False, n_samples=len(rows))
    resp = np.zeros((len(rows), parameters.n_components))
    on = np.flatnonzero(engine.mixture.on)

    def write(block: Block) -> None:
        own = (block.exponentials / block.total).T
        if block.order is None:
            resp[block.start : block.stop, on] = own
        else:
            resp[block.order[:, None], on] = own

    engine.each(rows, write)
    return resp


def statistics(
    x: ArrayLike | Iterable[Any] | Parts,
    parameters: Parameters,
    *,
    sample_weight: ArrayLike | Iterable[Any] | None = None,
    method: str = "auto",
    missing: str = "error",
    executor: Executor | None = None,
) -> Statistics:
    """Sufficient statistics of data for the gradient and for EM, equation (25). They add.

    Parameters
    ----------
    x : array_like of shape [N, D], or iterable of such blocks of rows
        An iterator, a generator, or a list of 2-D arrays is taken block by block, and is never
        held as a whole; neither is a `numpy.memmap`. What lies with Dask is not either: an array, a
        data frame, or a list of Delayed or Future objects, one a part.
    parameters : Parameters
    sample_weight : array_like of shape [N], or iterable of arrays, one a block, optional
        For Dask's data an array of theirs, a series, or a list of one item a part.
    method : {"auto", "direct", "moments"}
    missing : {"error", "marginal"}
        Both as in `nll`. Those of rows with missing values are what is expected of complete ones,
        equation (70).
    executor : object with a method ``map(function, items)``, optional
        Each item of the list x, an array or a stream such as an open table, is a part that goes
        through it: processes of `concurrent.futures`, MPI, or what else there is.

    Returns
    -------
    Statistics

    Raises
    ------
    TypeError, ValueError
        As `nll` does; in streams and parts, rows are counted within their block or part, which is
        named.

    Examples
    --------
    Gradients of data in two parts:

    >>> import numpy as np
    >>> import gmm_np
    >>> parameters = gmm_np.Parameters([0.0, 0.0], [[0.0], [3.0]], [[[1.0]], [[1.0]]])
    >>> parts = [np.array([[0.0]]), np.array([[3.0]])]
    >>> total = sum(gmm_np.statistics(part, parameters) for part in parts)
    >>> gmm_np.gradients(parameters, total).means.round(6).tolist()
    [[-0.01648], [0.01648]]
    """
    check_choice("method", method, METHODS)
    parts = parts_of(x, sample_weight, executor)
    if parts is None:
        return _statistics_of(Part(x, sample_weight), parameters, method, missing, some=True)
    total: Statistics = parts.reduce(_statistics_of, parameters, method, missing)
    if total.weight == 0:
        raise no_weight()
    return total


def _statistics_of(
    part: Part, parameters: Parameters, method: str, missing: str, *, some: bool = False
) -> Statistics:
    engine = _engine(parameters, method, missing, gradient=True, central=True)
    add_rows(engine, part.x, part.weight, some=some)
    return _statistics(parameters, engine)


def _by_reference(
    rows: NDArray[Any],
    parameters: Parameters,
    weight: FloatArray | None,
    exponent: int,
    total: float,
) -> tuple[float, Gradients]:
    """Value and gradient of the weighted sum over `total` by the reference, chunk by chunk."""
    from gmm_np import reference  # rarely: a distance left the range of a double

    family = FAMILIES[parameters.family]
    scale = parameters.scale.astype(np.float64)
    factors = family.expand(scale, *parameters.means.shape)
    p = (parameters.pi_logits, parameters.means, factors)
    value, blocks = 0.0, [np.zeros(block.shape) for block in p]
    step = max(2**20 // parameters.means.size, 1)
    for start in range(0, len(rows), step):
        part = slice(start, start + step)
        w = np.ones(len(rows[part])) if weight is None else np.ldexp(weight[part], -exponent)
        if w.any():
            doubles = (block.astype(np.float64) for block in p)
            loss, cache = reference.nll_forward(
                rows[part], *doubles, sample_weight=w / total, reduction="sum"
            )
            value = float(extended_range.add(np.asarray(value), np.asarray(loss)))
            found = (np.asarray(g, np.float64) for g in reference.nll_backward(cache)[:3])
            blocks = [extended_range.add(a, b) for a, b in zip(blocks, found, strict=True)]
    return value, parameters.as_gradients(blocks[0], blocks[1], family.reduce(blocks[2]))


def add_rows(
    engine: EStep,
    x: ArrayLike | Iterable[ArrayLike],
    sample_weight: ArrayLike | Iterable[ArrayLike] | None,
    *,
    some: bool = True,
) -> None:
    """Check rows and weights, and add them, or each block of a stream of them.

    `some`: whether a weight has to be positive, as it has to be unless this is one part of many.

    Raises
    ------
    TypeError, ValueError
        As `statistics` does.
    """
    n_features = engine.mixture.n_dims
    one = some and not is_stream(x)

    def add(block: Any, given: ArrayLike | None) -> None:
        rows = check_rows(block, n_features)
        engine.add(rows, check_sample_weight(given, len(rows), some=one))

    for _ in of_each_block(add, x, sample_weight):
        pass
    if engine.count == 0:
        raise no_blocks()
    if engine.weight == 0 and some:
        raise no_weight()


def of_each_block(
    function: Callable[[Any, ArrayLike | None], Found], x: Any, sample_weight: Any
) -> Iterator[Found]:
    """Yield the function's value of rows and weights, or of each block of a stream of them.

    Raises
    ------
    TypeError, ValueError
        As the function does; of a stream the message names the block.
    """
    if not is_stream(x):
        yield function(x, sample_weight)
        return
    for index, (block, weight) in enumerate(in_step(x, sample_weight)):
        try:
            found = function(block, weight)
        except (TypeError, ValueError) as error:
            raise type(error)(f"block {index} of x: {error}") from None
        yield found


def no_weight() -> ValueError:
    """Return the error for weights that are all zero."""
    return ValueError(
        "sample_weight is zero for every row, so that no sample is left. Give at least one "
        "row a positive weight."
    )


# --- parts --------------------------------------------------------------------------------------


def summed_loss(
    parts: Parts,
    parameters: Parameters,
    method: str = "auto",
    missing: str = "error",
    *,
    entropy: bool = False,
) -> FloatArray:
    """Return weighted sums over the rows of parts, in nats.

    Of negative log-likelihoods, of ones, and with `entropy` of those of the responsibilities.

    Raises
    ------
    TypeError, ValueError
        As `nll` does.
    """
    found: FloatArray = parts.reduce(_sums_of_part, parameters, method, missing, entropy)
    if found[1] == 0:
        raise no_weight()
    return found


def _sums_of_part(
    part: Part, parameters: Parameters, method: str, missing: str, entropy: bool
) -> FloatArray:
    from scipy.special import entr

    def sums(block: Any, given: ArrayLike | None) -> FloatArray:
        rows = check_rows(block, parameters.n_features)
        weight = check_sample_weight(given, len(rows), some=False)
        losses, entropies = np.zeros((2, len(rows)))

        def write(block: Block) -> None:
            losses[block.rows] = -block.log_likelihood
            if entropy:
                entropies[block.rows] = entr(block.exponentials / block.total).sum(axis=0)

        engine = _engine(parameters, method, missing, gradient=False, n_samples=len(rows))
        engine.each(rows, write)
        own = np.ones(len(rows)) if weight is None else weight
        with np.errstate(invalid="ignore"):  # a weight of zero leaves out what is infinite
            weighted = np.where(own == 0, 0.0, own * losses)
        return np.array([weighted.sum(), own.sum(), own @ entropies])

    return np.asarray(sum(of_each_block(sums, part.x, part.weight), np.zeros(3)))


def _nll_of_parts(
    parts: Parts, parameters: Parameters, reduction: str, method: str, missing: str
) -> Any:
    if reduction == "none":
        assert isinstance(parts, DaskParts)  # there is no executor
        shared = (parameters, method, missing)
        return parts.rows(_loss_of_part, *shared, tail=(), dtype=np.float64)
    loss, weight, _ = map(float, summed_loss(parts, parameters, method, missing))
    return loss / weight if reduction == "mean" else loss


def rows_of_parts(
    parts: Parts, function: Callable[..., FloatArray], *shared: Any, tail: tuple[int, ...] = ()
) -> Any:
    """Return function(rows, *shared), one row [*tail] for each row, as a Dask array, [N, ...]."""
    assert isinstance(parts, DaskParts)  # there is no executor
    return parts.rows(_of_blocks, function, *shared, tail=tail, dtype=np.float64)


def _of_blocks(part: Part, function: Callable[..., FloatArray], *shared: Any) -> FloatArray:
    return _joined(of_each_block(lambda block, _: function(block, *shared), part.x, None))


def _joined(blocks: Iterable[FloatArray]) -> FloatArray:
    found = list(blocks)
    if not found:
        raise no_blocks()
    return np.concatenate(found)


def _loss_of_part(part: Part, parameters: Parameters, method: str, missing: str) -> FloatArray:
    def loss(block: Any, given: ArrayLike | None) -> FloatArray:
        found, weight = _log_likelihood(block, parameters, given, method, missing, some=False)
        return -found if weight is None else np.where(weight == 0, 0.0, -weight * found)

    return _joined(of_each_block(loss, part.x, part.weight))


def _log_prob(rows: ArrayLike, parameters: Parameters, method: str, missing: str) -> FloatArray:
    return _log_likelihood(rows, parameters, None, method, missing)[0]


def _responsibilities_of(
    rows: ArrayLike, parameters: Parameters, method: str, missing: str
) -> FloatArray:
    return _responsibilities(check_rows(rows, parameters.n_features), parameters, method, missing)


def checked_statistics(
    rows: NDArray[Any], weight: FloatArray | None, parameters: Parameters, method: str
) -> Statistics:
    """Statistics of rows [N, D] that were checked and searched for what is not finite."""
    engine = _engine(parameters, method, "error", gradient=True, central=True, finite=True)
    engine.add(rows, weight)
    return _statistics(parameters, engine)


def grouped_statistics(
    groups: Groups, weight: FloatArray | None, parameters: Parameters, method: str
) -> Statistics:
    """Statistics of rows that were checked and grouped by what is missing; weights are theirs."""
    mixture = PreparedMixture.of(parameters)
    engine = MarginalEStep(mixture, cast(Method, method), gradient=True, central=True)
    engine.add(groups, weight)
    return _statistics(parameters, engine)


def _statistics(parameters: Parameters, engine: EStep) -> Statistics:
    return Statistics(parameters, engine.loss, engine.weight, engine.count, *engine.sums())


def _engine(
    parameters: Parameters,
    method: str,
    missing: str,
    *,
    gradient: bool,
    central: bool = False,
    n_samples: int = 10**6,
    finite: bool = False,
) -> EStep:
    check_choice("method", method, METHODS)
    check_choice("missing", missing, MISSING)
    prepared, kernels = PreparedMixture.of(parameters), cast(Method, method)
    if missing == "marginal":
        return MarginalEStep(
            prepared, kernels, gradient=gradient, central=central, n_samples=n_samples
        )
    return EStep(
        prepared, kernels, gradient=gradient, central=central, n_samples=n_samples, finite=finite
    )


def _are_few(rows: NDArray[Any], parameters: Parameters, method: str, missing: str) -> bool:
    check_choice("method", method, METHODS)
    check_choice("missing", missing, MISSING)
    few = few_samples.are_few(len(rows), parameters, method)
    return few and (missing == "error" or not np.isnan(rows).any())


def _log_likelihood(
    x: ArrayLike,
    parameters: Parameters,
    sample_weight: ArrayLike | None,
    method: str,
    missing: str,
    *,
    some: bool = True,
) -> tuple[FloatArray, FloatArray | None]:
    rows = check_rows(x, parameters.n_features)
    weight = check_sample_weight(sample_weight, len(rows), some=some)
    if _are_few(rows, parameters, method, missing):
        few = few_samples.forward(rows, parameters)
        if few is not None:
            return few.log_likelihood, weight
    log_likelihood = np.empty(len(rows))

    def write(block: Block) -> None:
        log_likelihood[block.rows] = block.log_likelihood

    _engine(parameters, method, missing, gradient=False, n_samples=len(rows)).each(rows, write)
    return log_likelihood, weight
