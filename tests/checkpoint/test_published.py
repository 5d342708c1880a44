"""Published weights by name: found, downloaded, checked by the hash in their name, or explained."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tinynet import models
from tinynet.checkpoint import find_weights, load_weights, published, save
from tinynet.checkpoint.published import FILES
from tinynet.errors import CheckpointError, DataError
from tinynet.models import CifarResNet
from tinynet.utils.download import file_sha256

NAME = "IMAGENET1K_V1"


@pytest.fixture(autouse=True)
def own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TINYNET_DATA", raising=False)
    monkeypatch.setenv("TINYNET_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that is published as weights of "small", on a server's disk."""
    Path("server").mkdir()
    save(CifarResNet(8, width=2), "server/f")
    path = Path(f"server/small-{file_sha256('server/f')[:8]}.pth")
    Path("server/f").rename(path)
    monkeypatch.setitem(published.FILES, "small", {NAME: path.name})
    monkeypatch.setattr(published, "PUBLISHED", published.PUBLISHED | {path.name})
    return path


@pytest.fixture
def requests(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The paths that were asked of a server of the folder "server"."""
    asked: list[str] = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args):
            super().__init__(*args, directory="server")

        def do_GET(self):
            asked.append(self.path)
            super().do_GET()

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    monkeypatch.setattr(published, "ADDRESS", f"http://127.0.0.1:{server.server_port}/")
    yield asked
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(published, "ADDRESS", "http://127.0.0.1:9/models/")  # the port that discards


def test_a_download_goes_to_the_cache_once(small: Path, requests: list[str]) -> None:
    for _ in range(2):
        model = CifarResNet(8, width=2)
        load_weights(model, NAME, architecture="small")
    assert requests == [f"/{small.name}"]
    assert (Path("cache/weights") / small.name).read_bytes() == small.read_bytes()
    other = CifarResNet(8, width=2)
    load_weights(other, small)
    assert str(other.state_dict()) == str(model.state_dict())


def test_the_bar_shows_the_files_name(
    small: Path, requests: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TINYNET_PROGRESS", "1")
    find_weights("DEFAULT", "small")
    assert small.name in capsys.readouterr().err and requests


@pytest.mark.usefixtures("offline")
def test_own_folders_come_first(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cached, own = Path("cache/weights") / small.name, Path("data/weights") / small.name
    cached.parent.mkdir(parents=True)
    cached.write_bytes(small.read_bytes())
    assert find_weights(NAME, "small") == cached.absolute()
    monkeypatch.setenv("TINYNET_DATA", "data")
    assert find_weights(NAME, "small") == cached.absolute()
    own.parent.mkdir(parents=True)
    own.write_bytes(small.read_bytes())
    assert find_weights(NAME, "small") == own


@pytest.mark.usefixtures("offline")
def test_offline_the_error_says_what_to_put_where(small: Path) -> None:
    with pytest.raises(DataError) as error:
        models.resnet18(weights=NAME)
    message = str(error.value)
    assert "http://127.0.0.1:9/models/resnet18-f37072fd.pth" in message
    assert f"put it at {Path('cache/weights/resnet18-f37072fd.pth').absolute()}" in message and "f37072fd)" in message
    assert [path for path in Path("cache").rglob("*") if path.is_file() and not path.name.endswith(".lock")] == []
    assert published.FILES["small"][NAME] == small.name


def test_a_wrong_file_from_the_server_is_not_kept(small: Path, requests: list[str]) -> None:
    small.write_bytes(small.read_bytes()[:-1] + b"?")
    with pytest.raises(DataError, match="wrong checksum"):
        find_weights(NAME, "small")
    assert requests and not (Path("cache/weights") / small.name).exists()


def test_a_damaged_file_in_the_cache_is_fetched_anew(small: Path, requests: list[str]) -> None:
    cached = Path("cache/weights") / small.name
    cached.parent.mkdir(parents=True)
    cached.write_bytes(b"half")
    assert find_weights(NAME, "small").read_bytes() == small.read_bytes() and requests


def test_a_published_file_that_was_changed_is_refused_anywhere(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """torch's legacy layout has no checksum: only the name tells."""
    digest = file_sha256(small)
    save(CifarResNet(8, width=2), small)
    model = CifarResNet(8, width=2)
    before = str(model.state_dict())
    with pytest.raises(CheckpointError, match=f"small-.*is damaged: its SHA-256 begins with .*says {digest[:8]}"):
        load_weights(model, small)
    assert str(model.state_dict()) == before
    Path("data/weights").mkdir(parents=True)
    small.rename(Path("data/weights") / small.name)
    monkeypatch.setenv("TINYNET_DATA", "data")
    with pytest.raises(CheckpointError, match=r"data/weights/small-.*is damaged"):
        load_weights(model, NAME, architecture="small")


@pytest.mark.parametrize(
    ("source", "architecture", "message"),
    [
        ("IMAGENET1K_V3", "resnet50", "neither a file nor published weights of resnet50: there is IMAGENET1K_V1, "),
        ("IMAGENET1K_V2", "resnet18", "of resnet18: there is IMAGENET1K_V1, DEFAULT"),
        ("DEFAULT", "cifar_resnet20", "of cifar_resnet20: there are none"),
        ("DEFAULT", None, "needs the architecture: resnet18, resnet34"),
        ("no/such.pth", "resnet50", "cannot read the checkpoint no/such.pth: No such file"),
        ("imagenet", "resnet50", "cannot read the checkpoint imagenet: No such file"),
    ],
)  # fmt: skip
def test_names_that_are_none(source: str, architecture: str | None, message: str) -> None:
    model = CifarResNet(8, width=2)
    with pytest.raises(CheckpointError, match=message):
        load_weights(model, source, architecture=architecture)
    assert not Path("cache").exists()


def test_a_file_called_like_a_name_is_a_file() -> None:
    model = CifarResNet(8, width=2)
    save(model, "DEFAULT")
    load_weights(CifarResNet(8, width=2), "DEFAULT")


def test_the_published_names() -> None:
    """REFERENCE's table; the best is the last."""
    assert FILES["resnet50"] == {NAME: "resnet50-0676ba61.pth", "IMAGENET1K_V2": "resnet50-11ad3fa6.pth"}
    hashes = {"resnet18": "f37072fd", "resnet34": "b627a593", "resnet101": "63fe2227", "resnet152": "394f9c45"}
    for architecture, digest in hashes.items():
        assert FILES[architecture][NAME] == f"{architecture}-{digest}.pth"
    assert FILES["resnet101"]["IMAGENET1K_V2"] == "resnet101-cd907fc2.pth"
    assert FILES["resnet152"]["IMAGENET1K_V2"] == "resnet152-f82ba261.pth"
    assert FILES["retinanet_resnet50_fpn"] == {"COCO_V1": "retinanet_resnet50_fpn_coco-eeacb38b.pth"}
    assert FILES["retinanet_resnet50_fpn_v2"] == {"COCO_V1": "retinanet_resnet50_fpn_v2_coco-5905b1c5.pth"}
    assert FILES["fcos_resnet50_fpn"] == {"COCO_V1": "fcos_resnet50_fpn_coco-99b0c9b7.pth"}
    for files in FILES.values():
        assert all(len(published._hash(file)) == 8 for file in files.values())
