"""Serve a model over HTTP, with a page to draw on: `make serve`, or with MODEL=lstm@prod, HOST=, PORT=, COLLECT=folder.

The server follows its model: of the workspace, or of a revision as tags and branches move.
"""

import contextlib
import socket
from pathlib import Path

from stages.errors import InputError, one_line_errors
from tools import make_parser
from tools.serve.inference import NEEDED

HOST, PORT = "127.0.0.1", 8000


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--model", help="lstm@prod, lstm@v1.2.0 or another revision (default: the workspace's model)")
    parser.add_argument("--host", default=HOST, help=f"address to listen at (default: {HOST}, this machine alone)")
    parser.add_argument("--port", type=int, default=PORT, help=f"default: {PORT}; 0 is any that is free")
    parser.add_argument("--collect", metavar="FOLDER", help="save the pictures that people label, in this folder")
    arguments = parser.parse_args()
    for option in ("model", "collect"):
        if getattr(arguments, option) == "":
            raise InputError(f"--{option} is empty; give it a value, or leave it out")
    try:
        # An environment for training lacks their packages.
        from tools.serve.app import make_server  # noqa: PLC0415
        from tools.serve.collect import Collection  # noqa: PLC0415
        from tools.serve.serving import Serving  # noqa: PLC0415
    except ModuleNotFoundError:
        raise InputError(NEEDED) from None

    with contextlib.closing(listen(arguments.host, arguments.port)) as listening:
        collection = Collection(Path(arguments.collect)) if arguments.collect else None
        serving = Serving(arguments.model)
        host, port = listening.getsockname()[:2]
        print(f"http://{f'[{host}]' if ':' in host else host}:{port} serves {serving.loaded.source}", flush=True)
        make_server(serving, collection).run(sockets=[listening])


def listen(host: str, port: int) -> socket.socket:
    """Take the address before anything else is done.

    Raises `InputError` if it cannot be taken.
    """
    try:
        family, kind, protocol, *_ = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        # asyncio sends an answer's parts without delay only where the protocol is named; else each takes 40 ms more.
        with contextlib.ExitStack() as stack:
            listening = stack.enter_context(socket.socket(family, kind, protocol))
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind((host, port))
            listening.listen(2048)
            stack.pop_all()
            return listening
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{host}:{port}: {reason}; choose others: make serve HOST=127.0.0.1 PORT=8001") from None


if __name__ == "__main__":
    with one_line_errors():
        main()
