from __future__ import annotations

import copy
import os

import pytest
from pydantic import ValidationError

from warehouse.config import MIN_MEMORY, Settings, _machine_memory

KEY = "hush"


def test_defaults_suit_the_machine():
    settings = Settings()
    assert settings.memory >= MIN_MEMORY
    assert settings.workers >= 1
    assert settings.s3_endpoint_url is None


@pytest.mark.parametrize(("text", "expected"), [("2GiB", 2 << 30), ("1000MB", 10**9), (str(1 << 30), 1 << 30)])
def test_memory_is_given_in_words(monkeypatch, text, expected):
    monkeypatch.setenv("TRACTLAKE_MEMORY", text)
    assert Settings().memory == expected
    assert Settings(memory=text).memory == expected


def test_the_usual_aws_variables_are_heard(monkeypatch):
    for name, value in {
        "AWS_ENDPOINT_URL": "http://aws.example",
        "AWS_DEFAULT_REGION": "eu-west-1",
        "AWS_PROFILE": "survey",
        "AWS_ACCESS_KEY_ID": "id",
        "AWS_SECRET_ACCESS_KEY": KEY,
        "AWS_SESSION_TOKEN": "",
        "AWS_CA_BUNDLE": "/ca.pem",
    }.items():
        monkeypatch.setenv(name, value)
    settings = Settings()
    assert settings.s3_endpoint_url == "http://aws.example"
    assert settings.s3_region == "eu-west-1"
    assert settings.s3_profile == "survey"
    assert settings.s3_access_key_id == "id"
    assert settings.s3_secret_access_key.get_secret_value() == KEY
    assert settings.s3_session_token is None
    assert settings.s3_ca_bundle == "/ca.pem"


def test_the_more_special_setting_wins(monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://all.example")
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://s3.example")
    assert Settings().s3_endpoint_url == "http://s3.example"
    monkeypatch.setenv("TRACTLAKE_S3_ENDPOINT_URL", "http://own.example")
    assert Settings().s3_endpoint_url == "http://own.example"
    assert Settings(s3_endpoint_url="http://given.example").s3_endpoint_url == "http://given.example"


@pytest.mark.parametrize(
    "wrong",
    [
        {"memory": "1MiB"},
        {"memory": "plenty"},
        {"workers": 0},
        {"max_quarantined_share": 1.5},
        {"retention_hours": 0},
        {"s3_addressing": "sideways"},
        {"s3_connect_timeout": 0},
        {"s3_attempts": 0},
    ],
)
def test_a_wrong_setting_is_refused_by_name(wrong):
    with pytest.raises(ValidationError, match=next(iter(wrong))):
        Settings(**wrong)


def test_settings_are_frozen_hashable_and_keep_secrets(settings):
    with pytest.raises(ValidationError, match="frozen"):
        settings.workers = 3
    known = Settings(s3_secret_access_key=KEY)
    assert KEY not in repr(known)
    assert hash(known) == hash(Settings(s3_secret_access_key=KEY))
    assert copy.deepcopy(known) == known


@pytest.mark.parametrize(
    ("groups", "limits", "expected"),
    [
        ("0::/a.slice/b.scope", {"a.slice/b.scope/memory.max": "7000", "a.slice/memory.max": "9000"}, 7000),
        ("0::/a.slice/b.scope", {"a.slice/b.scope/memory.max": "max", "a.slice/memory.max": "9000"}, 9000),
        ("0::/a.slice/b.scope", {"a.slice/memory.max": "9000", "memory.max": "5000"}, 5000),
        ("0::/a.slice", {"other.slice/memory.max": "5", "a.slice/c.scope/memory.max": "6"}, None),
        ("0::/", {"memory.max": "8000"}, 8000),
        ("0::/../../outer", {"memory.max": "8000"}, 8000),
        ("4:cpu,memory:/d:1\n2:cpu:/e", {"memory/d:1/memory.limit_in_bytes": "6000"}, 6000),
        ("4:cpu,memory:/d\n0::/d", {"memory/memory.limit_in_bytes": "6500", "d/memory.max": "6200"}, 6200),
        (None, {"memory.max": "4000"}, 4000),
        (None, {"memory/memory.limit_in_bytes": "4100"}, 4100),
    ],
)
def test_the_memory_is_that_of_the_tightest_control_group_around_the_process(tmp_path, groups, limits, expected):
    if groups is not None:
        (tmp_path / "proc/self").mkdir(parents=True)
        (tmp_path / "proc/self/cgroup").write_text(groups + "\n")
    (tmp_path / "memory.max").write_text("1\n")  # no control group's
    for path, limit in limits.items():
        place = tmp_path / "sys/fs/cgroup" / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(limit + "\n")
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert _machine_memory(tmp_path) == (machine if expected is None else expected)
