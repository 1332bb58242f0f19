"""`kdtrain --json`: what a run reports as lines of JSON, an event each, for another program."""

from dataclasses import asdict

from kdcache.cli.terminal import Terminal
from kdcache.trainer.events import Evaluated, Event, RunFinished, RunStarted, Saved, StepsDone

_NAMES = {
    RunStarted: "started",
    StepsDone: "steps",
    Evaluated: "evaluated",
    Saved: "saved",
    RunFinished: "finished",
}


class JsonLines:
    """Listens to a run: {"event": "steps", "step": 10, "terms": {...}, ...} and the like."""

    def __init__(self, terminal: Terminal) -> None:
        self._terminal = terminal

    def __call__(self, event: Event) -> None:
        self._terminal.document({"event": _NAMES[type(event)], **asdict(event)})
