"""The HTTP interface: pictures in, digits out; which model answers; the page to draw on."""

import asyncio
import base64
import importlib.resources
import io
import mimetypes
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
import uvicorn
from fastapi import FastAPI, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse
from pydantic import BaseModel
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException, MultiPartParser

from stages.dataset import CLASSES
from stages.errors import InputError
from stages.find_digit import Grey, normalized
from stages.pictures import TooLargeError, cores, decode
from tools.serve.answer import answer
from tools.serve.collect import Collection, FullError
from tools.serve.limits import BODY, PICTURES, PIXELS, SECONDS, Guard, Load, TimedConnection, refusal
from tools.serve.metrics import Metrics
from tools.serve.serving import Loaded, Serving

REFRESH = 2  # seconds between two looks for another model
LARGE = 4_000_000  # pixels: such pictures are decoded one after the other
NAME = 255  # characters of a picture's name
NO_PROBABILITIES = np.empty((0, CLASSES), np.float32)
RAW = {"image/png", "image/jpeg", "application/octet-stream", ""}
HERE = Path(__file__).parent
SWAGGER = Path(str(importlib.resources.files("fastapi_offline"))) / "static"
FILES = {
    "/": HERE / "draw.html",
    "/draw.css": HERE / "draw.css",
    "/draw.js": HERE / "draw.js",
    "/docs": HERE / "docs.html",
    "/docs.js": HERE / "docs.js",
    "/swagger-ui.css": SWAGGER / "swagger-ui.css",
    "/swagger-ui-bundle.js": SWAGGER / "swagger-ui-bundle.js",
}

PICTURE = {"type": "string", "format": "binary"}
IMAGES = {"type": "object", "required": ["images"], "properties": {"images": {"type": "array", "items": PICTURE}}}
ONE = {"image/png": {"schema": PICTURE}, "image/jpeg": {"schema": PICTURE}}


class Picture(NamedTuple):
    name: str
    content: bytes


# The answers, for the description at /docs


class Refusal(BaseModel):
    error: str


class Image(BaseModel):
    image: str
    digit: int
    confidence: dict[str, float]
    pixels: str | None = None  # what the model saw: 28 x 28 shades of grey, row by row, in base64


class Skipped(BaseModel):
    image: str
    reason: str


class Answer(BaseModel):
    model: str
    md5: str
    images: list[Image]
    skipped: list[Skipped] | None = None


class Model(BaseModel):
    name: str
    version: str | None
    commit: str | None
    md5: str
    card: str | None
    collects: bool


class Health(BaseModel):
    status: str
    model: str
    version: str | None
    md5: str
    fault: str | None


class Saved(BaseModel):
    saved: str


