"""Whether a model that is named can be had at all, before the Hub's client tries again for minutes."""

from pathlib import Path

from huggingface_hub import try_to_load_from_cache
from huggingface_hub.constants import ENDPOINT
from huggingface_hub.errors import HfHubHTTPError, HFValidationError
from huggingface_hub.utils import get_session


def check_obtainable(model: str | Path) -> None:
    """
    Passes a folder with a model or an adapter, a file, a repository that was downloaded before, and any other as long as the
    Hub can be reached.

    Raises:
        OSError: it is none of the first three, and there is no connection to the Hub.
        ValueError: a folder that holds a part of a model; there is no such folder, and no repository can have this name.
    """
    folder = Path(model)
    if folder.is_dir() and not any((folder / name).is_file() for name in ("config.json", "adapter_config.json")):
        raise ValueError(
            f"got {folder} without config.json, expected the folder of a whole model; a checkpoint-N of train.py holds what "
            "training changes alone: run the same command to its end and name its output_dir"
        )
    if folder.exists():
        return
    try:
        if isinstance(try_to_load_from_cache(str(model), "config.json"), str):
            return
        get_session().head(ENDPOINT)
    except HFValidationError as error:
        raise ValueError(
            f"got model {str(model)!r}, expected a folder that exists, or a repository on the Hub such as owner/name"
        ) from error
    except HfHubHTTPError.__bases__ as error:  # OSError, and what the HTTP library raises without a connection
        raise OSError(
            f"got model {str(model)!r}, which is no folder here and was not downloaded before, and no connection to "
            f"{ENDPOINT}, expected one of the three; connect, or name a folder: {error}"
        ) from error
