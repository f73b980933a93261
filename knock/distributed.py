"""Generate many texts on many machines with Ray Data; the texts are the same as on one machine."""

from __future__ import annotations

import itertools
import os
import re
import warnings
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Unpack

from knock.choices import Backend, Precision, Unknown
from knock.errors import KnockError, PromptError, SamplingError, missing_package
from knock.generation.constraints.constraint import NO_CONSTRAINT, Constraint
from knock.generation.options import ConstraintOptions
from knock.generation.requests import LAST_INDEX, RequestBuilder
from knock.generation.results import Prompt
from knock.generation.stopping import StopStrings
from knock.gpt import ReweightGPT
from knock.jobs.field_names import FIELDS, check_extra
from knock.jobs.prompt_file import PromptMaker
from knock.jobs.rows import Row, row_of
from knock.language_model import LanguageModel, load
from knock.sampling import WHOLE_CONTROLS, Sampling, resolve_seed
from knock.validation import shown, whole_number
from knock.vocab import Vocab
from knock.weights import Weights

if TYPE_CHECKING:
    import ray.data

_BATCH = 1024  # prompts per batch of a worker
_AT_ONCE = 2**20  # prompts per dataset, so that rows of an endless input come back


def sample_dataset(
    dataset: ray.data.Dataset,
    model: LanguageModel | str | os.PathLike[str],
    sampling: str | Sampling = "basic",
    seed: int | None = None,
    n: int = 1,
    *,
    max_new_tokens: int | None = 300,
    stop: str | Iterable[str] | None = None,
    unknown: Unknown = "error",
    keep_rejected: bool = False,
    log_probs: bool = False,
    entropies: bool = False,
    workers: int | None = None,
    batch_size: int = _BATCH,
    **constraints: Unpack[ConstraintOptions],
) -> ray.data.Dataset:
    """Generate texts for a dataset of prompts on the workers of a Ray cluster.

    Row i depends only on the model, its prompt, its controls, the seed and i. It equals row i of
    `LanguageModel.generate_batch` for any blocks of the dataset and any number of workers, also if a worker is lost
    and another takes over. knock must be installed on every machine.

    Args:
        dataset: prompts in a column `prompt`, with optional columns named like the fields of `Prompt` and `Sampling`,
            where a null selects the default. An optional column `index` gives each prompt's index in the batch. By
            default it is the position in the dataset, which requires counting the rows first. All other columns are
            carried into the result with their types.
        model: a model, or an argument of `load`. It is read once and sent to the workers.
        sampling: controls for prompts without their own.
        seed: seed of the batch; if None, a seed is drawn and reported in the rows.
        n: texts per prompt.
        max_new_tokens: characters per text, as in `generate`.
        stop: as in `generate`.
        unknown: as in `generate`.
        keep_rejected: as in `generate_batch`. Otherwise a row of which no `exact` text matches has an error.
        log_probs: include the natural logarithm of the model's probability of each character, before bias, temperature
            and filters.
        entropies: include the model's entropy at each character, in bits.
        workers: maximum number of workers, with one CPU each; by default the number of CPUs of the cluster.
        batch_size: prompts per batch of a worker.
        constraints: the fields of `Constraint`, such as `pattern=r"[A-Z][a-z]+"`.

    Returns:
        A lazily evaluated dataset with the columns `index`, `prompt`, `text`, `finish_reason`, `stop_string`, `seed`
        and `error`, optionally `log_probs` and `entropies`, and the other columns of `dataset`. An invalid prompt has
        an empty text and an `error`, which is otherwise null.

    Raises:
        KnockError: if Ray is missing.
        PromptError: if a column's name is one that rows have, or near one of a control; on evaluation, if an index is
            invalid.
        SamplingError: if an argument is out of range.
    """
    ray = _import_ray()
    n, batch_size = (whole_number(*each, 1, error=SamplingError) for each in (("n", n), ("batch_size", batch_size)))
    if workers is not None:
        workers = whole_number("workers", workers, 1, error=SamplingError)
    if not isinstance(dataset, ray.data.Dataset):
        raise PromptError(f"expected a Ray dataset of prompts, got {shown(dataset)}; use ray.data.from_items")
    lm = model if isinstance(model, LanguageModel) else load(model)
    stops = StopStrings(stop).strings
    constraint = lm.constrained(Constraint(**constraints)) or NO_CONSTRAINT
    length = lm.length_limit(max_new_tokens)
    RequestBuilder(lm.vocab, sampling, stops, length, unknown, constraint=constraint)  # validate
    lm.vocab.encode("", unknown=unknown)
    columns = dataset.columns() or []
    check_extra(_extra(columns), "column")
    if columns and "index" not in columns:
        dataset = _numbered(dataset)
    job = _Job(
        weights=lm.model.weights,
        vocab=lm.vocab,
        backend="numpy" if lm.model.engine.backend == "numpy" else "compiled",  # one backend for all workers
        precision=lm.model.engine.precision,
        sampling=Sampling.resolve(sampling),
        seed=resolve_seed(seed),
        n=n,
        options={
            "max_new_tokens": length,
            "stop": stops,
            "unknown": unknown,
            "keep_rejected": keep_rejected,
            **asdict(constraint),
        },
        kept={"log_probs": log_probs, "entropies": entropies},
    )
    return dataset.map_batches(
        _Worker,
        fn_constructor_args=[job],
        batch_size=batch_size,
        batch_format="pyarrow",
        compute=ray.data.ActorPoolStrategy(min_size=1, max_size=workers or _cpus()),
        num_cpus=1,
    )


