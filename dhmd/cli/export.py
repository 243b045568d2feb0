"""`dhmd export`: write a trained model with a model card, and upload it to the hub."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path

from dhmd.recipes import repository_root


def configure(parser: ArgumentParser) -> None:
    """Declare the arguments."""
    parser.epilog = (
        "The new directory can be used like the model directory. --push needs `pip install "
        "'dhmd[hub]'` and a login: `hf auth login`."
    )
    parser.add_argument("model", type=Path, help="model directory, such as models/demo")
    parser.add_argument(
        "--out", required=True, type=Path, metavar="FOLDER", help="directory to write"
    )
    parser.add_argument(
        "--license",
        default="",
        metavar="ID",
        help="licence in the model card (default: mit for generated data, otherwise other)",
    )
    parser.add_argument(
        "--push", metavar="USER/NAME", help="upload the directory to the Hugging Face hub"
    )
    parser.add_argument(
        "--private", action="store_true", help="create the repository on the hub as private"
    )


def run(arguments: Namespace) -> int:
    """Export the model and upload it if --push is given; return 0."""
    from dhmd.publish import export, push

    export(arguments.model, arguments.out, root=repository_root(), license_=arguments.license)
    print(f"wrote {arguments.out}; its README.md is the model card")
    if arguments.push:
        print(f"uploaded {push(arguments.out, arguments.push, private=arguments.private)}")
    return 0
