"""What an installation brings: four typed packages, one version, one command."""

from __future__ import annotations

import importlib.metadata
from importlib import resources

import pytest

PACKAGES = ["dualgraph", "dualgraph_compiler", "dualgraph_models", "dualgraph_runtime"]


@pytest.mark.parametrize("package", PACKAGES)
def test_package_is_installed_and_typed(package: str) -> None:
    assert resources.files(package).joinpath("py.typed").is_file()


def test_the_command_is_installed() -> None:
    (script,) = importlib.metadata.entry_points(group="console_scripts", name="dualgraph")
    assert script.value == "dualgraph.cli:main"


def test_core_requirements_stay_few() -> None:
    requirements = importlib.metadata.requires("dualgraph") or []
    core = {line.split(">=")[0] for line in requirements if "extra ==" not in line}
    assert core == {
        "click",
        "ml-dtypes",
        "networkx",
        "numpy",
        "onnx",
        "rich",
        "safetensors",
    }
