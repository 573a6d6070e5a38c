from random import Random

import pytest
from PIL import Image

from omnirt_lab.tiny_shapes.scenes import SHAPES, Triple, all_triples, draw_scene, sample_scene
from omnirt_lab.tiny_shapes.verifier import judge, read_picture


@pytest.fixture(scope="module")
def pictures():
    rng = Random(11)
    return [(triple, draw_scene(sample_scene(triple, rng))) for triple in all_triples()]


def test_the_verifier_reads_every_drawn_picture_right(pictures):
    wrong = [triple for triple, picture in pictures if not judge(picture, triple).is_right]

    assert wrong == []


def test_the_verifier_accepts_no_picture_under_another_caption(pictures):
    triples = [triple for triple, _ in pictures]
    shuffled = [*triples[1:], triples[0]]

    right = [judge(picture, other).is_right for (_, picture), other in zip(pictures, shuffled, strict=True)]

    assert sum(right) == 0


@pytest.mark.parametrize("part", ["shape", "colour", "background"])
def test_a_verdict_tells_which_part_is_wrong(part):
    asked = {"shape": "star", "colour": "red", "background": "white"}
    drawn = {**asked, part: {"shape": "moon", "colour": "green", "background": "black"}[part]}
    picture = draw_scene(sample_scene(Triple(**drawn), Random(2)))

    verdict = judge(picture, Triple(**asked))

    assert [name for name in asked if not getattr(verdict, name)] == [part]


def test_an_empty_picture_has_a_background_and_nothing_else():
    reading = read_picture(Image.new("RGB", (64, 64), (40, 90, 220)))

    assert (reading.background, reading.colour, reading.shape, reading.objects) == ("blue", None, None, 0)


def test_a_colour_far_from_the_palette_has_no_name():
    assert read_picture(Image.new("RGB", (64, 64), (130, 130, 130))).background is None


def test_two_shapes_are_not_one():
    triple = Triple(shape="circle", colour="red", background="white")
    scene = sample_scene(triple, Random(1))
    picture = draw_scene(scene)
    picture.paste(draw_scene(scene).resize((14, 14)), (0, 0))

    assert read_picture(picture).objects == 2
    assert not judge(picture, triple).shape


@pytest.mark.parametrize("shape", SHAPES)
def test_a_blurred_shape_is_still_read(shape):
    triple = Triple(shape=shape, colour="red", background="white")
    picture = draw_scene(sample_scene(triple, Random(4)))

    blurred = picture.resize((32, 32), Image.Resampling.BOX).resize((64, 64), Image.Resampling.BILINEAR)

    assert judge(blurred, triple).is_right


def test_a_blob_of_no_shape_has_no_name():
    picture = Image.new("RGB", (64, 64), (250, 250, 250))
    picture.paste((214, 40, 40), (10, 30, 54, 34))

    assert read_picture(picture).shape is None
