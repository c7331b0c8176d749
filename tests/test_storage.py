from __future__ import annotations

import errno
import os
import socket
import threading
from pathlib import Path

import pytest
import xxhash
from botocore.exceptions import ClientError

from support.s3 import free_port
from warehouse import storage
from warehouse.config import Settings
from warehouse.errors import InputError, QueryError, StorageError
from warehouse.faults import translated
from warehouse.s3 import _session

SECRET, TOKEN = "hush", "passing"


@pytest.fixture
def s3_settings():
    return Settings(
        s3_endpoint_url="http://store.example:9000",
        s3_region="us-west-2",
        s3_access_key_id="id",
        s3_secret_access_key=SECRET,
        s3_session_token=TOKEN,
    )


# ------------------------------------------------------------------------------------------------------ URIs


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("s3://bucket/a b/50%20ü#1?", "s3://bucket/a b/50%20ü#1?"),
        ("s3a://bucket/key/", "s3://bucket/key"),
        ("s3://bucket", "s3://bucket"),
        ("s3://bucket//key", "s3://bucket//key"),
        ("/data/a b/50%20ü", "/data/a b/50%20ü"),
        ("/data/../data//x/", "/data/x"),
        ("file:///data/a%20b/50%2525#1?", "/data/a b/50%25#1?"),
        ("file:///data/a b", "/data/a b"),
        ("file://localhost/data", "/data"),
    ],
)
def test_a_uri_has_one_form(given, expected):
    assert storage.absolute(given) == expected


