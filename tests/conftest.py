"""One thread for linear algebra, and tests where only numpy, scipy and pytest are installed.

The matrices of most tests are so small that starting threads for them takes longer than the work,
and many times longer on a busy machine. A variable that is set already is left alone.

With GMM_NP_NUMPY_ONLY=1 in the environment, modules of tests whose imports are missing are not
collected. Without it a missing torch is an error: it must never hide tests in silence.
"""

import contextlib
import importlib.util
import os

import pytest

for variable in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(variable, "1")  # read when NumPy and PyTorch are imported, after this
# What the tests run is not to report to the job of GitHub that they run in.
os.environ.pop("GITHUB_ACTIONS", None)

# What each module of extras-only tests imports at its top.
NEEDS = {
    "by_torch.py": ("torch",),
    "jax_checks.py": ("jax",),
    "test_distributed.py": ("dask", "distributed", "pandas"),
    "test_command_line.py": ("dask", "distributed", "pandas"),
    "test_found.py": ("mpmath",),
    "test_missing_torch.py": ("torch",),
    "test_conditional_torch.py": ("torch",),
    "test_noise_torch.py": ("torch",),
    "test_parts_equations.py": ("sympy",),
    "test_derivation_symbolic.py": ("sympy",),
    "test_errata.py": ("torch",),
    "test_conformance_picture.py": ("matplotlib",),
    "test_conformance_vectors.py": ("mpmath",),
    "test_conformance_workflow.py": ("yaml",),
    "test_estep_mpmath.py": ("mpmath",),
    "test_parametrizations_torch.py": ("torch",),
    "test_interop_autograd.py": ("autograd",),
    "test_interop_jax.py": ("jax",),
    "test_interop_sklearn.py": ("sklearn",),
    "test_interop_torch.py": ("torch",),
    "test_live_browser.py": ("websocket",),
    "test_mdn_torch.py": ("torch",),
    "test_mixture_sklearn.py": ("sklearn",),
    "test_mixture_sklearn_suite.py": ("sklearn",),
    "test_plotting.py": ("matplotlib",),
    "test_primitives_torch.py": ("torch",),
    "test_priors_torch.py": ("torch",),
    "test_properties.py": ("hypothesis",),
    "test_reference_torch.py": ("torch",),
    "test_second_order_torch.py": ("torch",),
    "test_reference_hvp_torch.py": ("torch",),
    "test_tables_parquet.py": ("pyarrow",),
    "test_extended_range_mpmath.py": ("mpmath",),
}

collect_ignore_glob = []
if os.environ.get("GMM_NP_NUMPY_ONLY") == "1":
    collect_ignore_glob += [
        f"*{module}"  # in whatever folder
        for module, extras in NEEDS.items()
        if any(importlib.util.find_spec(extra) is None for extra in extras)
    ]


@pytest.fixture
def tuned():
    """Change constants of speed until the end of the test: tuned(largest_block=16)."""
    from gmm_np import tuning  # NumPy after the variables above

    with contextlib.ExitStack() as stack:
        yield lambda **changes: stack.enter_context(tuning.use(**changes))
