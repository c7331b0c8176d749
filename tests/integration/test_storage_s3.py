from __future__ import annotations

import io
import os
import signal
import threading

import deltalake
import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from support.s3 import moto_server, rclone_server
from support.tls import make_certificates
from warehouse import storage
from warehouse.errors import InputError, NotFoundError, StorageError
from warehouse.readers import list_inputs, reader_for

pytestmark = pytest.mark.integration

ODD_NAMES = ["plain.parq", "a b/ü 50%20.parq", "tract=1/x+y&z.parq", "deep/er/[1].parq", "q?#.parq"]
TABLE = pa.table({f"c{i}": pa.array(np.arange(20_000.0) + i) for i in range(20)})


def parquet_bytes(table=TABLE, **options):
    file = io.BytesIO()
    pq.write_table(table, file, **{"compression": "none", "use_dictionary": False, **options})
    return file.getvalue()


@pytest.fixture(scope="module")
def careless(tmp_path_factory):
    """Return a server that takes a second conditional put for good."""
    with rclone_server(tmp_path_factory.mktemp("rclone")) as server:
        yield server


# ---------------------------------------------------------------------------------------------------- the probe


def test_a_store_that_honours_conditional_puts_passes(s3):
    storage.probe(s3.uri("warehouse"), s3.settings)
    assert storage.listing(s3.uri(), s3.settings) == []


def test_a_store_that_ignores_conditional_puts_is_refused_every_time(careless):
    uri = f"s3://{careless.make_bucket()}/warehouse"
    settings = careless.settings()
    for _ in range(2):
        with pytest.raises(StorageError, match="If-None-Match") as caught:
            storage.probe(uri, settings)
        assert (caught.value.kind, caught.value.uri) == ("no_conditional_put", uri)
    assert storage.listing(uri, settings) == []


def test_such_a_store_loses_commits_indeed(careless):
    """The reason for the probe: both writers of one version are told that they have won."""
    uri = f"s3://{careless.make_bucket()}/_delta_log/00000000000000000000.json"
    settings = careless.settings()
    assert [storage.put_if_absent(uri, content, settings) for content in (b"first", b"second")] == [True, True]
    assert storage.read_bytes(uri, settings) == b"second"


def test_a_store_is_probed_once(s3, monkeypatch):
    storage.probe(s3.uri("warehouse"), s3.settings)
    monkeypatch.setattr(storage, "put_if_absent", None)
    storage.probe(s3.uri("warehouse", "Object"), s3.settings)


# --------------------------------------------------------------------------------------------------- operations


def test_a_key_is_written_read_stamped_and_deleted(s3):
    uri, plain = s3.uri("a b", "ü 50%.bin"), s3.server.client()
    storage.write_bytes(uri, b"first", s3.settings)
    size, stamp = storage.stamp(uri, s3.settings)
    head = plain.head_object(Bucket=s3.name, Key="a b/ü 50%.bin")
    assert (size, stamp) == (5, head["ETag"].strip('"'))
    assert storage.digest(uri, s3.settings) == stamp
    storage.write_bytes(uri, b"other", s3.settings)
    assert storage.stamp(uri, s3.settings)[1] != stamp
    assert storage.read_bytes(uri, s3.settings) == b"other"
    assert storage.read_bytes(uri, s3.settings, most=2) == b"ot"
    assert not storage.exists(s3.uri("a b"), s3.settings)
    storage.delete([uri, s3.uri("never there")], s3.settings)
    assert not storage.exists(uri, s3.settings)
    assert plain.list_objects_v2(Bucket=s3.name)["KeyCount"] == 0


