"""Rebuild ``rora_cli/data/bundled/prompts/*.jsonl``: prompts of our own making, and a small model's greedy answers.

Usage: python scripts/build_bundled_prompts.py MODEL [--apart-from FILE ...] [--answered-only]

MODEL is a directory with SmolLM2-135M-Instruct. Answers that stand in the files, or that an interrupted run left in
``build/prompt-answers.jsonl``, are not computed again; with ``--answered-only``, none is computed, and the files get
the prompts whose answers are there. ``--apart-from`` names JSON files of prompts, such as an attacker's, none of which
may be among ours.

The prompts depend on the sentences and word lists below and on SEED alone. Ordered by the sha256 of their text, each
kind's first prompts are held out.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import string
import sys
from pathlib import Path

from rora_cli.data.rows import text_key

ROOT = Path(__file__).parents[1]
TARGET = ROOT / "rora_cli" / "data" / "bundled" / "prompts"
ANSWERS = ROOT / "build" / "prompt-answers.jsonl"
SEED = 20
PER_KIND, HELD_OUT_PER_KIND = 50, 10
ANSWER_TOKENS = 48

WORDS = {
    "thing": (
        "a bicycle, a kettle, a wool jumper, a wooden spoon, a rain barrel, a sourdough starter, a paper map, a "
        "violin, a cast iron pan, a tent, a pair of boots, a fountain pen, a hammock, a compost heap, a sewing machine"
    ),
    "animal": "otter, heron, hedgehog, octopus, barn owl, lynx, salmon, beetle, camel, seahorse, badger, tortoise",
    "topic": (
        "tides, yeast, glaciers, magnetism, inflation, echoes, rainbows, vaccination, soil erosion, radio waves, "
        "photosynthesis, gravity, jet lag, static electricity, coral reefs, fermentation, volcanoes, sleep"
    ),
    "place": (
        "a small harbour town, the desert, a mountain hut, a night train, an old library, a lighthouse, a "
        "market square, a botanical garden, an island in winter, a crowded airport, a quiet suburb"
    ),
    "person": (
        "my neighbour, a new colleague, my grandmother, a ten-year-old, a landlord, the school's head teacher, a tired "
        "nurse, my cousin, a shy student, the bus driver, our football coach, a retired sailor"
    ),
    "task": (
        "clean a window without streaks, mend a torn sleeve, plan a week of dinners, remember people's names, repot a "
        "fern, pack a small suitcase, keep bread fresh, tune a guitar, write a thank-you note, sharpen a "
        "kitchen knife, fold a fitted sheet, learn twenty words a day, descale a shower head"
    ),
    "event": (
        "a birthday picnic, a moving-out party, a school concert, a rainy hike, a job interview, a village "
        "fair, a chess evening, a first day at work, a family reunion, a book launch"
    ),
    "feeling": "nervous, proud, homesick, bored, relieved, curious, grumpy, hopeful, lonely, cheerful",
    "sentence": (
        "me and him was late because of the bus being late; the soup were too salty but we eats it anyway; please send "
        "me the papers when you will have time; i has never saw such a big moon; the team have winned its last game "
        "yesterday; there is many reason for to stay home; she don't know nothing about the plan; the door it is broke "
        "since monday; we was hoping you could came earlier; this cake taste more better than the last one"
    ),
    "statement": (
        "The meeting is moved to Thursday at ten; Your parcel could not be delivered today; The lake freezes "
        "over every January; Nobody told the cook that the guests eat no meat; The museum opens late on the "
        "first Friday; Our heating broke down on the coldest night; The bakery sells out of rye bread by nine; "
        "The path along the river is closed until spring; The choir needs two more low voices; The ferry leaves "
        "whether we are on it or not"
    ),
    "function": (
        "reverses a string, counts the vowels in a word, finds the largest number in a list, checks whether a "
        "year is a leap year, removes duplicates from a list, converts Celsius to Fahrenheit, sums the digits "
        "of a number, tells whether a word is a palindrome, merges two sorted lists, counts the words in a file"
    ),
    "concept": "a for loop, a dictionary, recursion, a variable, an exception, a class, a regular expression, a list",
    "language": "Python, JavaScript, Python, C, Java, Python",
    "choice": (
        "tea or coffee, trains or buses, living in the city or in the country, e-books or paper books, cats or dogs, "
        "working from home or in an office, summer or winter, cooking or eating out, early mornings or late nights, "
        "a bicycle or a car for short trips, stairs or lifts, maps on paper or on a phone"
    ),
    "custom": (
        "school uniforms, four-day working weeks, tipping in restaurants, homework for small children, open-plan "
        "offices, free museum entry, mobile phones in class, shops that open on Sundays, public fireworks, zoos"
    ),
    "country": "Norway, Peru, Kenya, Portugal, Mongolia, New Zealand, Morocco, Vietnam, Iceland, Chile, Greece, Nepal",
    "food": (
        "lentils, red cabbage, leftover rice, a can of chickpeas, rhubarb, oats, two ripe bananas, pumpkin, beetroot, "
        "stale bread, a handful of mushrooms, barley"
    ),
    "number": "three, four, five, six, seven",
}
SENTENCES = {
    "question": (
        "Why should anybody care about {topic}?",
        "How long does it usually take to get used to {place}?",
        "What does the {animal} eat, and where does it sleep?",
        "Which city is the capital of {country}?",
        "Is it safe to leave {thing} outside in the frost?",
        "What should I know about the weather before I travel to {country}?",
        "Who would need {thing} every day?",
        "Can the {animal} be seen in {country}?",
        "What's the difference between {topic} and {topic}?",
        "When is the best season to visit {country} with children?",
    ),
    "instruction": (
        "I need to {task}. Walk me through it.",
        "Draft a short message to {person} about {event}.",
        "Plan {event} for eight people on a small budget.",
        "Write two sentences that make {place} sound inviting.",
        "Help me {task} in under an hour.",
        "Write a polite note asking {person} to return {thing}.",
        "Make up a slogan for a shop that sells {food}.",
        "Suggest a simple supper with {food}, please.",
        "Write a short poem in which the {animal} feels {feeling}.",
        "Compose a diary entry from {place}, {feeling} and tired.",
    ),
    "rewriting": (
        "Correct the grammar: {sentence}.",
        'Make this friendlier: "{statement}."',
        "Rewrite so that a child understands it: {statement}.",
        'Turn this into a question: "{statement}."',
        "Please say this more formally. {statement}.",
        "Fix the mistakes in this line, change nothing else: {sentence}",
        'Shorten to five words or fewer: "{statement}."',
        "Put this sentence into the past tense: {statement}.",
        "Repeat the following in the voice of a pirate: {statement}.",
        'What would be a better way to put "{sentence}"?',
    ),
    "list": (
        "List {number} things to check before buying {thing}.",
        "Give me {number} names for a pet {animal}.",
        "{number} ideas for {event}, as bullet points",
        "Name {number} dishes that start from {food}.",
        "What are {number} good reasons to visit {country}?",
        "I want {number} short titles for a story set in {place}.",
        "Write down {number} questions for {person} about {topic}.",
        "Name {number} jobs that have something to do with {topic}.",
        "A packing list for {place}, at most {number} items.",
        "Tell me {number} facts about the {animal}.",
    ),
    "explanation": (
        "Explain {topic} to {person}.",
        "Sum up {topic} for me, and keep it brief.",
        "How is {thing} made?",
        "My daughter asked me about {topic} and I had no answer. What do I tell her?",
        "In plain words, what is meant by {topic}?",
        "Describe how {person} could learn about {topic} at home.",
        "Explain why the {animal} behaves differently in winter.",
        "What is the most common mistake when people try to {task}, and why?",
        "Compare {topic} with something from the kitchen.",
        "What happens to {food} in the freezer?",
    ),
    "code": (
        "Write a {language} function that {function}.",
        "Explain {concept} in {language} with one short example.",
        "I need something that {function}. How would I begin in {language}?",
        "What does {concept} do in {language}?",
        "I am new to {language}. When would I use {concept}?",
        "Give me a one-line {language} program that prints the word {animal}.",
        "Is there a shorter way in {language} to write code that {function}?",
        "Name a typical error with {concept} in {language}.",
        "Write a test for a {language} function that {function}.",
        "Sketch in comments how a {language} script {function}.",
    ),
    "small talk": (
        "Hi! I feel a bit {feeling} today.",
        "Good morning! I slept badly in {place}. How are you?",
        "I just came back from {place}. Ask me something about it!",
        "hey, i bought {thing} today and i love it",
        "Do you ever get {feeling}?",
        "I am {feeling} about {event} tomorrow.",
        "It has been raining since breakfast and {person} is {feeling}.",
        "Tell me something nice about the {animal}.",
        "Guess what: {person} gave me {thing}!",
        "Thanks, that helped. What shall we talk about now, {topic} or {food}?",
    ),
    "opinion": (
        "What do you prefer: {choice}?",
        "Are {custom} a good idea?",
        "Argue for {custom} in two sentences.",
        "Some people dislike {custom}. What is their strongest argument?",
        "Would you recommend {country} to {person}?",
        "{choice}: which one suits {person} better?",
        "Is {thing} a good present for {person}?",
        "Do you think that {topic} should be taught at school?",
        "What is overrated about {place}?",
        "Should {person} be told when somebody is {feeling}?",
    ),
}


def choices(slot: str) -> list[str]:
    """The fillings of a slot; sentences are separated by semicolons, words by commas."""
    return [word.strip() for word in WORDS[slot].split(";" if slot in ("sentence", "statement") else ",")]


def filled(sentence: str, generator: random.Random) -> str:
    """The sentence with each slot filled; no filling occurs twice in it."""
    used: set[str] = set()
    parts = []
    for text, slot, _, _ in string.Formatter().parse(sentence):
        parts.append(text)
        if slot:
            word = generator.choice([word for word in choices(slot) if word not in used])
            used.add(word)
            parts.append(word)
    made = "".join(parts)
    return made if made.startswith("hey") else made[0].upper() + made[1:]


def prompts() -> dict[str, list[str]]:
    """Kind -> PER_KIND different prompts, the same number from each sentence."""
    generator = random.Random(SEED)
    seen: set[str] = set()
    made: dict[str, list[str]] = {}
    for kind, sentences in SENTENCES.items():
        found: list[str] = []
        for sentence in sentences:
            most = len(found) + PER_KIND // len(sentences)
            for _ in range(200):
                text = filled(sentence, generator)
                if len(found) < most and text_key(text) not in seen:
                    seen.add(text_key(text))
                    found.append(text)
        made[kind] = found
    return made


def require_apart(files: list[Path], ours: set[str]) -> None:
    """Exit if a text in ``files`` is one of our prompts."""
    for path in files:
        theirs = {text_key(value) for row in json.loads(path.read_text()) for value in row.values()}
        if shared := theirs & ours:
            sys.exit(f"{path} holds {len(shared)} of the prompts: {sorted(shared)[:3]}")


def known_answers() -> dict[str, dict[str, object]]:
    """Prompt -> its row, from the files as they are and from an interrupted run."""
    files = [path for path in (*TARGET.glob("*.jsonl"), ANSWERS) if path.exists()]
    rows = [json.loads(line) for path in files for line in path.read_text(encoding="utf-8").splitlines()]
    return {row["prompt"]: row for row in rows}


def answer(model_directory: Path, texts: list[str], answers: dict[str, dict[str, object]]) -> None:
    """Add the greedy answers that are missing to ``answers``, and to ANSWERS batch by batch."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from rora_cli.evaluation.generation import generate

    tokenizer = AutoTokenizer.from_pretrained(model_directory, local_files_only=True)
    model = AutoModelForCausalLM.from_pretrained(model_directory, dtype=torch.float32, local_files_only=True).eval()
    ids = {
        text: tokenizer.apply_chat_template(
            [{"role": "user", "content": text}], add_generation_prompt=True, return_dict=False
        )
        for text in texts
        if text not in answers
    }
    missing = sorted(ids, key=lambda text: len(ids[text]))
    ANSWERS.parent.mkdir(exist_ok=True)
    for start in range(0, len(missing), 16):
        batch = missing[start : start + 16]
        with ANSWERS.open("a", encoding="utf-8") as file:
            for text, tokens in zip(batch, generate(model, [ids[t] for t in batch], ANSWER_TOKENS), strict=True):
                reason = "length" if len(tokens) == ANSWER_TOKENS else "stop"
                answers[text] = {"prompt": text, "completion": tokenizer.decode(tokens), "finish_reason": reason}
                file.write(json.dumps(answers[text]) + "\n")
        print(f"{start + len(batch)} of {len(missing)}", flush=True)


