"""A fit that goes on from a checkpoint comes to the same bits as one that was never interrupted."""

import io
import pickle
import warnings

import numpy as np
import pytest

from gmm_np import GaussianMixture, Parameters
from gmm_np.model_selection import select
from gmm_np.solvers import (
    Checkpoint,
    CollapseError,
    fit_adam,
    fit_em,
    fit_lbfgs,
    fit_newton,
    kmeans_start,
)
from gmm_np.solvers.checkpoint import pack, state_of_generator, unpack

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")  # of fits that end early


def through_a_file(state):
    """What a file makes of a state: arrays of its own."""
    stream = io.BytesIO()
    np.savez(stream, **pack(state))
    stream.seek(0)
    with np.load(stream, allow_pickle=False) as found:
        return unpack(dict(found))


class Kept:
    """Keeps all states of a fit."""

    def __init__(self):
        self.packed, self.parameters = [], []

    def __call__(self, state, parameters):
        self.packed.append(pickle.dumps(pack(state)))
        self.parameters.append(parameters)

    def some(self, most):
        """Some of the states, the first and the last among them."""
        chosen = sorted(set(np.linspace(0, len(self.packed) - 1, most, dtype=int)))
        return [unpack(pickle.loads(self.packed[i])) for i in chosen]


def bits(parameters):
    return b"".join(a.tobytes() for a in (parameters.pi_logits, parameters.means, parameters.scale))


@pytest.fixture
def x():
    rng = np.random.default_rng(0)
    rows = [rng.normal(-1, 1, (150, 2)), rng.normal(1, 0.5, (250, 2)), rng.normal(4, 1, (50, 2))]
    return rng.permutation(np.concatenate(rows))


@pytest.mark.parametrize(
    ("fit", "options"),
    [
        (fit_em, {"tol": 1e-7}),
        (fit_lbfgs, {}),
        (fit_lbfgs, {"tol": 1e-12}),  # which starts again on the way
        (fit_newton, {}),
        (fit_adam, {"max_iter": 9, "batch_size": 64}),
        (fit_adam, {"max_iter": 9}),
    ],
)
@pytest.mark.parametrize("data", ["array", "stream"])
def test_each_solver_goes_on_from_each_state_to_the_same_bits(x, fit, options, data):
    blocks = x if data == "array" else np.array_split(x, 4)
    start = kmeans_start(x, 2, np.random.default_rng(1))

    def run(checkpoint):
        made = [] if fit is not fit_adam else [("rng", np.random.default_rng(2))]
        told = []
        found = fit(
            blocks,
            start,
            checkpoint=checkpoint,
            callback=lambda *now: told.append(now),
            **options,
            **dict(made),
        )
        return bits(found.parameters), found.history, found.converged, found.message, told

    kept = Kept()
    expected = run(Checkpoint(kept))
    assert expected == run(None)
    assert len(kept.packed) >= 3
    for state in kept.some(5):
        later = Kept()
        assert run(Checkpoint(later, state)) == expected
        assert len(later.packed) <= len(kept.packed)
    assert len(later.packed) <= 1  # after the last iteration there is none to make again


def test_newton_of_products_goes_on_too(x, monkeypatch):
    monkeypatch.setattr("gmm_np.solvers.scipy_solvers.LARGEST_MATRIX", 1)
    start, kept = kmeans_start(x, 2, np.random.default_rng(1)), Kept()
    expected = fit_newton(x, start, checkpoint=Checkpoint(kept))
    for state in kept.some(5):
        assert bits(fit_newton(x, start, checkpoint=Checkpoint(Kept(), state)).parameters) == bits(
            expected.parameters
        )


def test_a_fit_that_goes_on_reads_the_data_only_for_what_is_new(x):
    class Read:
        n = 0

        def __iter__(self):
            self.n += 1
            yield from np.array_split(x, 3)

    start = kmeans_start(x, 2, np.random.default_rng(1))
    for fit in (fit_em, fit_lbfgs):
        kept, rows = Kept(), Read()
        fit(rows, start, checkpoint=Checkpoint(kept))
        assert rows.n > 10
        rows.n = 0
        fit(rows, start, checkpoint=Checkpoint(Kept(), kept.some(2)[-1]))
        assert rows.n <= 6


