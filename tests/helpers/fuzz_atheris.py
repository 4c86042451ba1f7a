"""Fuzz the reader, the walk and the run: `python tests/helpers/fuzz_atheris.py -max_total_time=60`.

Needs atheris (`uv pip install atheris`), so pytest does not collect it. The property
is test_fuzz.py's; the bytes that libFuzzer varies choose what hypothesis draws. Its
options follow; `-rss_limit_mb` is raised for torch unless it is given.
"""

import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["starter"]):
    from fuzzing import Mutant, assert_refused_or_priced, mutants, single_calls

from hypothesis import HealthCheck, given, settings

FOLDER = tempfile.TemporaryDirectory()


@settings(deadline=None, database=None, suppress_health_check=list(HealthCheck))
@given(mutant=mutants() | single_calls())
def spoilt(mutant: Mutant) -> None:
    """Hold the property for one answer of a worker."""
    assert_refused_or_priced(Path(FOLDER.name), mutant)


def main() -> None:
    """Run until libFuzzer's limits are reached or the property fails."""
    options = sys.argv if any("-rss_limit_mb" in a for a in sys.argv) else [*sys.argv, "-rss_limit_mb=8192"]
    atheris.Setup(options, spoilt.hypothesis.fuzz_one_input)  # type: ignore[attr-defined]
    atheris.Fuzz()


if __name__ == "__main__":
    main()
