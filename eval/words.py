"""Words in any script: between spaces, or single characters where a script is written without spaces."""

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from itertools import chain

from textflow.metrics import EOS_TEXT

# Scripts without spaces between words, by the first word of their characters' Unicode names.
SPACELESS = {"CJK", "HIRAGANA", "KATAKANA", "BOPOMOFO", "YI", "THAI", "LAO", "KHMER", "MYANMAR", "TIBETAN", "JAVANESE"}
MAX_MEAN_WORD = 25  # characters between spaces, on average, above which these are not words
MAX_MEAN_SEGMENT = 4  # the same for text in a spaceless script, which may have been segmented


def script_of(letter: str) -> str:
    """Script of a letter: the first word of its Unicode name, such as LATIN or CJK, or UNKNOWN."""
    return unicodedata.name(unicodedata.normalize("NFKC", letter)[0], "UNKNOWN").replace("-", " ").split()[0]


def count_letters(texts: Sequence[str]) -> Counter[str]:
    """Number of letters by script; basic Latin letters (a to z) count as ASCII."""
    letters = Counter(chain.from_iterable(texts))
    counts: Counter[str] = Counter()
    for letter, number in letters.items():
        if unicodedata.category(letter)[0] == "L":
            counts["ASCII" if letter.isascii() else script_of(letter)] += number
    return counts


def is_spaceless(texts: Sequence[str]) -> bool:
    """True if most letters are of scripts without spaces between words."""
    counts = count_letters(texts)
    return 2 * sum(counts[script] for script in SPACELESS) > counts.total()


def has_words(texts: Sequence[str]) -> bool:
    """True if spaces divide the texts into words [ours]: not in Chinese, and not in a genome."""
    pieces = [piece for text in texts for piece in text.split()]
    limit = MAX_MEAN_SEGMENT if is_spaceless(texts) else MAX_MEAN_WORD
    return sum(map(len, pieces)) <= limit * len(pieces)


def words_of(text: str) -> list[str]:
    """Words of letters, digits and their marks in lower case; a character of a spaceless script is a word."""
    words: list[str] = []
    is_open = False  # True if the next letter continues the last word
    for sign in unicodedata.normalize("NFC", text.lower()):
        kind, alone = unicodedata.category(sign)[0], False
        if kind in "LN":
            alone = kind == "L" and not sign.isascii() and script_of(sign) in SPACELESS
            if is_open and not alone:
                words[-1] += sign
            else:
                words.append(sign)
        elif kind == "M" and words:
            words[-1] += sign
            continue
        is_open = kind in "LN" and not alone
    return words


def split_characters(text: str) -> list[str]:
    """Characters of a text, each with the marks that follow it; an end of text is one."""
    characters: list[str] = []
    for sign in re.findall(f"{re.escape(EOS_TEXT)}|.", text, re.DOTALL):
        if characters and unicodedata.category(sign[0])[0] == "M":
            characters[-1] += sign
        else:
            characters.append(sign)
    return characters
