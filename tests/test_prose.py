"""The documents use the project's words; .ci/prose.py, which `tox -e lint` runs, finds the others."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]

TEXT = """# Title

Mend the file. `mend` is code, and [a link](mend.md) is an address.

The run goes on with the old weights,
and it may have so many threads.

```python
mend()
```

<!-- begin: errors -->
mend
<!-- end -->
"""


def test_an_old_word_is_found_in_prose_alone_and_the_better_one_is_named(tmp_path: Path) -> None:
    path = tmp_path / "page.md"
    path.write_text(TEXT, encoding="utf-8")
    command = [sys.executable, str(ROOT / ".ci" / "prose.py"), str(path)]
    run = subprocess.run(command, capture_output=True, text=True, check=False)

    found = [line.removeprefix(f"{path}:") for line in run.stdout.splitlines()]
    assert found == [
        "3: 'Mend': Not this project's word. Write: fix.",
        "5: 'goes on with': Not this project's word. Write: resume.",
        "6: 'so many': Not this project's word. Write: a number, or: at most N.",
    ]
    assert run.returncode == 1
