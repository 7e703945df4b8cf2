"""The demo's pipeline as one of the other kind: Images, Metadata, NamesAndTypes and Groups."""

from __future__ import annotations

import re

_HEAD = (
    "{name}:[module_num:{number}|svn_version:'Unknown'|variable_revision_number:{revision}"
    "|show_window:False|notes:[]|batch_state:array([], dtype=uint8)|enabled:True|wants_pause:False]"
)
_MATCH = ", ".join(
    f"{{'DNA': '{tag}', 'Cyto': '{tag}'}}" for tag in ("Plate", "Row", "Col", "Site")
)
_IMAGES = """\
    :
    Filter images?:Images only
    Select the rule criteria:and (extension does isimage)
"""
_METADATA = r"""    Extract metadata?:Yes
    Metadata data type:Text
    Metadata types:{}
    Extraction method count:2
    Metadata extraction method:Extract from file/folder names
    Metadata source:File name
    Regular expression to extract from file name:^r(?P<Row>..)c(?P<Col>..)f(?P<Site>..)p.*ch(?P<C>.)
    Regular expression to extract from folder name:(?P<Plate>[^/]*)__
    Extract metadata from:All images
    Select the filtering criteria:and (file does contain "")
    Metadata file location:Elsewhere...|
    Match file and image metadata:[]
    Use case insensitive matching?:No
    Metadata file name:
    Does cached metadata exist?:No
    Metadata extraction method:Extract from file/folder names
    Metadata source:Folder name
    Regular expression to extract from file name:^(?P<Unused>.*)
    Regular expression to extract from folder name:.*[\\/](?P<Plate>[^\\/]*)__[^\\/]*[\\/]Images
    Extract metadata from:All images
    Select the filtering criteria:and (file does contain "")
    Metadata file location:Elsewhere...|
    Match file and image metadata:[]
    Use case insensitive matching?:No
    Metadata file name:
    Does cached metadata exist?:No
"""
_NAMES_AND_TYPES = (
    """\
    Assign a name to:Images matching rules
    Select the image type:Grayscale image
    Name to assign these images:DNA
    Match metadata:["""
    + _MATCH
    + """]
    Image set matching method:Metadata
    Set intensity range from:Image metadata
    Assignments count:2
    Single images count:0
    Maximum intensity:255.0
    Process as 3D?:No
    Relative pixel spacing in X:1.0
    Relative pixel spacing in Y:1.0
    Relative pixel spacing in Z:1.0
    Select the rule criteria:and (file does contain "-ch1")
    Name to assign these images:DNA
    Name to assign these objects:Cell
    Select the image type:Grayscale image
    Set intensity range from:Image metadata
    Maximum intensity:255.0
    Select the rule criteria:and (file does contain "-ch2")
    Name to assign these images:Cyto
    Name to assign these objects:Cell
    Select the image type:Grayscale image
    Set intensity range from:Image metadata
    Maximum intensity:255.0
"""
)


def of_load_data(text: str, group_by: tuple[str, ...] = ()) -> str:
    """Put the four modules in the place of LoadData.

    Parameters
    ----------
    group_by : tuple of str
        Of Plate, Row, Col, Site.
    """
    groups = (
        f"    Do you want to group your images?:{'Yes' if group_by else 'No'}\n"
        f"    grouping metadata count:{len(group_by) or 1}\n"
        + "".join(f"    Metadata category:{key}\n" for key in group_by or ("None",))
    )
    modules = (
        ("Images", 2, _IMAGES),
        ("Metadata", 6, _METADATA),
        ("NamesAndTypes", 8, _NAMES_AND_TYPES),
        ("Groups", 2, groups),
    )
    four = "\n".join(
        _HEAD.format(name=name, number=i, revision=revision) + "\n" + settings
        for i, (name, revision, settings) in enumerate(modules, 1)
    )
    text = re.sub(r"\[module_num:(\d+)\|", lambda m: f"[module_num:{int(m[1]) + 3}|", text)
    text = re.sub(r"^ModuleCount:(\d+)", lambda m: f"ModuleCount:{int(m[1]) + 3}", text, flags=re.M)
    return re.sub(
        r"^LoadData:\[.*?\n\n", lambda _: four + "\n", text, count=1, flags=re.MULTILINE | re.DOTALL
    )
