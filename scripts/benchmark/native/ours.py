"""Iterations of EM by gmm_np: reads a problem (see native_em.py), prints seconds an iteration."""

import sys
import time

import numpy as np

import gmm_np
from gmm_np.solvers import fit_em

path, _, kind = sys.argv[1:]
values = np.fromfile(path)
n, d, k, few, many = (int(value) for value in values[:5])
means, variances, weights, x = np.split(values[5:], np.cumsum([k * d, k * d, k]))
deviations = np.sqrt(variances.reshape(k, d))
scale = {
    "diag": deviations,
    "full": np.stack([np.diag(deviation) for deviation in deviations]),
    "spherical": deviations[:, 0],
}[kind]
start = gmm_np.Parameters(np.log(weights), means.reshape(k, d), scale, kind)
seconds = {}
for steps in (few, many):
    before = time.perf_counter()
    fit_em(x.reshape(n, d), start, max_iter=steps, tol=0.0, on_collapse="keep")
    seconds[steps] = time.perf_counter() - before
print((seconds[many] - seconds[few]) / (many - few))
