"""The command ``ray`` of a program that runs under ``skate run``: skate's own commands, by Ray's names.

Options that need other machines, a dashboard or a port are accepted, and a message says that they have no
effect. A command that skate lacks is refused by its name.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from skate._as_ray import RAY_VERSION
from skate.cli import main as skate_main

#: Commands of Ray's that are not there.
_LACKING = (
    "attach", "check-open-ports", "cluster-dump", "cpp", "dashboard", "disable-usage-stats", "down",
    "drain-node", "enable-usage-stats", "exec", "get-auth-token", "get-head-ip", "get-worker-ips",
    "global-gc", "install-nightly", "job", "kill-random-node", "monitor", "rsync-down", "rsync-up",
    "submit", "symmetric-run", "up",
)  # fmt: skip
#: Options of ``ray COMMAND`` that do nothing here, and whether a value follows.
_WITHOUT_EFFECT: dict[str, dict[str, bool]] = {
    "start": {
        "--node-ip-address": True, "--port": True, "--node-manager-port": True, "--object-manager-port": True,
        "--min-worker-port": True, "--max-worker-port": True, "--worker-port-list": True, "--node-name": True,
        "--ray-client-server-port": True, "--include-dashboard": True, "--dashboard-host": True,
        "--dashboard-port": True, "--dashboard-agent-listen-port": True, "--dashboard-agent-grpc-port": True,
        "--dashboard-grpc-port": True, "--runtime-env-agent-port": True, "--metrics-export-port": True,
        "--disable-usage-stats": False, "--no-monitor": False, "--ray-debugger-external": False,
        "--memory": True, "--include-log-monitor": True, "--enable-object-reconstruction": False,
    },
    "stop": {"--grace-period": True, "-g": True},
    "status": {"-v": False, "--verbose": False},
    "memory": {
        "--group-by": True, "--sort-by": True, "--units": True, "--no-format": False, "--stats-only": False,
        "-v": False, "--num-entries": True,
    },
}  # fmt: skip
#: Of all commands: how Ray's own output looks.
_LOOKS = {"--log-style": True, "--log-color": True, "--verbose": False, "-v": False}


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command of Ray's; return the exit code.

    Args:
        argv: the arguments; None: those of this process.

    Example:
        >>> main(["--version"])
        ray, version 2.60.0
        0
    """
    given = list(sys.argv[1:] if argv is None else argv)
    while given and given[0] in _LOOKS:
        del given[: 1 + _LOOKS[given[0]]]
    if given[:1] == ["--version"]:
        print(f"ray, version {RAY_VERSION}")
        return 0
    if not given or given[0] in ("-h", "--help", "help"):
        print(f"This is skate in place of ray.\n\n{skate_main.help_text('ray')}")
        return 0 if given else 2
    name, *rest = given
    if name in _LACKING:
        print(f"ray: skate has no `{name}` (yet): it is a command of Ray's that skate lacks", file=sys.stderr)
        return 2
    kept, ignored = _sorted(name, rest)
    if ignored:
        print(f"ray {name}: {', '.join(ignored)} without effect here (this is skate)", file=sys.stderr)
    return skate_main.main([name, *kept])


def _sorted(name: str, given: list[str]) -> tuple[list[str], list[str]]:
    """Return the arguments that skate's command takes, and the names of those that have no effect."""
    known = {**_LOOKS, **_WITHOUT_EFFECT.get(name, {})}
    kept: list[str] = []
    ignored: list[str] = []
    position = 0
    while position < len(given):
        option, equals, _ = given[position].partition("=")
        if option not in known:
            kept.append(given[position])
        else:
            if option not in _LOOKS:
                ignored.append(option)
            if known[option] and not equals:
                position += 1
        position += 1
    return kept, ignored
