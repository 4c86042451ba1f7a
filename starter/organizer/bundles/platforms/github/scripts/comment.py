"""Comment on a pull request with what its run of evaluate.yml found.

It runs on main with a token that may write, and everything that the run left is hostile: a pull request can
change the workflow that runs for it. So GitHub says which pull request it was and what that changes. Of the
artifact one member is read, up to a limit, as strict JSON. Each record is checked against the kit's schema
(result.schema.json, which `starter leaderboard --schema` prints), and reaches the comment as figures, words
of the schema's lists, and one code block.
"""

import io
import json
import os
import subprocess
import sys
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jsonschema
from own_folder import entry_names, refusal

HERE = Path(__file__).parent
MOST_BYTES = 8 * 2**20
"""Of the artifact as GitHub sends it, and of the member in it."""

MEMBER = "result.json"
SUFFIX = (
    "These figures come from the pull request's own run on the public images. "
    "The board counts what is merged."
)


class UnreadableError(Exception):
    """What the run left is not what `starter batch --json` writes; the text says how it differs."""


def main() -> None:
    """Find the pull request that the run was for, and comment on it."""
    repository, sha = os.environ["GITHUB_REPOSITORY"], os.environ["HEAD_SHA"]
    pull = find_pull_request(repository, f"{os.environ['HEAD_OWNER']}:{os.environ['HEAD_BRANCH']}", sha)
    if pull is None:
        sys.stdout.write(f"no open pull request ends with {sha}: nothing to comment on\n")
        return
    number, author = int(pull["number"]), str(pull["user"]["login"])
    paths = changed_paths(repository, number)
    if why := refusal(paths, author, (HERE.parent / "teams.csv").read_text(encoding="utf-8")):
        body = f"### Refused\n\n{block(why)}\n"
    else:
        table = report(repository, int(os.environ["RUN_ID"]), entry_names(paths))
        body = f"### Commit {sha[:7]}\n\n{table}\n\n{SUFFIX}\n"
    words = ("--repo", repository, "--edit-last", "--create-if-none", "--body-file", "-")
    gh("pr", "comment", str(number), *words, given=body.encode())


