"""Reproduce faults of other libraries, each by one command, as docs/found.md lists them.

    python scripts/found.py NAME        # its number, the right one, and how far off; all by default
    python scripts/found.py --write docs/found.md

The library runs in an environment of its own, build/peers/NAME, which is made at the first run with
the versions that stand here. ``--write`` puts what is printed into the page. The right number is
this library's; tests/scripts/test_found.py has it from the definition in multiple precision.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import math
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SCRIPT = Path(__file__).resolve()
ROOT = SCRIPT.parents[1]
sys.path[:0] = [str(ROOT / "scripts"), str(ROOT)]

from conformance.environments import BUILD, NotInstalledError, environment, own  # noqa: E402

GRADBENCH = "https://github.com/gradbench/gradbench"
GRADBENCH_COMMIT = "f26651a7bcc120654fa895adecaf371b8cc059c5"


@dataclass(frozen=True)
class Problem:
    """Samples, a mixture, and what is asked of them.

    Attributes
    ----------
    x : list, [N, D]
    weights : list, [K]
    means : list, [K, D]
    deviations : list, [K, D]
        Of Gaussians whose covariances are diagonal; nothing here needs more.
    quantity : str
        A key of `RIGHT`.
    prior : tuple of float and int, or None
        gamma and m of the Wishart prior of GradBench.
    """

    x: list[list[float]]
    weights: list[float]
    means: list[list[float]]
    deviations: list[list[float]]
    quantity: str = "log p(x)"
    prior: tuple[float, int] | None = None


@dataclass(frozen=True)
class Fault:
    """What is asked, and of whom.

    Attributes
    ----------
    call : str
        What answers, as its users know it.
    problem : Problem
    answer : callable
        Returns the library and its version, and its number. It imports the library.
    requires : tuple of str
        What pip has to install for it, if anything.
    folder : str
        Of the environment, which faults of one library share.
    """

    call: str
    problem: Problem
    answer: Callable[[Problem], tuple[str, float]]
    requires: tuple[str, ...] = ()
    folder: str = ""


def version(*names: str) -> str:
    """Return distributions with their versions."""
    return ", ".join(f"{name} {importlib.metadata.version(name)}" for name in names)


def run(*command: str | Path) -> str:
    """Run a program, and return what it prints."""
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout


def sklearn_score(problem: Problem) -> tuple[str, float]:
    """Score by an estimator whose fitted attributes are set."""
    import numpy as np
    from sklearn.mixture import GaussianMixture

    estimator = GaussianMixture(1, covariance_type="diag")
    estimator.weights_, estimator.means_ = np.array(problem.weights), np.array(problem.means)
    deviations = np.array(problem.deviations)
    estimator.covariances_, estimator.precisions_cholesky_ = deviations**2, 1 / deviations
    return version("scikit-learn"), float(estimator.score_samples(problem.x)[0])


def sklearn_fit(problem: Problem) -> tuple[str, float]:
    """Fit one component, without the 1e-6 that is added to variances by default."""
    from sklearn.mixture import GaussianMixture

    estimator = GaussianMixture(1, covariance_type="diag", reg_covar=0.0).fit(problem.x)
    return version("scikit-learn"), float(estimator.covariances_[0, 0])


def torch_categorical(problem: Problem) -> tuple[str, float]:
    """Take the mixture that PyTorch's documentation takes, weights as probabilities."""
    import torch
    from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal

    x, weights, means, deviations = (
        torch.tensor(a, dtype=torch.float64)
        for a in (problem.x, problem.weights, problem.means, problem.deviations)
    )
    components = Independent(Normal(means, deviations), 1)
    mixture = MixtureSameFamily(Categorical(probs=weights), components)
    return version("torch"), float(mixture.log_prob(x)[0])


def pomegranate_sample(problem: Problem) -> tuple[str, float]:
    """Draw a hundred thousand samples: their deviation is known to two digits and more."""
    import torch
    from pomegranate.distributions import Normal

    torch.manual_seed(0)
    variances = torch.tensor(problem.deviations[0], dtype=torch.float64) ** 2
    means = torch.tensor(problem.means[0], dtype=torch.float64)
    samples = Normal(means, variances, covariance_type="diag").sample(100_000)
    return version("pomegranate", "torch"), float(samples.std(0)[0])


