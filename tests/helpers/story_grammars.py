"""Small grammars of stories, and a story of the grammar of the village."""

from textflow.data.grammar import Grammar

TINY = Grammar(
    {"hero": ("Anna", "Adam"), "friend": ("Anna", "Adam", "Ida"), "adj": ("old", "new"), "noun": ("cup", "hat")},
    (
        ("{hero} saw {adj.a} {adj} {noun}.", "{adj.a} {adj} {noun} was {hero.his} and {hero} hid it."),
        ("{hero.he} gave the {noun} to {friend}.", "{friend} took the {adj} one."),
    ),
)
UNEVEN = Grammar(TINY.classes, (("{hero} saw {adj.a} {adj} {noun}.", "{friend} hid."),))
STORY = "Ruth the baker found an old coin at the mill. She gave the coin to Mark and Mark thanked her. "
STORY += "Mark took the old coin home from the mill."
