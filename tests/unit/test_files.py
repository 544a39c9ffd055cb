"""Known files, from folders and from a real server on this machine."""

import functools
import hashlib
import http.server
import logging
import socket
import sys
import threading
from pathlib import Path

import pytest

from jaxrnn.data.files import KNOWN, DataError, cache_dir, read_if_there, read_known

CONTENT = b"The frog\r\nand the prince.\r"
DIGEST = hashlib.sha256(CONTENT).hexdigest()
NAME = "books/tale.txt"


@pytest.fixture(autouse=True)
def folders(tmp_path, monkeypatch):
    """The two folders of the environment; neither exists yet."""
    monkeypatch.setenv("JAXRNN_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("JAXRNN_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    return tmp_path / "data", tmp_path / "cache"


@pytest.fixture
def no_server(monkeypatch):
    """The known file's address, whose port nobody listens to."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{unused.getsockname()[1]}/tale.txt"
    monkeypatch.setitem(KNOWN, NAME, (DIGEST, address))
    return address


@pytest.fixture
def server(tmp_path, monkeypatch):
    """The known file's address, the file that is served there, and the paths that were asked for."""
    requested = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args):
            requested.append(self.path)

    folder = tmp_path / "served"
    folder.mkdir()
    handler = functools.partial(Handler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as httpd:
        thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        address = f"http://127.0.0.1:{httpd.server_port}/tale.txt"
        monkeypatch.setitem(KNOWN, NAME, (DIGEST, address))
        yield address, folder / "tale.txt", requested
        httpd.shutdown()
        thread.join()


def put(folder, content):
    path = folder / NAME
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    return path


def read_error():
    with pytest.raises(DataError) as caught:
        read_known(NAME)
    message = str(caught.value)
    assert message == " ".join(message.split())  # One line.
    return message


def test_the_environment_says_where_the_cache_is(monkeypatch):
    monkeypatch.setattr(Path, "home", lambda: 1 / 0)  # Not every account has one.
    monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
    monkeypatch.setenv("JAXRNN_CACHE_DIR", "/given")
    assert cache_dir() == Path("/given")
    monkeypatch.delenv("JAXRNN_CACHE_DIR")
    assert cache_dir() == Path("/xdg/jaxrnn")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(Path, "home", lambda: Path("/home/me"))
    assert cache_dir() == Path("/home/me/.cache/jaxrnn")


@pytest.mark.parametrize("place", ["data", "cache"])
@pytest.mark.usefixtures("no_server")
def test_a_file_that_is_there_needs_neither_network_nor_pooch(place, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pooch", None)
    path = put(tmp_path / place, CONTENT)
    assert read_known(NAME) == (path, CONTENT)


@pytest.mark.usefixtures("no_server")
def test_the_users_folder_comes_before_the_cache(folders, monkeypatch):
    path, damaged = put(folders[0], CONTENT), put(folders[1], b"damaged")
    assert read_known(NAME)[0] == path
    monkeypatch.delenv("JAXRNN_DATA_DIR")
    message = read_error()
    assert all(word in message for word in (str(damaged), DIGEST, hashlib.sha256(b"damaged").hexdigest()))


def test_a_file_is_fetched_once_with_one_line_in_the_log(folders, server):
    import pooch

    address, served, requested = server
    served.write_bytes(CONTENT)
    records = []
    handler = logging.Handler()
    handler.emit = records.append
    pooch.get_logger().addHandler(handler)
    try:
        found = [read_known(NAME) for _ in range(2)]
    finally:
        pooch.get_logger().removeHandler(handler)
    assert found == [(folders[1] / NAME, CONTENT)] * 2
    assert requested == ["/tale.txt"]
    (record,) = records
    assert address in record.getMessage()
    assert not folders[0].exists()


@pytest.mark.parametrize("content", [CONTENT + b"!", None])
def test_another_file_or_none_leaves_nothing(content, folders, server):
    address, served, _ = server
    if content is not None:
        served.write_bytes(content)
    message = read_error()
    assert address in message
    assert (DIGEST in message) if content else ("404" in message)
    assert not [path for path in folders[1].rglob("*") if path.is_file()]


@pytest.mark.parametrize("has_data_dir", [False, True])
def test_without_network_the_message_says_where_to_put_the_file(has_data_dir, folders, no_server, monkeypatch):
    if not has_data_dir:
        monkeypatch.delenv("JAXRNN_DATA_DIR")
    message = read_error()
    searched = [str(folder / NAME) for folder in (folders if has_data_dir else folders[1:])]
    assert all(word in message for word in (*searched, no_server, f"DIR/{NAME}", "--data_dir=DIR", "JAXRNN_DATA_DIR"))


@pytest.mark.usefixtures("no_server")
def test_what_cannot_be_read_is_named(folders, tmp_path):
    folders[0].write_text("a file")
    assert f"{folders[0] / NAME}: Not a directory" in read_error()
    with pytest.raises(DataError, match=f"{tmp_path}: Is a directory"):
        read_if_there(tmp_path)
    for name in ("\ud800", "a\0b"):
        with pytest.raises(DataError, match="no file has the name"):
            read_if_there(Path(name))
    assert read_if_there(tmp_path / "none") is None
