"""The sub-commands of `dhmd` that have no module of their own.

Each function takes the parsed arguments and returns the exit status. Imports are in the functions,
so that the gate does not wait for PyTorch.
"""

from __future__ import annotations

import os
import sys
from argparse import Namespace
from pathlib import Path

from dhmd.base.errors import DhmdError, first_line
from dhmd.recipes import repository_root


def config(arguments: Namespace) -> int:
    """Check params.yaml and recipes, and print the first error of each recipe."""
    from dhmd.ablation.variants import chosen_variants
    from dhmd.config.schema import load_section
    from dhmd.data.synthetic.config import GeneratorConfig
    from dhmd.recipes import check_recipe_file
    from dhmd.settings import load_params
    from dhmd.vcs.lock import check_output_folders

    root = repository_root()
    check_output_folders(root)
    params = load_params(root)
    names = tuple(arguments.datasets) or params.datasets
    errors = []
    for name in names:
        try:
            check_recipe_file(name, root)
            settings = params.for_dataset(name)
            # Names of variants and the section `generator` are otherwise checked by stages only.
            chosen_variants(settings.ablate, settings.configuration)
            recipe = settings.recipe
            if recipe.format == "generated":
                load_section(
                    GeneratorConfig, recipe.generator, where="generator", source=recipe.source
                )
        except DhmdError as error:
            errors.append(str(error))
    for message in dict.fromkeys(errors):
        print(f"dhmd config: {message}", file=sys.stderr)
    if not errors:
        print(f"params.yaml and the recipes of {', '.join(names)} are valid")
    return 1 if errors else 0


def predict(arguments: Namespace) -> int:
    """Predict new utterances; warnings go to stderr."""
    # Deterministic cuBLAS needs a fixed workspace; PyTorch reads this variable when it is imported.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    from dhmd.base.files import check_output, write_text
    from dhmd.evaluation.tables import pluralize
    from dhmd.prediction.model import Model

    model = Model.load(arguments.model, arguments.device)
    output, html = arguments.output, arguments.html
    inputs = [path for source in arguments.inputs for path in (source, *source.glob("*.csd"))]
    inputs += [arguments.segments] if arguments.segments is not None else []
    for path in (output, html):
        if path is not None:
            check_output(path, inputs=inputs, input_folders=[model.folder])
    outputs = model.run(arguments.inputs, segments=arguments.segments, truncate=arguments.truncate)
    for note in outputs.notes:
        print(f"dhmd predict: {note}", file=sys.stderr)
    table = outputs.table()
    seeds, count = pluralize(len(outputs.seeds), "seed"), pluralize(len(table), "segment")
    if html is not None:
        from dhmd.prediction.page import write_page

        # The page finds talk.mp4 next to talk.srt without --media.
        folders = [path if path.is_dir() else path.parent for path in arguments.inputs]
        write_page(html, model, outputs, [*folders, *arguments.media])
        print(f"wrote {html}: a page of {count}")
    if output is not None:
        # Numbers have the fewest digits that restore them (as float32).
        write_text(output, table.to_csv(lineterminator="\n"))
        print(f"wrote {output}: {count}, {seeds} and their mean")
    if output is None and html is None:
        print(table.to_string(float_format="{:.3f}".format, max_colwidth=60))
    return 0


def track(arguments: Namespace) -> int:
    """Record finished outputs in MLflow, and print one line per change."""
    from dhmd.settings import load_params

    root = repository_root()
    params = load_params(root)
    if not params.tracking.enabled:
        print("tracking is disabled: params.yaml has tracking.enabled: false")
        return 0
    from dhmd.tracking import track as record

    messages = record(params.tracking, root, arguments.datasets or params.datasets)
    print("\n".join(messages) or "all outputs are recorded")
    return 0


def gate(arguments: Namespace) -> int:
    """Compare the metrics of two revisions; the exit status is the verdict."""
    from dhmd.evaluation.files import json_text
    from dhmd.gate.gate import run_gate
    from dhmd.gate.render import to_json, to_markdown, to_text

    result = run_gate(repository_root(), arguments.base, arguments.head, arguments.dataset)
    if arguments.json:
        print(json_text(to_json(result)), end="")
    elif arguments.markdown:
        print(to_markdown(result), end="")
    else:
        print(to_text(result))
    return result.exit_status


