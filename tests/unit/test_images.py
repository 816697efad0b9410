"""What the images promise that no program in them can see to by itself."""

import json
from pathlib import Path

DOCKERFILE = Path(__file__).parents[2] / "Dockerfile"


def test_no_program_imports_from_the_folder_it_starts_in() -> None:
    """The containers of a pod share /tmp, and /tmp is where they start."""
    lines = DOCKERFILE.read_text().splitlines()
    entries = [json.loads(line.removeprefix("ENTRYPOINT ")) for line in lines if line.startswith("ENTRYPOINT ")]
    assert [entry[:3] for entry in entries] == [["python", "-P", "-m"]] * 3
