"""The peers that the project does not depend on: adapters and environments. None is asked here."""

import importlib
import importlib.util
import sys
from pathlib import Path

import pytest

from gmm_np.conformance.cases import COVARIANCES
from gmm_np.conformance.function_adapter import offered

ROOT = Path(__file__).parents[2]


@pytest.fixture
def script(monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))
    path = ROOT / "scripts" / "conformance_report.py"
    spec = importlib.util.spec_from_file_location("conformance_report_peers", path)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)  # dataclasses look for it there
    spec.loader.exec_module(module)
    return module


def test_adapters_of_all_peers_load_without_their_library_and_their_versions_are_pinned(script):
    assert script.IN_ENVIRONMENTS
    for peer in script.IN_ENVIRONMENTS:
        assert all("==" in requirement for requirement in peer.requires)
        for target in peer.targets:
            name, _, function = target.partition(":")
            module = importlib.import_module(f"conformance.peers.{name}")
            asked = getattr(module, function)
            assert any(offered(asked, p) for p in ("cholesky", *COVARIANCES))
            pinned = {requirement.partition("==")[0] for requirement in peer.requires}
            assert module.REQUIRES[0] in pinned


def test_peer_is_asked_by_the_interpreter_of_its_environment(script, monkeypatch):
    monkeypatch.setattr(script, "environment", lambda name, _: Path("/of") / name / "python")
    (options,) = script.Peer("a", ("lib:function",), requires=("lib==1",)).options()
    worker = "-m gmm_np.conformance.worker conformance.peers.lib:function"
    assert options == ["--command", f"'/of/lib-peer/python' {worker}", "--specials"]


def test_peer_that_cannot_be_installed_is_left_out_with_a_word(script, monkeypatch, capsys):
    def environment(name, requires):
        raise script.NotInstalledError(f"{name}: pip cannot install {requires[0]}")

    monkeypatch.setattr(script, "environment", environment)
    peer = script.Peer("a", ("lib:function",), requires=("lib==1",))
    assert script.run(peer, Path(), timeout=1.0) == {}
    assert "left out: lib-peer: pip cannot install lib==1" in capsys.readouterr().err


def test_environment_is_made_again_only_where_its_requirements_changed(
    script, monkeypatch, tmp_path
):
    environments = sys.modules[script.environment.__module__]
    started = []

    class Done:
        returncode = 0

    def run(command, **_):
        started.append(command)
        (tmp_path / "lib").mkdir(exist_ok=True)
        return Done()

    monkeypatch.setattr(environments.subprocess, "run", run)
    for requires, calls in ((("lib==1",), 2), (("lib==1",), 2), (("lib==2",), 4)):
        python = environments.environment("lib", requires, tmp_path)
        assert python == tmp_path / "lib" / "bin" / "python"
        assert len(started) == calls
    assert started[-1][-1] == "lib==2"
    Done.returncode = 1
    with pytest.raises(environments.NotInstalledError, match="lib==3"):
        environments.environment("lib", ("lib==3",), tmp_path)
