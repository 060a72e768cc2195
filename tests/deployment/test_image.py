"""The container image: what it is made of and how it starts."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from gopher_node import __version__
from tests.deployment.deployed import COMPOSE, DOCKER, KUBERNETES, ROOT, compose, documents, healthcheck

HADOLINT = Path(sys.executable).parent / "hadolint"


@pytest.mark.skipif(
    not HADOLINT.exists() and not shutil.which("hadolint"), reason="hadolint has no wheel for this system"
)
def test_hadolint_finds_nothing() -> None:
    hadolint = str(HADOLINT) if HADOLINT.exists() else "hadolint"
    ran = subprocess.run([hadolint, str(DOCKER / "Dockerfile")], capture_output=True, text=True)

    assert (ran.stdout, ran.returncode) == ("", 0)


def test_what_is_copied_is_let_in_and_there() -> None:
    """The context holds nothing but what is named, and a file that is copied is named."""
    first, *lines = [
        line
        for line in (DOCKER / "Dockerfile.dockerignore").read_text().splitlines()
        if line and not line.startswith("#")
    ]
    let_in = {line[1:] for line in lines if line.startswith("!")}
    copied = re.findall(r"^COPY (?!--from)(.*) \S+$", (DOCKER / "Dockerfile").read_text(), re.MULTILINE)

    assert first == "*"
    assert {name for line in copied for name in line.split()} == let_in
    assert all((ROOT / name).exists() for name in let_in)


def test_what_only_builds_is_taken_out_again() -> None:
    """The lock of a node holds what builds the package, for scripts/run; the image drops it by name."""
    dockerfile = (DOCKER / "Dockerfile").read_text()
    (dropped,) = re.findall(r"uninstall --yes \\\n\s+([a-z -]+) \\", dockerfile)
    locked = set(re.findall(r"^([a-z0-9-]+)==", (ROOT / "requirements.lock").read_text(), re.MULTILINE))

    assert {"hatchling", "editables"} <= set(dropped.split()) <= locked
    assert "--require-hashes" in dockerfile


def test_it_runs_as_nobody_and_hears_of_its_end() -> None:
    """By number, in exec form, so that the signal reaches the node; and it is asked by its own program."""
    final = (DOCKER / "Dockerfile").read_text().rpartition("\nFROM ")[2]

    assert re.search(r"^USER [1-9]\d+:[1-9]\d+$", final, re.MULTILINE)
    assert '\nENTRYPOINT ["gopher-node"]\nCMD ["run"]\n' in final
    assert "\nSTOPSIGNAL SIGTERM\n" in final
    assert "\nVOLUME /data\n" in final
    assert healthcheck() == ["gopher-node", "health"]


def test_all_files_deploy_this_version() -> None:
    (kustomization,) = documents(KUBERNETES / "kustomization.yaml")
    images = {told["image"] for name in COMPOSE for told in compose(name)["services"].values()}

    assert {image for image in images if image.startswith("gopher-node")} == {f"gopher-node:{__version__}"}
    assert kustomization["images"] == [{"name": "gopher-node", "newTag": __version__}]
    assert f"ARG VERSION={__version__}\n" in (DOCKER / "Dockerfile").read_text()
