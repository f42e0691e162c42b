"""Shared fixtures."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from bare_job_folder import BareJobFolder, bare_job_folder
from bare_machine import debian_root
from cloud_storage import CloudStorage, cloud_storage
from pubsub_emulator import pubsub_emulator


@pytest.fixture(scope="session", autouse=True)
def _gcsfs_without_grpc() -> None:
    """Import gcsfs without its support of buckets with folders, whose client of gRPC no later fork survives."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")
        pytest.importorskip("gcsfs")


@pytest.fixture(scope="session")
def emulator() -> Iterator[str]:
    """Yield ``host:port`` of Google's Pub/Sub emulator, started once for all tests."""
    with pubsub_emulator() as address:
        yield address


@pytest.fixture(scope="session")
def bare_store() -> Iterator[CloudStorage]:
    """Yield the store of all bare machines: what one job uploads, the next ones find."""
    with cloud_storage() as store:
        yield store


@pytest.fixture(scope="session")
def bare_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the cache of the controllers: the same requirements are locked once."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def bare_job(
    tmp_path: Path, emulator: str, bare_store: CloudStorage, bare_cache: Path, request: pytest.FixtureRequest
) -> Iterator[BareJobFolder]:
    """Yield a job on bare machines of Debian 12, or of the suite that is the parameter."""
    root = debian_root(getattr(request, "param", "bookworm"))
    with bare_job_folder(tmp_path, emulator=emulator, store=bare_store, cache=bare_cache, root=root) as folder:
        yield folder
