"""No other user of the host can give the supervisor commands: it starts programs when told to."""

from __future__ import annotations

import stat
from pathlib import Path

import psutil

from harness.serving import Server


def test_the_supervisor_listens_on_the_service_port_only(server: Server) -> None:
    supervisor = psutil.Process(server.process.pid)
    listening = {
        found.laddr.port
        for found in supervisor.net_connections("inet")
        if found.status in (psutil.CONN_LISTEN, psutil.CONN_NONE)
    }
    assert listening == {int(server.url.rpartition(":")[2])}


def test_its_own_sockets_are_in_folders_of_this_user_alone(server: Server) -> None:
    found = psutil.Process(server.process.pid).net_connections("unix")
    sockets = {Path(each.laddr) for each in found if each.laddr}
    assert {"control", "events"} <= {path.name for path in sockets}
    assert any(path.suffix == ".sock" for path in sockets), "those of the workers"
    for folder in {path.parent for path in sockets}:
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700, folder
