from __future__ import annotations

import subprocess
import sys

HEAVY = ("numba", "polars", "sklearn", "faust", "river", "scipy", "streamlit", "pandas")


def test_the_alerting_process_imports_nothing_heavy():
    code = (
        "import sys, alerting.app, alerting.channels, alerting.telegram, fleetwatch.service, fleetwatch.logs\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"


def test_without_a_token_telegram_is_not_imported():
    code = (
        "import sys, alerting.app, alerting.channels\n"
        "from fleetwatch.settings import Settings\n"
        "alerting.channels.open_channels(Settings())\n"
        "print('telegram' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "False"
