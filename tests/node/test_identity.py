"""Whom a node takes for dead when it starts on a data directory that others used."""

from __future__ import annotations

import os
import subprocess
import sys

from gopher_node.node import _host_name, _may_live, _new_node_id


def test_node_of_a_process_that_is_gone_is_dead() -> None:
    """A process of this host that has ended renews nothing any more."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()

    assert not _may_live(f"{_host_name()}-{process.pid}-abcdef")


def test_own_number_under_another_nonce_is_dead() -> None:
    """In a container every run of the node may have the same process number."""
    assert not _may_live(_new_node_id())


def test_node_of_a_running_process_may_live() -> None:
    """Its lease decides."""
    assert _may_live(f"{_host_name()}-{os.getppid()}-abcdef")


def test_nothing_is_known_of_other_hosts() -> None:
    """Nor of names that no node has."""
    assert _may_live(f"another-host-{os.getpid()}-abcdef")
    assert _may_live("http-lease")
    assert _may_live("")
