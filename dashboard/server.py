"""Runs the page: Streamlit's server in the main thread, the tail in its own, and the health server.

Everything is one process, so there is no child that could be left behind. Streamlit takes SIGTERM and SIGINT
once it serves; a signal that comes earlier is kept by ``Service`` and handed on.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
import urllib.error
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from starlette.websockets import WebSocketDisconnected
from streamlit import config
from streamlit.runtime import Runtime
from streamlit.web import bootstrap

from dashboard import sources as wiring
from fleetwatch.errors import EnvironmentProblemError
from fleetwatch.logs import get_logger
from fleetwatch.service import Service

if TYPE_CHECKING:
    from dashboard.sources import Sources
    from fleetwatch.settings import Settings

log = get_logger(__name__)

SCRIPT: Final = Path(__file__).parent / "app.py"
STOP_SECONDS: Final = 4.0


def serve(settings: Settings, *, host: str, port: int) -> int:
    """Serve the page until SIGTERM or SIGINT.

    Raises:
        EnvironmentProblemError: the port is taken.

    """
    check_port(host, port)
    with Service("dashboard", host=settings.http_host, port=settings.http_port) as service:
        service.status.doing = "starting the page"
        logging.getLogger("uvicorn.error").addFilter(_WithoutGoneBrowsers())
        options = _configure(host, port)
        sources = wiring.sources()
        done = threading.Event()
        watch = threading.Thread(target=_watch, args=(service, sources, host, done), name="watch", daemon=True)
        watch.start()
        try:
            if not service.stopping.is_set():
                bootstrap.run(str(SCRIPT), is_hello=False, args=[], flag_options=options)
        except SystemExit:  # Streamlit's way to say that it cannot listen
            raise _port_taken(host, port) from None
        finally:
            service.status.doing = "stopping"
            done.set()
            sources.close()
            watch.join(STOP_SECONDS)
    return 0


def check_port(host: str, port: int) -> None:
    """Raise EnvironmentProblemError when nobody can listen there; port 0 is always free."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
            probe.listen(1)
        except OSError:
            raise _port_taken(host, port) from None


def page_options(host: str, port: int) -> dict[str, Any]:
    """Return Streamlit's settings that stand above every file and variable."""
    return {
        "server.address": host,
        "server.port": port,
        "server.headless": True,
        "server.fileWatcherType": "none",
        "server.runOnSave": False,
        "browser.gatherUsageStats": False,
        "global.developmentMode": False,
    }


def _configure(host: str, port: int) -> dict[str, Any]:
    config._main_script_path = str(SCRIPT)  # noqa: SLF001  # as `streamlit run` does: the theme is found beside it
    options = page_options(host, port)
    bootstrap.load_config_options(options)
    return options


class _WithoutGoneBrowsers(logging.Filter):
    """Drops the stack trace that Streamlit's server logs when a browser leaves while it is being answered."""

    def filter(self, record: logging.LogRecord) -> bool:
        return not (record.exc_info and isinstance(record.exc_info[1], WebSocketDisconnected))


def _watch(service: Service, sources: Sources, host: str, done: threading.Event) -> None:
    """Keep the status true: ready while the page answers and the tail runs."""
    while not done.wait(0.25 if not service.status.ready else 1.0):
        port = int(config.get_option("server.port"))
        answers = _page_answers(host, port)
        status = service.status
        if service.stopping.is_set() and answers:
            os.kill(os.getpid(), signal.SIGTERM)  # came before Streamlit listened to signals
        if not answers:
            status.problem = "the page does not answer" if status.ready else ""
        elif not sources.live.is_running:
            status.problem = "the live view has stopped"
        else:
            status.problem = ""
            board = sources.live.board
            service.ready(f"serving http://{host}:{port}, {_visitors()} visitors, {len(board.devices)} sensors")
            status.counters |= {
                "dead_letters": board.dead_letters,
                "skipped": board.skipped,
                "unusable": board.unusable,
            }
            if problems := sources.live.problems:
                status.doing += f" ({problems[0]})"


def _page_answers(host: str, port: int) -> bool:
    if port == 0:
        return False
    reachable = "127.0.0.1" if host in ("", "0.0.0.0") else host  # noqa: S104  # compared, not bound
    place = f"[{reachable}]" if ":" in reachable else reachable
    try:
        with urllib.request.urlopen(f"http://{place}:{port}/_stcore/health", timeout=2) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def _visitors() -> int:
    if not Runtime.exists():
        return 0
    return int(Runtime.instance()._session_mgr.num_active_sessions())  # noqa: SLF001  # no public count


def _port_taken(host: str, port: int) -> EnvironmentProblemError:
    return EnvironmentProblemError(
        f"dashboard: cannot listen on {host}:{port}: free the port, or choose another with --port or "
        "FLEETWATCH_DASHBOARD_PORT"
    )