def sample_prompts(
    prompts: Iterable[Prompt],
    model: LanguageModel,
    sampling: Sampling,
    seed: int,
    **options: Any,
) -> Iterator[Row]:
    """Yield the rows of `sample_dataset`, in order, for any number of prompts.

    Args:
        prompts: validated prompts, each with an index.
        model: the model.
        sampling: controls for prompts without their own.
        seed: seed of the batch.
        options: other arguments of `sample_dataset`.

    Raises:
        KnockError: if Ray is missing or fails.
    """
    ray = _import_ray()
    from ray.data import from_arrow

    extras: deque[Mapping[str, Any] | None] = deque()  # of prompts sent to the cluster; they stay here

    def noted() -> Iterator[Prompt]:
        for prompt in prompts:
            extras.append(prompt.extra)
            yield prompt

    try:
        for tables in _tables(noted()):
            dataset = from_arrow(tables)
            dataset.context.execution_options.preserve_order = True
            dataset.context.enable_progress_bars = False
            texts = sample_dataset(dataset, model, sampling, seed, **options)
            batches: Iterable[Any] = texts.iter_batches(batch_size=None, batch_format="pyarrow")
            for batch in batches:
                for row in batch.to_pylist():
                    if row["error"] is None:
                        del row["error"]
                    yield row | (extras.popleft() or {})
    except (ConnectionError, ray.exceptions.RayError) as error:
        raise KnockError(f"Ray failed: {_reason(error)}") from error


@dataclass(frozen=True, kw_only=True)
class _Job:
    """The model and settings that are sent to every worker.

    Attributes:
        weights: weights of the model.
        vocab: vocabulary of the model.
        backend: backend that runs the model.
        precision: precision of the model.
        sampling: controls for prompts without their own.
        seed: seed of the batch.
        n: texts per prompt.
        options: other arguments of `generate_batch`.
        kept: keyword arguments of `row_of`.
    """

    weights: Weights
    vocab: Vocab
    backend: Backend
    precision: Precision
    sampling: Sampling
    seed: int
    n: int
    options: dict[str, Any]
    kept: dict[str, bool]