def pymc_gradient(problem: Problem) -> tuple[str, float]:
    """Differentiate the log-likelihood of one observation in the means, as a sampler does."""
    import numpy as np
    import pymc

    means, deviations = np.array(problem.means), np.array(problem.deviations)
    with pymc.Model() as model:
        free = pymc.Flat("means", shape=means.shape)
        components = [
            pymc.MvNormal.dist(mu=free[k], chol=np.diag(deviation))
            for k, deviation in enumerate(deviations)
        ]
        pymc.Mixture("x", w=problem.weights, comp_dists=components, observed=problem.x)
    return version("pymc", "pytensor"), float(model.compile_dlogp()({"means": means})[0])


def openturns_mixture(problem: Problem) -> tuple[str, float]:
    """Take the logarithm of a mixture's density."""
    import openturns

    pairs = zip(problem.means, problem.deviations, strict=True)
    normals = [openturns.Normal(mean, deviation) for (mean,), (deviation,) in pairs]
    mixture = openturns.Mixture(normals, problem.weights)
    return version("openturns"), float(mixture.computeLogPDF(problem.x[0]))


def hmmlearn_fit(problem: Problem) -> tuple[str, float]:
    """Fit one state, which is one Gaussian, without priors and floors."""
    from hmmlearn.hmm import GaussianHMM

    none = {"covars_prior": 0.0, "min_covar": 0.0}
    model = GaussianHMM(1, covariance_type="diag", n_iter=1, **none).fit(problem.x)
    return version("hmmlearn"), float(model.covars_[0, 0, 0])


def opencv_em(problem: Problem) -> tuple[str, float]:
    """Train one cluster."""
    import cv2
    import numpy as np

    model = cv2.ml.EM_create()
    model.setClustersNumber(1)
    model.trainEM(np.array(problem.x))
    return f"OpenCV {cv2.__version__}", float(model.getCovs()[0][0, 0])


def armadillo_diag(problem: Problem) -> tuple[str, float]:
    """Compile a program that sets the parameters of a `gmm_diag`, and run it."""
    values = [v for (v,) in problem.means], [v * v for (v,) in problem.deviations], problem.weights
    means, variances, weights = (", ".join(map(repr, v)) for v in values)
    source = f"""
        #include <armadillo>
        #include <cstdio>
        int main() {{
            arma::gmm_diag model;
            arma::rowvec means{{{means}}}, variances{{{variances}}}, weights{{{weights}}};
            model.set_params(means, variances, weights);
            arma::vec x{{{problem.x[0][0]!r}}};
            std::printf("%d.%d.%d %.17g\\n", ARMA_VERSION_MAJOR, ARMA_VERSION_MINOR,
                        ARMA_VERSION_PATCH, model.log_p(x));
        }}"""
    with tempfile.TemporaryDirectory() as name:
        path, program = Path(name, "asked.cpp"), Path(name, "asked")
        path.write_text(source, encoding="utf-8")
        run("g++", "-O1", "-o", program, path, "-larmadillo")
        found, number = run(program).split()
    return f"Armadillo {found}", float(number)


def tapenade(problem: Problem) -> tuple[str, float]:
    """Compile GradBench's tool from a checkout, and ask it for the gradient."""
    import ctypes

    checkout = BUILD / "gradbench"
    if not (checkout / "tools").exists():  # GRADBENCH: where else a clone of it lies
        source = os.environ.get("GRADBENCH", GRADBENCH)
        run("git", "clone", "-q", "--no-checkout", "--filter=blob:none", source, checkout)
        get = ("git", "-C", checkout, "checkout", "-q", GRADBENCH_COMMIT, "--")
        run(*get, "tools/tapenade", "cpp/adbench")
    tool = checkout / "tools" / "tapenade"
    sources = [tool / "evals" / "gmm" / "gmm_b.c", *(tool / "utils").glob("*.c")]
    number = ctypes.c_double

    class Wishart(ctypes.Structure):
        _fields_ = (("gamma", number), ("m", ctypes.c_int))

    assert problem.prior is not None
    with tempfile.TemporaryDirectory() as name:
        library = Path(name) / "tapenade.so"
        options = ("-O1", "-shared", "-fPIC", f"-I{checkout / 'cpp'}", "-o", library)
        run("cc", *options, *sources, "-lm")
        # One sample, one component, one dimension: every argument is one number, and so are
        # the gradients of alpha, of the means, and of q, which follow their arguments.
        q = -math.log(problem.deviations[0][0])
        given = [0.0, 0.0, problem.means[0][0], 0.0, q, 0.0, problem.x[0][0]]
        cells = [number(v) for v in given]
        one, last = ctypes.c_int(1), (number(0.0), number(1.0))
        arguments = [*map(ctypes.byref, cells), Wishart(*problem.prior), *map(ctypes.byref, last)]
        ctypes.CDLL(str(library)).gmm_objective_b(one, one, one, *arguments)
    return f"GradBench {GRADBENCH_COMMIT[:7]}", cells[5].value


