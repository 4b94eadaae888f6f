"""Fine-tuning on a few recordings must be worth a user's while: it learns a voice never heard."""

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr
from rich.console import Console

from asr.evaluation.accuracy.wer import WordErrors
from training.corpora.recordings import prepare_recordings
from training.eager import load
from training.recipe import load_recipe
from training.run import run_recipe

SHORTER_TRACT = 1.8
"""All frequencies are raised by this; training raises them by 1.25 at most."""

SENTENCES = """
the kettle began to sing before anyone had come down to breakfast
we left the boat on the sand and walked along the shore
nobody in the village could remember such a cold winter
she wrote the number on the back of an old envelope
the train was late again and the platform was full of people
he keeps his tools in a wooden box under the stairs
a narrow path leads through the forest to the lake
please turn off the lights when you leave the room
the children were playing with a ball in the garden
it takes about an hour to drive from here to the city
my brother has bought a small farm in the hills
the doctor told him to rest and to drink more water
they have built a new bridge across the river
i would like a cup of tea with a little milk
the window was open and the wind moved the curtains
her grandfather used to be the captain of a ship
you can see the mountains from the top of the tower
the meeting will begin at nine on monday morning
there is some bread and cheese on the kitchen table
he could not find his keys although he looked everywhere
the baker opens his shop long before the sun is up
we heard music coming from the house across the street
an old dog was sleeping in front of the fire
the teacher asked them to read the story once more
she has lived in this town since she was a girl
the letter arrived on the day after he had gone
most of the apples on this tree are still green
put the books back where you have found them
the road was closed because of the heavy rain
they sat together and talked until it was dark
the farmer drove his sheep over the hill
we should paint the fence before the summer ends
a tall man in a grey coat was waiting at the door
the soup is too hot to be eaten now
every evening he walks to the harbour and back
the museum is closed on the first day of the week
she opened the drawer and took out a pair of scissors
the birds fly south when the days grow shorter
this is the best picture that he has ever painted
we had to wait a long time for the next bus
his voice was so quiet that we could hardly hear him
the moon was bright and the snow lay deep on the fields
there were only two seats left in the last row
the cat jumped from the chair and ran into the hall
i have forgotten the name of the woman next door
the ship will leave the harbour early in the morning
he bought some flowers for his mother on the way home
the old bridge was too weak to carry the heavy wagon
they planted potatoes and beans behind the house
nothing is left of the castle but a few stones
she put on her coat and went out into the rain
the clock on the wall has stopped at half past three
we will need more wood if the winter is long
the young men carried the piano up the stairs
he told us the same story three times that night
the water in the lake was as smooth as glass
an apple fell from the tree and rolled down the hill
the shop on the corner sells paper and pens
""".strip().splitlines()

HELD_OUT = 24
"""The last so many sentences are only used to measure."""


def speak(text: str, voice: str, wav: Path) -> None:
    stretch = f"duration_stretch={SHORTER_TRACT}" if voice == "small rms" else "duration_stretch=1"
    options = ["-voice", voice.split()[-1], "--setf", stretch, "-t", text, "-o", str(wav)]
    subprocess.run(["flite", *options], check=True, timeout=60)
    if voice == "small rms":
        samples, rate = soundfile.read(wav, dtype="float32")
        soundfile.write(wav, soxr.resample(samples, rate * SHORTER_TRACT, rate), rate)


def word_error_rate(model: Path, voice: str, folder: Path) -> float:
    """WER of the streamed sentences that are held out."""
    loaded = load(str(model))
    errors = []
    for number, text in enumerate(SENTENCES[-HELD_OUT:]):
        wav = folder / f"{voice}-{number}.wav"
        if not wav.exists():
            speak(text, voice, wav)
        samples, rate = soundfile.read(wav, dtype=np.float32)
        stream = loaded.open()
        list(stream.accept(samples, rate))
        errors.append(WordErrors.between(text, stream.finish().text))
    return WordErrors.total(errors).rate


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.skipif(shutil.which("flite") is None, reason="needs flite: apt install flite")
def test_fine_tuning_learns_a_voice_and_forgets_no_other(tmp_path: Path) -> None:
    data, shipped = tmp_path / "mine", Path("data/model")
    data.mkdir()
    for number, text in enumerate(SENTENCES[:-HELD_OUT]):
        speak(text, "small rms", data / f"{number}.wav")
        (data / f"{number}.txt").write_text(text)
    prepare_recordings(data, Console(quiet=True))
    recipe = load_recipe(Path("training/recipes/finetune.yaml"))
    tuned = run_recipe(recipe, data, tmp_path / "work", Console(quiet=True), shipped)
    rates = {
        voice: [word_error_rate(model, voice, tmp_path) for model in (shipped, tuned)]
        for voice in ("small rms", "slt")
    }
    before, after = rates["small rms"]
    assert after < 0.9 * before, rates
    before, after = rates["slt"]
    assert after < before + 0.05, rates