def lock_check(arguments: Namespace) -> int:
    """Print one line per stale manifest, stale stage, or output that the remote lacks."""
    from dhmd.data.manifest import stale_manifests
    from dhmd.vcs.lock import check_lock, missing_in_remote

    root = repository_root()
    if arguments.remote is None:
        state, manifests = check_lock(root), stale_manifests(root)
        lines = [f"stale: {sentence}" for sentence in manifests]
        lines += [
            f"stale: {stage} ({', '.join(reasons)})" for stage, reasons in state.stale.items()
        ]
        if state.downstream:
            lines.append(f"downstream of these: {', '.join(state.downstream)}")
        success = "dvc.lock is up to date with code and params.yaml"
        remedy = "run dvc repro and commit dvc.lock and metrics/"
    else:
        name = arguments.remote or None
        lines = [f"not in the DVC remote: {path}" for path in missing_in_remote(root, name)]
        success = f"every output of {name or 'the workspace'} is in the DVC remote"
        remedy = "run dvc push"
        if name is not None:
            # An experiment reads the remotes from the .dvc/config of its own commit.
            remedy += (
                f" for a commit, or dvc exp push origin {name} for an experiment; an experiment "
                "that is older than the remote needs `dvc remote add --local -d NAME URL` first"
            )
    print("\n".join([*lines, remedy]) if lines else success)
    return 1 if lines else 0


def report(arguments: Namespace) -> int:
    """Write the report of all datasets as one page that works offline, and print its path."""
    from dhmd.base.files import check_output, write_text
    from dhmd.report.site import build_site, reported_datasets

    root = repository_root()
    names = _known_datasets(arguments.datasets, reported_datasets(root), "reports/")
    output = arguments.output or root / "reports" / "index.html"
    check_output(output)
    page, warnings = build_site(root, names)
    write_text(output, page)
    for warning in warnings:
        print(f"dhmd report: {warning}", file=sys.stderr)
    print(f"{output}: {', '.join(names)}, {len(page.encode()) / 1e6:.1f} MB")
    return 0


def table(arguments: Namespace) -> int:
    """Print the tables of each dataset or write them into the README."""
    from dhmd.base.files import write_text
    from dhmd.cli.readme import readme_tables, replace_tables
    from dhmd.evaluation.tables import dataset_names, dataset_tables

    root = repository_root()
    metrics = root / "metrics"
    if not arguments.readme:
        names = _known_datasets(arguments.datasets, dataset_names(metrics), "metrics/")
        form = next((form for form in ("markdown", "latex") if vars(arguments)[form]), "text")
        tables = [table for name in names for table in dataset_tables(metrics / name)]
        print("\n\n".join(table.format(form) for table in tables))
        return 0
    if arguments.datasets:
        raise DhmdError("--readme takes no dataset: the markers in README.md name the datasets")
    path = root / "README.md"
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DhmdError(f"cannot read {path}: {first_line(error)}") from error
    changed = replace_tables(text, lambda name: readme_tables(metrics, name), "README.md")
    if changed != text:
        write_text(path, changed)
    print(f"README.md is {'rewritten' if changed != text else 'up to date'}")
    return 0


def summary(arguments: Namespace) -> int:
    """Print the main test score, the number of seeds and the report of each dataset."""
    from dhmd.evaluation.files import METRICS_FILE, expect_current_files, read_json
    from dhmd.evaluation.metrics import METRIC_TITLES, PRIMARY_METRIC
    from dhmd.evaluation.tables import pluralize
    from dhmd.settings import load_params

    root = repository_root()
    for dataset in arguments.datasets or load_params(root).datasets:
        folder = root / "metrics" / dataset
        if not (folder / METRICS_FILE).is_file():
            continue
        with expect_current_files(folder):
            metrics = read_json(folder / METRICS_FILE)
            test, count = metrics["test"], metrics["n_seeds"]
            (task,) = [task for task in PRIMARY_METRIC if PRIMARY_METRIC[task] in test]
            metric = PRIMARY_METRIC[task]
            score = f"{METRIC_TITLES[task][metric]} {test[metric]:.3f}"
            if f"{metric}_std" in test:
                score += f" ± {test[f'{metric}_std']:.3f}"
        page = Path("reports", dataset, "index.html")
        report = f"report: {page}" if (root / page).is_file() else "no report yet"
        print(f"{dataset}: test {score} over {pluralize(count, 'seed')}; {report}")
    return 0


def _known_datasets(names: list[str], known: list[str], folder: str) -> list[str]:
    """Return `names` without duplicates, or all known datasets if it is empty."""
    if not known:
        raise DhmdError(f"{folder} has no dataset yet; run dvc repro")
    for name in names:
        if name not in known:
            raise DhmdError(f"{folder} has no dataset {name}; it has {', '.join(known)}")
    return list(dict.fromkeys(names)) or known
