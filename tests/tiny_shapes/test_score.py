from random import Random

from omnirt_lab.tiny_shapes.scenes import Triple, draw_scene, held_out_triples, sample_scene
from omnirt_lab.tiny_shapes.score import contact_sheet, held_out_tasks, summarise, table
from omnirt_lab.tiny_shapes.verifier import Verdict

RIGHT = Verdict(background=True, colour=True, shape=True)
WRONG_SHAPE = Verdict(background=True, colour=True, shape=False)


def score(verdicts):
    tasks = held_out_tasks(len(verdicts), seed=1)
    return summarise(tasks, verdicts, seed=1, steps=20, guidance=4.0, scheduler="ddim", seconds_per_picture=0.1)


def test_a_score_asks_for_held_out_triples_only_and_says_their_colour():
    tasks = held_out_tasks(100, seed=3)

    assert {task.triple for task in tasks} <= set(held_out_triples())
    assert all(task.triple.colour in task.caption for task in tasks)
    assert len({task.seed for task in tasks}) == 100


def test_the_same_seed_asks_for_the_same_pictures():
    assert held_out_tasks(20, seed=3) == held_out_tasks(20, seed=3)
    assert held_out_tasks(20, seed=3) != held_out_tasks(20, seed=4)


def test_a_picture_with_a_wrong_shape_is_not_all_right():
    result = score([RIGHT, RIGHT, RIGHT, WRONG_SHAPE])

    assert (result.colour, result.shape, result.all) == (100.0, 75.0, 75.0)
    assert result.wrong == [held_out_tasks(4, seed=1)[3].caption]


def test_the_table_has_one_row_under_its_head():
    head, rule, row = table(score([RIGHT, WRONG_SHAPE])).splitlines()

    assert head.count("|") == rule.count("|") == row.count("|")
    assert row == "| 2 | 1 | ddim | 20 | 4 | 100.0 % | 100.0 % | 50.0 % | 50.0 % | 50.0 % |"


def test_the_contact_sheet_frames_what_is_wrong_in_red():
    triple = Triple(shape="star", colour="black", background="white")
    picture = draw_scene(sample_scene(triple, Random(1)))

    sheet = contact_sheet([picture, picture, picture], [RIGHT, WRONG_SHAPE, RIGHT], columns=2)

    assert sheet.size == (144, 144)
    assert [sheet.getpixel(corner) for corner in [(2, 2), (74, 2), (2, 74)]] == [
        (255, 255, 255),
        (214, 40, 40),
        (255, 255, 255),
    ]
