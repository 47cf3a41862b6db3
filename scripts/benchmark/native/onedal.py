"""Iterations of EM by oneDAL: reads a problem (see native_em.py), prints seconds an iteration."""

import sys
import time

import daal4py  # type: ignore[import-not-found]  # in an environment of its own
import numpy as np

path, threads, kind = sys.argv[1], int(sys.argv[2]), sys.argv[3]
daal4py.daalinit(threads)
values = np.fromfile(path)
n, d, k, few, many = (int(value) for value in values[:5])
means, variances, weights, x = np.split(values[5:], np.cumsum([k * d, k * d, k]))
variances = variances.reshape(k, d)
start = [v[None] if kind == "diag" else np.diag(v) for v in variances]
seconds = {}
for steps in (few, many):
    fit = daal4py.em_gmm(
        nComponents=k,
        maxIterations=steps,
        accuracyThreshold=0.0,
        covarianceStorage="diagonal" if kind == "diag" else "full",
        fptype="double",
    )
    before = time.perf_counter()
    found = fit.compute(x.reshape(n, d), weights[None], means.reshape(k, d), start)
    seconds[steps] = time.perf_counter() - before
    if found.nIterations != steps:
        sys.exit(f"stopped after {found.nIterations} iterations")
print((seconds[many] - seconds[few]) / (many - few))