def selected(x, checkpoint=None, **options):
    """All that a selection comes to."""
    told = []
    options = {
        "families": ["full", "diag"],
        "random_state": 0,
        "max_iter": 25,
        "n_init": 2,
    } | options
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = select(
            x,
            [1, 3],
            callback=lambda c, *now: told.append((c.name, *now)),
            checkpoint=checkpoint,
            **options,
        )
    return (
        [(c.name, c.criteria, c.histories, c.notes, str(c.error)) for c in found.candidates],
        [
            c.model and (bits(c.model.parameters_), c.model.lower_bounds_, c.model._weight_seen)
            for c in found.candidates
        ],
        told,
        [str(warning.message) for warning in caught],
    )


@pytest.mark.parametrize("solver", ["em+newton", "adam"])
def test_a_selection_goes_on_to_the_same_bits(x, solver):
    rows = np.array_split(x, 3)
    options = {"solver": solver} | ({"max_iter": 3} if solver == "adam" else {"tol": 1e-3})
    kept = Kept()
    expected = selected(rows, Checkpoint(kept), **options)
    for state in kept.some(3):
        assert selected(rows, Checkpoint(Kept(), state), **options) == expected


@pytest.mark.parametrize("on_collapse", ["reseed", "keep"])
def test_collapses_are_recalled(on_collapse):
    x = np.concatenate([np.random.default_rng(0).normal(size=(30, 2)), np.full((9, 2), 9.0)])

    def fit(checkpoint):
        options = {"on_collapse": on_collapse, "reg_covar": 0.0, "random_state": 0, "max_iter": 30}
        mixture = GaussianMixture(2, **options).fit(x, checkpoint=checkpoint)
        ends = mixture.collapsed_, mixture.reseeded_
        return bits(mixture.parameters_), mixture.lower_bounds_, *ends

    kept = Kept()
    expected = fit(Checkpoint(kept))
    assert expected[2] or expected[3]
    for state in kept.some(5):
        assert fit(Checkpoint(Kept(), state)) == expected


def test_the_estimator_goes_on_in_each_of_its_starts(x):
    def fit(checkpoint):
        mixture = GaussianMixture(3, n_init=3, random_state=np.random.default_rng(5), max_iter=15)
        mixture.fit(x, checkpoint=checkpoint)
        # the generator is where it would be
        return bits(mixture.parameters_), mixture.lower_bounds_, mixture.sample(3)[0].tolist()

    kept = Kept()
    expected = fit(Checkpoint(kept))
    for state in kept.some(5):
        assert fit(Checkpoint(Kept(), state)) == expected
    assert all(isinstance(p, Parameters) for p in kept.parameters)


def test_a_state_survives_a_file_to_the_last_bit():
    rng = np.random.Generator(np.random.MT19937(3))
    rng.standard_normal(5)
    state = {
        "rng": state_of_generator(rng),
        "numbers": [np.inf, 0.1 + 0.2, -0.0, 2**100, None, True, "text"],
        "arrays": [{"a": np.array([np.nan, 1e-310])}, np.array(3.0)],
    }
    found = through_a_file(state)
    assert found["numbers"] == state["numbers"]
    assert found["arrays"][0]["a"].tobytes() == state["arrays"][0]["a"].tobytes()
    again = np.random.Generator(np.random.MT19937(0))
    again.bit_generator.state = found["rng"]
    assert again.standard_normal(9).tolist() == rng.standard_normal(9).tolist()
    with pytest.raises(ValueError, match="there is no state of a fit"):
        unpack({})


def test_a_collapse_has_its_components_again():
    x = np.concatenate([np.random.default_rng(0).normal(size=(30, 2)), np.full((9, 2), 9.0)])
    kept, found = Kept(), []
    mixture = GaussianMixture(2, reg_covar=0.0, random_state=0)
    for state in ({}, None):
        last = kept.some(2)[-1] if state is None else state
        with pytest.raises(CollapseError) as error:
            mixture.fit(x, checkpoint=Checkpoint(kept, last))
        found.append((str(error.value), error.value.components))
    assert found[0] == found[1]
