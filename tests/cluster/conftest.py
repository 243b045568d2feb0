"""Print the effects of the faults as the table of docs/cluster.md."""

from __future__ import annotations

from typing import Any


def pytest_terminal_summary(terminalreporter: Any) -> None:
    rows = [
        value
        for report in terminalreporter.getreports("passed")
        for name, value in report.user_properties
        if name == "fault"
    ]
    if rows:
        write = terminalreporter.write_line
        write("| engine | fault | tasks | runs | epochs needed | epochs trained | lost | result |")
        write("|---|---|---|---|---|---|---|---|")
        for row in rows:
            write(f"| {' | '.join(map(str, row))} |")