class Api:
    """Answers the requests. Pictures are read in a pool of threads, as many at once as there are cores."""

    def __init__(self, serving: Serving, collection: Collection | None) -> None:
        self.serving = serving
        self.collection = collection
        self.metrics = Metrics()
        self.load = Load()
        self.pool = ThreadPoolExecutor(cores(), "picture")
        self.show_model()

    @asynccontextmanager
    async def life(self, _: FastAPI) -> AsyncIterator[None]:
        following = asyncio.create_task(self.follow())
        yield
        following.cancel()
        with suppress(asyncio.CancelledError):
            await following
        self.pool.shutdown(cancel_futures=True)

    async def follow(self) -> None:
        while True:
            await asyncio.sleep(REFRESH)
            before = self.serving.loaded
            await asyncio.to_thread(self.serving.refresh)
            if self.serving.loaded is not before:
                self.metrics.changes.inc()
                self.show_model()

    def show_model(self) -> None:
        source = self.serving.loaded.source
        self.metrics.model.info({"name": source.name, "version": source.version or "", "md5": source.md5})

    async def compute(self, function: Callable[..., Any], *arguments: Any) -> Any:
        async with self.load.turn():
            return await asyncio.get_running_loop().run_in_executor(self.pool, function, *arguments)

    async def predict(self, request: Request, *, pixels: bool = False) -> Response:
        """Send one PNG or JPEG, or up to 256 as a form.

        One that cannot be read is an error. Of a form such pictures are skipped, each with the reason.

        `pixels=true` adds the 28 x 28 picture that the model sees.
        """
        loaded = self.serving.loaded
        async with self.load.body(request) as content:
            pictures = await pictures_of(request, content)
            given_up = threading.Event()
            try:
                found = await self.compute(look_at, loaded, pictures, pixels, given_up)
            finally:
                given_up.set()  # the thread goes on where the request has ended
        read, skipped = found["images"], found.get("skipped", [])
        self.metrics.pictures.labels("read").inc(len(read))
        self.metrics.pictures.labels("refused").inc(len(skipped))
        for each in read:
            self.metrics.digits.labels(str(each["digit"])).inc()
        if not read and is_raw(request):
            return refusal(422, skipped[0]["reason"])
        return JSONResponse(found)

    async def collect(self, request: Request, digit: Annotated[int, Query(ge=0, lt=CLASSES)]) -> Response:
        """Save a picture for a later training, where the server was started with `COLLECT=`."""
        if self.collection is None:
            return refusal(404, "this server saves no pictures; start it with COLLECT=folder")
        async with self.load.body(request) as content:
            (picture,) = await pictures_of(request, content, most=1)
            try:
                name = await self.compute(save, self.collection, picture, digit)
            except FullError as full:
                return refusal(507, str(full))
        self.metrics.collected.labels(str(digit)).inc()
        return JSONResponse({"saved": name})

    async def model(self) -> Response:
        """Tell the name, version, commit and MD5 of the model, and the model card of its version."""
        source = self.serving.loaded.source
        described = {name: getattr(source, name) for name in ("name", "version", "commit", "md5", "card")}
        return JSONResponse(described | {"collects": self.collection is not None})

    async def health(self) -> Response:
        """Tell which model answers. `fault` says why the newest model is not the one that answers."""
        source, fault = self.serving.loaded.source, self.serving.fault
        known = {"model": source.name, "version": source.version, "md5": source.md5}
        return JSONResponse({"status": "ok", **known, "fault": fault})

    async def show_metrics(self) -> Response:
        return Response(self.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")


def make_server(serving: Serving, collection: Collection | None) -> uvicorn.Server:
    """Make the server; at SIGTERM it takes no more connections, and finishes what is under way."""
    config = uvicorn.Config(
        make_app(serving, collection), http=TimedConnection, ws="none", lifespan="on", log_config=None,
        log_level="error", access_log=False, server_header=False, timeout_graceful_shutdown=SECONDS,
    )  # fmt: skip
    return uvicorn.Server(config)


def make_app(serving: Serving, collection: Collection | None) -> FastAPI:
    api = Api(serving, collection)
    app = FastAPI(
        title="mnist-lstm", description="Handwritten digits, read by an LSTM", version="1", lifespan=api.life,
        docs_url=None, redoc_url=None, responses={"4XX": {"model": Refusal}, "503": {"model": Refusal}},
        exception_handlers={
            HTTPException: of_http, RequestValidationError: of_values, MemoryError: of_memory, Exception: of_others,
        },
    )  # fmt: skip
    app.add_middleware(Guard, metrics=api.metrics)
    app.post("/predict", summary="Which digits do these pictures show?", response_model=Answer,
             openapi_extra=body({**ONE, "multipart/form-data": {"schema": IMAGES}}))(api.predict)  # fmt: skip
    app.post("/collect", summary="Save a picture as a digit", response_model=Saved, openapi_extra=body(ONE))(
        api.collect
    )
    app.get("/model", summary="Which model answers?", response_model=Model)(api.model)
    app.get("/health", summary="Does it answer?", response_model=Health)(api.health)
    app.head("/health", include_in_schema=False)(api.health)
    app.get("/metrics", include_in_schema=False)(api.show_metrics)
    for path, file in FILES.items():
        app.api_route(path, methods=["GET", "HEAD"], include_in_schema=False)(sender(file))
    return app


async def of_http(_: Request, error: HTTPException) -> Response:
    return refusal(error.status_code, str(error.detail))


async def of_values(_: Request, error: RequestValidationError) -> Response:
    first = error.errors()[0]
    return refusal(422, f"{first['loc'][-1]}: {first['msg']}")


async def of_memory(_: Request, __: MemoryError) -> Response:
    return refusal(503, "out of memory")


async def of_others(_: Request, __: Exception) -> Response:
    return refusal(500, "an error of the server; its log has the details")


def body(content: dict[str, Any]) -> dict[str, Any]:
    return {"requestBody": {"required": True, "content": content}}


def sender(file: Path) -> Callable[[], Any]:
    media_type = mimetypes.guess_type(file)[0]

    async def send() -> FileResponse:
        return FileResponse(file, media_type=media_type, headers={"Cache-Control": "no-cache"})

    return send


class InMemory(MultiPartParser):
    spool_max_size = BODY  # no part of a request is ever written to the disk


def kind_of(request: Request) -> str:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def is_raw(request: Request) -> bool:
    """Tell whether the body is a picture itself."""
    return kind_of(request) in RAW


async def pictures_of(request: Request, content: bytes, most: int = PICTURES) -> list[Picture]:
    """Take the pictures out of a request's body, which is one of them or a form."""
    if is_raw(request):
        return [Picture("picture", content)]
    if kind_of(request) != "multipart/form-data" or most == 1:
        raise HTTPException(415, f"expected image/png, image/jpeg{'' if most == 1 else ' or multipart/form-data'}")

    async def stream() -> AsyncIterator[bytes]:
        yield content

    try:
        form = await InMemory(request.headers, stream(), max_files=most, max_fields=0).parse()  # type: ignore[arg-type]
    except MultiPartException as error:
        raise HTTPException(400, f"not a form of pictures: {error.message}") from None
    except UnicodeError:
        raise HTTPException(400, "not a form of pictures: its names are not in its charset") from None
    files = [value for _, value in form.multi_items() if isinstance(value, UploadFile)]
    found = [Picture(name_of(file), await file.read()) for file in files]
    await form.close()
    if not found:
        raise HTTPException(400, "not a form of pictures: it has none")
    return found


def name_of(file: UploadFile) -> str:
    """Return the name of an uploaded picture, as UTF-8 can have it: some charsets have halves of characters."""
    return (file.filename or "picture")[:NAME].encode(errors="replace").decode()


large = threading.Lock()


def read(picture: Picture) -> Grey:
    """Decode a picture, large ones one after the other: 25 million pixels take up to 0.5 GB for a moment."""
    try:
        return decode(io.BytesIO(picture.content), LARGE)
    except TooLargeError:
        with large:
            return decode(io.BytesIO(picture.content), PIXELS)


def look_at(loaded: Loaded, pictures: Sequence[Picture], pixels: bool, given_up: threading.Event) -> dict[str, Any]:
    """Predict what can be read of the pictures, and list the rest with the reasons. Read no more once given up."""
    names, images, skipped = [], [], []
    for picture in pictures:
        if given_up.is_set():
            break
        try:
            images.append(normalized(read(picture)))
            names.append(picture.name)
        except InputError as error:
            skipped.append({"image": picture.name, "reason": str(error)})
    found = answer(loaded.source, names, loaded.predict(np.stack(images)) if images else NO_PROBABILITIES)
    if pixels:
        for each, image in zip(found["images"], images, strict=True):
            each["pixels"] = base64.b64encode(np.round(image * 255).astype(np.uint8).tobytes()).decode()
    if skipped:
        found["skipped"] = skipped
    return found


def save(collection: Collection, picture: Picture, digit: int) -> str:
    try:
        return collection.save(read(picture), digit)
    except InputError as error:
        raise HTTPException(422, str(error)) from None
