"""What an expression writes of one term: its preset, the options by the names of today, typed values.

Light: `check_expression` answers a typo before torch is imported. The same functions read the expression of a
run, so an option is refused in the same words at both times.
"""

from collections.abc import Iterable, Mapping

from kdcache.cache.spec import BadOption, unknown
from kdcache.cache.tasks.table import TASKS
from kdcache.losses.options import WEIGHT, OptionSpec, OptionValue, read_options
from kdcache.losses.plan.declared import Declared, declared_by
from kdcache.losses.plan.expression import ParsedTerm, parse_expression, where_in
from kdcache.losses.plan.presets import preset_names
from kdcache.losses.plan.table import LOSSES, NONE, TASK, loss_names
from kdcache.losses.schedules import schedule_specs


def check_expression(expression: str) -> None:
    """Raises BadOption for whatever no task and no data could make right: the shape of the text, a name, a
    preset, an option or its value. A loss of somebody's own is asked when it is imported."""
    where = where_in(expression)
    for term in parse_expression(expression):
        if term.name not in loss_names() and ":" not in term.name:
            raise unknown("loss", term.name, loss_names(), where=where)
        check_preset(term, where)
        if term.name == TASK:
            _check_any(term, [declared_by(row.supervised) for row in TASKS.values()], where)
        elif term.name in LOSSES and term.name != NONE:
            _check_any(term, [declared_by(LOSSES[term.name])], where)


def check_preset(parsed: ParsedTerm, where: str) -> None:
    """Raises BadOption for a preset that is in no table."""
    if parsed.preset is not None and parsed.preset not in preset_names():
        raise unknown("preset", parsed.preset, preset_names(), where=where)


def read_written(
    parsed: ParsedTerm,
    own: Mapping[str, OptionSpec],
    aliases: Mapping[str, str],
    companions: Iterable[str],
    *,
    where: str,
) -> dict[str, OptionValue]:
    """Typed values of what a term may write out: schedules, its own options, its weight and those of its
    companions. Raises BadOption."""
    shares = {name: WEIGHT._replace(name=name) for name in companions}
    legal = {**schedule_specs(), **own, "weight": WEIGHT, **shares}
    return read_options(parsed.name, legal, _without_aliases(parsed, aliases, where), where=where)


def _without_aliases(parsed: ParsedTerm, aliases: Mapping[str, str], where: str) -> dict[str, str]:
    """The options by the names they have today. BadOption where one is written under both."""
    options: dict[str, str] = {}
    for name, value in parsed.options.items():
        today = aliases.get(name, name)
        if today in options:
            alias = next(old for old, new in aliases.items() if new == today)
            raise BadOption(
                f"'{alias}' and '{today}' of '{parsed.name}' are one option, given twice",
                where=where,
                fix=f"write {today} alone: {parsed.name}({today}={value})",
            )
        options[today] = value
    return options


def _check_any(term: ParsedTerm, kinds: Iterable[Declared], where: str) -> None:
    """Raises BadOption, the first one's, when none of several losses of one name takes what is written."""
    refused = []
    for one in kinds:
        try:
            read_written(term, one.options, one.aliases, one.companions, where=where)
        except BadOption as error:
            refused.append(error)
        else:
            return
    raise refused[0]
