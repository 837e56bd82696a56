#!/usr/bin/env python3
"""The demo: a fleet of hosts on real HTTP, and the service that monitors it. See README.md."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import sys
from collections.abc import Callable
from pathlib import Path

# So that this folder is the package `monitor`, here and in every worker.
sys.path[0] = str(Path(__file__).resolve().parent.parent)

from tqdm import tqdm  # noqa: E402

from monitor.fleet_process import Fleet, FleetError  # noqa: E402
from monitor.service import Settings, monitor  # noqa: E402
from monitor.store import AlarmChange, StoreError  # noqa: E402
from monitor.totals import alarm_line, table  # noqa: E402

_INTERRUPTED = 128 + 2  # what a shell says of a program that SIGINT ended


def _at_least(least: int) -> Callable[[str], int]:
    def number(text: str) -> int:
        if not text.isdecimal() or int(text) < least:
            raise argparse.ArgumentTypeError(f"{text!r} is not a number of {least} or more")
        return int(text)

    return number


def _folder(text: str) -> Path:
    path = Path(text).resolve()
    if not path.is_dir():
        raise argparse.ArgumentTypeError(f"{path} is not a folder")
    return path


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hosts", type=_at_least(1), default=146, help="default: %(default)s")
    parser.add_argument("--sweeps", type=_at_least(1), default=3, help="default: %(default)s")
    parser.add_argument(
        "--seed", type=_at_least(0), default=1, help="of the fleet; default: %(default)s"
    )
    parser.add_argument("--db", type=Path, help="keep the database there; runs add up in it")
    parser.add_argument("--processes", type=_at_least(1), help="workers; default: the CPUs")
    parser.add_argument(
        "--engine",
        choices=("aiomq", "asyncio"),
        default="aiomq",
        help="a pool of workers, or the same in this one process; default: %(default)s",
    )
    parser.add_argument(
        "--checks",
        type=_folder,
        action="append",
        default=[],
        metavar="FOLDER",
        help="more checks; may be given several times",
    )
    parser.add_argument("--fleet", metavar="URL", help="monitor a fleet that runs already")
    parser.add_argument("--quiet", action="store_true", help="no bar and no alarms, only the table")
    return parser.parse_args()


def _run(arguments: argparse.Namespace) -> None:
    with contextlib.ExitStack() as stack:
        url = arguments.fleet
        if not url:
            fleet = Fleet(arguments.hosts, arguments.sweeps, arguments.seed)
            url = stack.enter_context(fleet).url
        settings = Settings(
            fleet_url=url,
            hosts=arguments.hosts,
            sweeps=arguments.sweeps,
            seed=arguments.seed,
            engine=arguments.engine,
            processes=arguments.processes,
            db=arguments.db,
            more_checks=tuple(arguments.checks),
        )
        bar = stack.enter_context(
            tqdm(
                total=arguments.hosts * arguments.sweeps,
                unit="host",
                disable=arguments.quiet,
            )
        )

        def listen(hosts: int, changes: list[AlarmChange]) -> None:
            bar.update(hosts)
            if changes and not arguments.quiet:
                tqdm.write("\n".join(map(alarm_line, changes)))

        totals = asyncio.run(monitor(settings, listen))
        bar.close()
        print(f"\n{table(totals)}")


def main() -> int:
    try:
        _run(_arguments())
    except KeyboardInterrupt:
        return _INTERRUPTED
    except (FleetError, StoreError) as error:
        print(f"{os.path.basename(sys.argv[0])}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
