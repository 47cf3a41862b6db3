"""scikit-learn's own tests of its GaussianMixture, with ours in its place."""

import inspect

import pytest
import sklearn.mixture.tests.test_gaussian_mixture as theirs

import gmm_np

# A fit may take a while, and ours says more about a component that only the floor holds up.
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.filterwarnings("ignore::gmm_np.mixture.RegCovarWarning"),
]

NOT_APPLICABLE = {
    "test_check_weights": "asks for a message that calls the smallest weight the largest; ours "
    "names them rightly (tests/mixture/test_mixture.py has the rest)",
    "test_gaussian_mixture_setting_best_params": "two components on a single row each, without a "
    "floor: scikit-learn goes on with the rounding of their variance, ours reports the collapse",
    "test_gaussian_mixture_precisions_init": "calls a private method; through the public one in "
    "test_a_fit_started_at_a_fit_stays_there",
    "test_gaussian_mixture_all_init_does_not_estimate_gaussian_parameters": "counts calls of a "
    "private function of scikit-learn",
    "test_gaussian_mixture_array_api_compliance": "array API: ours is for NumPy arrays",
    "test_gaussian_mixture_raises_where_array_api_not_implemented": "array API",
}

FOUND = {
    name: function
    for name, function in vars(theirs).items()
    if name.startswith("test_") and "GaussianMixture(" in inspect.getsource(function)
}
for _name in sorted(FOUND.keys() - NOT_APPLICABLE.keys()):  # workers want one order
    globals()[_name] = FOUND[_name]


@pytest.fixture(autouse=True)
def _ours(monkeypatch):
    monkeypatch.setattr(theirs, "GaussianMixture", gmm_np.GaussianMixture)


@pytest.fixture
def global_random_seed():
    return 42


@pytest.fixture
def global_dtype():
    # float64: fitted arrays of ours are, float32 data included.
    return theirs.np.float64


def test_the_suite_was_found():
    assert len(FOUND.keys() - NOT_APPLICABLE.keys()) >= 20
