"""One simulated site for each file of tests, on which every test has hosts of its own."""

import pytest
from simulation import World


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    site = World(tmp_path_factory.mktemp("world") / "site")
    yield site
    site.end()


@pytest.fixture
def world(site):
    """The site; after the test no disk may be lost that was in use, and every command of a guest must be known."""
    losses = len(site.losses)
    yield site
    site.faults()
    assert site.losses[losses:] == []
    assert site.guests.unknown == []
