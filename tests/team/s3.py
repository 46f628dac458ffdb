"""An S3 server, on loopback if nothing else is said. It checks keys, and can refuse objects."""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import boto3
import requests

REGION = "us-east-1"
ROOT = {"aws_access_key_id": "root", "aws_secret_access_key": "root"}


class Server:
    def __init__(self, host: str, port: int) -> None:
        self.url = f"http://{host}:{port}"
        self.s3 = boto3.client("s3", endpoint_url=self.url, region_name=REGION, **ROOT)
        self.iam = boto3.client("iam", endpoint_url=self.url, region_name=REGION, **ROOT)

    def make_user(self) -> tuple[str, str]:
        """Make the user whose keys all clones have, and check keys from now on."""
        self.iam.create_user(UserName="team")
        key = self.iam.create_access_key(UserName="team")["AccessKey"]
        self.refuse()
        return key["AccessKeyId"], key["SecretAccessKey"]

    def refuse(self, *objects: str) -> None:
        """Refuse to return these objects, and no others."""
        statements: list[dict[str, Any]] = [{"Effect": "Allow", "Action": "s3:*", "Resource": "*"}]
        statements += [
            {"Effect": "Deny", "Action": "s3:GetObject", "Resource": f"arn:aws:s3:::{name}"} for name in objects
        ]
        policy = {"Version": "2012-10-17", "Statement": statements}
        with self._keys_unchecked():
            self.iam.put_user_policy(UserName="team", PolicyName="team", PolicyDocument=json.dumps(policy))

    def make_bucket(self, name: str) -> None:
        with self._keys_unchecked():
            self.s3.create_bucket(Bucket=name)

    def read(self, bucket: str, key: str) -> bytes:
        with self._keys_unchecked():
            content: bytes = self.s3.get_object(Bucket=bucket, Key=key)["Body"].read()
            return content

    def write(self, bucket: str, key: str, content: bytes) -> None:
        with self._keys_unchecked():
            self.s3.put_object(Bucket=bucket, Key=key, Body=content)

    def remove(self, bucket: str, key: str) -> None:
        with self._keys_unchecked():
            self.s3.delete_object(Bucket=bucket, Key=key)

    @contextmanager
    def _keys_unchecked(self) -> Iterator[None]:
        self._check_keys_after("inf")
        try:
            yield
        finally:
            self._check_keys_after("0")

    def _check_keys_after(self, requests_made: str) -> None:
        requests.post(f"{self.url}/moto-api/reset-auth", data=requests_made, timeout=10).raise_for_status()


@contextmanager
def serving(
    log: Path, host: str = "127.0.0.1", on_machine: Callable[..., list[str]] = lambda *command: list(command)
) -> Iterator[Server]:
    """Run a server during a `with` block, on another machine if a function gives the command that runs one there."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with log.open("w") as file:
        process = subprocess.Popen(
            on_machine(sys.executable, "-m", "moto.server", "--host", host, "--port", str(port)),
            env={name: value for name, value in os.environ.items() if not name.startswith("AWS_")},
            stdout=file, stderr=file,
        )  # fmt: skip
    try:
        deadline = time.monotonic() + 60
        while not answers(host, port):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.1)
        yield Server(host, port)
    finally:
        process.terminate()
        process.wait()


def answers(host: str, port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex((host, port)) == 0
