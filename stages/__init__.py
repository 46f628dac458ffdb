"""What `dvc repro` runs."""

from stages import errors  # noqa: F401 - from here on, an error while a module is imported is one line
