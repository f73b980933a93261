"""30,000 molecules as SMILES, judged as the benchmark MOSES does (Polykovskiy et al. 2020, "Molecular Sets").

The package molsets carries the data; its file is enough, it need not be installed:

    pip download --no-deps molsets==0.3.1
    python -m bench.jobs.molecules molsets-0.3.1-py3-none-any.whl train.txt
    knock train train.txt --lines --size nano --minutes 60 --out nano.safetensors
"""

from __future__ import annotations

import argparse
import csv
import gzip
import io
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from bench.extras import needed
from bench.jobs.command import knock, table
from knock.files.checkpoint import read_checkpoint

with needed(__name__):
    from rdkit import Chem, RDLogger
    from rdkit.Chem.rdSubstructLibrary import MolHolder, PatternHolder, SubstructLibrary

COUNT = 30_000
AT = 10_000  # molecules of which the share of different ones is taken
SAMPLINGS = {"": ("--sampling", "basic"), ", the command's default": ()}  # the model's own distribution, and ours
# Published figures: epochs, then valid, unique@10k, novelty and filters; None where they are not known. The epochs of
# CharRNN are the default of the package molsets. SMolLM applies one block several times, and was trained on other data.
PUBLISHED: dict[str, tuple[int | None, tuple[float | None, ...]]] = {
    "CharRNN (MOSES)": (80, (0.975, 0.999, 0.842, 0.994)),
    "SMolLM, 53 K parameters, on ZINC-250K": (None, (0.953, None, None, None)),
}
_ATOMS = {"C", "N", "S", "O", "F", "Cl", "Br", "H"}
_LARGEST_RING = 7


class Metrics(NamedTuple):
    """Shares of molecules.

    Attributes:
        valid: RDKit reads it.
        unique: of the first 10,000 valid ones, those that differ.
        novel: of the different valid ones, those that are not in the training data.
        filters: of the valid ones, those that pass the filters by which the training data was chosen.
    """

    valid: float
    unique: float
    novel: float
    filters: float


def smiles(wheel: Path, part: str) -> list[str]:
    """Return the molecules of a part of the data, "train" or "test", from the file of the package molsets."""
    with zipfile.ZipFile(wheel) as archive:
        text = gzip.decompress(archive.read(f"moses/dataset/data/{part}.csv.gz")).decode()
    return [row["SMILES"] for row in csv.DictReader(io.StringIO(text))]


def medicinal_filters(wheel: Path) -> list[Chem.Mol]:
    """Return the substructures that no molecule of the data has: MCF and PAINS."""
    with zipfile.ZipFile(wheel) as archive:
        mcf, pains = (archive.read(f"moses/metrics/{name}.csv").decode() for name in ("mcf", "wehi_pains"))
    patterns = [row["smarts"] for row in csv.DictReader(io.StringIO(mcf))]
    patterns += [row[0] for row in csv.reader(io.StringIO(pains)) if row]
    return [Chem.MolFromSmarts(pattern) for pattern in patterns]


def measure(molecules: Sequence[str], train: set[str], filters: Sequence[Chem.Mol]) -> Metrics:
    """Judge molecules.

    Args:
        molecules: their SMILES.
        train: canonical SMILES of the training data.
        filters: substructures that rule a molecule out.
    """
    RDLogger.DisableLog("rdApp.*")  # type: ignore[attr-defined]
    found = [molecule for each in molecules if each and (molecule := Chem.MolFromSmiles(each)) is not None]
    canonical = [Chem.MolToSmiles(molecule) for molecule in found]
    different = set(canonical)
    return Metrics(
        valid=len(found) / len(molecules),
        unique=len(set(canonical[:AT])) / min(AT, len(canonical)),
        novel=len(different - train) / len(different),
        filters=passing(found, filters) / len(found),
    )


def passing(molecules: Sequence[Chem.Mol], filters: Sequence[Chem.Mol]) -> int:
    """Return how many molecules pass the filters, as `mol_passes_filters` of MOSES decides.

    The library looks at fingerprints first, which is ten times as fast as comparing each molecule with each filter.
    """
    library, count = SubstructLibrary(MolHolder(), PatternHolder()), 0
    for molecule in molecules:
        has_large_ring = any(len(ring) > _LARGEST_RING for ring in molecule.GetRingInfo().AtomRings())
        atoms = molecule.GetAtoms()
        if not has_large_ring and all(atom.GetSymbol() in _ATOMS and not atom.GetFormalCharge() for atom in atoms):
            library.AddMol(Chem.AddHs(molecule))
            count += 1
    ruled_out = {index for each in filters for index in library.GetMatches(each, maxResults=count)} if count else set()
    return count - len(ruled_out)


def report(models: Sequence[Path], wheel: Path, count: int = COUNT) -> str:
    """Measure models and return the report, in Markdown.

    Args:
        models: model files, trained on the training part.
        wheel: file of the package molsets.
        count: number of molecules of each.
    """
    train, filters = set(smiles(wheel, "train")), medicinal_filters(wheel)
    rows = [row for model in models for row in _rows(model, train, filters, count)]
    characters = sum(map(len, train)) + len(train)  # with the ends of molecules
    for name, (epochs, shares) in PUBLISHED.items():
        rows.append([name, "", f"{epochs * characters:,}" if epochs else "", *map(_share, shares), ""])
    header = ["model", "parameters", "characters trained on", "valid", "unique@10k", "novelty", "filters", "time"]
    return (
        f"{table(header, rows)}\n\n{count:,} molecules of each model, without filters or constraints of knock. The "
        f"training data has {len(train):,} molecules, {sum(map(len, train)):,} characters. Characters trained on are "
        "steps times characters per step."
    )


def _rows(model: Path, train: set[str], filters: Sequence[Chem.Mol], count: int) -> Iterator[list[str]]:
    """Yield the rows of a model."""
    checkpoint = read_checkpoint(model)
    seen = checkpoint.training["steps_done"] * checkpoint.training["recipe"]["batch_chars"]
    for name, sampling in SAMPLINGS.items():
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder) / "molecules.txt"
            done = knock("sample", "--model", model, "-n", str(count), "--out", out, "--seed", "1", *sampling)
            metrics = measure(out.read_text(encoding="utf-8").split("\n")[:-1], train, filters)
        size = f"{checkpoint.weights.n_parameters:,}"
        yield [f"{model.stem}{name}", size, f"{seen:,}", *map(_share, metrics), f"{done.seconds:.1f} s"]


def _share(share: float | None) -> str:
    return "" if share is None else f"{share:.3f}"


def main() -> None:
    """Write the training data to a text file, a molecule a line."""
    parser = argparse.ArgumentParser(prog="python -m bench.jobs.molecules", description=main.__doc__)
    parser.add_argument("wheel", type=Path, help="file of the package molsets")
    parser.add_argument("out", type=Path, help="text file to write")
    options = parser.parse_args()
    lines = "".join(f"{each}\n" for each in smiles(options.wheel, "train"))
    options.out.write_text(lines, encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main()