FAR = Problem(
    x=[[100000001.0]], weights=[1.0], means=[[100000000.0]], deviations=[[1.0]]
)  # one deviation from the mean
TIMES = Problem(
    x=[[1700000000.0], [1700000020.0]],
    weights=[1.0],
    means=[[1700000010.0]],
    deviations=[[10.0]],
    quantity="fitted variance",
)
OFF = Problem(x=[[100.0]], weights=[1.0, 0.0], means=[[0.0], [100.0]], deviations=[[1.0], [1.0]])
TAIL = Problem(x=[[-8.0]], weights=[0.5, 0.5], means=[[0.0], [1.0]], deviations=[[1.0], [1.0]])
DENSE = Problem(
    x=[[0.0] * 130],
    weights=[0.5, 0.5],
    means=[[0.001] * 130, [0.002] * 130],
    deviations=[[0.001] * 130, [0.001] * 130],
    quantity="d log p(x) / d mean",
)
SAMPLED = Problem(
    x=[], weights=[1.0], means=[[0.0]], deviations=[[2.0]], quantity="deviation of samples"
)
SMALL = Problem(
    x=[[-1e-10], [1e-10]],
    weights=[1.0],
    means=[[0.0]],
    deviations=[[1e-10]],
    quantity="fitted variance",
)
PRIOR = Problem(
    x=[[0.0]],
    weights=[1.0],
    means=[[0.0]],
    deviations=[[1.0]],
    quantity="d log posterior / d q",
    prior=(1.0, 1),
)

FAULTS: dict[str, Fault] = {
    "gradbench-tapenade": Fault("tools/tapenade, gmm_objective_b", PRIOR, tapenade),
    "sklearn-fit": Fault(
        'GaussianMixture(covariance_type="diag").fit',
        TIMES,
        sklearn_fit,
        ("scikit-learn==1.9.1",),
        "scikit-learn",
    ),
    "sklearn-score": Fault(
        'GaussianMixture(covariance_type="diag").score_samples',
        FAR,
        sklearn_score,
        ("scikit-learn==1.9.1",),
        "scikit-learn",
    ),
    "torch-probs": Fault(
        "MixtureSameFamily(Categorical(probs=...), ...).log_prob",
        OFF,
        torch_categorical,
        ("torch==2.13.0", "numpy==2.4.6"),
        "torch",
    ),
    "pymc-gradient": Fault(
        "Mixture of MvNormal, Model.compile_dlogp", DENSE, pymc_gradient, ("pymc==5.28.5",), "pymc"
    ),
    "pomegranate-sample": Fault(
        'Normal(covariance_type="diag").sample',
        SAMPLED,
        pomegranate_sample,
        ("pomegranate==1.1.2", "torch==2.13.0"),
        "pomegranate",
    ),
    "openturns-mixture": Fault(
        "Mixture.computeLogPDF", TAIL, openturns_mixture, ("openturns==1.27.post1",), "openturns"
    ),
    "hmmlearn-fit": Fault(
        'GaussianHMM(1, covariance_type="diag").fit',
        TIMES,
        hmmlearn_fit,
        ("hmmlearn==0.3.3", "numpy==2.4.6"),
        "hmmlearn",
    ),
    "opencv-fit": Fault(
        "ml.EM.trainEM, getCovs",
        SMALL,
        opencv_em,
        ("opencv-python-headless==4.12.0.88",),
        "opencv",
    ),
    "armadillo-zero-weight": Fault("gmm_diag.log_p", OFF, armadillo_diag),
}


def right(problem: Problem) -> float:
    """Return what this library has for it."""
    return RIGHT[problem.quantity](problem)


def _mixture(problem: Problem) -> tuple[Any, Any, Any]:
    import numpy as np

    with np.errstate(divide="ignore"):  # a weight of zero has a logit of -inf
        logits = np.log(problem.weights)
    return logits, np.array(problem.means), np.array(problem.deviations)


