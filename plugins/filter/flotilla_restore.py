"""Filters of a restore: what was asked for, checked on the controller, and what is said of it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parents[1] / "module_utils"))

from flotilla import upgrading
from flotilla.restoring import asked, drill_line, placed_lines, scratch_lines, trouble, volume_lines


class FilterModule:
    """Registers the filters with Ansible."""

    def filters(self) -> dict[str, Any]:
        """Filter names, all prefixed with the project's."""
        return {
            "flotilla_drill_line": drill_line,
            "flotilla_restore_asked": asked,
            "flotilla_restore_lines": scratch_lines,
            "flotilla_restore_placed": placed_lines,
            "flotilla_restore_trouble": trouble,
            "flotilla_restore_volume": volume_lines,
            "flotilla_upgrade_asked": upgrading.asked,
            "flotilla_upgrade_lines": upgrading.lines,
        }
