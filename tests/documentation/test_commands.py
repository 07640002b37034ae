"""What the pages tell their readers to type does what they show."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.documentation.console import ROOT, Step, parts, reader
from tests.support import data_directory, prepare

TUTORIALS = sorted(
    page for page in (ROOT / "docs" / "tutorials").glob("*.md") if page.stem != "index"
)
PARTS = ["fastapi", "litestar", "django", "flask", "celery", "password-scripts"]
HOW_TOS = [ROOT / "docs" / "how-to" / f"{name}.md" for name in PARTS]
PAGES = [ROOT / "README.md", *TUTORIALS, *HOW_TOS]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_commands_of_a_page_print_what_it_shows(page: Path) -> None:
    """In its order, in one shell, beside what the page has started."""
    todo = list(parts(page.read_text(encoding="utf-8")))
    assert any(isinstance(part, Step) for part in todo)
    with data_directory() as data_dir:
        prepare(data_dir)
        clone = data_dir.parent / "clone"
        clone.mkdir()
        with reader(clone, data_dir) as somebody:
            for part in todo:
                somebody.do(part)


def test_the_example_of_the_readme_runs(tmp_path: Path) -> None:
    """The one that needs neither a server nor a file beside it."""
    (example,) = re.findall(
        r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL
    )
    (tmp_path / "example.py").write_text(example.replace("gensalt(12)", "gensalt(4)"))
    answer = subprocess.run(
        [sys.executable, "example.py"],
        cwd=tmp_path,
        env=os.environ,
        capture_output=True,
        text=True,
        check=True,
    )
    assert answer.stdout == "True\n"
