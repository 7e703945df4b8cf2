"""Make a CellProfiler project (.cpproj): runs in CellProfiler's own Python.

Usage: project.py PIPELINE FILE_LIST PROJECT

FILE_LIST holds a path or a file: URL a line.
"""

import sys
from pathlib import Path

from cellprofiler_core.pipeline import Pipeline
from cellprofiler_core.preferences import set_headless
from cellprofiler_core.utilities.java import start_java, stop_java
from cellprofiler_core.workspace import Workspace

set_headless()
start_java()
pipeline = Pipeline()
pipeline.load(sys.argv[1])
workspace = Workspace(pipeline, None, None, None, None, None)
workspace.create()
paths = Path(sys.argv[2]).read_text(encoding="utf-8").split("\n")
urls = [p if p.startswith("file:") else Path(p).as_uri() for p in paths if p]
workspace.file_list.add_files_to_filelist(urls)
workspace.save_pipeline_to_measurements()
workspace.save(sys.argv[3])
workspace.close()
stop_java()