def _log_prob(problem: Problem) -> float:
    import gmm_np

    return float(gmm_np.log_prob(problem.x, *_mixture(problem), family="diag")[0])


def _gradient(problem: Problem) -> float:
    import gmm_np

    mixture = _mixture(problem)
    _, gradients = gmm_np.nll_value_and_grad(problem.x, *mixture, family="diag", reduction="sum")
    return -float(gradients.means[0, 0])


def _variance(problem: Problem) -> float:
    import gmm_np

    estimator = gmm_np.GaussianMixture(1, covariance_type="diag", reg_covar=0.0)
    return float(estimator.fit(problem.x).covariances_[0, 0])


def _sampled(problem: Problem) -> float:
    import numpy as np

    import gmm_np

    parameters = gmm_np.Parameters(*_mixture(problem), family="diag")
    return float(np.sqrt(parameters.covariances()[0, 0, 0]))


def _posterior(problem: Problem) -> float:
    import numpy as np

    from gmm_np.parametrizations import precision_value_and_grad

    assert problem.prior is not None
    logits, means, deviations = _mixture(problem)
    gamma, m = problem.prior
    none: list[list[float]] = [[]]  # in one dimension nothing stands below a diagonal
    given = problem.x, logits, means, -np.log(deviations), none
    _, (_, _, d_q, _) = precision_value_and_grad(*given, gamma=gamma, m=m)
    return float(d_q[0, 0])


RIGHT: dict[str, Callable[[Problem], float]] = {
    "log p(x)": _log_prob,
    "d log p(x) / d mean": _gradient,
    "fitted variance": _variance,
    "d log posterior / d q": _posterior,
    "deviation of samples": _sampled,
}


def asked(name: str) -> tuple[str, float]:
    """Return the library with its version, and its number, from a process of its environment."""
    fault = FAULTS[name]
    python = environment(fault.folder, fault.requires)
    command = [str(python), str(SCRIPT), "--answer", name]
    done = subprocess.run(command, env=own(), stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise NotInstalledError(f"{name}: it did not answer")
    library, number = json.loads(done.stdout.splitlines()[-1])
    return str(library), float(number)


def shown(value: Any) -> str:
    """Return nested lists as Python has them, long ones of equal numbers as a product."""
    if not isinstance(value, list):
        return repr(value)
    if len(value) > 8 and len(set(value)) == 1:
        return f"[{value[0]!r}] * {len(value)}"
    return f"[{', '.join(map(shown, value))}]"


def text(fault: Fault, library: str, number: float) -> str:
    """Return what is printed of a fault: the input, both numbers, and their difference."""
    problem, exact = fault.problem, right(fault.problem)
    given = {"x": problem.x, "weights": problem.weights, "means": problem.means}
    given["deviations"] = problem.deviations
    lines = [f"{library}: {fault.call}", *(f"  {n} = {shown(v)}" for n, v in given.items() if v)]
    if problem.prior:
        lines.append("  gamma = {}, m = {}".format(*problem.prior))
    lines += [
        problem.quantity,
        f"  its number {number!r}",
        f"  right      {exact!r}",
        f"  off by     {abs(number - exact):.3g}",
    ]
    return "\n".join(lines)


def written(page: str, texts: dict[str, str]) -> str:
    """Return the page with what the commands print in place of what it has of them."""
    for name, new in texts.items():
        block = re.compile(rf"(?<=\$ python scripts/found\.py {name}\n)[^`]*")
        page = block.sub(lambda _, new=new: f"{new}\n", page, count=1)  # type: ignore[misc]
    return page


def main() -> None:
    """Ask, compare, and print or write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(FAULTS))
    parser.add_argument("--write", type=Path, metavar="PAGE", help="put it into a page")
    parser.add_argument("--answer", choices=list(FAULTS), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.answer:
        print(json.dumps(FAULTS[options.answer].answer(FAULTS[options.answer].problem)))
        return
    unknown = [name for name in options.names if name not in FAULTS]
    if unknown:
        parser.error(f"no fault is called {unknown[0]!r}; there are {', '.join(FAULTS)}")
    texts = {}
    for name in options.names or FAULTS:
        try:
            texts[name] = text(FAULTS[name], *asked(name))
        except NotInstalledError as error:
            print(error, file=sys.stderr)
            continue
        print(texts[name], end="\n\n")
    if options.write:
        page = options.write.read_text(encoding="utf-8")
        options.write.write_text(written(page, texts), encoding="utf-8")


if __name__ == "__main__":
    main()