class _Worker:
    """A Ray actor that holds the model and turns a table of prompts into a table of rows."""

    def __init__(self, job: _Job) -> None:
        self._job = job
        gpt = ReweightGPT.from_weights(job.weights, backend=job.backend, precision=job.precision)
        self._model = LanguageModel(gpt, job.vocab)
        self._maker = PromptMaker(job.sampling)

    def __call__(self, batch: Any) -> Any:
        from pyarrow import Table

        from knock.jobs.parquet import row_schema

        job = self._job
        extra = _extra(batch.column_names)
        check_extra(extra, "column")
        prompts = [self._prompt(row) for row in batch.drop_columns(extra).to_pylist(maps_as_pydicts="lossy")]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # every worker would repeat them
            texts = iter(
                self._model.generate_batch(
                    [prompt for prompt in prompts if isinstance(prompt, Prompt)],
                    job.sampling,
                    job.n,
                    job.seed,
                    token_stats=any(job.kept.values()),
                    keep_errors=True,
                    threads=1,
                    **job.options,
                )
            )
        rows: list[Row] = []
        for prompt in prompts:
            if isinstance(prompt, Prompt):
                rows += (row_of(text, **job.kept) for text in itertools.islice(texts, job.n))
            else:
                rows += ({**prompt, "index": prompt["index"] * job.n + k} for k in range(job.n))
        table = Table.from_pylist(rows, row_schema([name for name, is_kept in job.kept.items() if is_kept]))
        sources = [i for i in range(len(prompts)) for _ in range(job.n)]
        for name in extra:
            table = table.append_column(batch.schema.field(name), batch.column(name).take(sources))
        return table

    def _prompt(self, row: dict[str, Any]) -> Prompt | dict[str, Any]:
        """Return the prompt, or an error row if it is invalid."""
        index = row.pop("index")
        if isinstance(index, float) and index.is_integer():  # pandas stores an integer column with nulls as floats
            index = int(index)
        index = whole_number("index", index, 0, LAST_INDEX // self._job.n, error=PromptError)
        try:
            return replace(self._maker.prompt(row), index=index)
        except KnockError as error:
            text = row.get("prompt")
            failed = {"text": "", "finish_reason": "error", "seed": self._job.seed, "error": str(error)}
            return {"index": index, "prompt": text if isinstance(text, str) else "", **failed}


def _extra(columns: Iterable[str]) -> list[str]:
    """Return the columns that the rows carry."""
    return [name for name in columns if name not in {"index", *FIELDS}]


def _tables(prompts: Iterable[Prompt]) -> Iterator[list[Any]]:
    """Yield lists of tables; a table holds one batch of prompts, a list the prompts of one dataset.

    An exception of `prompts` is raised only after the prompts before it have been yielded.
    """
    import pyarrow as pa

    strings = {name: pa.string() for name in ("prompt", "sampling", "entropy_rule")}
    whole = {name: pa.int64() for name in ("index", "max_new_tokens", *WHOLE_CONTROLS)}
    other = {"stop": pa.list_(pa.string()), "logit_bias": pa.map_(pa.string(), pa.float64())}
    names = ("index", *FIELDS)
    schema = pa.schema({name: (strings | whole | other).get(name, pa.float64()) for name in names})
    raised: list[Exception] = []
    rows = map(_columns, _until_raised(prompts, raised))
    while batches := list(itertools.islice(iter(lambda: list(itertools.islice(rows, _BATCH)), []), _AT_ONCE // _BATCH)):
        yield [pa.Table.from_pylist(batch, schema) for batch in batches]
    if raised:
        raise raised[0]


def _until_raised(prompts: Iterable[Prompt], raised: list[Exception]) -> Iterator[Prompt]:
    try:
        yield from prompts
    except Exception as error:
        raised.append(error)


def _columns(prompt: Prompt) -> dict[str, Any]:
    """Return a prompt as a table row, with all of its own controls written out."""
    row: dict[str, Any] = {"index": prompt.index, "prompt": prompt.text, "max_new_tokens": prompt.max_new_tokens}
    if prompt.stop is not None:
        row["stop"] = list(prompt.stop)
    if isinstance(prompt.sampling, Sampling):
        row |= {"sampling": "basic", **asdict(prompt.sampling)}
        row |= {name: min(row[name], LAST_INDEX) for name in WHOLE_CONTROLS}
        row["logit_bias"] = list(prompt.sampling.logit_bias.items())
    return row


def _reason(error: Exception) -> str:
    """Return the exception line of a worker's traceback in Ray's message."""
    lines = [line.strip() for line in str(error).splitlines()]
    causes = [line for line in lines if re.match(r"(?!ray\.)[\w.]+(Error|Exception): ", line)]
    return (causes or lines or [type(error).__name__])[0]


def _numbered(dataset: ray.data.Dataset) -> ray.data.Dataset:
    """Read the dataset and add each row's position as its index."""
    dataset.context.execution_options.preserve_order = True
    tables = dataset.to_arrow_refs()
    length, number = (_import_ray().remote(function) for function in (_length, _number))
    firsts = itertools.accumulate(_import_ray().get([length.remote(table) for table in tables]), initial=0)
    numbered = [number.remote(table, first) for table, first in zip(tables, firsts, strict=False)]
    result: ray.data.Dataset = _import_ray().data.from_arrow_refs(numbered)
    return result


def _length(table: Any) -> int:
    return len(table)


def _number(table: Any, first: int) -> Any:
    import pyarrow as pa

    return table.append_column("index", pa.array(range(first, first + len(table)), pa.int64()))


def _cpus() -> int:
    resources: dict[str, float] = _import_ray().cluster_resources()
    return max(1, int(resources.get("CPU", 1)))


def _import_ray() -> Any:
    try:
        import ray.data
        import ray.exceptions
    except ImportError as error:
        raise missing_package("sampling on a cluster", "Ray", "ray") from error
    return ray
