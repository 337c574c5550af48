"""Options of a command as fields of a dataclass, which programs can give too; `commands/options.py` makes arguments of them."""

from dataclasses import MISSING, field
from typing import Any


def option(help: str, default: Any = MISSING, **settings) -> Any:
    """
    A field of a dataclass of options.

    Args:
        default: without it the option is required.
        settings: of `argparse.ArgumentParser.add_argument`, such as `metavar`; `positional`; `group`, the title of a group
            of arguments; and `output`, "file" or "folder", of an option that names what is written.
    """
    metadata = {"help": help, **settings}
    return (
        field(default_factory=list, metadata=metadata) if default == [] else field(default=default, metadata=metadata)
    )
