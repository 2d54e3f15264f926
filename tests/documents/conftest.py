"""A web server for tests of downloads."""

import threading

import pytest

from longdoc.documents import fetch
from tests.documents.web import Server


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(fetch, "PAUSE", 0.01)
    monkeypatch.setattr(fetch, "PATIENCE", (2.0, 2.0))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with Server() as served:
        threading.Thread(target=served.serve_forever, daemon=True).start()
        yield served
        served.shutdown()
