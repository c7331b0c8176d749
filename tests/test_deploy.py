"""What stands in deploy/ agrees with the settings that it is about."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest
import yaml
from prefect import Flow

from warehouse.config import Settings

DEPLOY = Path(__file__).parents[1] / "deploy"
EXAMPLES = sorted((DEPLOY / "examples").glob("*.env"))
LINE = re.compile(r"#?(TRACTLAKE_[A-Z0-9_]+)=(\S*)")
NOT_A_SETTING = {"TRACTLAKE_WAREHOUSE"}  # the command line's own


def assignments(example):
    """Return name and value of the lines, those that are commented out included, since they show the default."""
    return dict(match.groups() for line in example.read_text("utf-8").splitlines() if (match := LINE.fullmatch(line)))


def names():
    return {f"TRACTLAKE_{field}".upper() for field in Settings.model_fields}


@pytest.fixture
def clean_environment(monkeypatch):
    for name in {
        *names(),
        "AWS_REGION",
        "AWS_DEFAULT_REGION",
        "AWS_PROFILE",
        "AWS_ENDPOINT_URL",
        "AWS_ENDPOINT_URL_S3",
    }:
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


def test_the_examples_show_every_setting_and_no_other():
    shown = set().union(*(assignments(example) for example in EXAMPLES))
    assert shown - NOT_A_SETTING == names()


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.name)
def test_an_example_is_accepted_as_it_stands(example, clean_environment):
    for name, value in assignments(example).items():
        clean_environment.setenv(name, value)
    assert Settings() is not None


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.name)
def test_a_line_that_is_commented_out_shows_the_default(example, clean_environment):
    defaults = Settings()
    active = set(re.findall(r"^(TRACTLAKE_\w+)=", example.read_text("utf-8"), re.MULTILINE))
    for name, value in assignments(example).items():
        if name not in active:
            clean_environment.setenv(name, value)
    assert Settings() == defaults


def test_a_deployment_is_of_a_flow_that_takes_its_parameters():
    deployments = yaml.safe_load((DEPLOY / "prefect.yaml").read_text("utf-8"))["deployments"]
    assert {"ad-hoc", "nightly", "register-images"} == {deployment["name"] for deployment in deployments}
    for deployment in deployments:
        module, _, name = deployment["entrypoint"].rpartition(".")
        flow = getattr(importlib.import_module(module), name)
        assert isinstance(flow, Flow)
        assert set(deployment["parameters"]) <= set(flow.parameters.properties)
        assert deployment["work_pool"] == {"name": "tractlake"}


def test_every_setting_of_the_compose_file_exists():
    services = yaml.safe_load((DEPLOY / "compose.yaml").read_text("utf-8"))["services"]
    used = {name for service in services.values() for name in service.get("environment", {})}
    ours = {name for name in used if name.startswith("TRACTLAKE_")}
    assert ours
    assert ours - NOT_A_SETTING <= names()
