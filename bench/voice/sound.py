"""Samples of one channel as Python's arrays of 16 bits: WAV files, noise, and how wrong a text is."""

import array
import io
import math
import random
import re
import sys
import wave


def read_wav(path_or_file):
    """Samples and rate; of several channels the first."""
    with wave.open(path_or_file) as file:
        if file.getsampwidth() != 2:
            raise ValueError("expected a WAV file of 16 bits")
        samples = little(array.array("h", file.readframes(file.getnframes())))
        return samples[::file.getnchannels()], file.getframerate()


def wav(samples, rate):
    """A WAV file's bytes."""
    held = io.BytesIO()
    with wave.open(held, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(little(array.array("h", samples)).tobytes())
    return held.getvalue()


def pcm(data):
    """Samples of little-endian bytes."""
    return little(array.array("h", data[: len(data) // 2 * 2]))


def little(samples):
    if sys.byteorder == "big":
        samples.byteswap()
    return samples


def power(samples):
    return sum(sample * sample for sample in samples) / max(len(samples), 1)


def with_noise(samples, decibels, seed):
    """White noise so far below the sound's own mean power."""
    draw = random.Random(seed)
    spread = math.sqrt(power(samples) / 10 ** (decibels / 10))
    noisy = (round(sample + draw.gauss(0, spread)) for sample in samples)
    return array.array("h", (max(-32768, min(32767, sample)) for sample in noisy))


def words(text):
    """Letters alone, in lower case: how a word is written beyond that is no error of hearing."""
    return re.sub(r"[^a-z' ]", "", re.sub(r"[-—]", " ", text.lower())).split()


def errors(said, heard):
    """Words that were changed, left out or invented (Levenshtein's distance over words), and words
    that were said."""
    said, heard = words(said), words(heard)
    row = list(range(len(heard) + 1))
    for at, word in enumerate(said, 1):
        before, row[0] = row[0], at
        for place, other in enumerate(heard, 1):
            before, row[place] = row[place], min(row[place] + 1, row[place - 1] + 1, before + (word != other))
    return row[-1], len(said)
