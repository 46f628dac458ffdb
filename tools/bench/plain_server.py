"""The same model behind Keras's `predict` in FastAPI, written in the usual way: what `make serve` is compared with.

`python -m tools.bench.plain_server PORT` serves the workspace's model. The pictures are prepared as this project does.
"""

import sys

import numpy as np
import uvicorn
from fastapi import FastAPI, UploadFile

from stages import archive
from stages.find_digit import normalized
from stages.pictures import decode


def main() -> None:
    from tensorflow import keras  # noqa: PLC0415 - where others need the functions of this module alone

    app = FastAPI()
    model = keras.models.load_model(archive.PATH)

    @app.get("/health")
    def health() -> dict[str, str]:
        return {"status": "ok"}

    @app.post("/predict")
    def predict(images: list[UploadFile]) -> dict[str, object]:
        pictures = np.stack([normalized(decode(image.file)) for image in images])
        probabilities = model.predict(pictures, verbose=0)
        return {"images": [{"digit": int(row.argmax()), "confidence": row.tolist()} for row in probabilities]}

    uvicorn.run(app, port=int(sys.argv[1]), log_level="error")


if __name__ == "__main__":
    main()
