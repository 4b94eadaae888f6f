"""Corpora of others, and recordings of one's own, as manifests: `asr-train prepare`.

    manifest.py      what can be used of a corpus, written as one manifest
    librispeech.py   LibriSpeech: its folders, and its archives from openslr.org
    common_voice.py  a release of Mozilla Common Voice
    recordings.py    a folder of recordings with their texts
    archives.py      downloads that go on where they were cut off, and are unpacked safely
    cli.py           the commands

`training.corpus` reads what is written here.
"""