def gh(*words: str, given: bytes | None = None) -> bytes:
    """Call GitHub's command line and return what it prints.

    Raises:
        CalledProcessError: it failed; its own message stands on stderr.
        UnreadableError: it prints more than `MOST_BYTES`.
    """
    process = subprocess.Popen(["gh", *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin is not None
    assert process.stdout is not None
    with process:
        process.stdin.write(given or b"")
        process.stdin.close()
        printed = process.stdout.read(MOST_BYTES + 1)
        if len(printed) > MOST_BYTES:
            process.kill()
            raise UnreadableError(f"more than {MOST_BYTES // 2**20} MiB")
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, ["gh", *words])
    return printed


def find_pull_request(repository: str, head: str, sha: str) -> dict[str, Any] | None:
    """Return the open pull request of a branch whose last commit the run was for."""
    query = ("--method", "GET", "-f", "state=open", "-f", f"head={head}")
    found = json.loads(gh("api", f"repos/{repository}/pulls", *query))
    return next((pull for pull in found if pull["head"]["sha"] == sha), None)


def changed_paths(repository: str, number: int) -> list[str]:
    """Return every file that a pull request changes, and the old names of those that it moves."""
    names = ".[] | [.filename, .previous_filename] | @json"
    lines = gh("api", "--paginate", f"repos/{repository}/pulls/{number}/files?per_page=100", "--jq", names)
    return [name for line in lines.splitlines() for name in json.loads(line) if name]


def report(repository: str, run: int, names: Sequence[str]) -> str:
    """Return the comment's text on the entries of a pull request."""
    try:
        records, refused = read(artifact(repository, run))
    except UnreadableError as error:
        server = os.environ.get("GITHUB_SERVER_URL", "https://github.com")
        log = f"{server}/{repository}/actions/runs/{run}"
        return f"No result ({error}). The log of the run says why: {log}"
    results = {record["result"]["name"]: record["result"] for record in records}
    rows = ["| entry | status | score | macro F1 | MACs |", "|---|---|---|---|---|"]
    rows += [row(name, results.get(name)) for name in names]
    wrong = [complaint(results[name]) for name in names if results.get(name, {}).get("problems")]
    wrong += [f"{name}: {refused[name]}" for name in names if name in refused]
    return "\n".join(rows) + "".join(f"\n\n{block(text)}" for text in wrong)


def artifact(repository: str, run: int) -> bytes:
    """Return the run's result as it was uploaded.

    Raises:
        UnreadableError: there is none, or it is not what is uploaded there.
    """
    listed = json.loads(gh("api", f"repos/{repository}/actions/runs/{run}/artifacts?name=result"))[
        "artifacts"
    ]
    if not listed:
        raise UnreadableError("the run uploaded none")
    if int(listed[0]["size_in_bytes"]) > MOST_BYTES:
        raise UnreadableError("it is too large")
    packed = gh("api", f"repos/{repository}/actions/artifacts/{int(listed[0]['id'])}/zip")
    try:
        with zipfile.ZipFile(io.BytesIO(packed)) as archive, archive.open(MEMBER) as member:
            data = member.read(MOST_BYTES + 1)
    except (zipfile.BadZipFile, zlib.error, KeyError, RuntimeError, NotImplementedError, EOFError) as error:
        raise UnreadableError(f"it is not a zip with {MEMBER}") from error
    if len(data) > MOST_BYTES:
        raise UnreadableError("it is too large")
    return data


def read(data: bytes) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """Return the records of a result, each as the kit's schema has it, and why entries are refused, by name.

    Raises:
        UnreadableError: it is not such a result.
    """
    schema = json.loads((HERE / "result.schema.json").read_text(encoding="utf-8"))
    wanted = {
        "type": "object",
        "required": ["entries", "results"],
        "properties": {
            "results": {"type": "array", "maxItems": 50, "items": {"$ref": "#/$defs/Record"}},
            "entries": {"type": "array", "maxItems": 50, "items": {"$ref": "#/$defs/Planned"}},
        },
        "$defs": schema.pop("$defs") | {"Record": schema, "Planned": {
            "type": "object",
            "required": ["name", "refused"],
            "properties": {"name": {"type": "string"}, "refused": {"type": "string"}},
        }},
    }  # fmt: skip
    try:
        found = json.loads(data.decode("utf-8"), parse_constant=_no_number)
        jsonschema.validate(found, wanted, cls=jsonschema.Draft202012Validator)
    except (ValueError, RecursionError, jsonschema.ValidationError) as error:
        raise UnreadableError("it is not what starter batch writes") from error
    return found["results"], {
        entry["name"]: entry["refused"] for entry in found["entries"] if entry["refused"]
    }


def _no_number(text: str) -> None:
    raise ValueError(text)  # NaN and Infinity are not JSON


def row(name: str, result: dict[str, Any] | None) -> str:
    """Return an entry's row. A name comes from GitHub, and yet its author chose it."""
    shown = "".join(c if c.isalnum() or c in "_-." else "?" for c in name[:64])
    if result is None:
        return f"| `{shown}` | not evaluated | | | |"
    forms = {"score": ".4f", "macro_f1": ".4f", "macs": ",.0f"}
    figures = [figure(result.get(field), form) for field, form in forms.items()]
    return f"| `{shown}` | {result['status']} | {' | '.join(figures)} |"


def figure(value: float | None, form: str) -> str:
    """Return a number for a cell of the table; nothing where there is none or it is absurd."""
    return "" if value is None or not abs(value) < 1e15 else format(value, form)


def complaint(result: dict[str, Any]) -> str:
    """Return what is wrong with an entry."""
    first = result["problems"][0]
    code = first["code"]
    place = f"{result['name']}: {code} {first['where']}"
    return f"{place}\n{first['got']}\nfix: {first['hint']}\nmore: starter explain {code}"


def block(text: str) -> str:
    """Return a stranger's text as a code block, in which GitHub obeys nothing: no link, no @name."""
    lines = text[:1000].replace("`", "'").splitlines()[:12]
    shown = ["".join(c if c.isprintable() else "?" for c in line) for line in lines]
    return "\n".join(["```text", *shown, "```"])


if __name__ == "__main__":
    main()
