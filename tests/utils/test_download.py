"""Downloads from a local server: the right file or none, and a message that helps."""

from __future__ import annotations

import hashlib
import http.server
import threading

import pytest

from tinynet.errors import DataError
from tinynet.utils.download import download, file_sha256

CONTENT = bytes(range(256)) * 3000
DIGEST = hashlib.sha256(CONTENT).hexdigest()


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.requests.append(self.path)
        if self.path == "/missing":
            self.send_error(404)
            return
        self.send_response(200)
        if self.path != "/unsized":
            self.send_header("Content-Length", str(len(CONTENT)))
        self.end_headers()
        self.wfile.write(CONTENT[:1000] if self.path == "/truncated" else CONTENT)

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def server():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.requests = []
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def url(server):
    server.requests.clear()
    return f"http://127.0.0.1:{server.server_port}"


def files(directory):
    return sorted(path.name for path in directory.rglob("*") if path.is_file() and path.suffix != ".lock")


@pytest.mark.parametrize("page", ["/data.gz", "/unsized"])
def test_download(tmp_path, url, page):
    path = download(url + page, tmp_path / "sub" / "data.gz", DIGEST.upper())
    assert path.read_bytes() == CONTENT
    assert file_sha256(path) == DIGEST
    assert files(tmp_path) == ["data.gz"]


def test_nothing_is_fetched_twice(tmp_path, url, server):
    for _ in range(2):
        download(f"{url}/data.gz", tmp_path / "data.gz", DIGEST)
    assert server.requests == ["/data.gz"]


def test_threads_that_ask_at_once_fetch_once(tmp_path, url, server):
    ask = [threading.Thread(target=download, args=(f"{url}/data.gz", tmp_path / "data.gz", DIGEST))
           for _ in range(4)]
    for thread in ask:
        thread.start()
    for thread in ask:
        thread.join()
    assert server.requests == ["/data.gz"]


def test_a_damaged_file_is_replaced(tmp_path, url):
    path = tmp_path / "data.gz"
    path.write_bytes(CONTENT[:-1])
    assert download(f"{url}/data.gz", path, DIGEST).read_bytes() == CONTENT


def test_wrong_checksum(tmp_path, url):
    wrong = "0" * 64
    with pytest.raises(DataError) as caught:
        download(f"{url}/data.gz", tmp_path / "data.gz", wrong)
    for part in (url, DIGEST, wrong, "checksum", "nothing was kept"):
        assert part in str(caught.value)
    assert files(tmp_path) == []


def test_truncated(tmp_path, url):
    path = tmp_path / "data.gz"
    path.write_bytes(b"previous")
    with pytest.raises(DataError, match=rf"ended after 1000 of {len(CONTENT)} bytes|broke off"):
        download(f"{url}/truncated", path, DIGEST)
    assert path.read_bytes() == b"previous"
    assert files(tmp_path) == ["data.gz"]


def test_not_found(tmp_path, url):
    with pytest.raises(DataError, match="the server answered 404"):
        download(f"{url}/missing", tmp_path / "data.gz", DIGEST)
    assert files(tmp_path) == []


def test_offline_says_where_to_put_the_file(tmp_path, server):
    import socket

    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        dead = f"http://127.0.0.1:{unused.getsockname()[1]}/data.gz"
        with pytest.raises(DataError) as caught:
            download(dead, tmp_path / "data.gz", DIGEST)
    for part in (dead, str(tmp_path / "data.gz"), DIGEST):
        assert part in str(caught.value)
    assert files(tmp_path) == []


def test_nonsense_url(tmp_path):
    with pytest.raises(DataError, match="cannot download nonsense"):
        download("nonsense", tmp_path / "data.gz", DIGEST)
