"""What several tests of the API need."""

from collections.abc import Iterator

import pytest

from tests.support import DevNest, data_directory, running


@pytest.fixture(scope="module")
def limited() -> Iterator[DevNest]:
    """A DevNest with limits."""
    with data_directory() as data_dir, running(data_dir, "--limits") as process:
        yield process
