"""Writes ``letters.jsonl``: made-up letters to a housing office, as an example of own documents.

python examples/make_letters.py > examples/letters.jsonl
"""

import json
import random
import sys

SENTENCES = {
    "repair": ["The heating has been broken since {day}.", "Water drips from the ceiling again.",
               "Please send somebody to mend the lift.", "The window in the kitchen does not close."],
    "noise": ["Every {day} there is loud music until two in the morning.",
              "The neighbours drill through the whole weekend.", "Nobody here can sleep any more."],
    "refund": ["I ask for my deposit back.", "You took the rent twice in {month}.",
               "Please pay back what I was charged too much."],
    "contract": ["I want to end my lease at the end of {month}.",
                 "Who may sign the new contract in my place?", "The notice period is three months."],
    "parking": ["A strange car stands on my place since {day}.",
                "I would like to rent a space in the garage."],
}  # fmt: skip
FILLERS = ["I have lived here for {years} years.", "Thank you for your help.", "I wrote to you in {month}.",
           "My telephone number has not changed.", "I am at home in the evening."]  # fmt: skip
WEIGHTS = {"repair": 8, "noise": 5, "refund": 4, "contract": 3, "parking": 2}


def letter(generator: random.Random) -> tuple[list[str], list[str]]:
    """Write one letter: its paragraphs, and its labels."""
    number = generator.choice([1, 1, 1, 2, 2, 3])
    drawn = generator.choices(list(WEIGHTS), list(WEIGHTS.values()), k=number)
    labels = list(dict.fromkeys(drawn))
    words = {
        "day": generator.choice(["Monday", "Thursday", "Saturday"]),
        "month": generator.choice(["January", "May", "October"]),
        "years": generator.randint(2, 30),
    }
    lines = [generator.choice(SENTENCES[label]) for label in labels]
    lines += generator.sample(FILLERS, generator.randint(1, 4))
    generator.shuffle(lines)
    return [line.format(**words) for line in lines], labels


def main() -> None:
    """Print 100 letters: 60 for training, 20 for validation, 20 for the test."""
    generator = random.Random(7)
    for number in range(100):
        split = "train" if number < 60 else "validation" if number < 80 else "test"
        text, labels = letter(generator)
        row = {"id": f"letter-{number:03}", "split": split, "text": text, "labels": labels}
        sys.stdout.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    main()
