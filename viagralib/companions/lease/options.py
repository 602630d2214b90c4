"""What viagra-lease is asked for, from the command line. See viagra-lease(1)."""

from __future__ import annotations

import getopt
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass

from viagralib.base.messages import Fault, shown
from viagralib.companions.contract.companion import duration
from viagralib.companions.lease.engine import LONGEST_TTL
from viagralib.settings.hook_files import why_no_name

PROGRAM = "viagra-lease"
_SEE = "see viagra-lease --help"
USAGE = (
    "usage: viagra-lease [--engine url] [--ttl duration] [--stop duration]\n"
    "           [--fence program] [--priority n] [--fail-back]\n"
    "           [--fail-back-after duration] [--retry-after duration]\n"
    "           [--wait-for-engine duration] [--no-wait] [--held-code n]\n"
    "           [--on-role program] [-q | -v] name [--] command [argument ...]\n"
    "       viagra-lease status [--engine url] [--json] [name]\n"
    "       viagra-lease yield | forbid | allow [--engine url] name\n"
    "A command on one machine at a time. All of it: man viagra-lease"
)
VERBS = ("status", "yield", "forbid", "allow")
_KEEP = [
    *("engine=", "ttl=", "stop=", "fence=", "priority=", "fail-back"),
    *("fail-back-after=", "retry-after=", "wait-for-engine=", "no-wait"),
    *("held-code=", "on-role=", "quiet", "verbose"),
]
_TTL, _RETRY_AFTER, _FAIL_BACK_AFTER = 15.0, 60.0, 60.0
ELSEWHERE = 75  # EX_TEMPFAIL of sysexits(3)
SHORTEST_TTL = 2.0  # seconds; etcd's own limit with its default settings
_HIGHEST = 1000  # priority


@dataclass(frozen=True)
class Plan:
    """What is asked for; durations in seconds.

    `verb` is "keep" or one of VERBS. `stop` is the time between TERM and KILL,
    `patience` how long an engine may be out of reach before the keeper gives up;
    None: for ever; `fail_back_after` how long a standby must have been there before it
    gets the lease back, None: it does not. `held_code` is the exit code for a lease
    that another has, with `no_wait`.
    """

    verb: str
    engine: str | None
    name: str | None
    command: tuple[str, ...] = ()
    ttl: float = _TTL
    stop: float = _TTL / 5
    fence: str | None = None
    on_role: str | None = None
    priority: int = 0
    fail_back_after: float | None = None
    retry_after: float = _RETRY_AFTER
    patience: float | None = None
    no_wait: bool = False
    held_code: int = ELSEWHERE
    quiet: bool = False
    json: bool = False


def parse(argv: list[str]) -> Plan:
    """Return what `argv` asks for; raises Fault for what cannot be done."""
    if argv and argv[0] in VERBS:
        return _order(argv[0], argv[1:])
    given, words = _split(getopt.getopt, argv, _KEEP)
    if not words:
        raise Fault("", f"no name; {_SEE}")
    name, *command = words
    command = command[1:] if command[:1] == ["--"] else command
    if not command:
        raise Fault("", f"no command; {_SEE}")
    ttl = _duration(given, "--ttl", _TTL)
    patience = _duration(given, "--wait-for-engine", -1.0)
    plan = Plan(
        verb="keep",
        engine=_engine(given),
        name=_checked(name),
        command=tuple(command),
        ttl=ttl,
        stop=_duration(given, "--stop", ttl / 5),
        fence=_program(given, "--fence"),
        on_role=_program(given, "--on-role"),
        priority=_number(given, "--priority", 0, _HIGHEST),
        fail_back_after=_fail_back_after(given),
        retry_after=_duration(given, "--retry-after", _RETRY_AFTER),
        patience=None if patience < 0 else patience,
        no_wait="--no-wait" in given,
        held_code=_number(given, "--held-code", ELSEWHERE, 255),
        quiet=_is_quiet(given),
    )
    _check_times(plan)
    return plan


def _order(verb: str, argv: list[str]) -> Plan:
    known = ["engine=", "json"] if verb == "status" else ["engine="]
    given, words = _split(getopt.gnu_getopt, argv, known)
    if len(words) > 1 or (verb != "status" and not words):
        raise Fault("", f"{verb} goes with one name; {_SEE}")
    name = _checked(words[0]) if words else None
    return Plan(verb, _engine(given), name, json="--json" in given)


def _split(
    split: Callable[..., tuple[list[tuple[str, str]], list[str]]],
    argv: list[str],
    known: list[str],
) -> tuple[dict[str, str], list[str]]:
    try:
        options, words = split(argv, "qv" if known is _KEEP else "", known)
    except getopt.GetoptError as error:
        raise Fault("", f"{error}; {_SEE}") from None
    return dict(options), words


def _engine(given: dict[str, str]) -> str | None:
    return given.get("--engine") or os.environ.get("VIAGRA_LEASE")


def _checked(name: str) -> str:
    """Return a resource's name, which is a file's and a part of a key."""
    why = why_no_name(name) or ("it is a verb" if name in VERBS else "")
    if not why and (not name.isascii() or " " in name):
        why = "it holds more than letters, digits and signs"
    if why:
        raise Fault("", f"{shown(name)} cannot be a resource's name: {why}")
    return name


def _duration(given: dict[str, str], option: str, default: float) -> float:
    return duration(option, given[option]) if option in given else default


def _program(given: dict[str, str], option: str) -> str | None:
    """Return the path of a program that can be run."""
    if option not in given:
        return None
    path = shutil.which(given[option])
    if path is None:
        raise Fault(option, f"{shown(given[option])} is no program that can be run")
    return os.path.abspath(path)


def _number(given: dict[str, str], option: str, default: int, highest: int) -> int:
    text = given.get(option, str(default))
    if not (text.isascii() and text.isdigit() and int(text[:9]) <= highest):
        raise Fault(option, f"{shown(text)} is no number from 0 to {highest}")
    return int(text)


def _fail_back_after(given: dict[str, str]) -> float | None:
    if given.keys() & {"--fail-back", "--fail-back-after"}:
        return _duration(given, "--fail-back-after", _FAIL_BACK_AFTER)
    return None


def _is_quiet(given: dict[str, str]) -> bool:
    """Return whether only troubles are told: for a job of cron's that is the rule."""
    is_verbose = bool(given.keys() & {"-v", "--verbose"})
    if is_verbose and given.keys() & {"-q", "--quiet"}:
        raise Fault("", f"-q and -v do not go together; {_SEE}")
    return bool(given.keys() & {"-q", "--quiet", "--no-wait"}) and not is_verbose


def _check_times(plan: Plan) -> None:
    if plan.ttl < SHORTEST_TTL:
        raise Fault("--ttl", f"at least {SHORTEST_TTL:g}s")
    if plan.ttl > LONGEST_TTL:
        raise Fault("--ttl", f"at most {LONGEST_TTL:g}s")
    if plan.ttl < 3 * plan.stop:
        text = f"{plan.ttl:g}s is not three times --stop {plan.stop:g}s"
        raise Fault("--ttl", f"{text}: no time would be left to renew it")
