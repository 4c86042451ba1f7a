"""The quickstart notebook runs from top to bottom, as it stands, in a competition of its own."""

import json
import os
import sys
from pathlib import Path

import pytest

NOTEBOOK = Path(__file__).parents[1] / "notebooks" / "quickstart.ipynb"
NEEDS = "the notebook's test needs Jupyter's client and kernel: pip install -e '.[test]'"
nbformat = pytest.importorskip("nbformat", reason=NEEDS)
nbclient = pytest.importorskip("nbclient", reason=NEEDS)
pytest.importorskip("ipykernel", reason=NEEDS)


@pytest.mark.long
def test_the_quickstart_notebook_trains_scores_and_shows_a_picture(
    competition: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder in ("IPYTHONDIR", "JUPYTER_RUNTIME_DIR"):
        monkeypatch.setenv(folder, str(competition / folder))
    monkeypatch.setenv("PATH", os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
    notebook = nbformat.read(NOTEBOOK, as_version=4)

    where = {"metadata": {"path": str(competition)}}
    nbclient.NotebookClient(notebook, timeout=600, resources=where).execute()

    install, *commands, picture = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert not install.outputs  # the kit is there, so nothing is cloned
    printed = ["".join(o.text for o in cell.outputs if o.output_type == "stream") for cell in commands]
    assert any("1 submission: 1 ranked" in text for text in printed)
    assert picture.outputs[0].data["image/png"]


def test_the_notebook_is_committed_without_outputs() -> None:
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    assert not any(cell.get("outputs") or cell.get("execution_count") for cell in cells)
