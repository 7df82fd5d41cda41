"""What all tests share: a cache of their own, no progress bars, generated cells, and where real data lie."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from dataclasses import replace
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


#: Modules whose tests train, export, build the site, or start servers and wait: `make check` leaves them out.
SLOW = (
    "audit/test_checks.py",
    "audit/test_leakage.py",
    "bundle/test_predictions.py",
    "decision/test_quality.py",
    "evaluation/test_report.py",
    "explain/test_explainer.py",
    "features/test_activations.py",
    "images/test_augmentation.py",
    "networks/keras/test_last_blocks.py",
    "networks/test_registry.py",
    "networks/test_runtime.py",
    "runs/",
    "shipped/",
    "test_site.py",
    "training/cytonet/test_cytonet.py",
    "training/test_fine_tuning.py",
    "web/cases/test_blinding.py",
    "web/middleware/test_connections.py",
    "web/test_serve.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what needs a browser, a database server or time, so that a run can leave it out; that comes first.

    A worker that would begin a long test when the other has no more to do would keep everybody waiting.
    """
    tests = Path(__file__).parent
    for item in items:
        place = item.path.relative_to(tests).as_posix()
        fixtures = set(getattr(item, "fixturenames", ()))
        if "chromium" in fixtures:
            item.add_marker(pytest.mark.browser)
        call = getattr(item, "callspec", None)
        kinds = [value for value in call.params.values() if isinstance(value, str)] if call else []
        if "postgresql" in fixtures or "postgresql" in kinds:
            item.add_marker(pytest.mark.database)
        if place.startswith(SLOW) or "trained" in fixtures:
            item.add_marker(pytest.mark.slow)
    long = {item.path for item in items if any(map(item.get_closest_marker, ("browser", "slow")))}
    items.sort(key=lambda item: item.path not in long)


@pytest.fixture(scope="session")
def demo_cells(tmp_path_factory):
    """A small generated set, 7 classes of 12 cells: read it, do not change its files."""
    from cervicyte.data import synthetic
    from cervicyte.data.readers import folder as folder_reader
    from support.sharing import made_once

    def draw(folder: Path) -> None:
        synthetic.generate(folder / "cells", n_per_class=12, seed=0, size=96)

    folder = made_once(tmp_path_factory, "demo", draw) / "cells"
    return replace(folder_reader.read(folder), name="demo")


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with real data beside the repository; a test that needs it is skipped, loudly, where it is absent."""
    folder = SHARED
    if not (folder / "data").is_dir():
        pytest.skip(f"real data: {folder.parent.name}/shared/data is not here")
    return folder


@pytest.fixture(scope="session")
def chromium():
    """The programs of a browser; a test that needs one is skipped, loudly, where one of them is not installed."""
    from support.web.browser import find_programs

    pytest.importorskip("selenium", reason="a browser is driven by selenium, which is not installed")
    programs = find_programs()
    if programs is None:
        pytest.skip("Chromium or its chromedriver is not installed: nothing here was tested in a browser")
    return programs


@pytest.fixture(scope="session")
def trained(tmp_path_factory, demo_cells):
    """`cervicyte train --compare` on the generated cells, run once as a real process: its folder and what it said."""
    from types import SimpleNamespace

    from support.commands import cervicyte
    from support.sharing import made_once

    data = Path(demo_cells.cells[0].path).parents[1]

    def train(folder: Path) -> None:
        done = cervicyte("train", data, "--out", folder / "run", "--compare", "--folds", "3", "--seed", "3")
        assert done.returncode == 0, done.stderr
        (folder / "out.txt").write_text(done.stdout, encoding="utf-8")
        (folder / "err.txt").write_text(done.stderr, encoding="utf-8")

    shared = made_once(tmp_path_factory, "trained", train)
    out, err = ((shared / name).read_text(encoding="utf-8") for name in ("out.txt", "err.txt"))
    run = shared / "run"
    return SimpleNamespace(folder=run, bundle=run / "bundle", data=data, out=out, err=err)


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
