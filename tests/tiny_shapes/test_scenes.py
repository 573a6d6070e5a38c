from random import Random

import pytest

from omnirt_lab.tiny_shapes.captions import caption, known_words, plain_caption, with_article
from omnirt_lab.tiny_shapes.samples import random_scenes
from omnirt_lab.tiny_shapes.scenes import (
    PALETTE,
    SHAPES,
    SIZES,
    Scene,
    Triple,
    all_triples,
    default_background,
    draw_scene,
    held_out_triples,
    sample_scene,
    train_triples,
)


def test_a_shape_cannot_have_the_colour_of_its_background():
    triple = Triple(shape="star", colour="red", background="red")

    with pytest.raises(ValueError, match="a red star on its own colour cannot be seen"):
        Scene(triple=triple, size="small", radius=0.2, centre=(0.5, 0.5))


def test_every_triple_is_either_trained_on_or_held_out():
    assert len(all_triples()) == 8 * 8 * 7
    assert set(train_triples()) | set(held_out_triples()) == set(all_triples())
    assert set(train_triples()) & set(held_out_triples()) == set()
    assert 0.05 < len(held_out_triples()) / len(all_triples()) < 0.15


def test_training_never_draws_a_held_out_triple():
    drawn = {scene.triple for scene in random_scenes(5000, Random(1))}

    assert drawn <= set(train_triples())
    assert len(drawn) > 350


def test_every_shape_and_colour_is_both_trained_on_and_held_out():
    for triples in (train_triples(), held_out_triples()):
        assert {triple.shape for triple in triples} == set(SHAPES)
        assert {triple.colour for triple in triples} == set(PALETTE)
        assert {triple.background for triple in triples} == set(PALETTE)


def test_the_same_seed_draws_the_same_picture():
    triple = Triple(shape="heart", colour="red", background="white")

    pictures = [draw_scene(sample_scene(triple, Random(7))).tobytes() for _ in range(2)]

    assert pictures[0] == pictures[1]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("size", SIZES)
def test_no_shape_touches_the_border(shape, size):
    triple, rng = Triple(shape=shape, colour="black", background="white"), Random(3)
    scenes = [scene for scene in (sample_scene(triple, rng) for _ in range(40)) if scene.size == size]

    for scene in scenes:
        picture = draw_scene(scene)
        edges = [(0, 0, 64, 1), (0, 63, 64, 64), (0, 0, 1, 64), (63, 0, 64, 64)]
        assert all(picture.crop(edge).getextrema() == ((250, 250),) * 3 for edge in edges)


def test_the_plain_caption_reads_like_english():
    assert plain_caption(Triple(shape="circle", colour="red", background="blue")) == "a red circle on a blue background"
    assert plain_caption(Triple(shape="star", colour="orange", background="orange")).count("an orange") == 2
    assert with_article("orange ring") == "an orange ring"


def test_captions_of_one_scene_are_worded_in_many_ways():
    scene = sample_scene(Triple(shape="circle", colour="red", background="blue"), Random(1))

    captions = {caption(scene, Random(seed)) for seed in range(200)}

    assert len(captions) > 100
    assert "a red circle on a blue background" in {caption(scene, Random(seed)) for seed in range(2000)}


def test_a_caption_leaves_out_the_background_only_where_it_is_the_default():
    rng = Random(5)
    silent = 0
    for scene in random_scenes(2000, rng):
        words = caption(scene, rng).replace(",", "").split()
        if scene.triple.background not in words:
            assert scene.triple.background == default_background(scene.triple.colour)
            silent += 1
    assert silent > 100


def test_a_caption_always_says_small_and_large():
    rng = Random(5)
    for scene in random_scenes(1000, rng):
        words = set(caption(scene, rng).split())
        assert bool(words & {"small", "tiny", "little"}) == (scene.size == "small")
        assert bool(words & {"large", "big", "huge"}) == (scene.size == "large")


def test_the_known_words_include_every_name_of_the_vocabulary():
    assert {*SHAPES, *PALETTE, *SIZES} <= set(known_words())
