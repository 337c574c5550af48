"""app.py of a Space on the Hub with Gradio's SDK: the page and the API of `lmmvqa serve`."""

import sys

from lmmvqa.commands.command_line import main


if __name__ == "__main__":
    sys.exit(main(["serve", "--host", "0.0.0.0"]))
