"""The prompt of the REPL on a terminal: line editing, history, completion."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from prompt_toolkit import PromptSession
from prompt_toolkit.completion import CompleteEvent, Completer, Completion, PathCompleter
from prompt_toolkit.document import Document
from prompt_toolkit.shortcuts import CompleteStyle

from knock.cli.repl.commands import COMMANDS
from knock.cli.repl.history import history
from knock.cli.repl.session import Session


def reader(session: Session, prompt: Callable[[], str]) -> Callable[[], str]:
    """Return a function that reads a line from the terminal; several pasted lines are read as one.

    The function raises KeyboardInterrupt on Ctrl-C and EOFError on Ctrl-D.
    """
    line: PromptSession[str] = PromptSession(
        prompt,
        history=history(),
        completer=CommandCompleter(session),
        complete_while_typing=False,
        complete_style=CompleteStyle.READLINE_LIKE,
    )
    return line.prompt


class CommandCompleter(Completer):
    """Completes commands and their arguments, but not prompts.

    Args:
        session: The session, whose current settings are among the completions.
    """

    def __init__(self, session: Session) -> None:
        self._session = session

    def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterator[Completion]:
        """Yield the completions at the cursor."""
        name, space, given = document.text_before_cursor.partition(" ")
        if not space:
            known = COMMANDS if name.startswith("/") else ()
            yield from (Completion(each, -len(name)) for each in known if each.startswith(name))
        elif name in COMMANDS:
            command = COMMANDS[name]
            given = given.lstrip()
            values = command.values(self._session)
            yield from (Completion(each, -len(given)) for each in values if each.startswith(given))
            if command.completes:
                paths = PathCompleter(expanduser=True, file_filter=command.completes)
                yield from paths.get_completions(Document(given), complete_event)
