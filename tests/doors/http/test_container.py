"""The files under images/server agree with the service: its settings, its routes, and what is no image of sessions."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml

from kernel_sandbox.sandbox.engines.image_names import image_names, images_folder
from kernel_sandbox.service.settings import describe, load

FOLDER = images_folder() / "server"
VARIABLE = re.compile(r"KERNEL_SANDBOX_SERVER_[A-Z_]+")


@pytest.fixture
def service() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((FOLDER / "compose.yaml").read_text())["services"]["kernel-sandbox"]
    return found


def environment_of_the_image() -> dict[str, str]:
    text = (FOLDER / "Dockerfile").read_text()
    return dict(re.findall(r"(KERNEL_SANDBOX_SERVER_[A-Z_]+)=(\S+)", text))


@pytest.mark.parametrize("name", ["Dockerfile", "compose.yaml", "README.md"])
def test_variables_are_settings(name: str) -> None:
    found = set(VARIABLE.findall((FOLDER / name).read_text()))
    assert found
    assert found <= {setting.variable for setting in describe()}


def test_image_serves_others_only_with_keys(service: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", "/var/lib")
    compose = {key: re.sub(r"\$\{\w+:-(\w+)\}", r"\1", value) for key, value in service["environment"].items()}
    settings = load(None, {**environment_of_the_image(), **compose}, {})
    assert not settings.is_loopback
    assert (settings.keys, settings.engine, settings.transport) == ("on", "docker", "forward")
    assert settings.database == "/var/lib/kernel-sandbox/server.db"


def test_service_has_the_socket_and_nothing_else(service: dict[str, Any]) -> None:
    assert service["volumes"] == [
        "/var/run/docker.sock:/var/run/docker.sock",
        "state:/var/lib/kernel-sandbox",
    ]
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["read_only"] is True
    assert all(port.startswith("127.0.0.1:") for port in service["ports"])
    assert not {"privileged", "cap_add", "pid", "ipc", "network_mode", "devices", "user"} & set(service)
    assert re.search(r"^USER 10001:10001$", (FOLDER / "Dockerfile").read_text(), re.MULTILINE)


def test_service_is_no_image_of_sessions() -> None:
    assert "server" not in image_names()
    assert (FOLDER / "Dockerfile").is_file()