def test_a_relative_path_is_completed_and_home_is_expanded(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert storage.absolute("in/x.parq") == str(tmp_path / "in/x.parq")
    assert storage.absolute("~/x.parq") == str(tmp_path / "home/x.parq")
    assert storage.absolute(Path("x")) == str(tmp_path / "x")


@pytest.mark.parametrize("uri", ["gs://bucket/key", "https://host/x.parq", "s3://", "file://otherhost/data"])
def test_a_uri_that_is_neither_s3_nor_local_is_refused(uri):
    with pytest.raises(QueryError) as caught:
        storage.absolute(uri)
    assert caught.value.uri == uri


def test_joining_knows_no_doubled_slashes():
    assert storage.join("s3://bucket/", "a/", "", "/b.parq") == "s3://bucket/a/b.parq"
    assert storage.join("/data", "x") == "/data/x"


# ------------------------------------------------------------------------------------- one Settings, three renderings


def test_both_families_of_clients_are_told_the_same(s3_settings):
    for_fsspec = storage.fsspec_options("s3://bucket/key", s3_settings)
    for_store = storage.object_store_options("s3://bucket/key", s3_settings)
    assert (for_fsspec["key"], for_fsspec["secret"], for_fsspec["token"]) == ("id", SECRET, TOKEN)
    assert for_fsspec["endpoint_url"] == for_store["aws_endpoint_url"] == "http://store.example:9000"
    assert for_fsspec["client_kwargs"] == {"region_name": "us-west-2", "verify": True}
    assert for_fsspec["config_kwargs"]["s3"] == {"addressing_style": "path"}
    assert for_fsspec["use_listings_cache"] is False
    told = {
        "aws_access_key_id": "id",
        "aws_secret_access_key": SECRET,
        "aws_session_token": TOKEN,
        "aws_region": "us-west-2",
        "aws_allow_http": "true",
        "aws_virtual_hosted_style_request": "false",
        "aws_conditional_put": "etag",
    }
    assert {name: for_store[name] for name in told} == told
    # deltalake refuses what is not text.
    assert {type(value) for value in for_store.values()} == {str}
    assert storage.polars_options("s3://bucket/key", s3_settings) == for_store | {
        "max_retries": 3,
        "retry_timeout_ms": 15_000,
    }


@pytest.mark.parametrize(
    ("given", "virtual"),
    [
        ({"s3_addressing": "virtual"}, True),
        ({"s3_addressing": "path", "s3_endpoint_url": None}, False),
        ({"s3_endpoint_url": None}, True),
    ],
)
def test_addressing_is_the_same_for_both(s3_settings, given, virtual):
    settings = s3_settings.model_copy(update=given)
    style = storage.fsspec_options("s3://b", settings)["config_kwargs"]["s3"]["addressing_style"]
    assert style == ("virtual" if virtual else "path")
    assert storage.object_store_options("s3://b", settings)["aws_virtual_hosted_style_request"] == str(virtual).lower()


def test_tls_and_checksums_are_passed_on(s3_settings, monkeypatch):
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    trusting = s3_settings.model_copy(update={"s3_verify_tls": False, "s3_checksums": "when_required"})
    assert storage.fsspec_options("s3://b", trusting)["client_kwargs"]["verify"] is False
    assert (
        storage.fsspec_options("s3://b", trusting)["config_kwargs"]["request_checksum_calculation"] == "when_required"
    )
    assert storage.object_store_options("s3://b", trusting)["allow_invalid_certificates"] == "true"
    own = s3_settings.model_copy(update={"s3_ca_bundle": "/ca.pem", "s3_endpoint_url": "https://store.example"})
    assert storage.fsspec_options("s3://b", own)["client_kwargs"]["verify"] == "/ca.pem"
    assert "aws_allow_http" not in storage.object_store_options("s3://b", own)
    assert os.environ["SSL_CERT_FILE"] == "/ca.pem"


def test_a_public_bucket_needs_no_credentials(s3_settings):
    public = s3_settings.model_copy(update={"s3_anonymous": True})
    assert storage.fsspec_options("s3://b", public)["anon"] is True
    options = storage.object_store_options("s3://b", public)
    assert options["aws_skip_signature"] == "true"
    assert "aws_access_key_id" not in options


def test_local_paths_need_no_options(settings):
    for render in (storage.fsspec_options, storage.object_store_options, storage.polars_options):
        assert render("/data/x", settings) == {}


@pytest.fixture
def profiles(tmp_path, monkeypatch):
    """Write AWS profile files as people have them."""
    (tmp_path / "config").write_text("[profile survey]\nregion = eu-west-1\nendpoint_url = https://s3.survey.example\n")
    (tmp_path / "credentials").write_text("[survey]\naws_access_key_id = from-file\naws_secret_access_key = hush\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    _session.cache_clear()
    yield
    _session.cache_clear()


@pytest.mark.usefixtures("profiles")
def test_a_profile_tells_keys_region_and_endpoint():
    options = storage.object_store_options("s3://bucket", Settings(s3_profile="survey"))
    assert options["aws_access_key_id"] == "from-file"
    assert options["aws_secret_access_key"] == SECRET
    assert options["aws_region"] == "eu-west-1"
    assert options["aws_endpoint_url"] == "https://s3.survey.example"
    assert storage.fsspec_options("s3://bucket", Settings(s3_profile="survey"))["key"] == "from-file"


@pytest.mark.usefixtures("profiles")
def test_settings_come_before_the_profile():
    given = Settings(s3_profile="survey", s3_region="us-east-2", s3_access_key_id="mine", s3_secret_access_key=SECRET)
    options = storage.object_store_options("s3://bucket", given)
    assert (options["aws_access_key_id"], options["aws_region"]) == ("mine", "us-east-2")


@pytest.mark.usefixtures("profiles")
@pytest.mark.parametrize(("profile", "words"), [("sruvey", "sruvey"), (None, "AWS_ACCESS_KEY_ID")])
def test_without_credentials_the_message_says_what_to_set(profile, words):
    with pytest.raises(StorageError, match=words) as caught:
        storage.object_store_options("s3://bucket/key", Settings(s3_profile=profile))
    assert caught.value.kind == "credentials"


# ------------------------------------------------------------------------------------------ operations, local


def test_a_file_is_written_read_stamped_and_deleted(tmp_path, settings):
    uri = str(tmp_path / "new folder" / "ä 50%.bin")
    storage.write_bytes(uri, b"first content", settings)
    size, first = storage.stamp(uri, settings)
    assert (size, storage.read_bytes(uri, settings)) == (13, b"first content")
    assert storage.read_bytes(uri, settings, most=5) == b"first"
    storage.write_bytes(uri, b"other content", settings)
    os.utime(uri, ns=(1, 1))
    assert storage.stamp(uri, settings) != (13, first)
    assert storage.digest(uri, settings) == xxhash.xxh3_128_hexdigest(b"other content")
    assert storage.exists(uri, settings)
    storage.delete(uri, settings)
    storage.delete([uri, uri + "2"], settings)
    assert not storage.exists(uri, settings)
    assert list((tmp_path / "new folder").iterdir()) == []


def test_only_the_first_of_many_writers_puts_a_file(tmp_path, settings):
    uri = str(tmp_path / "one.json")
    barrier, won = threading.Barrier(8), []

    def put(number):
        barrier.wait()
        if storage.put_if_absent(uri, str(number).encode() * 100_000, settings):
            won.append(number)

    threads = [threading.Thread(target=put, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    assert storage.read_bytes(uri, settings) == str(won[0]).encode() * 100_000
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["one.json"]


def test_a_listing_is_deep_sorted_and_true_to_each_file(tmp_path, settings):
    for name in ("b/z.parq", "b/ü x/y.parq", "a.fits", "b/.hidden.parq"):
        storage.write_bytes(str(tmp_path / name), name.encode(), settings)
    found = storage.listing(str(tmp_path / "b"), settings)
    assert [entry.uri for entry in found] == [str(tmp_path / "b" / n) for n in (".hidden.parq", "z.parq", "ü x/y.parq")]
    for entry in found:
        assert (entry.size, entry.stamp) == storage.stamp(entry.uri, settings)
        assert entry.modified == Path(entry.uri).stat().st_mtime
    assert [e.uri for e in storage.listing(str(tmp_path), settings, "*.fits")] == [str(tmp_path / "a.fits")]
    assert len(storage.listing(str(tmp_path), settings, "**/*.parq")) == 3
    assert len(storage.listing(str(tmp_path), settings, "b/*.parq")) == 2
    assert storage.listing(str(tmp_path / "none"), settings) == []


def test_a_listing_follows_links_once(tmp_path, settings):
    store, other = tmp_path / "store", tmp_path / "other"
    for folder in (store, other):
        folder.mkdir()
    (other / "x.parq").write_bytes(b"x")
    (store / "linked").symlink_to(other)
    (store / "file.parq").symlink_to(other / "x.parq")
    (store / "circle").symlink_to(store)
    (store / "dangling.parq").symlink_to(other / "gone")
    found = [entry.uri for entry in storage.listing(str(store), settings)]
    assert found == [str(store / "file.parq"), str(store / "linked/x.parq")]


def test_half_a_listing_is_never_returned(tmp_path, settings, monkeypatch):
    (tmp_path / "a").mkdir()
    (tmp_path / "a/x.parq").write_bytes(b"x")
    (tmp_path / "b").mkdir()
    scandir = os.scandir

    def forbidden(path):
        if str(path).endswith("/b"):
            raise PermissionError(errno.EACCES, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", forbidden)
    with pytest.raises(StorageError, match="permission denied") as caught:
        storage.listing(str(tmp_path), settings)
    assert caught.value.kind == "permission"


@pytest.mark.parametrize("operation", [storage.stamp, storage.read_bytes, storage.digest])
def test_what_is_no_file_has_vanished(tmp_path, settings, operation):
    for uri in (str(tmp_path / "none"), str(tmp_path), str(tmp_path / "none/none")):
        with pytest.raises(InputError) as caught:
            operation(uri, settings)
        assert (caught.value.kind, caught.value.uri) == ("vanished", uri)


def test_a_local_path_passes_the_probe(tmp_path, settings):
    storage.probe(str(tmp_path / "not yet"), settings)
    assert list(tmp_path.iterdir()) == [settings.scratch]


# ------------------------------------------------------------------------------------------------- complaints


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "no_space"),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), "no_space"),
        (PermissionError(errno.EACCES, "Permission denied"), "permission"),
        (OSError(errno.EROFS, "Read-only file system"), "permission"),
        (OSError("Generic S3 error: Server returned non-2xx status code: 403 Forbidden"), "permission"),
        (OSError("Generic S3 error: error sending request, client error (Connect)"), "unreachable"),
        (ConnectionRefusedError("object-store error: tcp connect error"), "unreachable"),
        (OSError("No space left on device (os error 28)"), "no_space"),
        (TimeoutError("timed out"), "unreachable"),
        (FileNotFoundError("The specified bucket does not exist"), "bucket"),
        (ClientError({"Error": {"Code": "SlowDown", "Message": "Reduce"}}, "GetObject"), "throttled"),
        (ClientError({"Error": {"Code": "ExpiredToken", "Message": "old"}}, "GetObject"), "credentials"),
        (ClientError({"Error": {"Code": "403", "Message": "Forbidden"}}, "HeadObject"), "permission"),
        (OSError("object-store error: (path: s3://b/403/503/429.parq)"), "storage"),
        (OSError(errno.EIO, "Input/output error"), "storage"),
    ],
)
def test_a_store_s_complaint_is_a_storage_error_that_names_the_file(error, kind):
    with pytest.raises(StorageError) as caught, translated("s3://b/key", "reading"):
        raise error
    assert (caught.value.kind, caught.value.uri, caught.value.__cause__) == (kind, "s3://b/key", error)
    assert "s3://b/key" in str(caught.value)
    assert caught.value.retryable


def test_errors_that_are_no_store_s_pass_through():
    for error in (ValueError("mine"), KeyError("key"), StorageError("done"), QueryError("done")):
        with pytest.raises(type(error)) as caught, translated("/x", "reading"):
            raise error
        assert caught.value is error


# The error of a refused connection, and of a server that never answers.
@pytest.mark.parametrize("answers", [False, True])
def test_an_unreachable_endpoint_fails_soon_and_says_what_to_check(answers):
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        if answers:
            server.listen(50)
        port = server.getsockname()[1] if answers else free_port()
        settings = Settings(
            s3_endpoint_url=f"http://127.0.0.1:{port}",
            s3_access_key_id="id",
            s3_secret_access_key=SECRET,
            s3_connect_timeout=0.2,
            s3_read_timeout=0.2,
            s3_attempts=1,
        )
        for operation in (storage.stamp, storage.listing, storage.read_bytes, storage.probe):
            with pytest.raises(StorageError, match="endpoint") as caught:
                operation("s3://bucket/key", settings)
            assert caught.value.kind == "unreachable"