def main() -> None:
    """Make the prompts, have them answered, and write both files."""
    parser = argparse.ArgumentParser()
    parser.add_argument("model", type=Path)
    parser.add_argument("--apart-from", type=Path, nargs="*", default=[])
    parser.add_argument("--answered-only", action="store_true")
    options = parser.parse_args()
    by_kind = prompts()
    require_apart(options.apart_from, {text_key(text) for texts in by_kind.values() for text in texts})
    answers = known_answers()
    if not options.answered_only:
        answer(options.model, [text for texts in by_kind.values() for text in texts], answers)
    splits: dict[str, list[tuple[str, dict[str, object]]]] = {"train": [], "validation": []}
    for kind, texts in by_kind.items():
        answered = [text for text in texts if text in answers]
        ordered = sorted((hashlib.sha256(text_key(text).encode()).hexdigest(), text) for text in answered)
        for place, (digest, text) in enumerate(ordered):
            split = "validation" if place < HELD_OUT_PER_KIND else "train"
            splits[split].append((digest, {**answers[text], "kind": kind}))
    TARGET.mkdir(exist_ok=True)
    for split, rows in splits.items():
        lines = (json.dumps(row, ensure_ascii=False) + "\n" for _, row in sorted(rows, key=lambda item: item[0]))
        (TARGET / f"{split}.jsonl").write_text("".join(lines), encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main()
