"""What is asked of SLURM, checked before it waits in a queue."""

from __future__ import annotations

import argparse
import re
from typing import NamedTuple

from selfalign.errors import UserError

TIME = re.compile(r"(\d+-\d+|\d+)(:\d+){0,2}", re.ASCII)
"""D-H, D-H:M, D-H:M:S; minutes, M:S, H:M:S."""

NAME = re.compile(r"[\w.,:@+/-]+", re.ASCII)
"""A partition (or several, by commas), account or quality of service."""

MEMORY = re.compile(r"\d+[KMGT]?", re.IGNORECASE)

OURS = {
    **dict.fromkeys(("nodes", "N"), "--nodes"),
    **dict.fromkeys(("time", "t"), "--time"),
    **dict.fromkeys(("output", "o", "chdir", "D"), "--out"),
    **dict.fromkeys(("ntasks", "n", "ntasks-per-node", "array", "a", "wrap"), "no other option"),
}
"""sbatch's options that the script itself depends on, and the option of ours that sets them."""


class Request(NamedTuple):
    """Machines and time. `seconds` is the time limit; `sbatch` holds the user's own options."""

    nodes: int
    gpus: int
    cpus: int
    time: str
    seconds: int
    partition: str | None
    account: str | None
    qos: str | None
    memory: str | None
    sbatch: tuple[str, ...]
    setup: str | None


def checked_request(options: argparse.Namespace) -> Request:
    """The request that the command line makes. Raises UserError for what SLURM would refuse or misread."""
    check_counts(options)
    for option, listing in (
        ("partition", "sinfo"),
        ("account", "sacctmgr show associations"),
        ("qos", "sacctmgr show qos"),
    ):
        value = getattr(options, option)
        if value is not None and not NAME.fullmatch(value):
            raise UserError(f"--{option} {value!r} is no name that SLURM knows", f"{listing} lists them")
    if options.mem is not None and not MEMORY.fullmatch(options.mem):
        raise UserError(f"--mem {options.mem!r} is no amount of memory", "--mem 200G, or 0 for all of a node")
    return Request(
        options.nodes,
        options.gpus_per_node,
        options.cpus_per_node,
        options.time,
        seconds_of(options.time),
        options.partition,
        options.account,
        options.qos,
        options.mem,
        tuple(checked_option(word) for word in options.sbatch),
        options.setup,
    )


def check_counts(options: argparse.Namespace) -> None:
    """UserError for a number of machines or devices that is none."""
    if options.nodes < 1:
        raise UserError(f"--nodes must be at least 1, is {options.nodes}", "--nodes 2")
    for name in ("gpus_per_node", "cpus_per_node"):
        if getattr(options, name) < 0:
            word = name.replace("_", "-")
            raise UserError(f"--{word} must not be below 0, is {getattr(options, name)}", f"leave --{word} out")


def seconds_of(text: str) -> int:
    """The seconds of a time limit in one of SLURM's forms."""
    days, dash, clock = text.rpartition("-")
    parts = [int(part) for part in clock.split(":")] if TIME.fullmatch(text) else []
    units = (3600, 60, 1) if dash or len(parts) == 3 else (60, 1)
    seconds = int(days or 0) * 86400 if parts else 0
    seconds += sum(part * unit for part, unit in zip(parts, units, strict=False))
    if not seconds:
        raise UserError(
            f"--time {text!r} is no time limit: minutes, M:S, H:M:S, D-H, D-H:M or D-H:M:S", "--time 24:00:00"
        )
    return seconds


def checked_option(text: str) -> str:
    """One option for sbatch, as it stands on a line of its own; dashes may be left out."""
    word = text.strip()
    word = word if word.startswith("-") else f"--{word}"
    if not option_name(word) or any(mark in word for mark in "\r\n"):
        raise UserError(f"--sbatch {text!r} is no option of sbatch", '--sbatch "--constraint=a100"')
    if (ours := OURS.get(option_name(word))) is not None:
        raise UserError(f"--sbatch {text!r}: the script depends on it", f"use {ours} of selfalign launch slurm")
    return word


def option_name(word: str) -> str:
    """`qos` of `--qos=long`, `p` of `-p gpu`."""
    return re.split(r"[=\s]", word.lstrip("-"), maxsplit=1)[0]
