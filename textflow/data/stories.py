"""Three small Englishes: of two sentences, of stories of three, and of longer tales [ours]."""

from typing import Literal, TypeAlias

from textflow.data.grammar import WOMEN, Grammar

GrammarName: TypeAlias = Literal["sentences", "stories", "tales"]

MEN = ("Adam", "Bruno", "Erik", "Hugo", "Lars", "Mark", "Otto", "Paul")
CLASSES = {
    "hero": WOMEN + MEN,
    "friend": WOMEN + MEN,
    "job": ("baker", "farmer", "miller", "painter", "sailor", "smith", "teacher", "weaver"),
    "adj": ("blue", "broken", "empty", "golden", "heavy", "iron", "new", "old", "red", "round", "small", "ugly"),
    "noun": ("bell", "book", "coin", "cup", "hammer", "hat", "key", "knife", "lamp", "map", "ring", "rope"),
    "place": ("bridge", "castle", "garden", "harbour", "inn", "market", "mill", "tower"),
    "got": ("bought", "found", "made", "saw"),
}
SENTENCES = Grammar(
    CLASSES,
    (
        ("{hero} {got} {adj.a} {adj} {noun}.", "There was {adj.a} {adj} {noun} that {hero} {got}."),
        ("{hero.he} gave the {adj} {noun} to the {job}.", "The {job} took the {adj} {noun} from {hero.him}."),
    ),
)
STORIES = Grammar(
    CLASSES,
    (
        ("{hero} {got} {adj.a} {adj} {noun} at the {place}.", "At the {place} {hero} {got} {adj.a} {adj} {noun}."),
        ("{hero.he} gave the {noun} to the {job}.", "The {job} asked {hero.him} for the {noun}."),
        ("The {job} took the {adj} {noun} from the {place}.", "At the {place} the {job} hid the {adj} {noun}."),
    ),
)
TALES = Grammar(
    CLASSES,
    (
        (
            "{hero} the {job} {got} {adj.a} {adj} {noun} at the {place}.",
            "At the {place} {hero} the {job} {got} {adj.a} {adj} {noun}.",
            "{hero} was a {job}. At the {place} {hero.he} {got} {adj.a} {adj} {noun}.",
        ),
        (
            "{hero.he} gave the {noun} to {friend} and {friend} thanked {hero.him}.",
            "{friend} asked {hero.him} for the {noun}, so {hero.he} gave it to {friend.him}.",
            "{friend} was {hero.his} friend, and {hero.he} gave {friend.him} the {noun}.",
        ),
        (
            "{friend} took the {adj} {noun} home from the {place}.",
            "Then {friend} and {hero} left the {place} with the {adj} {noun}.",
            "{friend} hid it in the {place}, and {hero} never saw the {adj} {noun} again.",
        ),
    ),
)
GRAMMARS = {"sentences": SENTENCES, "stories": STORIES, "tales": TALES}
