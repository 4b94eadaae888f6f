"""One report from the JSON files of several measurements: HTML to look at, Markdown to keep.

`results.py` reads the files, `sections.py` and the modules beside it make a `document.Report` of
them, `html.py` and `markdown.py` write that. `anchors.json` holds what others have published.
"""
