"""The command line: thin. Each command reads its options, calls one function and says what came of it.

Heavy imports happen inside the commands, so that `cervicyte --help` answers at once.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import shlex
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import typer

import cervicyte
from cervicyte.cli import data as cli_data, site as cli_site, web
from cervicyte.cli.options import (
    Data,
    GroupFrom,
    GroupsCsv,
    Model,
    ModelOrShipped,
    Normal,
    Precision,
    ProtocolName,
    Reader,
    Seed,
    Weights,
    chain,
    load,
    say,
)
from cervicyte.errors import EXIT_CODES, SOME_INPUTS_FAILED, CervicyteError, StorageError

_EXITS = "\n\n".join(f"{code}: {meaning}" for code, meaning in EXIT_CODES.items())

app = typer.Typer(
    name="cervicyte",
    help="Classify cervical cell images, with numbers that hold on the next slide. For research, not for diagnosis.",
    epilog=f"Exit codes: {_EXITS}",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(cli_data.app, name="data")
app.add_typer(web.users, name="users")
app.add_typer(web.audit_log, name="audit-log")
app.add_typer(cli_site.site, name="site")


@app.command()
def train(
    data: Data,
    out: Annotated[Path, typer.Option("--out", help="Folder for the bundle, the report and the numbers.")],
    recipe: Annotated[
        str, typer.Option("--recipe", help="Name of a recipe (see `cervicyte recipes`) or FILE.toml.")
    ] = "morphology-lr",
    reader: Reader = None,
    group_from: GroupFrom = None,
    groups: GroupsCsv = None,
    normal: Normal = None,
    protocol: ProtocolName = "grouped",
    folds: Annotated[
        int | None, typer.Option("--folds", help="Folds; left out: the data's own train/test folders, else 5.")
    ] = None,
    holdout: Annotated[
        bool, typer.Option("--holdout", help="Test only the first fold: with five, the 80/20 split.")
    ] = False,
    compare: Annotated[
        bool | None,
        typer.Option(
            "--compare/--no-compare",
            help="Run random beside grouped, or grouped beside the others; as-published does so by itself.",
        ),
    ] = None,
    backbone: Annotated[str | None, typer.Option("--backbone", help="Instead of the recipe's; or onnx:FILE.")] = None,
    preprocess: Annotated[
        str | None, typer.Option("--preprocess", help="For onnx:FILE: caffe, tf, torch, none or 0-1.")
    ] = None,
    orientations: Annotated[
        int | None, typer.Option("--orientations", help="Flips and turns to average over: 1, 4 or 8.")
    ] = None,
    size: Annotated[
        int | None, typer.Option("--size", help="Input side in pixels, instead of the backbone's own.")
    ] = None,
    fit: Annotated[str | None, typer.Option("--fit", help="How other shapes become a square: stretch or pad.")] = None,
    filters: Annotated[
        str | None, typer.Option("--filters", help="Filter chain, for example normalise,clahe,median,nlm.")
    ] = None,
    target: Annotated[str | None, typer.Option("--target", help="native, bethesda or binary.")] = None,
    label_map: Annotated[
        str | None, typer.Option("--map", help="Label map to use, for example sipakmed-to-binary-clinical.")
    ] = None,
    c: Annotated[
        float | None, typer.Option("--C", help="Inverse regularisation strength; 0 chooses it by inner folds.")
    ] = None,
    sensitivity: Annotated[
        float | None, typer.Option("--sensitivity", help="Sensitivity that the operating point is set for.")
    ] = None,
    weights: Weights = None,
    precision: Precision = None,
    seed: Seed = 0,
    join_duplicates: Annotated[
        bool, typer.Option("--join-duplicates", help="Make one group of groups that share near duplicates.")
    ] = False,
    crops: Annotated[
        list[Path] | None,
        typer.Option("--crops", help="For a recipe that distils: folder of whole fields without labels; repeatable."),
    ] = None,
) -> None:
    """Make a model and judge it honestly.

    Cross-validates a recipe on DATA, fits it on all of DATA, and writes bundle, numbers and report.
    """
    from cervicyte.runs.train import train as run_training
    from cervicyte.training.recipes import load_recipe

    chosen = load_recipe(recipe).changed(
        backbone=backbone,
        preprocess=preprocess,
        orientations=orientations,
        size=size,
        fit=fit,
        filters=chain(filters),
        target=target,
        maps=None if label_map is None else (label_map,),
        C=c,
        sensitivity=sensitivity,
    )
    cells = load(data, reader, group_from, groups, normal)
    for note in cells.notes:
        say(note)
    run = run_training(
        cells,
        out,
        chosen,
        protocol=protocol,
        folds=folds,
        holdout=holdout,
        compare=None if compare is None else ("random" if protocol == "grouped" else "grouped",) if compare else (),
        weights=weights,
        precision=precision,
        seed=seed,
        join_duplicates=join_duplicates,
        crops=crops or (),
        command=_command_line(),
    )
    _show_scores(run.evaluations)
    _end(run.folder, run.failed)


@app.command()
def evaluate(
    model: Model,
    data: Data,
    out: Annotated[Path, typer.Option("--out", help="Folder for the report and the numbers.")],
    reader: Reader = None,
    group_from: GroupFrom = None,
    groups: GroupsCsv = None,
    normal: Normal = None,
    protocol: ProtocolName = "grouped",
    precision: Precision = None,
    seed: Seed = 0,
) -> None:
    """Test a bundle on other slides.

    Refuses cells that share a group or a near duplicate with those that the bundle was trained on.
    """
    from cervicyte.runs.evaluate import evaluate as run_test

    cells = load(data, reader, group_from, groups, normal)
    for note in cells.notes:
        say(note)
    test = run_test(model, cells, out, protocol=protocol, precision=precision, seed=seed, command=_command_line())
    _show_scores((test.evaluation,))
    _end(test.folder, test.failed)


@app.command()
def predict(
    inputs: Annotated[list[str], typer.Argument(metavar="IMAGE|DIR...", help="Files, folders or glob patterns.")],
    model: ModelOrShipped = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="FILE.csv, FILE.json or FILE.parquet; left out: CSV to the screen.")
    ] = None,
    precision: Precision = None,
    cache: Annotated[bool, typer.Option("--cache/--no-cache", help="Keep results by image content, to resume.")] = True,
) -> None:
    """Predict images with a bundle.

    One row an image: label, probabilities of all classes, P(abnormal), whether it lies at or above the
    operating point, whether the model answers at all, whether the image is a cell that it can judge (quality; if
    not, the label is unsatisfactory), and the error where there is no verdict.
    """
    from cervicyte.base.files import printable
    from cervicyte.base.progress import track
    from cervicyte.base.wording import plural
    from cervicyte.bundle.folder import Bundle
    from cervicyte.bundle.predictions import write_predictions, write_rows
    from cervicyte.images import decoding

    bundle = Bundle.load(model)
    stream = bundle.stream(inputs, precision=precision, cache=cache)
    if out is None:
        seen = write_rows(stream, bundle.classes, sys.stdout, bundle.members)
    else:
        seen = write_predictions(track(stream, "Predicting"), bundle.classes, out, bundle.members)
    folders = {str(place.path) for place in decoding.expand(inputs) if place.problem is None and place.path.is_dir()}
    total = failed = uncertain = flagged = empty = 0
    refused: Counter[str] = Counter()
    for prediction in seen:
        total += 1
        empty += prediction.path in folders
        failed += bool(prediction.error)
        uncertain += bool(prediction.uncertain) and not prediction.refused
        refused.update([prediction.quality] if prediction.refused else [])
        flagged += bool(prediction.above_operating_point)
        if prediction.error and out is not None and failed <= 20:
            say(f"not predicted: {prediction.row(bundle.classes)['path']}: {prediction.error}")
    reasons = ", ".join(f"{count} {reason}" for reason, count in refused.most_common())
    for folder in sorted(folders):
        from cervicyte.data.readers.base import list_files, not_images  # all readers come along, which takes a while

        for note in not_images(list_files(Path(folder))):
            say(f"{printable(folder)}: {note}")
    without = f"; {plural(empty, 'folder')} without images" if empty else ""
    say(
        f"{plural(total - empty, 'image')}: {flagged} at or above the operating point, {uncertain} uncertain, "
        f"{refused.total()} refused{f' ({reasons})' if reasons else ''}, {failed - empty} not predicted{without}"
    )
    if out is not None:
        say(f"Written to {out}")
    if failed:
        raise typer.Exit(SOME_INPUTS_FAILED if failed < total else 4)


@app.command()
def explain(
    image: Annotated[str, typer.Argument(metavar="IMAGE", help="The image of one cell.")],
    out: Annotated[Path, typer.Option("--out", help="PNG file to draw.")],
    model: ModelOrShipped = None,
    target: Annotated[
        str | None,
        typer.Option("--target", help="What to explain: abnormal or a class; left out: abnormal where it is defined."),
    ] = None,
    opacity: Annotated[float, typer.Option("--opacity", help="Of the map, between 0 and 1.")] = 0.5,
    precision: Precision = None,
) -> None:
    """Draw why a bundle answers as it does.

    Red places speak for the target and blue ones against it; of a bundle on measurements, what each adds.
    """
    from cervicyte.bundle.folder import Bundle
    from cervicyte.explain.explainer import explain as run_explanation, write_png

    explanation = run_explanation(Bundle.load(model), image, target, precision=precision)
    write_png(explanation, out, opacity)
    odds = (f"P({name}) {p:.3f}" for name, p in explanation.probabilities.items())
    typer.echo(", ".join((explanation.prediction.label, *odds)))
    say(f"Written to {out}")


@app.command()
def compress(
    model: Model,
    inputs: Annotated[list[str], typer.Argument(metavar="IMAGE|DIR...", help="Training images to calibrate on.")],
    out: Annotated[Path, typer.Option("--out", help="Folder of the 8-bit bundle.")],
) -> None:
    """Make an 8-bit version of a bundle.

    Faster than float32 where the processor has no bfloat16. Says what it changed; its scores are the original's.
    """
    from cervicyte.bundle.compression import compress as run_compression
    from cervicyte.bundle.folder import Bundle

    _, change = run_compression(Bundle.load(model), inputs, out)
    typer.echo(
        f"On {change.images} other images the probabilities changed by {change.mean:.4f} on average, "
        f"{change.largest:.3f} at most; {change.same_class:.1%} keep their most probable class."
    )
    say(f"Written to {out}")


@app.command()
def recipes() -> None:
    """List the recipes that ship."""
    from cervicyte.training.recipes import load_recipe, shipped

    for name in shipped():
        recipe = load_recipe(name)
        typer.echo(f"{name:18} {recipe.description}")


@app.command()
def doctor() -> None:
    """Check this installation.

    Says what is there, what is missing, and how to mend it.
    """
    from cervicyte.cli.doctor import check

    rows = list(check())
    for row in rows:
        typer.echo(f"{row.status:5} {row.name:22} {row.message}")
        if row.fix:
            typer.echo(f"      {'':22} -> {row.fix}")
    if any(row.status == "FAIL" for row in rows):
        raise typer.Exit(6)


@app.command()
def demo(
    out: Annotated[
        Path, typer.Option("--out", help="Folder for the generated cells, the model and the report.")
    ] = Path("demo-run"),
    seed: Seed = 0,
) -> None:
    """Show the whole job on generated cells.

    Generates cells, trains, predicts, and writes a report: offline, in a minute or two.
    """
    from cervicyte.runs.demo import tour

    tour(out, seed, _show_scores)


app.command()(web.serve)


def main() -> None:
    """Run the command line; every foreseen error is one message and its own exit code."""
    _utf8_output()
    code: object = None
    try:
        code = app(standalone_mode=False)
        sys.stdout.flush()
    except CervicyteError as error:
        say(f"cervicyte: {error}")
        sys.exit(error.exit_code)
    except (KeyboardInterrupt, typer.Abort):
        code = 130
    except (BrokenPipeError, SystemExit) as error:
        # The reader of our output went away (for example `| head`); that is no fault. Typer may have
        # turned it into an exit already.
        if not isinstance(error, BrokenPipeError) and not isinstance(error.__context__, BrokenPipeError):
            raise
        _close_output()
        sys.exit(0)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        _close_output()
        say(f"cervicyte: {StorageError('cannot write', 'standard output', 'free some space, or use --out')}")
        sys.exit(StorageError.exit_code)
    except Exception as error:
        # Typer's own complaints about options know how to show themselves; anything else is a bug.
        if not hasattr(error, "show") or not hasattr(error, "exit_code"):
            raise
        error.show()
        sys.exit(error.exit_code)
    if code == 130:
        say("cervicyte: interrupted; what was done is kept, repeat the command to go on")
    sys.exit(code if isinstance(code, int) else 0)


def _utf8_output() -> None:
    """File names are UTF-8 in all that we write; what a terminal cannot show is escaped, never an error."""
    stream = sys.stdout
    if isinstance(stream, io.TextIOWrapper):
        stream.reconfigure(encoding=None if stream.isatty() else "utf-8", errors="backslashreplace")


def _close_output() -> None:
    """Send the rest of the output nowhere, so that Python does not fail over it at its end."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def _command_line() -> str:
    return shlex.join(["cervicyte", *sys.argv[1:]])


def _show_scores(evaluations: Sequence[cervicyte.evaluation.results.Evaluation]) -> None:
    from cervicyte.evaluation.summary import plain_table

    typer.echo(plain_table(evaluations))


def _end(folder: Path, failed: Mapping[str, str]) -> None:
    for path, reason in list(failed.items())[:20]:
        say(f"not used: {path}: {reason}")
    say(f"Written to {folder}; open {folder / 'report.html'}")
    if failed:
        say(f"{len(failed)} file(s) could not be used; all are listed in {folder / 'failed.json'}")
        raise typer.Exit(SOME_INPUTS_FAILED)
