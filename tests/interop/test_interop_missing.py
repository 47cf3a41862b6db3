"""What is said where a framework is not installed."""

import sys

import pytest

from gmm_np.interop import load


@pytest.mark.parametrize(
    ("module", "package"),
    [
        ("torch.distributions", "torch"),
        ("jax.numpy", "jax"),
        ("autograd.extend", "autograd"),
        ("sklearn.mixture", "scikit-learn"),
    ],
)
def test_a_missing_framework_is_named_with_its_package(monkeypatch, module, package):
    framework = module.partition(".")[0]
    for name in [name for name in sys.modules if name.partition(".")[0] == framework]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, framework, None)
    with pytest.raises(
        ModuleNotFoundError, match=rf"interop\.{framework} .*pip install {package}$"
    ):
        load(module)


def test_a_framework_that_lacks_something_of_its_own_says_that(monkeypatch, tmp_path):
    (tmp_path / "broken_framework.py").write_text("import nothing_of_this_name\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="'nothing_of_this_name'"):
        load("broken_framework")
