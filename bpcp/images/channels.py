"""What CellProfiler will call each channel."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from bpcp.errors import BpcpError, Exit

# cellprofiler_core 4.2.8.1, setting/text/alphanumeric: a letter or _ first, then digits as well
_VALID = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_LAST_NUMBER = re.compile(r"(\d+)\D*$")


def cleaned(name: str) -> str:
    """Make a name that CellProfiler takes: "HOECHST 33342" is HOECHST33342, "1" is Ch1.

    InCell's "Green - dsRed" is Green_dsRed, "DAPI - DAPI" is DAPI.
    """
    halves = list(dict.fromkeys(part.strip() for part in name.split(" - ")))
    joined = "_".join(re.sub(r"[^A-Za-z0-9_]", "", half) for half in halves).strip("_")
    if not joined:
        return "Image"
    return joined if _VALID.fullmatch(joined) else f"Ch{joined}"


def requested(words: Iterable[str]) -> dict[str, str]:
    """Read `--channel 1=DNA`: the instrument's channel and its name, "" to leave it out.

    Raises
    ------
    BpcpError
        64 where one is not of that form, names a channel twice, gives a name twice, or isn't
        valid for CellProfiler.
    """
    found: dict[str, str] = {}
    for word in words:
        channel, equals, name = word.rpartition("=")
        channel, name = channel.strip(), name.strip()
        if not equals or not channel:
            raise BpcpError(Exit.USAGE, f"--channel {word}: no channel=name", "--channel 1=DNA")
        if name and not _VALID.fullmatch(name):
            raise BpcpError(
                Exit.USAGE,
                f"--channel {word}: CellProfiler takes letters, digits and _, a letter first",
                f"--channel {channel}={cleaned(name)}",
            )
        if channel in found:
            raise BpcpError(Exit.USAGE, f"--channel {channel} is given twice")
        if name and name in found.values():
            raise BpcpError(
                Exit.USAGE,
                f"--channel {word}: another channel is {name} already",
                "give each its own name",
            )
        found[channel] = name
    return found


def named(
    channels: Sequence[str], given: Mapping[str, str], indexes: Mapping[str, Sequence[str]]
) -> tuple[dict[str, str], list[str]]:
    """Name the channels: as the user says, else as the index does, else by the instrument's own.

    Parameters
    ----------
    channels : sequence of str
        The instrument's, in order.
    given : mapping of str to str
        From `requested`; "1" also means "w1" and "01", where that is one channel only.
    indexes : mapping of str to sequence of str
        What index files call them; all names that they give.

    Returns
    -------
    dict of str to str
        A name for each channel that is not left out, in order.
    list of str
        What was changed in names, for people.

    Raises
    ------
    BpcpError
        64 for a channel that is not there, or a name that another has; 65 where the instrument
        gives two channels one name, where index files call one by two names, or where none is left.
    """
    indexed = {channel: says[0] for channel, says in indexes.items() if says}
    chosen = {_meant(word, channels, indexed): name for word, name in given.items()}
    names: dict[str, str] = {}
    notes: list[str] = []
    for channel in channels:
        if channel in chosen:
            if chosen[channel]:
                names[channel] = chosen[channel]
            continue
        if len(set(indexes.get(channel, ()))) > 1:
            raise BpcpError(
                Exit.MALFORMED_INPUT,
                f"channel {channel} is {' here, '.join(indexes[channel])} there",
                f"list these plates one by one, or --channel {channel}=NAME if they are the same",
            )
        says = indexed.get(channel, "")
        names[channel] = cleaned(says or channel)
        if says and names[channel] != says:
            notes.append(f"channel {channel}: {says!r} is {names[channel]} for CellProfiler")
    if not names:
        raise BpcpError(Exit.MALFORMED_INPUT, "--channel leaves out all channels")
    by_name: dict[str, str] = {}
    for channel, name in names.items():
        other = by_name.setdefault(name, channel)
        if other != channel:
            raise BpcpError(
                Exit.USAGE if {channel, other} & set(chosen) else Exit.MALFORMED_INPUT,
                f"channels {other} and {channel} would both be {name}",
                f"--channel {other!r}=NAME --channel {channel!r}=NAME".replace("'", '"'),
            )
    return names, notes


def _meant(word: str, channels: Sequence[str], indexed: Mapping[str, str]) -> str:
    tests = (
        lambda c: c == word,
        lambda c: indexed.get(c) == word,
        lambda c: cleaned(indexed.get(c) or c) == word,
        lambda c: word.isdecimal() and _number(c) == int(word),
    )
    for test in tests:
        found = [c for c in channels if test(c)]
        if len(found) == 1:
            return found[0]
    there = ", ".join(f"{c} ({indexed[c]})" if c in indexed else c for c in channels)
    raise BpcpError(Exit.USAGE, f"--channel {word}=…: no such channel", f"there are: {there}")


def _number(channel: str) -> int | None:
    found = _LAST_NUMBER.search(channel)
    return int(found[1]) if found else None
