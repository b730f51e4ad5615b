"""docs/settings.md is up to date with the settings."""

from __future__ import annotations

import subprocess
import sys

from bandstand.settings import Settings, settings_page
from harness import PROJECT_ROOT


def test_page_is_up_to_date() -> None:
    page = (PROJECT_ROOT / "docs" / "settings.md").read_text(encoding="utf-8")
    assert page == settings_page(), "run: python -m bandstand.settings > docs/settings.md"


def test_every_setting_is_explained() -> None:
    for name, field in Settings.model_fields.items():
        assert field.description, name


def test_command_prints_the_page() -> None:
    run = subprocess.run(
        [sys.executable, "-m", "bandstand.settings"],
        cwd=PROJECT_ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert run.stdout == settings_page()
