from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.local.pbs.machine import Machine


@pytest.fixture
def pbs(tmp_path: Path) -> Iterator[Machine]:
    """A fresh PBS with the queues and the node of the recordings."""
    machine = Machine(tmp_path)
    yield machine
    machine.close()
