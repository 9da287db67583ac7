"""Whether an answer is right, by whole words.

A wrong answer must not pass: a word inside another one does not count, neither does one that is
denied ("not Paris"), a wrong answer that stands before the right one decides, and what only comes in the
third sentence of a ramble is no answer. That costs a right one now and then, which is the honest side to
err on.
"""

import ast
import re
import unicodedata
from decimal import Decimal

# "is not Paris", "isn't the Pacific": up to one small word between.
DENIED = re.compile(r"(?:\bnot|\bnever|n't)\s+(?:(?:the|a|an|in|called)\s+)?$")
# Digits with separators of thousands and a fraction; neither inside a word nor inside a longer number.
NUMBER = re.compile(r"(?<![\w.,])-?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?(?!\w)(?!,\d)(?!\.\d)")


def plain(text):
    """One way to write it: H₂O and H_{2}O as H2O, small letters, no marks of emphasis."""
    text = unicodedata.normalize("NFKC", text).casefold()
    text = text.replace("\N{RIGHT SINGLE QUOTATION MARK}", "'").replace("\N{MINUS SIGN}", "-")
    return re.sub(r"\\(?:text|mathrm|boxed)|[*_`{}$\\]", "", text)


def places(word, text):
    """Where a word stands whole and not denied. Digits are whole numbers: 4 is not in 4.5."""
    found = re.finditer(rf"(?<!\w)(?<!\d[.,]){re.escape(plain(word))}(?!\w)(?![.,]\d)", text)
    return [match.start() for match in found if not DENIED.search(text[:match.start()])]


def first(words, text):
    """The first place of any of the words; None if there is none."""
    return min((place for word in words for place in places(word, text)), default=None)


def opening(text):
    """Its first two sentences, or lines."""
    return " ".join(re.split(r"(?<=[.!?:])[\"')]*\s+|\n+", text.strip())[:2])


def right_word(question, text):
    text = opening(text)
    right, wrong = first(question["accept"], text), first(question.get("instead", []), text)
    return right is not None and (wrong is None or right < wrong)


def right_order(words, text):
    """All mentions in a row hold the wanted ones without another of them between."""
    said = sorted((place, number) for number, word in enumerate(words) for place in places(word, text))
    numbers, wanted = [number for _, number in said], list(range(len(words)))
    ends = range(len(words), len(numbers) + 1)
    return any(numbers[end - len(words):end] == wanted for end in ends)


def right_number(question, text):
    """The last number decides: before it stand the question's own and the steps."""
    said = [(match.start(), Decimal(match.group().replace(",", ""))) for match in NUMBER.finditer(text)]
    wanted = Decimal(question["number"])
    said += [(place, wanted) for word in question.get("words", []) for place in places(word, text)]
    return bool(said) and max(said)[1] == wanted


def right_code(question, answer):
    squeezed = re.sub(r"[\s\"'`]", "", answer).casefold()
    spoilt = any(part in squeezed for part in question.get("without", []))
    return not spoilt and any(part in squeezed for part in question["code"])


# What a small pure function is made of. No loop, no attribute, no import, no power: what a model
# wrote is run here, so it can only end soon and touch nothing.
PURE = (
    ast.Module, ast.FunctionDef, ast.arguments, ast.arg, ast.Return, ast.If, ast.IfExp, ast.Expr,
    ast.Compare, ast.BinOp, ast.BoolOp, ast.UnaryOp, ast.Constant, ast.Name, ast.Load, ast.Assign,
    ast.Store, ast.Add, ast.Sub, ast.Mult, ast.Div, ast.FloorDiv, ast.Mod, ast.BitAnd, ast.Not,
    ast.USub, ast.And, ast.Or, ast.Eq, ast.NotEq, ast.Lt, ast.LtE, ast.Gt, ast.GtE,
)


def function_in(name, answer):
    """The lines of a top-level function in an answer, or nothing."""
    lines = answer.splitlines()
    starts = [at for at, line in enumerate(lines) if line.startswith(f"def {name}(")]
    if not starts:
        return ""
    body = lines[starts[0] + 1:]
    ends = next((at for at, line in enumerate(body) if line and not line[0].isspace()), len(body))
    return "\n".join([lines[starts[0]], *body[:ends]])


def right_python(question, answer):
    name = question["python"]
    try:
        tree = ast.parse(function_in(name, answer))
        for function in tree.body:
            # `n: int` and `-> bool` are promises only.
            function.returns = None
            for argument in function.args.args:
                argument.annotation = None
        if not tree.body or not all(isinstance(node, PURE) for node in ast.walk(tree)):
            return False
        space = {"__builtins__": {}}
        exec(compile(tree, "answer", "exec"), space)
        return all(space[name](given) is wanted for given, wanted in question["cases"])
    except Exception:  # Whatever it is that the model wrote, it is not right.
        return False


def right(question, answer):
    text = plain(answer)
    checks = {
        "accept": lambda: right_word(question, text),
        "all": lambda: all(first(group, text) is not None for group in question["all"]),
        "order": lambda: right_order(question["order"], text),
        "number": lambda: right_number(question, text),
        "code": lambda: right_code(question, answer),
        "python": lambda: right_python(question, answer),
    }
    wanted = [check for kind, check in checks.items() if kind in question]
    if len(wanted) != 1:
        raise ValueError(f"question {question.get('id')}: one of {', '.join(checks)} is needed")
    return wanted[0]()
