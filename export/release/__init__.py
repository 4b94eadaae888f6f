"""`make release-model`: a finished run becomes the built-in model, if it is a better one."""