def test_of_racing_writers_one_puts_a_key(s3):
    uri, won = s3.uri("one.json"), []
    barrier = threading.Barrier(6)

    def put(number):
        barrier.wait()
        if storage.put_if_absent(uri, str(number).encode(), s3.settings):
            won.append(number)

    threads = [threading.Thread(target=put, args=(n,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    assert storage.read_bytes(uri, s3.settings) == str(won[0]).encode()


def test_listings_see_at_once_what_others_write(s3):
    plain = s3.server.client()
    for number, name in enumerate(ODD_NAMES):
        assert len(storage.listing(s3.uri(), s3.settings)) == number
        plain.put_object(Bucket=s3.name, Key=name, Body=name.encode())
    found = storage.listing(s3.uri(), s3.settings)
    assert [entry.uri for entry in found] == sorted(s3.uri(name) for name in ODD_NAMES)
    for entry in found:
        assert (entry.size, entry.stamp) == storage.stamp(entry.uri, s3.settings)
        key = entry.uri.removeprefix(s3.uri(""))
        assert entry.modified == plain.head_object(Bucket=s3.name, Key=key)["LastModified"].timestamp()
    assert [e.uri for e in storage.listing(s3.uri(), s3.settings, "*.parq")] == [
        s3.uri("plain.parq"),
        s3.uri("q?#.parq"),
    ]
    # A folder is not what its name begins with.
    assert storage.listing(s3.uri("dee"), s3.settings) == []


def test_what_is_not_there_and_what_is_no_bucket(s3):
    with pytest.raises(InputError) as vanished:
        storage.read_bytes(s3.uri("none"), s3.settings)
    assert vanished.value.kind == "vanished"
    for operation in (storage.stamp, storage.listing, storage.probe):
        with pytest.raises(StorageError, match="no such bucket") as caught:
            operation("s3://no-such-bucket-here/x", s3.settings)
        assert caught.value.kind == "bucket"


def test_wrong_credentials_are_no_permission(careless):
    bucket = careless.make_bucket()
    for wrong in ({"s3_secret_access_key": "guessed"}, {"s3_access_key_id": "stranger"}):
        for operation in (storage.stamp, storage.listing, storage.probe):
            with pytest.raises(StorageError, match="permission denied") as caught:
                operation(f"s3://{bucket}/x", careless.settings(**wrong))
            assert caught.value.kind == "permission"


# ------------------------------------------------------------------------------------------------------- inputs


def test_a_tree_on_s3_is_listed_and_read(s3):
    names = ["r/objectTable/4431/17/ü x.parq", "r/objectTable/4431/18/y%20.parq", "r/notes.txt"]
    for name in names:
        storage.write_bytes(s3.uri(name), parquet_bytes(), s3.settings)
    listing = list_inputs([s3.uri()], s3.settings, release="dp02")
    assert [(i.uri, i.data_id, i.run) for i in listing.inputs] == [
        (s3.uri(names[0]), {"tract": 4431, "patch": 17}, "r"),
        (s3.uri(names[1]), {"tract": 4431, "patch": 18}, "r"),
    ]
    for item in listing.inputs:
        assert (item.size, item.stamp) == storage.stamp(item.uri, s3.settings)
    one = list_inputs([s3.uri("r/*/4431/17")], s3.settings, release="dp02")
    assert [item.uri for item in one.inputs] == [s3.uri(names[0])]
    with pytest.raises(NotFoundError):
        list_inputs([s3.uri("s")], s3.settings, release="dp02")


# At once, by blocks of columns, through scratch files, and page by page.
@pytest.mark.parametrize(
    ("name", "memory"),
    [*((name, 1 << 30) for name in ODD_NAMES), *((ODD_NAMES[1], memory) for memory in (5_000_000, 2_000_000, 400_000))],
)
def test_parquet_on_s3_is_read_within_any_memory(s3, memory, name):
    storage.write_bytes(s3.uri(name), parquet_bytes(), s3.settings)
    opened = reader_for(name).open(s3.uri(name), s3.settings)
    assert opened.rows == TABLE.num_rows
    batches = list(opened.batches(["c3", "c1", *[f"c{i}" for i in range(4, 20)]], memory))
    assert pl.concat(batches).equals(pl.DataFrame(TABLE.select(batches[0].columns)))


@pytest.mark.parametrize(
    ("content", "kind"),
    [(b"", "empty_file"), (b"text", "not_parquet"), (parquet_bytes()[:-9], "truncated")],
)
def test_bad_parquet_on_s3(s3, content, kind):
    storage.write_bytes(s3.uri("bad.parq"), content, s3.settings)
    with pytest.raises(InputError) as caught:
        reader_for("bad.parq").open(s3.uri("bad.parq"), s3.settings)
    assert (caught.value.kind, caught.value.uri) == (kind, s3.uri("bad.parq"))


@pytest.mark.parametrize("memory", [1 << 30, 400_000])
def test_an_input_that_vanishes_before_its_rows_are_read(s3, memory):
    storage.write_bytes(s3.uri("x.parq"), parquet_bytes(), s3.settings)
    opened = reader_for("x.parq").open(s3.uri("x.parq"), s3.settings)
    storage.delete(s3.uri("x.parq"), s3.settings)
    with pytest.raises(InputError) as caught:
        list(opened.batches(opened.schema.names, memory))
    assert caught.value.kind == "vanished"


@pytest.mark.parametrize("memory", [1 << 30, 400_000])
def test_a_store_that_dies_is_a_storage_error(tmp_path, memory):
    with moto_server(tmp_path) as server:
        settings = server.settings(scratch=tmp_path, s3_connect_timeout=0.5, s3_attempts=1)
        uri = f"s3://{server.make_bucket()}/x.parq"
        storage.write_bytes(uri, parquet_bytes(), settings)
        opened = reader_for(uri).open(uri, settings)
        os.kill(server.process_id, signal.SIGKILL)
        with pytest.raises(StorageError) as caught:
            list(opened.batches(opened.schema.names, memory))
        assert caught.value.kind == "unreachable"
        with pytest.raises(StorageError):
            list_inputs([uri], settings, release="dp02", table="Object")


# ---------------------------------------------------------------------------------------------------------- TLS


@pytest.fixture(scope="module")
def encrypted(tmp_path_factory):
    """Return a server that speaks TLS, and the authority that has to be trusted for it."""
    folder = tmp_path_factory.mktemp("tls")
    authority, certificate, key = make_certificates(folder)
    with moto_server(folder, (certificate, key)) as server:
        yield server, authority


def write_with_each(uri, settings):
    """Write and read through s3fs, Polars and deltalake."""
    storage.write_bytes(storage.join(uri, "x.parq"), parquet_bytes(), settings)
    options = storage.polars_options(uri, settings)
    frame = pl.read_parquet(storage.join(uri, "x.parq"), storage_options=options, credential_provider=None)
    options = storage.object_store_options(uri, settings)
    deltalake.write_deltalake(storage.join(uri, "table"), frame.to_arrow(), storage_options=options)
    return frame.height


@pytest.mark.filterwarnings("ignore:Unverified HTTPS request")  # the test's own client does not look
@pytest.mark.parametrize("how", ["trusted", "unverified"])
def test_every_client_takes_the_tls_settings(encrypted, monkeypatch, how):
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    monkeypatch.delenv("SSL_CERT_DIR", raising=False)
    server, authority = encrypted
    told = {"s3_ca_bundle": str(authority)} if how == "trusted" else {"s3_verify_tls": False}
    assert write_with_each(f"s3://{server.make_bucket()}/a b", server.settings(**told)) == TABLE.num_rows


@pytest.mark.filterwarnings("ignore:Unverified HTTPS request")  # the test's own client does not look
def test_an_untrusted_certificate_is_refused_by_name(encrypted):
    server, _ = encrypted
    with pytest.raises(StorageError, match="certificate") as caught:
        storage.listing(f"s3://{server.make_bucket()}/x", server.settings(s3_attempts=1))
    assert caught.value.kind == "tls"
