"""Imported by check workers before they fork: math-verify builds its grammars at its first answer
and imports parts of SymPy at its first wrong one, a third of a second that every runner would spend
again."""

from marketplace.gym.sources.math_answer import same_mathematics

for _answer, _reference in (
    ("5/6", "-1.5"),
    (r"$\frac{1}{2}$", "0.5"),
    ("1/0", "2"),
    (r"$\{2, 1\}$", r"$\{1, 2\}$"),
    (r"$\{2, 3\}$", r"$\{1, 2\}$"),
    ("x + 1", r"$\{1, 2\}$"),
):
    same_mathematics(_answer, _reference)
