#!/usr/bin/env python3
"""Tests of what stands in this folder; the last line says how many passed and failed."""

import contextlib
import io
import re
import sys
import tomllib
import unittest
from pathlib import Path

import questions
import speed
from client import Gathered, Refused, Server
from matcher import right

HERE = Path(__file__).parent
QUESTIONS = {question["id"]: question
             for question in tomllib.loads((HERE / "questions.toml").read_text())["question"]}

# For each question answers that are right, and such that a lenient reader would let pass.
CASES = {
    "france": (["Paris.", "A fine question! It is Paris.", "The capital of France is **Paris**.", "It's not Lyon, it's Paris!"],
               ["", "Lyon", "It is Comparison.", "It is not Paris.", "Lyon, and not Paris",
                "The capital of France is Lyon, near Paris.", "Parisian"]),
    "two-and-two": (["4", "2 + 2 = 4.", "2+2 equals four.", r"\(2 + 2 = 4\)", "It is **4**"],
                    ["22", "2+2=5", "14", "4.5", "-4", "2 + 2", "4 is not it, it is 5", "44",
                     "4,000", "four or 5"]),
    "largest-planet": (["Jupiter", "The largest is Jupiter, then Saturn."],
                       ["Saturn, then Jupiter", "Mars"]),
    "romeo": (["William Shakespeare wrote it."], ["Christopher Marlowe", "Shakespearean"]),
    "water": (["H2O", "H₂O", "It is $H_2O$.", r"\text{H}_{2}\text{O}"], ["H2O2", "CO2", "HO", "water"]),
    "leap-year": (["A leap year has 366 days, one more than 365."],
                  ["365", "365 days, sometimes 366", "1366", "3.366",
                   "It is 4 years ahead. This is an exception. In 1996 it was 366 days behind."]),
    "spider": (["Eight.", "8 legs"], ["6", "It has 18 legs", "six or eight"]),
    "ocean": (["The Atlantic Ocean"], ["Pacific", "It isn't the Atlantic, it is the Pacific"]),
    "war": (["It ended in 1945.", "1939 to 1945"], ["1944", "1918", "In the 1940s", "19450"]),
    "brazil": (["Brazilian Portuguese"], ["Spanish, not Portuguese", "Spanish and Portuguese"]),
    "colours": (["You get Green."], ["purple", "evergreen", "orange, not green"]),
    "sum": (["17 + 25 = 42", "Forty-two"], ["17 + 25 = 43", "42 is wrong: 32", "142", "4 2"]),
    "product": (["9 × 8 = 72."], ["9 times 8 is 81", "72 - 9 = 63"]),
    "apples": (["7 × 3 = 21 euros", "€21.00", "21€", "twenty-one euros"],
               ["10 euros", "21.5", "2100", "3 * 7 = 24"]),
    "french": (["Bonjour !", "\"Bonjour\""], ["Bonsoir", "Bon matin", "Good morning"]),
    "spanish": (["\"Gracias\"", "muchas gracias", "You can say:\n\n\"Gracias\""],
                ["merci", "Hola, gracias",
                 "\"thx\" is usual. You can also say it. For example:\n\n- \"Gracias\""]),
    "is-even": (["```python\ndef is_even(n):\n    return n % 2 == 0\n```\nUse it.",
                 "def is_even(n: int) -> bool:\n    \"\"\"Says.\"\"\"\n    if n % 2 == 0:\n"
                 "        return True\n    else:\n        return False\n\nprint(is_even(4))"],
                ["def is_even(n):\n    return n % 2 == 1", "n % 2 == 0", "",
                 "def is_even(n):\n    if n % 2 == 0:\n        return False\n    return True",
                 "def is_even(n):\n    import os\n    return n % 2 == 0",
                 "def is_even(n):\n    while True:\n        n = n\n    return n % 2 == 0",
                 "def is_even(n):\n    return n.__class__", "def is_even(n:\n    return"]),
    "sql": (["```sql\nSELECT *\nFROM customers;\n```"], ["SELECT name FROM customers", "*",
             "SELECT * FROM customers\nWHERE customer_id = 5;"]),
    "week": (["Monday, Tuesday, Wednesday, Thursday, Friday, Saturday and Sunday",
              "Beginning with Monday:\n1. Monday\n2. Tuesday\n3. Wednesday\n4. Thursday\n5. Friday\n"
              "6. Saturday\n7. Sunday"],
             ["Monday, Wednesday, Tuesday, Thursday, Friday, Saturday, Sunday",
              "Monday, Tuesday, Wednesday, Thursday, Friday, Saturday",
              "Monday, Tuesday, Wednesday, Tuesday, Thursday, Friday, Saturday, Sunday"]),
    "seasons": (["Spring, summer, fall and winter."], ["Spring, summer, autumn", "springs"]),
}


