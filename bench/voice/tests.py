#!/usr/bin/env python3
"""Tests of what stands in this folder; the last line says how many passed and failed."""

import array
import io
import math
import sys
import unittest
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

import figures
from sound import errors, pcm, power, read_wav, wav, with_noise, words


class Sound(unittest.TestCase):
    def test_a_wav_file_is_what_was_written(self):
        samples = array.array("h", [0, 1, -1, 32767, -32768])
        self.assertEqual(read_wav(io.BytesIO(wav(samples, 16_000))), (samples, 16_000))
        self.assertEqual(pcm(b"\x01\x00\xff\xff\x00"), array.array("h", [1, -1]))

    def test_noise_is_as_loud_as_it_is_said_to_be(self):
        tone = array.array("h", (round(8_000 * math.sin(at / 9)) for at in range(24_000)))
        noise = [one - other for one, other in zip(with_noise(tone, 10, 1), tone)]
        self.assertAlmostEqual(10 * math.log10(power(tone) / power(noise)), 10, delta=0.2)
        self.assertEqual(with_noise(tone, 10, 1), with_noise(tone, 10, 1))


class Words(unittest.TestCase):
    def test_marks_and_capitals_are_no_words(self):
        self.assertEqual(words("Well-known: It's THE end."), ["well", "known", "it's", "the", "end"])

    def test_errors_are_counted_in_words(self):
        for heard, wrong in [("a b c", 0), ("A, b. C!", 0), ("a c", 1), ("a x b c", 1), ("a x c", 1),
                             ("", 3), ("x y z w", 4), ("c b a", 2)]:
            self.assertEqual(errors("a b c", heard), (wrong, 3), heard)


class Report(unittest.TestCase):
    def test_there_are_enough_sentences_and_voices(self):
        self.assertGreaterEqual(len(figures.SENTENCES["sentences"]), 20)
        self.assertGreaterEqual(len(set(figures.SENTENCES["voices"])), 8)

    def test_rates_are_of_all_words_together(self):
        row = figures.Row("x")
        row.take("one two three four", "one two three", 4.0, 1.0)
        row.take("one", "one", 4.0, 1.0)
        self.assertEqual((row.rate, row.misheard), (1 / 5, [("one two three four", "one two three")]))
        text = figures.report([row], [(4.0, 0.5, 2.0)], [(0.1, 0.2, 0.9)], "here")
        self.assertIn("| x | 5 | 1 | 20.0% | 8 | 4.0 |", text)
        self.assertIn("4 s of sound in 2 s, 2.00 times real time", text)
        self.assertIn("first sound after 0.90 s", text)


if __name__ == "__main__":
    result = unittest.main(exit=False, verbosity=1).result
    failed = len({str(test) for test, _ in result.failures + result.errors})
    print(f"{result.testsRun - failed} passed, {failed} failed")
    sys.exit(failed > 0)
