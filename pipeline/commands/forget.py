"""`pipeline forget`: removes the rows, ledger entries and raw copies of files, so that they can be loaded again."""

from __future__ import annotations

import argparse
from pathlib import Path

from pipeline.command_line import WrongCommandLine
from pipeline.commands import Commands, add_command, add_files, check_months, chosen_files
from pipeline.datasets import Release
from pipeline.errors import counted
from pipeline.extract import remove_extracted
from pipeline.settings import StorageSettings
from pipeline.tasks.load import orphan_warnings
from pipeline.transform import is_modelled
from pipeline.warehouses import Warehouse, configured_warehouses, existing_warehouse, warehouse_info


def add_commands(commands: Commands) -> None:
    """Declares the command."""
    command = add_command(commands, "forget", "remove months everywhere, raw files included, to load them again", _run)
    add_files(command)
    command.hint = "; if its YAML file was removed, put it back, forget the dataset's months, and remove it again"
    command.add_argument("--dry-run", action="store_true", help="show what would be removed, and remove nothing")


def _run(arguments: argparse.Namespace) -> int:
    """Removes the files and prints from where; with `--dry-run`, only prints where they are."""
    (dataset, months), dry_run = chosen_files(arguments), arguments.dry_run
    if dataset is None:
        raise WrongCommandLine("which dataset, and which months? For example: pipeline forget green 2020-04")
    check_months("pipeline forget", dataset, months)
    releases = [Release(dataset, month) for month in months] if months else [Release(dataset)]
    warehouses = {name: each for name in configured_warehouses() if (each := existing_warehouse(name))}
    found = _show(releases, warehouses) if dry_run else _forget(releases, warehouses)
    if len(releases) > 1:
        print(f"{'Would remove' if dry_run else 'Removed'} {found} of the {len(releases)} months {months}")
    elif not found:
        print(f"{releases[0].key}: there is nothing to remove")
    return 0


def _forget(releases: list[Release], warehouses: dict[str, Warehouse]) -> int:
    """Removes each file everywhere and prints from where; returns the number of files that were found."""
    found, changed = 0, set[str]()
    for release in releases:
        # Raw files first: if that fails, the rows are still complete.
        files = [f"{file} removed" for file in _raw_files(release) if remove_extracted(file)]
        names = [name for name, warehouse in warehouses.items() if warehouse.forget(release)]
        changed.update(names)
        if removed := [*(f"removed from {warehouse_info(name).title}" for name in names), *files]:
            print(f"{release.key}: {'; '.join(removed)}", flush=True)
            found += 1
    for name in sorted(changed):
        for warning in orphan_warnings(name, releases[0].dataset):
            print(warning)
    if is_modelled(releases[0].dataset):
        what = "it" if len(releases) == 1 else "them"
        for name in warehouses:
            if name in changed and warehouses[name].last_build():
                title = warehouse_info(name).title
                print(f"The models in {title} still hold {what}: pipeline build --warehouse {name}")
    return found


def _show(releases: list[Release], warehouses: dict[str, Warehouse]) -> int:
    """Prints where each file is; returns the number of files that were found."""
    found = 0
    ledgers = {name: {entry.partition_key: entry for entry in each.loaded()} for name, each in warehouses.items()}
    for release in releases:
        rows = [
            f"{counted(entries[release.key].rows_loaded, 'row')} in {warehouse_info(name).title}"
            for name, entries in ledgers.items()
            if release.key in entries
        ]
        if locations := [*rows, *(str(file) for file in _raw_files(release) if file.exists())]:
            print(f"{release.key}: {'; '.join(locations)}")
            found += 1
    return found


def _raw_files(release: Release) -> list[Path]:
    return [StorageSettings().raw_folder() / release.raw_path(source) for source in release.sources()]
