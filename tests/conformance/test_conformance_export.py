"""What is exported for other projects: all of it or nothing, with digests that hold."""

import hashlib
import json

import pytest

from gmm_np.cli import main
from gmm_np.conformance import export as export_module
from gmm_np.conformance import read_vectors
from gmm_np.conformance.cases import DIRECTORY
from gmm_np.conformance.export import export


def test_export_is_the_vectors_byte_for_byte(tmp_path):
    target = tmp_path / "vendor" / "gmm"
    assert main(["conformance", "export", str(target)]) == 0
    copied = {path.name: path.read_bytes() for path in target.iterdir()}
    page = copied.pop("SPEC.md").decode()
    assert copied == {path.name: path.read_bytes() for path in DIRECTORY.iterdir()}
    for name, content in copied.items():
        assert f"| `{hashlib.sha256(content).hexdigest()}` |" in page
        assert f"| `{name}` |" in page
    assert [f.name for f in read_vectors(target)] == [f.name for f in read_vectors()]


def test_families_are_chosen_with_their_digests_and_their_part_of_the_page(tmp_path):
    families = export(tmp_path / "some", ["dense", "hvp_*"])
    names = [family.name for family in families]
    assert names[0] == "dense"
    assert all(name.startswith("hvp_") for name in names[1:])
    assert len(names) > 2
    made = sorted(path.name for path in (tmp_path / "some").iterdir())
    assert made == sorted(["SPEC.md", "schema.json", "digests.txt", *(f"{n}.json" for n in names)])
    ids = [line.split()[0] for line in (tmp_path / "some/digests.txt").read_text().splitlines()]
    assert sorted(ids) == sorted(case.id for family in families for case in family.cases)
    page = (tmp_path / "some/SPEC.md").read_text(encoding="utf-8")
    assert "| inputs, cholesky | `chol` |" in page
    assert "| inputs, hvp | `v_chol` |" in page
    assert "scores" not in page.partition("outputs, hvp")[2]
    assert "| inputs, precision |" not in page


def test_page_has_every_field_that_the_schema_describes(tmp_path):
    export(tmp_path / "all")
    page = (tmp_path / "all/SPEC.md").read_text(encoding="utf-8").replace("\\|", "|")
    schema = json.loads((DIRECTORY / "schema.json").read_text(encoding="utf-8"))
    described = [schema, *(d for d in schema["$defs"].values() if "properties" in d)]
    assert len(described) > 10
    for definition in described:
        for name, field in definition["properties"].items():
            if "description" in field:
                assert f"| `{name}` | {field['description']} |" in page


def test_nothing_is_overwritten_and_nothing_is_left_of_half_an_export(
    tmp_path, monkeypatch, capsys
):
    (tmp_path / "precious").write_text("", encoding="utf-8")
    assert main(["conformance", "export", str(tmp_path)]) == 2
    assert "that is new or empty" in capsys.readouterr().err
    assert main(["conformance", "export", str(tmp_path / "precious")]) == 2
    assert main(["conformance", "export", str(tmp_path / "new"), "--family", "none"]) == 2
    assert "no family is called none" in capsys.readouterr().err

    def full(*_):
        raise OSError("no space left on device")

    monkeypatch.setattr(export_module, "specification", full)
    assert main(["conformance", "export", str(tmp_path / "new"), "--family", "dense"]) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["precious"]


def test_empty_directory_is_filled(tmp_path):
    (tmp_path / "empty").mkdir()
    export(tmp_path / "empty", ["one_sample"])
    assert (tmp_path / "empty/one_sample.json").exists()


@pytest.mark.parametrize("action", [["export", "x"], ["init", "x", "--language", "c"]])
def test_no_run_beside_an_action(action, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["conformance", "--python", "mine:nll", *action])
    assert "--python is for a run" in capsys.readouterr().err
