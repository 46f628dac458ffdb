"""Make .dvc/plots_page.html, the page around `dvc plots show` and `dvc plots diff`: `make plots-page`.

The page is tools/pages/plots_page.html with Vega inside, so that the plots are drawn without a network. Vega comes from
the npm registry, or from the registry that npm's variable `npm_config_registry` names. The packages' checksums are
below, in the form of npm's lock files. Each licence must stay with its script. The bundle of vl-convert-python has no
licences, so it is not used.
"""

import base64
import hashlib
import io
import os
import re
import tarfile
from typing import NamedTuple

import requests

from stages.errors import InputError, one_line_errors
from stages.files import replacing
from tools import ROOT, make_parser

DESIGN = ROOT / "tools/pages/plots_page.html"
PAGE = ROOT / ".dvc/plots_page.html"

REGISTRY = "https://registry.npmjs.org"
TIMEOUT = 60  # seconds for the registry to answer
PLACE = "<!-- VEGA -->"  # in the design
HASHES = "<!-- HASHES -->"  # in the design's policy
BEGIN, END = "<!-- charts: also on the pages of tools/pages/page.py -->\n", "<!-- end of charts -->\n"


class Package(NamedTuple):
    name: str
    version: str
    sha512: str  # of the tarball, base64
    script: str | None  # the file to run; None if another package's script contains it, and only the licence is needed
    licence: str = "LICENSE"

    def __str__(self) -> str:
        return f"{self.name} {self.version}"


PACKAGES = (
    Package(
        "vega",
        "6.4.0",
        "rHXCq2LpEWCLMjXBEj7hocY9G0/i5TGYRayGGSj06VTF4+l2IG2Z7oeZKCjWbUh/7hTE/mVhbaOPB72wCElh6g==",
        "build/vega.min.js",
    ),
    Package(
        "vega-lite",
        "6.5.0",
        "fMXF6s0MrIg0UTWnLIfeFtgSLzVhyzSKobzGrh5rhS+mL6FOYFG3m7ouJ4U23gj65EK+gl9FIIT5w7wLNaAzkA==",
        "build/vega-lite.min.js",
    ),
    Package(
        "vega-embed",
        "7.3.0",
        "wQ8s5GaSzqoKgmRfbRolgBrjE2CP7ZKHXqH7NijxMqPjpdWxSs4Dn8tvp9g0giQvh2cK+3p56sxjWWM0wNngGw==",
        "build/vega-embed.min.js",
    ),
    Package(
        "d3", "7.9.0", "e1U46jVP+w7Iut8Jt8ri1YsPOvFpg46k+K8TpCb0P+zjCkjkPnV7WzfDJzMHy1LnA+wj5pLT1wjO901gLXeEhA==", None
    ),
    Package(
        "delaunator",
        "5.0.1",
        "8nvh+XBe96aCESrGOqMp/84b13H9cdKbG5P2ejQCh4d4sK9RL4371qou9drQjMhvnPmhWl5hnmqbEE0fXr9Xnw==",
        None,
    ),
    Package(
        "topojson-client",
        "3.1.0",
        "605uxS6bcYxGXw9qi62XyrV6Q3xwbndjachmNxu8HWTtVPxZfEJN9fd/SZS1Q54Sn2y0TMyMxFj/cJINqGHrKw==",
        None,
    ),
    Package(
        "fast-json-patch",
        "3.1.1",
        "vf6IHUX2SBcA+5/+4883dsIjpBTqmfBjmYiWK1savxQmFk4JfBMLa7ynTYOs1Rolp/T1betJxHiGD3g1Mn8lUQ==",
        None,
        "LICENSE.txt",
    ),
    Package(
        "json-stringify-pretty-compact",
        "4.0.0",
        "3CNZ2DnrpByG9Nqj6Xo8vqbjT4F6N+tb4Gb28ESAZjYZ5yqvmc56J+/kuIwkaAMOyblTQhUW7PxMkUb8Q36N3Q==",
        None,
    ),
    Package(
        "semver",
        "7.8.5",
        "Y7/KDsb8LjooZpwaqGyulO6DQlksgCncchHGk+sZIY4SBvUocMBEFH5Ur1fI4dV+Jvl0w6cjvucaIi40puRioA==",
        None,
    ),
)


def main() -> None:
    make_parser(__doc__).parse_args()
    registry = os.environ.get("npm_config_registry", REGISTRY)  # noqa: SIM112 - as npm spells it
    vega = "\n".join(script(package, fetch(package, registry)) for package in PACKAGES)
    with replacing(PAGE) as temporary:
        temporary.write_text(page(DESIGN.read_text(encoding="utf-8"), vega), encoding="utf-8")
    print(f"{PAGE.relative_to(ROOT)}: {', '.join(map(str, PACKAGES))}")


def fetch(package: Package, registry: str = REGISTRY) -> bytes:
    """Download a package's tarball.

    Raises `InputError` if the download fails or the checksum is wrong.
    """
    url = f"{registry.rstrip('/')}/{package.name}/-/{package.name}-{package.version}.tgz"
    try:
        answer = requests.get(url, timeout=TIMEOUT)
        answer.raise_for_status()
    except requests.RequestException as error:
        raise InputError(f"{url}: cannot be downloaded: {error}; set npm_config_registry to another registry") from None
    found = base64.b64encode(hashlib.sha512(answer.content).digest()).decode()
    if found != package.sha512:
        raise InputError(f"{url}: expected the SHA-512 {package.sha512} (base64), found {found}; the file is not used")
    return answer.content


def script(package: Package, tarball: bytes) -> str:
    """Return a package's script as an HTML element, below its licence; without a script, the licence alone."""
    with tarfile.open(fileobj=io.BytesIO(tarball)) as files:
        licence, code = (read(files, f"package/{name}") if name else "" for name in (package.licence, package.script))
    return f"<script>\n/*! {package}\n\n{licence.strip()}\n*/\n{code}</script>"


def read(files: tarfile.TarFile, name: str) -> str:
    member = files.extractfile(name)
    assert member is not None  # the checksum ensures that it is a file  # noqa: S101
    return member.read().decode()


def page(design: str, vega: str) -> str:
    """Put Vega into the design, and the hash of every script into its policy, so that no other script runs."""
    whole = design.replace(PLACE, vega)
    return whole.replace(HASHES, " ".join(map(_source, scripts(whole))))


def scripts(page: str) -> list[str]:
    """Return the scripts of a page."""
    return re.findall("<script>(.*?)</script>", page, re.DOTALL)


def _source(code: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(code.encode()).digest()).decode()}'"


def drawing(page: str) -> str:
    """Return the part of the page that draws charts, as HTML: styles, Vega and its settings."""
    _, _, rest = page.partition(BEGIN)
    part, _, _ = rest.partition(END)
    return part


if __name__ == "__main__":
    with one_line_errors():
        main()
