"""The commands of `lmmvqa`: one file a command."""
