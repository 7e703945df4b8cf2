"""Read image files as CellProfiler's LoadData reads them; runs in CellProfiler's environment.

Usage: read_images.py FOLDER < NAMES

For each name that a line gives it prints a JSON line: name, shape and values (float32, in
base64), or the error.
"""

from __future__ import annotations

import base64
import json
import logging
import os
import sys


def main() -> None:
    logging.disable(logging.CRITICAL)
    # what Java and Bio-Formats print is no answer
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    import numpy as np
    from cellprofiler_core.image import FileImage
    from cellprofiler_core.preferences import set_headless
    from cellprofiler_core.utilities.java import start_java, stop_java

    set_headless()
    start_java()
    for line in sys.stdin:
        name = line.rstrip("\n")
        found: dict[str, object] = {"name": name}
        try:
            # as LoadData does, which rescales
            image = FileImage("Image", sys.argv[1], name)
            values = np.ascontiguousarray(image.provide_image(None).pixel_data, dtype="<f4")
            found["shape"] = values.shape
            found["values"] = base64.b64encode(values.tobytes()).decode()
            image.release_memory()
        except Exception as error:
            found["error"] = f"{type(error).__name__}: {error}".splitlines()[0]
        print(json.dumps(found), file=answers, flush=True)
    answers.close()
    stop_java()


if __name__ == "__main__":
    main()