class Matcher(unittest.TestCase):
    def test_every_question_has_right_and_wrong_answers_here(self):
        self.assertEqual(set(CASES), set(QUESTIONS))
        self.assertEqual(len(QUESTIONS), 20)

    def test_right_answers_pass(self):
        for name, (good, _) in CASES.items():
            for answer in good:
                self.assertTrue(right(QUESTIONS[name], answer), f"{name}: {answer}")

    def test_wrong_answers_do_not(self):
        for name, (_, bad) in CASES.items():
            for answer in bad:
                self.assertFalse(right(QUESTIONS[name], answer), f"{name}: {answer}")

    def test_the_question_itself_is_no_answer(self):
        for question in QUESTIONS.values():
            self.assertFalse(right(question, question["ask"]), question["id"])

    def test_a_question_without_a_key_is_refused(self):
        with self.assertRaisesRegex(ValueError, "question x: one of accept"):
            right({"id": "x", "ask": "?"}, "yes")


class Client(unittest.TestCase):
    def test_pieces_become_an_answer_with_its_times(self):
        gathered = Gathered(0)
        gathered.take({"choices": [{"delta": {"role": "assistant", "content": ""}}]})
        self.assertIsNone(gathered.first)
        gathered.take({"choices": [{"delta": {"content": "a"}}]})
        gathered.take({"choices": [{"delta": {"content": "b"}, "finish_reason": "stop"}]})
        gathered.take({"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 3}})
        answer = gathered.answer()
        self.assertEqual((answer.text, answer.prompt_tokens, answer.tokens), ("ab", 7, 3))
        self.assertGreater(answer.whole, answer.first)
        self.assertAlmostEqual(answer.rate, 2 / (answer.whole - answer.first))

    def test_a_stream_that_breaks_off_or_says_an_error_is_no_answer(self):
        gathered = Gathered(0)
        gathered.take({"choices": [{"delta": {"content": "a"}}]})
        self.assertRaises(Refused, gathered.answer)
        self.assertRaisesRegex(Refused, "gone", gathered.take, {"error": {"message": "gone"}})

    def test_addresses_with_and_without_a_scheme_and_v1(self):
        for text in ("127.0.0.1:80", "http://127.0.0.1:80/", "http://127.0.0.1:80/v1"):
            server = Server(text)
            self.assertEqual((server.url, server.root), ("http://127.0.0.1:80", ""), text)
        self.assertEqual(Server("https://h/base/v1/").root, "/base")
        self.assertRaises(ValueError, Server, "ftp://h")


class Speed(unittest.TestCase):
    def test_the_launcher_is_told_all_that_it_wants(self):
        options, engines = speed.arguments(["--gguf", __file__, "--engine", __file__])
        wanted = set(re.findall(r'wanted\["(\w+)"\]', speed.LAUNCHER.read_text()))
        self.assertEqual(set(engines[0].settings("k")), wanted)
        self.assertEqual(options.slots, 4)

    def test_the_table_shows_medians_ranges_and_ratios(self):
        _, engines = speed.arguments(["--server", "a=h:1", "--server", "b=h:2,m"])
        self.assertEqual((engines[0].model, engines[1].model), (None, "m"))
        samples = speed.Samples()
        for engine, values in zip(engines, ([1, 2, 30], [4, 4, 5])):
            for value in values:
                samples.add("figure", engine, value)
        samples.add("memory", engines[1], 200)
        samples.add("nothing", engines[0], None)
        samples.refused("wish", engines[0])
        self.assertEqual(speed.table(engines, samples).splitlines(), [
            "| | a | b | b ÷ a |", "|---|---|---|---|",
            "| figure | 2.00 (1.00 to 30.0) | 4.00 (4.00 to 5.00) | 2.00 |",
            "| memory | not known | 200 (200 to 200) | |", "| wish | refused | not known | |"])


class Questions(unittest.TestCase):
    def test_the_report_counts_and_quotes_what_was_wrong(self):
        options = questions.arguments(["--realm", "h:1", "--repeat", "2"])
        asked = [{"id": "one", "ask": "One?"}, {"id": "two", "ask": "Two?"}]
        long = "a | b\n`c` " + "d" * 999
        rows = [[("yes", True), ("yes", True)], [("", False), (long, False)]]
        lines = questions.report(asked, {"m": rows}, options, "machine", ["m: sha256"]).splitlines()
        for line in ("| m | 2 | 4 | 1.0 of 2 |", "| One? | 2 of 2 |", "| Two? | 0 of 2 |", "m: sha256",
                     "- m, two: nothing"):
            self.assertIn(line, lines)
        self.assertTrue(lines[-1].startswith("- m, two: `a / b 'c' ddd"), lines[-1])
        self.assertTrue(lines[-1].endswith("d…`") and len(lines[-1]) < 200)

    def test_what_is_asked_for_is_checked_before_anything_starts(self):
        for given in ([], ["--realm", "h", "--mtor", "m"], ["--mtor", "m"],
                      ["--realm", "h", "--repeat", "0"], ["--realm", "h", "--gguf", "a=no-file"]):
            with self.assertRaises(SystemExit), contextlib.redirect_stderr(io.StringIO()):
                questions.arguments(given)


if __name__ == "__main__":
    done = unittest.main(exit=False, verbosity=1).result
    bad = len({str(test) for test, _ in done.failures + done.errors})
    print(f"{done.testsRun - bad} passed, {bad} failed")
    sys.exit(bad > 0)
