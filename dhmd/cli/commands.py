"""The sub-commands of `dhmd` other than `data` and `import`.

Each function takes the parsed arguments and returns the exit status. It imports what it needs
itself: the gate must not wait for PyTorch.
"""

from __future__ import annotations

import os
import sys
from argparse import Namespace
from pathlib import Path

from dhmd.base.errors import DhmdError, first_line
from dhmd.recipes import repository_root


def config(arguments: Namespace) -> int:
    """Check params.yaml and recipes, and print the first mistake of each recipe."""
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
    mistakes = []
    for name in names:
        try:
            check_recipe_file(name, root)
            settings = params.for_dataset(name)
            # What only the stages read: the names of variants and the generator's section.
            chosen_variants(settings.ablate, settings.configuration)
            recipe = settings.recipe
            if recipe.format == "generated":
                load_section(
                    GeneratorConfig, recipe.generator, where="generator", source=recipe.source
                )
        except DhmdError as error:
            mistakes.append(str(error))
    for mistake in dict.fromkeys(mistakes):
        print(f"dhmd config: {mistake}", file=sys.stderr)
    if not mistakes:
        print(f"params.yaml is valid, and so is the recipe of {', '.join(names)}")
    return 1 if mistakes else 0


def predict(arguments: Namespace) -> int:
    """Predict new utterances; warnings go to stderr."""
    # PyTorch reads it once, when it is imported: deterministic cuBLAS needs a fixed workspace.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    from dhmd.base.files import check_output, write_text
    from dhmd.evaluation.tables import pluralize
    from dhmd.prediction.model import Model

    model = Model.load(arguments.model, arguments.device)
    output, html = arguments.output, arguments.html
    inputs = [path for one in arguments.inputs for path in (one, *one.glob("*.csd"))]
    inputs += [arguments.segments] if arguments.segments is not None else []
    for path in (output, html):
        if path is not None:
            check_output(path, inputs=inputs, input_folders=[model.folder])
    found = model.run(arguments.inputs, segments=arguments.segments, truncate=arguments.truncate)
    for note in found.notes:
        print(f"dhmd predict: {note}", file=sys.stderr)
    table = found.table()
    seeds, count = pluralize(len(found.seeds), "seed"), pluralize(len(table), "segment")
    if html is not None:
        from dhmd.prediction.page import write_page

        # A talk.mp4 beside talk.srt is shown without being asked for.
        beside = [path if path.is_dir() else path.parent for path in arguments.inputs]
        write_page(html, model, found, [*beside, *arguments.media])
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
        print("tracking is off (params.yaml: tracking.enabled)")
        return 0
    from dhmd.tracking import track as record

    messages = record(params.tracking, root, arguments.datasets or params.datasets)
    print("\n".join(messages) or "every output is recorded")
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
        lines += [f"stale: {stage} ({', '.join(why)})" for stage, why in state.stale.items()]
        if state.downstream:
            lines.append(f"downstream of these: {', '.join(state.downstream)}")
        good = "dvc.lock is current with code and params"
        cure = "run dvc repro and commit dvc.lock and metrics/"
    else:
        name = arguments.remote or None
        lines = [f"not in the DVC remote: {path}" for path in missing_in_remote(root, name)]
        good = f"every output of {name or 'the workspace'} is in the DVC remote"
        cure = "run dvc push"
        if name is not None:
            # An experiment reads the remotes from the .dvc/config of its own commit.
            cure += (
                f" for a commit, dvc exp push origin {name} for an experiment; one that is older "
                "than the remote needs `dvc remote add --local -d NAME URL` first"
            )
    print("\n".join([*lines, cure]) if lines else good)
    return 1 if lines else 0


def report(arguments: Namespace) -> int:
    """Write the page of all datasets, which works without a network, and print its path."""
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
    from dhmd.cli.readme import readme_tables, with_tables
    from dhmd.evaluation.tables import dataset_names, dataset_tables

    root = repository_root()
    metrics = root / "metrics"
    if not arguments.readme:
        names = _known_datasets(arguments.datasets, dataset_names(metrics), "metrics/")
        form = next((form for form in ("markdown", "latex") if vars(arguments)[form]), "text")
        found = [each for name in names for each in dataset_tables(metrics / name)]
        print("\n\n".join(each.format(form) for each in found))
        return 0
    if arguments.datasets:
        raise DhmdError("--readme takes no dataset: the markers in README.md name them")
    path = root / "README.md"
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DhmdError(f"cannot read {path}: {first_line(error)}") from error
    changed = with_tables(text, lambda name: readme_tables(metrics, name), "README.md")
    if changed != text:
        write_text(path, changed)
    print(f"README.md {'rewritten' if changed != text else 'is current'}")
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
            found = read_json(folder / METRICS_FILE)
            test, count = found["test"], found["n_seeds"]
            (task,) = [task for task in PRIMARY_METRIC if PRIMARY_METRIC[task] in test]
            metric = PRIMARY_METRIC[task]
            score = f"{METRIC_TITLES[task][metric]} {test[metric]:.3f}"
            if f"{metric}_std" in test:
                score += f" ± {test[f'{metric}_std']:.3f}"
        page = Path("reports", dataset, "index.html")
        where = f"report: {page}" if (root / page).is_file() else "no report yet"
        print(f"{dataset}: test {score} over {pluralize(count, 'seed')}; {where}")
    return 0


def _known_datasets(asked: list[str], known: list[str], folder: str) -> list[str]:
    """Return the requested datasets without duplicates; by default all known ones."""
    if not known:
        raise DhmdError(f"{folder} has no dataset yet; run dvc repro")
    for name in asked:
        if name not in known:
            raise DhmdError(f"{folder} has no dataset {name}; it has {', '.join(known)}")
    return list(dict.fromkeys(asked)) or known
