"""The search: what it proposes, that nothing over the budget is trained, that it goes on, what it leaves."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import optuna
import pytest

from starter.contract.errors import UsageError
from starter.contract.submissions import discover, discover_one
from starter.data.dataset import Dataset
from starter.plugin.count import count_model
from starter.plugin.load import load_plugin_apart
from starter.recipes.search import search
from starter.recipes.search.search import Found, Search, SearchSettings, write_candidate, write_front
from starter.recipes.training.settings import TrainSettings
from starter.report.html.search import write_page

SMALL = {
    "resolution": 33,
    "stem": 8,
    "stages": [
        {"channels": 8, "depth": 1, "kernel": 3, "expansion": 1},
        {"channels": 16, "depth": 2, "kernel": 5, "expansion": 2},
        {"channels": 32, "depth": 1, "kernel": 3, "expansion": 3},
    ],
}


def settings(**changes: Any) -> SearchSettings:
    train = TrainSettings(epochs=1, batch_size=8)
    return SearchSettings(
        **{"trials": 2, "min_macs": 300_000, "max_macs": 3_000_000, "train": train} | changes
    )


def silent(line: str) -> None:
    del line


def nothing(done: int, total: int) -> None:
    del done, total


@pytest.mark.slow
def test_what_convolutions_cost_is_known_without_counting(tmp_path: Path, easy_dataset: Dataset) -> None:
    """The closed form and the counter agree to the last MAC, for odd sizes too."""
    source = discover_one(write_candidate(tmp_path / "small", SMALL))
    submission = load_plugin_apart(source, easy_dataset.competition).submission
    counted = count_model(submission.model, (3, 33, 33), source)

    assert search.contraction_macs(SMALL, 3) == counted.contraction
    assert counted.macs > counted.contraction


@pytest.mark.long
def test_a_search_trains_what_fits_and_leaves_plugins_and_a_page(
    easy_dataset: Dataset, tmp_path: Path
) -> None:
    lines: list[str] = []
    running = Search(easy_dataset, settings(jobs=2), tmp_path / "study.sqlite", tmp_path / "out")
    running.run(lines.append, nothing)
    found = running.found()
    best = write_front(tmp_path / "out", found)
    page = write_page(found, best, tmp_path / "out", "A <b> competition").read_text(encoding="utf-8")
    plugins = discover([tmp_path / "out" / "front"])

    assert len(found) == len(lines) == 2
    assert all(300_000 <= item.macs <= 3_000_000 for item in found)
    assert [item.macs for item in best] == sorted(item.macs for item in best)
    assert len(plugins) == len(best)
    for item in best:
        source = discover_one(tmp_path / "out" / item.folder)
        plugin = load_plugin_apart(source, easy_dataset.competition)
        side = item.config["resolution"]
        assert plugin.weights_loaded
        assert count_model(plugin.submission.model, (3, side, side), source).macs == item.macs
        assert f"{item.macs:,}" in page
    assert "A &lt;b&gt; competition" in page
    assert page.count("<circle") == 2
    assert not re.search(r"(src|href)=.?https?:", page)

    trained = tmp_path / "out" / best[0].folder / "weights.safetensors"
    trained.write_bytes(b"trained on")
    assert write_front(tmp_path / "out", found) == best
    assert trained.read_bytes() == b"trained on"


def test_the_front_loses_what_is_beaten_unless_it_was_changed(tmp_path: Path) -> None:
    found = [
        Found(number=n, macs=n * 10**6, macro_f1=0.5 + n / 10, config={}, folder=f"trials/{n}")
        for n in (1, 2, 3)
    ]
    for item in found:
        place = tmp_path / item.folder
        place.mkdir(parents=True)
        (place / "weights.safetensors").write_bytes(bytes(item.number))
    one, two, three = (tmp_path / item.folder for item in write_front(tmp_path, found))
    (two / "weights.safetensors").write_bytes(b"trained on")

    better = found[0].model_copy(update={"number": 4, "macs": 900_000, "macro_f1": 0.9, "folder": "trials/3"})
    found.append(better)
    assert [item.number for item in write_front(tmp_path, found)] == [4]
    assert not one.exists()
    assert two.is_dir()
    assert not three.exists()


@pytest.mark.long
def test_a_study_goes_on_where_it_was_killed(easy_dataset: Dataset, tmp_path: Path) -> None:
    """The killed network is trained again, from the same proposal; those before it are kept."""
    (tmp_path / "competition.toml").write_text('name = "mine"\n', encoding="utf-8")
    command = [sys.executable, "-m", "starter", "search", "--out", "found", "--data", easy_dataset.root]
    command += ["--trials", "3", "--epochs", "400", "--batch-size", "8"]
    command += ["--max-macs", "3000000"]
    place = tmp_path / "found"
    with subprocess.Popen(command, cwd=tmp_path, start_new_session=True) as process:
        deadline = time.monotonic() + 120
        while not list(place.glob("trials/.starter/*/seed-0.pt")) and time.monotonic() < deadline:
            time.sleep(0.1)
        os.killpg(process.pid, signal.SIGKILL)
    (killed,) = place.glob("trials/trial-*")
    config = json.loads((killed / "config.json").read_text(encoding="utf-8"))
    study = place / "study.sqlite"
    running = Search(easy_dataset, settings(trials=1), study, place)
    running.run(silent, nothing)

    (found,) = running.found()
    assert found.config == config
    assert found.number > int(killed.name.removeprefix("trial-"))
    assert not killed.exists()
    states = [
        trial.state for trial in optuna.load_study(study_name="starter", storage=f"sqlite:///{study}").trials
    ]
    assert optuna.trial.TrialState.RUNNING not in states
    again = Search(easy_dataset, settings(trials=1), study, place)
    again.run(silent, nothing)
    assert again.found() == [found]
    longer = settings(train=TrainSettings(epochs=2, batch_size=8))
    with pytest.raises(UsageError, match=r"U502 .* epochs 1, now 2"):
        Search(easy_dataset, longer, study, place)


def test_a_budget_that_nothing_fits_is_told(
    easy_dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search, "_MOST_REFUSALS", 5)
    running = Search(easy_dataset, settings(min_macs=1, max_macs=2), tmp_path / "study.sqlite", tmp_path)
    with pytest.raises(UsageError, match=r"U504 .*none of 1 to 2 MACs"):
        running.run(silent, nothing)


def test_the_front_is_drawn_as_steps_over_all_points(tmp_path: Path) -> None:
    found = [
        Found(number=i, macs=macs, macro_f1=f1, config=SMALL, folder=f"trials/{i}")
        for i, (macs, f1) in enumerate([(1_000_000, 0.5), (2_000_000, 0.4), (3_000_000, 0.8)])
    ]
    page = write_page(found, [found[0], found[2]], tmp_path, "mine").read_text(encoding="utf-8")

    assert page.count('class="top"') == 2
    assert page.count('class="dot"') == 1
    assert re.search(r'class="front" d="M[\d.]+ [\d.]+V[\d.]+H[\d.]+V[\d.]+H[\d.]+"', page)
