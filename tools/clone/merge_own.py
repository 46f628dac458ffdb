"""Git's merge driver for the lists of data/own: the union of both sides, by DVC's own merge of folders.

`make setup` installs a copy of this file in the git directory. The lists come from DVC's cache or else from the
storage; pictures are not fetched. The merge also removes or moves what one side removed or moved. If a list cannot be
read, the conflict is marked for people.
"""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from dvc.dvcfile import load_file
from dvc.output import Output
from dvc.repo import Repo
from dvc_data.hashfile.tree import Tree


def main() -> None:
    base, ours, theirs, name = sys.argv[1:]
    try:
        merge(base, ours, theirs)
    except Exception as error:  # noqa: BLE001 - whatever DVC, a storage or a file that anyone wrote makes it raise
        labels = [option for label in ("ours", "base", "theirs") for option in ("-L", label)]
        subprocess.run(["git", "merge-file", *labels, ours, base, theirs], check=False)
        reason = ascii(" ".join(str(error).split()) or type(error).__name__)[1:-1]
        print(
            f"{ascii(name)[1:-1]}: the pictures of both sides cannot be merged: {reason}; `git merge --abort` undoes "
            "all; merge again after `dvc push` in the clone of the others",
            file=sys.stderr,
        )
        sys.exit(1)
    print(f"{ascii(name)[1:-1]}: has the pictures of both sides; now run `dvc repro --pull`", file=sys.stderr)


def merge(base: str, ours: str, theirs: str) -> None:
    """Write the union to `ours`. Git gives an empty file as the base of two that were added independently."""
    with Repo() as repo, tempfile.TemporaryDirectory(prefix=".merge-", dir=repo.root_dir) as folder:
        # DVC reads files within its project alone; git puts its files at the top of a larger repository.
        copies = [shutil.copy(path, Path(folder, str(side))) for side, path in enumerate((base, ours, theirs))]
        files = [load_file(repo, str(copy), verify=False) for copy in copies]
        of_base, of_ours, of_theirs = (file.stage for file in files)
        left = {key for side in (of_ours, of_theirs) for key, *_ in list_of(side.outs[0])}
        for out in of_base.outs:
            # DVC's merge fails on what both sides removed.
            known = Tree()  # type: ignore[no-untyped-call]
            for key, meta, hash_info in list_of(out):
                if key in left:
                    known.add(key, meta, hash_info)
            known.digest()
            out.cache.add(known.path, known.fs, known.oid)
            out.hash_info = known.hash_info
        of_ours.merge(of_base, of_theirs, allowed=["add", "remove", "change"])
        files[1].dump(of_ours)
        shutil.copyfile(copies[1], ours)


def list_of(out: Output) -> Tree:
    """Get the list of a folder."""
    found = out.get_dir_cache()
    if found is None:
        raise LookupError("neither the cache nor the storage has the list of one side")
    return found


if __name__ == "__main__":
    main()
