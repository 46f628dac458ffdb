"""The storages of a team, with methods that damage their files."""

import uuid
from pathlib import Path

from tests.clones import Clone
from tests.team.s3 import Server


class Storage:
    """A storage of a team, with methods that damage its files."""

    def configure(self, clone: Clone) -> None:
        """Make this the storage of the team, from one clone."""

    def credentials(self, clone: Clone) -> None:
        """Give a clone what it needs to use the storage."""

    def read(self, md5: str) -> bytes:
        raise NotImplementedError

    def write(self, md5: str, content: bytes) -> None:
        raise NotImplementedError

    def remove(self, md5: str) -> None:
        raise NotImplementedError


class Folder(Storage):
    """The default: a folder beside the clones."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def read(self, md5: str) -> bytes:
        return self._path(md5).read_bytes()

    def write(self, md5: str, content: bytes) -> None:
        self.remove(md5)  # it is read-only
        self._path(md5).write_bytes(content)

    def remove(self, md5: str) -> None:
        self._path(md5).unlink(missing_ok=True)

    def _path(self, md5: str) -> Path:
        return self.folder / "files/md5" / md5[:2] / md5[2:]


class Bucket(Storage):
    """A bucket of an S3 server."""

    def __init__(self, server: Server, keys: tuple[str, str]) -> None:
        self.server, self.keys = server, keys
        self.bucket = f"team-{uuid.uuid4()}"
        server.make_bucket(self.bucket)

    def configure(self, clone: Clone) -> None:
        identity, secret = self.keys
        clone.run(
            "python", "-m", "tools.storage.configure", f"s3://{self.bucket}/mnist", "--endpoint", self.server.url,
            AWS_ACCESS_KEY_ID=identity, AWS_SECRET_ACCESS_KEY=secret,
        )  # fmt: skip
        clone.run("git", "commit", "--quiet", "--all", "--message", "Switch the storage")

    def credentials(self, clone: Clone) -> None:
        for option, value in zip(("access_key_id", "secret_access_key"), self.keys, strict=True):
            clone.run("dvc", "remote", "modify", "--local", "storage", option, value)

    def read(self, md5: str) -> bytes:
        return self.server.read(self.bucket, self.key(md5))

    def write(self, md5: str, content: bytes) -> None:
        self.server.write(self.bucket, self.key(md5), content)

    def remove(self, md5: str) -> None:
        self.server.remove(self.bucket, self.key(md5))

    def refuse(self, md5: str) -> None:
        self.server.refuse(f"{self.bucket}/{self.key(md5)}")

    def key(self, md5: str) -> str:
        return f"mnist/files/md5/{md5[:2]}/{md5[2:]}"
