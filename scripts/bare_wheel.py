"""Try an installation that has NumPy and SciPy alone; `bash scripts/test_wheel` makes one.

Run it by that installation's Python, in a folder that is not the repository's. The main jobs have
to run, and each feature that needs more has to say what to install.
"""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

FIT = ["fit", "table.csv", "-k", "2", "--out", "model.npz"]
# Commands, with what they print; and code that needs more, with what it says to install.
RUN = {
    "--version": "gmm-np ",
    "demo --starts 1": "every gradient agrees",
    "demo --clusters 2 --starts 1": "No pictures: pictures need matplotlib",
    " ".join(FIT): "Model: model.npz",
    "score model.npz table.csv": "",
    "errors model.npz table.csv": "",
    "walkthrough": "rows agree",
    "exercises start practice": "",
    "conformance --level lower --python gmm_np.conformance.adapters.gmm_np:auto": "pass",
}
MISSING = {
    "fit table.csv -k 2 --plot fit.png": "pip install matplotlib",
    "fit table.csv -k 2 --report fit.html": "pip install matplotlib",
    "errors model.npz table.csv --plot errors.png": "pip install matplotlib",
    "demo --out demo.png": "pip install matplotlib",
    "demo --clusters 2 --frames frames": "pip install matplotlib",
    "score model.npz table.parquet": "pip install pyarrow",
}
CODE = {
    "gmm_np.interop.torch.to_torch(model)": "pip install torch",
    "gmm_np.interop.torch.nll(x, p.pi_logits, p.means, p.scale)": "pip install torch",
    "gmm_np.interop.jax.nll(x, p.pi_logits, p.means, p.scale)": "pip install jax",
    "gmm_np.interop.autograd.nll(x, p.pi_logits, p.means, p.scale)": "pip install autograd",
    "gmm_np.interop.sklearn.to_sklearn(model)": "pip install scikit-learn",
    "gmm_np.interop.sklearn.from_sklearn(model)": "pip install scikit-learn",
    "model.set_fit_request(sample_weight=True)": "pip install scikit-learn",
    "gmm_np.plotting.plot_mixture(x, model)": "pip install matplotlib",
}
BEFORE = """
import gmm_np
x, _ = gmm_np.datasets.load_old_faithful()
model = gmm_np.GaussianMixture(2, random_state=0).fit(x)
p = model.parameters_
"""


def run(*command: str) -> subprocess.CompletedProcess[str]:
    """Run this Python."""
    return subprocess.run([sys.executable, *command], capture_output=True, text=True, check=False)


def main() -> int:
    """Try everything; print what is not as it should be."""
    present = [n for n in ("matplotlib", "tqdm", "pyarrow", "torch", "sklearn") if find_spec(n)]
    if present:
        print(f"This installation has more than NumPy and SciPy: {', '.join(present)}.")
        return 2
    import gmm_np

    table = Path(gmm_np.__file__).parent / "data" / "old_faithful.csv"
    Path("table.csv").write_bytes(table.read_bytes())
    Path("table.parquet").write_bytes(b"PAR1")
    faults = []
    for arguments, expected in RUN.items():
        done = run("-m", "gmm_np", *arguments.split())
        if done.returncode != 0 or expected not in done.stdout:
            faults.append(f"gmm-np {arguments}: {done.returncode}\n{done.stdout}{done.stderr}")
    for arguments, expected in MISSING.items():
        done = run("-m", "gmm_np", *arguments.split())
        if done.returncode != 2 or expected not in done.stderr:
            faults.append(f"gmm-np {arguments}: {done.returncode}\n{done.stdout}{done.stderr}")
    for code, expected in CODE.items():
        done = run("-c", f"{BEFORE}{code}")
        if done.returncode != 1 or expected not in done.stderr:
            faults.append(f"{code}: {done.returncode}\n{done.stdout}{done.stderr}")
    print("\n".join(faults) or f"{len(RUN) + len(MISSING) + len(CODE)} attempts, all as expected.")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
