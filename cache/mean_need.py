"""What an ensemble's cache can answer although it does not keep it: the mean over its members.

An ensemble's targets are named `<member>.<target>`: 'a.logits', 'b.logits'. A need 'logits' that such a cache
does not keep is read as the unweighted mean of those of every member.
"""

from collections.abc import Iterable


def members_of(names: Iterable[str], need: str) -> tuple[str, ...]:
    """The targets whose mean stands for `need`, in the order of `names`; () when there is no such mean.

    () also when `need` itself is kept, and when only some of the members have it: a mean over some would be
    another teacher. ('a.logits', 'b.logits', 'a.stage4'): 'logits' has two members, 'stage4' none.
    """
    names = tuple(names)
    if need in names:
        return ()
    dotted = [name.partition(".") for name in names if "." in name]
    taps = {tap for _, _, rest in dotted for tap in (rest, rest.partition(".")[0])}
    members = dict.fromkeys(first for first, _, _ in dotted if first not in taps)
    found = tuple(name for member in members if (name := f"{member}.{need}") in names)
    return found if len(found) == len(members) > 1 else ()
