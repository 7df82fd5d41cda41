"""What all tests share: a cache of their own, no progress bars, generated cells, and where real data lie."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings as hypothesis_settings

from support.paths import SHARED

# The same examples in every run: a red run is then somebody's change, never somebody else's luck.
hypothesis_settings.register_profile("suite", derandomize=True, deadline=None)
hypothesis_settings.load_profile("suite")

# Several workers share the processor: each with threads for all of it would spend its time waiting for the others.
# Set before anything that starts threads is imported.
if (workers := int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))) > 1:
    for name in ("OMP_NUM_THREADS", "CERVICYTE_THREADS"):
        os.environ.setdefault(name, str(max(1, (os.cpu_count() or 1) // workers)))

# Set when this file is imported, so that it holds for modules that read a setting early and for child processes.
_CACHE = tempfile.mkdtemp(prefix="cervicyte-tests-")
atexit.register(shutil.rmtree, _CACHE, ignore_errors=True)
os.environ["CERVICYTE_CACHE_DIR"] = _CACHE
os.environ["CERVICYTE_PROGRESS"] = "off"
# Programs that a test starts find its helpers too.
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(Path(__file__).parent), os.environ.get("PYTHONPATH"))))


#: Fixtures that lie beside the helpers they give.
pytest_plugins = ["support.small_networks"]


@pytest.fixture(scope="session")
def demo_cells(tmp_path_factory):
    """A small generated set, 7 classes of 12 cells: read it, do not change its files."""
    from cervicyte.data import synthetic

    return synthetic.generate(tmp_path_factory.mktemp("demo") / "cells", n_per_class=12, seed=0, size=96)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with real data beside the repository; a test that needs it is skipped, loudly, where it is absent."""
    folder = SHARED
    if not (folder / "data").is_dir():
        pytest.skip(f"real data: {folder.parent.name}/shared/data is not here")
    return folder


@pytest.fixture(scope="session")
def trained(demo_cells, tmp_path_factory):
    """`cervicyte train --compare` on the generated cells, run once as a real process: its folder and what it said."""
    from types import SimpleNamespace

    from support.commands import cervicyte

    data = Path(demo_cells.cells[0].path).parents[1]
    folder = tmp_path_factory.mktemp("trained") / "run"
    done = cervicyte("train", data, "--out", folder, "--compare", "--folds", "3", "--seed", "3")
    assert done.returncode == 0, done.stderr
    return SimpleNamespace(folder=folder, bundle=folder / "bundle", data=data, out=done.stdout, err=done.stderr)


@pytest.fixture
def bundle_copy(trained, tmp_path):
    """A copy of the trained bundle that a test may damage."""
    return Path(shutil.copytree(trained.bundle, tmp_path / "bundle"))


@pytest.fixture(scope="session")
def postgresql():
    """A PostgreSQL of these tests' own; a test that needs it is skipped, loudly, where none is installed."""
    from support.web.databases import running

    with running() as server:
        yield server


@pytest.fixture
def database_url(request):
    """Where the tables of a test lie: in SQLite, unless `web_databases.on_both` asks for PostgreSQL too."""
    from support.web.databases import fresh

    with fresh(request) as url:
        yield url


@pytest.fixture
def site(tmp_path, database_url):
    """A new installation of the web application, without a user."""
    from support.web.site import make_site

    site = make_site(tmp_path / "site", url=database_url)
    yield site
    site.database.close()


def _person(name, email, *role):
    """A fixture: somebody with an account on the `site`, a reader unless another role is given."""

    @pytest.fixture(name=name)
    def person(site):
        from support.web.site import make_user

        return make_user(site, email, *role)

    return person


reader = _person("reader", "first@lab.example")
owner = _person("owner", "owner@lab.example")
second = _person("second", "second@lab.example")
other = _person("other", "other@lab.example")
reviewer = _person("reviewer", "reviewer@lab.example", "reviewer")
