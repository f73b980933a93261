"""The end of a run of `knock train`: save the model, evaluate it and say what there is."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from knock.cli.train.messages import Messages
from knock.cli.ui.interrupts import Interrupts, exit_code, is_terminated
from knock.cli.ui.progress import ShareLine
from knock.files.checkpoint import write_checkpoint
from knock.words import counted

if TYPE_CHECKING:
    from knock.cli.train.job import Job
    from knock_training.trainer import TrainingResult

_AFTER_INTERRUPT = 10.0  # seconds for the evaluation of an interrupted run
_LONGEST = 120  # characters of a suggested command with the names of its files
_ENDED = {
    "done": "done",
    "early": "stopped early because the validation loss stopped falling,",
    "interrupted": "interrupted",
    "diverged": "diverged",
}


def finish(
    options: argparse.Namespace,
    job: Job,
    result: TrainingResult,
    state: Path,
    *,
    is_there: bool,
    interrupts: Interrupts,
    messages: Messages,
) -> int:
    """Save and evaluate the trained model; return the exit code.

    Args:
        options: the command's options.
        job: what the run was about.
        result: the result of the run.
        state: state file of the run, removed if the run is finished.
        is_there: whether `--out` existed before the run.
        interrupts: signals since the run began.
        messages: prints lines.
    """
    record = result.record
    messages.say(
        f"{_ENDED[result.ended]} after {counted(record['steps_done'], 'step')}; best at step {record['best_step']:,}"
    )
    if result.ended == "diverged":
        messages.say("the loss rose and did not recover; try lower learning rates")
    if result.ended == "interrupted":
        messages.say("pass --resume to continue" if result.unsaved is None else f"{result.unsaved}")
    code = {"done": 0, "early": 0, "interrupted": exit_code(), "diverged": 1}[result.ended]
    if is_there and (not result.is_evaluated or result.is_lost):
        reason = "there is no validation loss yet"
        if result.is_lost:
            reason = "the new weights are worse than character frequencies alone"
        messages.say(f"{options.out} was not overwritten: {reason}")
        return code or 1
    digest = write_checkpoint(options.out, result.weights, job.corpus.vocab, record)
    messages.say(f"saved {options.out}, {result.weights.n_parameters:,} parameters, digest {digest[:16]}")
    is_stopped = is_terminated() or (interrupts.asked and result.ended != "interrupted")
    if is_stopped or not _is_evaluated(options, job, result, interrupts, messages):
        lacking = f"{options.out} lacks its final losses on the held-out text"
        messages.say(f"{lacking}; to measure them, run: {_score_command(options)}")
        code = exit_code()
    if result.ended in ("done", "early"):
        state.unlink(missing_ok=True)
    return code


def _is_evaluated(
    options: argparse.Namespace,
    job: Job,
    result: TrainingResult,
    interrupts: Interrupts,
    messages: Messages,
) -> bool:
    """Evaluate the finished model, record the losses in its file and print them; return False if a signal arrives."""
    from knock_training.evaluate import as_record, evaluate

    seconds = _AFTER_INTERRUPT if result.ended == "interrupted" else job.closing_seconds
    text = job.corpus.validation
    try:
        with interrupts.idle():
            messages.say(f"measuring the loss on the {len(text):,} held-out characters; Ctrl-C skips this")
            with ShareLine("measured") as line:
                losses = evaluate(result.weights, text, seconds=seconds, progress=line.show)
    except KeyboardInterrupt:
        return False
    record = result.record | {"evaluation": as_record(losses)}
    write_checkpoint(options.out, result.weights, job.corpus.vocab, record)
    for name, loss in losses.items():
        part = f", its first {loss.characters:,} characters" if loss.characters < len(text) - 1 else ""
        messages.say(f"validation, {name.replace('_', ' ')}: {loss}{part}")
    return True


def _score_command(options: argparse.Namespace) -> str:
    """Return the command that measures a saved model on the held-out part of its corpus."""
    unknown = [] if options.unknown == "error" else ["--unknown", options.unknown]

    def command(*corpus: str) -> str:
        return shlex.join(["knock", "score", "--held-out", *corpus, *unknown, "--model", options.out])

    whole = command(*options.corpus)
    return command("CORPUS") if options.corpus == ["-"] or len(whole) > _LONGEST else whole
