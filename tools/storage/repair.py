"""Make the storage hold this commit's files byte for byte: `make repair`.

Every object is read and hashed, which DVC does only for what it pulls. Missing or damaged files are replaced from this
clone's cache, if the cache has them.
"""

import sys
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

from dvc.repo import Repo
from dvc_data.hashfile.hash import hash_file
from dvc_objects.executors import ThreadPoolExecutor

from stages.errors import one_line_errors
from tools import make_parser
from tools.runs.revision import git_errors
from tools.storage.store import Stored, files, http_fault, open_storage, storage_errors


def main() -> None:
    make_parser(__doc__).parse_args()
    with git_errors(Path.cwd()), Repo() as repo:
        storage, cache = open_storage(repo), repo.cache.local
        wanted = files(repo, storage, "HEAD")
        states = states_of(storage, wanted)
        lost = 0
        for file in wanted:
            was = states[file.md5]
            if was == "whole":
                continue
            if state(cache, file.md5) == "whole":
                with storage_errors():
                    if was == "damaged":
                        storage.delete(file.md5)
                    storage.add(cache.oid_to_path(file.md5), cache.fs, file.md5, check_exists=False)
                states[file.md5] = "whole"
                print(f"{file.path}: was {was} in the storage; replaced from the cache")
            else:
                lost += 1
                print(f"{file.path}: {was} in the storage, not in this cache; run `make repair` in a clone that has it")
        print(f"{len(wanted) - lost} of {len(wanted)} files of this commit are whole in the storage")
        sys.exit(1 if lost else 0)


def states_of(storage: Any, wanted: Iterable[Stored]) -> dict[str, str]:
    """Read all objects, as many at once as DVC transfers."""
    names = sorted({file.md5 for file in wanted})
    with ThreadPoolExecutor(storage.fs.jobs, cancel_on_error=True) as pool:
        return dict(zip(names, pool.map(partial(state, storage), names), strict=True))


def state(store: Any, md5: str) -> str:
    """Say whether a store's object is whole, damaged or missing."""
    with storage_errors():
        try:
            _, found = hash_file(store.oid_to_path(md5), store.fs, "md5")
        except FileNotFoundError as error:
            if fault := http_fault(store, error):
                raise fault from None
            return "missing"
    return "whole" if found.value == md5.removesuffix(".dir") else "damaged"


if __name__ == "__main__":
    with one_line_errors():
        main()
