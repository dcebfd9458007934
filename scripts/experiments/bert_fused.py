"""BERT-fused translation (arXiv:2002.06823), small: instructions from few pairs, with a language model's help.

Instructions to a robot, by a template grammar (envs/perception/language/grammar.py): 12 verbs, 8 colors, 8 shapes, 10
directions and relations, in German, French and a made-up language. A masked language model of two layers reads 20,000
sentences of these languages, in which words keep the company that is usual, and is frozen; it sees no English. A
translator into English learns from 300 pairs, and is tested on 1,000 meanings that are in neither. Arms: a plain
Transformer that learns until it gets no better on a tenth of the pairs, held back from all arms; the same taught on,
from its own weights, for 1,200 minibatches; and three that go on from the same weights as long with attention to a
language model: the one that learned, with drop-net; the same without drop-net; one of random weights, with drop-net.

In the loop: 100 instructions for FetchReach with sixteen landmarks, none of them among the pairs. Each is translated,
read, and becomes a goal; a scripted policy then reaches for it. The goal is right within 2 cm of the true one.

Claims, of sentences that are exactly right, in points: fused minus plain, and minus plain taught on for as long;
trained minus random language model; drop-net minus none; and goals right, fused minus plain taught on. The bars are our
own choices, set before any run; the paper's gain is 1.9 BLEU on IWSLT'14 English to German, of another size and kind.

First trials, one seed and 300 sentences, changed no bar, but what is learned from. With vocabularies that cut common
words in pieces and a language model that read each instruction twice, in other words, 18 % were exact with the model,
18 with a random one and 12 of the plain translator after 400 minibatches of 32; with whole words 39, 36 and 25 after
800 of 16, and 39 of the plain one after twice as many. There the model had not learned to compare two sentences: the
nearest word was one of the same meaning for 5 % of German words. Now words keep usual company, in single sentences. In
the first full run plain translators learned for 1,200 minibatches before they were gone on from: as many again gave
them 16 to 20 points more, all of fused's gain. Now they are gone on from when they get no better, as the paper asks.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

import envs
from envs.perception.language.fused import FusedConfig, FusedTransformer
from envs.perception.language.goal_parser import WITHOUT_POINT, aims
from envs.perception.language.grammar import LANGUAGES, THINGS, Meaning, draw_monolingual, draw_pairs
from envs.perception.language.instructions import InstructionConfig, InstructionGoalWrapper
from envs.perception.language.lexicons import VERBS
from envs.perception.language.masked_language_model import (
    LanguageModel,
    MaskedLanguageModel,
    MaskedLanguageModelConfig,
    MaskedLoss,
    text_examples,
)
from envs.perception.language.pairs import Pair
from envs.perception.language.tokens import WordPieces, learn_pieces
from envs.perception.language.transformer import Transformer, TransformerConfig
from envs.perception.language.translator import TranslationLoss, Translator, examples, recipe
from envs.perception.language.weights import load_language_model, save_language_model
from rlsuite.errors import require, require_choice
from rlsuite.experiment import Claim, Result
from rlsuite.experiment.jobs import Jobs
from rlsuite.fit import FitConfig, fit
from rlsuite.metrics.translation import bleu, exact_matches
from rlsuite.optim.choice import OptimizerConfig, ScheduleConfig
from rlsuite.running.seeding import derive_seed

ARMS = ("plain", "plain-on", "fused", "fused-always-both", "fused-random")
HELD_BACK = 0.1  # of the pairs: when a plain translator has learned enough
LANDMARKS, REACHING_STEPS, RIGHT_M, REACHED_M = 16, 15, 0.02, 0.05
LONGEST, MODEL_PIECES, PIECES = 64, 1200, 600
TEST_SEED = 2002  # of the held-out meanings, the same for all seeds


@dataclass(frozen=True, kw_only=True)
class Numbers:
    """The experiment's numbers.

    Attributes:
        seeds: how many: 0, 1, ...; of pairs, translators and instructions. The language model is one, as in the paper.
        languages: of the instructions, as often as each other.
        text: sentences that the language model reads.
        pairs: that translators learn from, of all languages together.
        held_out: pairs that they are tested on.
        model_steps: minibatches of 64 that the language model learns from.
        plain_steps: minibatches of 16 that a plain translator learns from at most.
        patience: measurements on pairs held back, one every 100 of these, that may be no better than the best in a row.
        steps: minibatches of 16 of the second stage, whatever it is.
        width: of translators, with two layers of 4 heads in encoder and decoder.
        model_width: of the language model, with two layers of 4 heads.
        instructions: in the loop.
        fused_bar: points of sentences exactly right, fused minus plain (and minus plain taught on), mean, at least.
        model_bar: the same, trained language model minus random, at least.
        drop_net_bar: the same, drop-net minus always both, at least.
        goal_bar: points of goals right, fused minus plain taught on, at least.
    """

    seeds: int = 3
    languages: tuple[str, ...] = ("de", "fr", "xx")
    text: int = 20000
    pairs: int = 300
    held_out: int = 1000
    model_steps: int = 2000
    plain_steps: int = 4800
    patience: int = 10
    steps: int = 1200
    width: int = 64
    model_width: int = 64
    instructions: int = 100
    fused_bar: float = 8.0
    model_bar: float = 5.0
    drop_net_bar: float = -1.0
    goal_bar: float = 8.0

    def __post_init__(self) -> None:
        sizes = ("text", "pairs", "held_out", "width", "model_width", "instructions")
        for name in ("seeds", *sizes, "model_steps", "plain_steps", "patience", "steps"):
            require(getattr(self, name) >= 1, f"{name}={getattr(self, name)}: use 1 or more")
        require(bool(self.languages), "languages=[]: name one or more, such as languages=[de]")
        for language in self.languages:
            require_choice("languages", language, LANGUAGES)


DEBUG = Numbers(
    seeds=1,
    text=60,
    pairs=24,
    held_out=6,
    model_steps=2,
    plain_steps=2,
    steps=2,
    width=16,
    model_width=16,
    instructions=3,
)


def run(numbers: Numbers, jobs: Jobs) -> Result:
    """Teach the language model, then translators, and test the claims."""
    seeds = tuple(range(numbers.seeds))
    shared = {"languages": numbers.languages, "held_out": numbers.held_out}
    (model,) = jobs.grid(
        learn_languages,
        arms=("model",),
        seeds=(0,),
        **shared,
        text=numbers.text,
        steps=numbers.model_steps,
        width=numbers.model_width,
    )["model"]
    found = jobs.grid(
        learn_and_reach,
        arms=("translators",),
        seeds=seeds,
        **shared,
        model=model["file"],
        pairs=numbers.pairs,
        plain_steps=numbers.plain_steps,
        patience=numbers.patience,
        steps=numbers.steps,
        width=numbers.width,
        instructions=numbers.instructions,
    )["translators"]
    for name in ARMS:
        shown = ", ".join(f"{one[name]['exact']:.1f} % / {one[name]['bleu']:.1f}" for one in found)
        print(f"{name:18} exact / BLEU: {shown}", flush=True)
    for name in ("told", "plain", "plain-on", "fused"):
        shown = ", ".join(
            f"{one['loop'][name]['right']:.0f} / {one['loop'][name]['reached']:.0f} / {one['loop'][name]['parsed']:.0f}"
            for one in found
        )
        print(f"{name:18} goals right / reached / parsed in %: {shown}", flush=True)
    return Result(
        seeds=seeds,
        claims=claims(found, numbers),
        figures={"translators": list(found), "language_model": {"losses": model["losses"]}},
        full_scale="IWSLT'14 with a BERT of bert_folder.load_bert on a GPU; docs/methods/bert_fused.md says how",
    )


def claims(found: Sequence[dict[str, Any]], numbers: Numbers) -> tuple[Claim, ...]:
    """Return the claims for what was found, by seed."""

    def more(arm: str, than: str) -> tuple[float, ...]:
        return tuple(one[arm]["exact"] - one[than]["exact"] for one in found)

    exact = "points of sentences exactly right"
    return (
        Claim(statement=f"{exact}, fused minus plain", margin=numbers.fused_bar, figures=more("fused", "plain")),
        Claim(
            statement=f"{exact}, fused minus plain taught on for as long",
            margin=numbers.fused_bar,
            figures=more("fused", "plain-on"),
        ),
        Claim(
            statement=f"{exact}, trained minus random language model",
            margin=numbers.model_bar,
            figures=more("fused", "fused-random"),
        ),
        Claim(
            statement=f"{exact}, drop-net minus always both",
            margin=numbers.drop_net_bar,
            figures=more("fused", "fused-always-both"),
        ),
        Claim(
            statement="points of goals within 2 cm, fused minus plain taught on for as long",
            margin=numbers.goal_bar,
            figures=tuple(one["loop"]["fused"]["right"] - one["loop"]["plain-on"]["right"] for one in found),
        ),
    )


def held_out_pairs(languages: Sequence[str], count: int) -> list[tuple[Meaning, Pair]]:
    """Return what is tested on, and kept from the language model."""
    return draw_pairs(count, TEST_SEED, languages)


def learn_languages(
    arm: str, seed: int, folder: Path, *, languages: tuple[str, ...], held_out: int, text: int, steps: int, width: int
) -> dict[str, Any]:
    """Teach a masked language model; return its file and its losses by record."""
    torch.set_num_threads(1)
    unseen = frozenset(meaning for meaning, _ in held_out_pairs(languages, held_out))
    read = draw_monolingual(text, derive_seed(seed, "text"), languages, without=unseen)
    pieces = learn_pieces(read, MODEL_PIECES)
    sizes = MaskedLanguageModelConfig(width=width, hidden=2 * width, dropout=0.0, longest=96)
    network = MaskedLanguageModel(len(pieces), sizes, derive_seed(seed, "model"))
    config = FitConfig(
        steps=steps,
        batch_size=64,
        optimizer=OptimizerConfig(learning_rate=2e-3),
        schedule=ScheduleConfig(kind="linear", warmup=100),
        clip_norm=1.0,
    )
    history = fit(network, MaskedLoss(pieces), text_examples(pieces, read), config, seed=derive_seed(seed, "fit"))
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "language_model.safetensors"
    save_language_model(file, LanguageModel(network, pieces))
    return {"file": str(file.resolve()), "losses": [record["loss"] for record in history.records]}


def learn_and_reach(
    arm: str,
    seed: int,
    folder: Path,
    *,
    languages: tuple[str, ...],
    held_out: int,
    model: str,
    pairs: int,
    plain_steps: int,
    patience: int,
    steps: int,
    width: int,
    instructions: int,
) -> dict[str, Any]:
    """Teach every arm; return arm -> scores in %, "loop" -> what came of instructions, and "plain minibatches"."""
    torch.set_num_threads(1)
    test = held_out_pairs(languages, held_out)
    train = draw_pairs(pairs, derive_seed(seed, "pairs"), languages, without=frozenset(meaning for meaning, _ in test))
    taught = [pair for _, pair in train]
    pieces = learn_pieces([sentence for pair in taught for sentence in (pair.source, pair.target)], PIECES)
    trained = load_language_model(model)
    random = LanguageModel(
        MaskedLanguageModel(len(trained.pieces), trained.network.config, derive_seed(seed, "random")), trained.pieces
    )
    second = replace(recipe(steps, batch_size=16, learning_rate=2e-3, warmup=100), held_out=HELD_BACK)
    stages = replace(second, steps=plain_steps, patience=patience), second
    translators, learned = taught_translators(taught, pieces, trained, random, stages, width, seed)
    sources, targets = [pair.source for _, pair in test], [pair.target for _, pair in test]
    found: dict[str, Any] = {"plain minibatches": learned}
    for name, translator in translators.items():
        said = translator.translate(sources)
        exact = 100.0 * float(exact_matches(said, targets).float().mean())
        found[name] = {"exact": exact, "bleu": bleu(said, targets)}
    seen = frozenset(meaning for meaning, _ in train)
    chosen = {"told": None, **{name: translators[name] for name in ("plain", "plain-on", "fused")}}
    found["loop"] = reach(chosen, languages, instructions, seen, derive_seed(seed, "loop"))
    return found


def taught_translators(
    taught: Sequence[Pair],
    pieces: WordPieces,
    trained: LanguageModel,
    random: LanguageModel,
    stages: tuple[FitConfig, FitConfig],
    width: int,
    seed: int,
) -> tuple[dict[str, Translator], int]:
    """Return a translator for each arm, and the minibatches that the plain one took.

    All go on from the plain one's weights, with an optimizer of their own. Stages share the seed by which `fit` holds
    pairs back, so that none learns from what says when the first is to end.
    """
    sizes = TransformerConfig(width=width, hidden=2 * width, heads=4, layers=2, dropout=0.1, longest=LONGEST)
    first, second = stages
    order = derive_seed(seed, "learning")
    loss = TranslationLoss(pieces.pad)

    plain = Transformer(len(pieces), pieces.pad, sizes, derive_seed(seed, "weights"))
    alone = examples(taught, pieces, None, LONGEST)
    learned = fit(plain, loss, alone, first, seed=order).steps
    further = copy.deepcopy(plain)
    fit(further, loss, alone, second, seed=order)
    found = {"plain": Translator(plain, pieces), "plain-on": Translator(further, pieces)}
    arms = {"fused": (trained, 1.0), "fused-always-both": (trained, 0.0), "fused-random": (random, 1.0)}
    for name, (model, drop_net) in arms.items():
        fused = FusedTransformer(
            len(pieces),
            pieces.pad,
            model.width,
            FusedConfig(network=sizes, drop_net=drop_net),
            derive_seed(seed, "attention"),
        )
        fused.warm_start(plain.state_dict())
        read = examples(taught, pieces, model, LONGEST)
        fit(fused, loss, read, second, seed=order)
        found[name] = Translator(fused, pieces, model)
    return found, learned


def reach(
    translators: dict[str, Translator | None],
    languages: Sequence[str],
    count: int,
    without: frozenset[Meaning],
    seed: int,
) -> dict[str, dict[str, float]]:
    """Tell FetchReach what to do; return translator -> % of goals right, of true goals reached, of sentences parsed.

    A translator that is None is told in canonical English: it shows what the scripted policy reaches.
    """
    order = torch.randperm(len(THINGS), generator=torch.Generator().manual_seed(seed))[:LANDMARKS]
    things = [THINGS[place] for place in order.tolist()]
    asked = draw_pairs(
        count,
        seed,
        languages,
        without=without,
        verbs=[verb for verb in VERBS if verb not in WITHOUT_POINT],
        things=things,
    )
    config = InstructionConfig(landmarks=tuple(f"{thing.color} {thing.shape}" for thing in things), seed=seed)
    found = {}
    for name, translator in translators.items():
        flat = envs.make_vector("FetchReach", count, num_threads=1, flat=True, max_episode_steps=REACHING_STEPS + 1)
        env, goals = InstructionGoalWrapper(flat, translator, config), flat.goals
        assert goals is not None
        said = [pair.source if translator else pair.target for _, pair in asked]
        observation, info = env.reset(seed=seed, options={"instruction": said})
        true = aims([meaning for meaning, _ in asked], env.things).points(env.places())
        parsed = info["instruction/parsed"]
        right = parsed & ((goals.split(observation)[1] - true).norm(dim=1) < RIGHT_M)
        for _ in range(REACHING_STEPS):
            _, desired, achieved = goals.split(observation)
            action = torch.cat([(desired - achieved) / 0.05, torch.zeros(count, 1)], dim=1).clamp(-1.0, 1.0)
            observation, *_ = env.step(action)
        reached = parsed & ((goals.achieved(observation) - true).norm(dim=1) < REACHED_M)
        env.close()
        shares = {"right": right, "reached": reached, "parsed": parsed}
        found[name] = {key: 100.0 * float(value.float().mean()) for key, value in shares.items()}
    return found
