"""The end of a run of `knock train`: save the model, evaluate it and report the result."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
    best = f"best at step {record['best_step']:,}"
    if record["best_step"] == 0 and "from" in record:
        best = f"no step was better than {record['from']['name']}, whose weights are kept"
    messages.say(f"{_ENDED[result.ended]} after {counted(record['steps_done'], 'step')}; {best}")
    if result.improvement > 0:
        messages.say(
            f"still improving: the validation loss fell by {result.improvement:.4f} nats/char in the last tenth of the "
            f"steps; train longer: {_longer(options, result.record['steps_done'])}"
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
    evaluated = None if is_stopped else _evaluated(options, job, result, interrupts, messages)
    if evaluated is None:
        lacking = f"{options.out} lacks its final losses on the held-out text"
        messages.say(f"{lacking}; to measure them, run: {_score_command(options)}")
        code = exit_code()
    elif result.ended in ("done", "early") and not _is_compared(options, job, result, evaluated, interrupts, messages):
        code = exit_code()
    if result.ended in ("done", "early"):
        state.unlink(missing_ok=True)
    return code


def _evaluated(
    options: argparse.Namespace,
    job: Job,
    result: TrainingResult,
    interrupts: Interrupts,
    messages: Messages,
) -> dict[str, Any] | None:
    """Evaluate the finished model, record the losses in its file and print them.

    Returns:
        The training record with the losses; None if a signal arrives.
    """
    from knock_training.evaluate import as_record, evaluate

    seconds = _AFTER_INTERRUPT if result.ended == "interrupted" else job.closing_seconds
    text, boundary = job.corpus.validation, job.corpus.vocab.boundary
    try:
        with interrupts.idle():
            messages.say(f"measuring the loss on the {_size(job)}; Ctrl-C skips this")
            with ShareLine("measured") as line:
                losses = evaluate(result.weights, text, boundary=boundary, seconds=seconds, progress=line.show)
    except KeyboardInterrupt:
        return None
    record = result.record | {"evaluation": as_record(losses)}
    write_checkpoint(options.out, result.weights, job.corpus.vocab, record)
    for name, loss in losses.items():
        part = f", its first {loss.characters:,} characters" if loss.characters < len(text) - 1 else ""
        messages.say(f"validation, {name.replace('_', ' ')}: {loss}{part}")
    return record


def _size(job: Job) -> str:
    """Return how much is held out, in words."""
    if job.corpus.text.items is not None:
        return f"{counted(job.corpus.text.held_out_items, 'held-out item')}"
    return f"{len(job.corpus.validation):,} held-out characters"


def _is_compared(
    options: argparse.Namespace,
    job: Job,
    result: TrainingResult,
    record: dict[str, Any],
    interrupts: Interrupts,
    messages: Messages,
) -> bool:
    """Print the loss beside yardsticks, and the copies in a sample of items; return False if a signal arrives.

    Both are recorded in the model file.
    """
    from knock.cli.train.quality import sample_line, sample_record, yardstick_lines, yardsticks_record

    text = job.corpus.text
    measured = record["evaluation"]
    try:
        with interrupts.idle():
            messages.doing("measuring yardsticks")
            yardsticks = yardsticks_record(text, job.seconds_left())
            messages.doing("drawing a sample")
            sample = None if text.items is None else sample_record(result.weights, text, job.seconds_left())
            messages.doing(None)
    except KeyboardInterrupt:
        messages.doing(None).say("the comparison with yardsticks was skipped")
        return False
    if yardsticks is None:
        messages.say("there was no time to measure yardsticks; allow more --minutes")
    else:
        record["yardsticks"] = yardsticks
        for line in yardstick_lines(
            measured["stream" if text.items is None else "items"]["bits_per_char"], yardsticks, text
        ):
            messages.say(line)
    if sample is not None:
        record["sample"] = sample
        messages.say(sample_line(sample))
    write_checkpoint(options.out, result.weights, job.corpus.vocab, record)
    return True


def _longer(options: argparse.Namespace, steps: int) -> str:
    """Return the option that makes the run twice as long."""
    return f"--steps {2 * steps}" if options.minutes is None else f"--minutes {2 * options.minutes:g}"


def _score_command(options: argparse.Namespace) -> str:
    """Return the command that measures a saved model on the held-out part of its corpus."""
    unknown = [] if options.unknown == "error" else ["--unknown", options.unknown]

    def command(*corpus: str) -> str:
        return shlex.join(["knock", "score", "--held-out", *corpus, *unknown, "--model", options.out])

    whole = command(*options.corpus)
    return command("CORPUS") if options.corpus == ["-"] or len(whole) > _LONGEST else whole
