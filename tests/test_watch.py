"""`metarl watch`: which variant is played, what the film shows, and what is refused."""

import importlib.util
import re
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from agents_reference import Walk
from PIL import Image
from small import at, metarl, refused, small

from metarl.agents.rng import stream
from metarl.cli import watch as watching
from metarl.cli.arguments import Watch
from metarl.cli.watch import choose_task, save
from metarl.config.settings import RunConfig
from metarl.envs import UsageError, make_family, sample_tasks, task_values
from metarl.envs.classic_control.cartpole import CartPole
from metarl.experiment.checkpoint import save_checkpoint
from metarl.experiment.run import start
from metarl.plotting import episodes as pictures
from metarl.plotting.episodes import Film, side_by_side

USAGE = 2
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Folder of a run with a checkpoint; untrained, which is as good here."""
    folder = tmp_path_factory.mktemp("runs") / "one"
    job = start(folder, small("point-navigation"), RunConfig(eval_steps=1))
    save_checkpoint(folder / "checkpoints", "point-navigation", at(job.state, 1))
    return folder


def values(run, **more):
    task = choose_task(Watch(run, **more), make_family("point-navigation"), CPU)
    return task_values(task)[0]


def test_the_task_is_that_of_the_evaluation_with_this_number(run):
    family = make_family("point-navigation")
    for split, seed, tasks in (("test", 0, 40), ("train", 3, 5)):
        gen = stream(seed, f"evaluate {split} tasks")
        all_tasks = task_values(sample_tasks(family, tasks, gen, split))
        assert values(run, split=split, seed=seed, tasks=tasks, task=4) == all_tasks[4]


def test_parameters_that_are_not_named_are_those_of_the_task(run):
    drawn = values(run, task=7)
    got = values(run, task=7, variant=("goal_x=0.25",))
    assert got == {**drawn, "goal_x": 0.25} != drawn


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        ("--task 40", ("--task 40", "in [0, 39]", "--tasks")),
        ("--variant goal_z=1", ("goal_z", "goal_x in [")),
        ("--variant goal_x=9", ("goal_x=9 is out of bounds", "give a value in [")),
        ("--variant goal_x=far", ("--variant goal_x=far", "give a number in [")),
        ("--variant goal_x", ("--variant goal_x", "NAME=VALUE")),
        ("--variant goal_x=0 --variant goal_x=0", ("goal_x is given twice",)),
        ("--out film.avi", ("--out film.avi", "unknown ending", ".gif or .mp4")),
        ("--out gone/film.gif", ("--out gone/film.gif", "no folder gone")),
        ("--split elsewhere", ("elsewhere",)),
        ("--episodes 1", ("--episodes 1", "in [2, 100000]")),
    ],
)
def test_a_mistake_says_what_to_give(run, words, parts):
    before = set(run.iterdir())
    assert refused("watch", run, words, code=USAGE, parts=parts) == ""
    assert set(run.iterdir()) == before


def test_what_is_no_run_or_has_no_checkpoint_is_named(tmp_path):
    start(tmp_path / "new", small("point-navigation"), RunConfig())
    refused("watch", tmp_path, code=USAGE, parts=("no config.json in",))
    parts = ("no checkpoint in", "metarl train")
    refused("watch", tmp_path / "new", code=USAGE, parts=parts)


def test_a_family_without_pictures_says_so(run, monkeypatch):
    monkeypatch.setattr(watching, "can_be_filmed", lambda family: False)
    parts = ("point-navigation can't be rendered", "metarl evaluate")
    refused("watch", run, code=USAGE, parts=parts)


def test_the_film_is_written_and_the_variant_printed(run):
    words = ("watch", run, "--variant goal_x=0.25 --variant goal_y=-0.5 --steps 2")
    code, out, err = metarl(*words)
    assert (code, err) == (0, "")
    assert "point-navigation: goal_x=0.25, goal_y=-0.5" in out
    assert re.search(r"before: return -\d+\.\d\d in 100 steps", out)
    assert re.search(r"after 2 inner steps: return -\d+\.\d\d in 100 steps", out)
    assert f"Film: {run / 'watch.gif'}" in out
    with Image.open(run / "watch.gif") as film:
        assert 50 <= film.n_frames <= pictures.MAX_FRAMES + 1


def test_a_film_is_as_long_as_its_episode_and_ends_in_the_return():
    cfg, family = small("cartpole"), CartPole(width=1e3)  # pays 1 wherever the cart is
    from metarl.training.meta_train import new_agent

    task = sample_tasks(family, 1, torch.Generator().manual_seed(0))
    shown = pictures.film(new_agent(cfg, family), family, task, 0)
    assert 1 < len(shown.frames) == len(shown.returns) < family.horizon
    assert shown.returns[0] == 0.0
    assert shown.returns[-1] == len(shown.frames) - 1


def plain(shades, returns):
    return Film([np.full((30, 40, 3), s, np.uint8) for s in shades], returns)


def test_the_shorter_episode_stays_at_its_end(monkeypatch):
    titles, variants = [], set()
    real = pictures._sheet

    def sheet(shown, text, variant):
        titles.append(text)
        variants.add(variant)
        return real(shown, text, variant)

    monkeypatch.setattr(pictures, "_sheet", sheet)
    short, long = plain([10, 20], [0.0, 1.5]), plain([1, 2, 3, 4], [0.0, 0.0, -2.0, -3.0])
    frames = side_by_side([short, long], ("before", "after"), "ferry: current=0.1")
    assert len(frames) == 4
    assert variants == {"ferry: current=0.1"}
    assert titles[0] == ["before\nstep 0, return 0.0", "after\nstep 0, return 0.0"]
    assert titles[2] == ["before\nended at step 1, return 1.5", "after\nstep 2, return -2.0"]
    pale = 20 // 2 + 128
    assert [(f[-5, 5, 0], f[-5, -5, 0]) for f in frames] == [
        *((10, 1), (20, 2), (pale, 3), (pale, 4))
    ]


def test_a_film_names_the_hidden_parameters():
    """However many there are: each line of them has its place above the pictures."""
    film = plain([10, 20], [0.0, 1.5])
    few, none, many = (
        side_by_side([film, film], ("before", "after"), variant)[0]
        for variant in ("ferry: current=0.1", "", "ferry: " + "current=0.1, " * 20)
    )
    assert len(none) < len(few) < len(many)
    assert (few[: len(few) - len(none)] < 128).any()


def test_a_long_film_skips_steps_but_not_its_end():
    length = 2 * pictures.MAX_FRAMES + 50
    film = plain([i % 250 for i in range(length)], [0.0] * length)
    frames = side_by_side([film, film], ("", ""), "")
    assert len(frames) <= pictures.MAX_FRAMES + 1
    assert frames[-1][-1, -1, 0] == (length - 1) % 250


FRAMES = [np.full((41, 63, 3), s, np.uint8) for s in (0, 120, 255)]


def test_without_ffmpeg_a_film_is_a_gif(tmp_path, monkeypatch):
    monkeypatch.setattr(watching, "_has_ffmpeg", lambda: False)
    assert save(FRAMES, tmp_path / "a.mp4") == tmp_path / "a.gif"
    assert [p.name for p in tmp_path.iterdir()] == ["a.gif"]


def test_that_a_gif_is_written_instead_is_said(run, tmp_path, monkeypatch):
    monkeypatch.setattr(watching, "_has_ffmpeg", lambda: False)
    out = metarl("watch", run, "--steps 0 --out", tmp_path / "a.mp4")[1]
    assert f"{tmp_path / 'a.mp4'} needs ffmpeg" in out
    assert "a GIF instead" in out
    assert f"Film: {tmp_path / 'a.gif'}" in out


def test_with_ffmpeg_a_film_is_an_mp4(tmp_path):
    reader = pytest.importorskip("imageio_ffmpeg")
    assert save(FRAMES, tmp_path / "a.mp4") == tmp_path / "a.mp4"
    about, *frames = reader.read_frames(str(tmp_path / "a.mp4"))
    assert about["size"] == (62, 40)
    shades = [round(frame[0] / 120) for frame in frames]
    assert shades[:3] == [0, 1, 2]
    assert set(shades[2:]) == {2}  # the end stays
    assert (len(shades) - 3) * watching.MILLISECONDS >= 1000


needs_pygame = pytest.mark.skipif(
    importlib.util.find_spec("pygame") is None, reason="needs the extra human"
)


@needs_pygame
def test_a_window_shows_the_film_until_it_is_closed(monkeypatch):
    import pygame

    from metarl.plotting.viewer import play

    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    waits, events = [], [[], [], [], [SimpleNamespace(type=pygame.QUIT)]]
    monkeypatch.setattr(pygame.time, "wait", waits.append)
    monkeypatch.setattr(pygame.event, "get", lambda: events.pop(0))
    play(FRAMES, "a film", 7)
    assert waits == [7] * 4  # once more from the start
    assert not events


@needs_pygame
def test_without_a_screen_a_window_is_refused(monkeypatch):
    from metarl.plotting.viewer import play

    monkeypatch.setenv("SDL_VIDEODRIVER", "none-such")
    with pytest.raises(UsageError, match="leave it out to write a file"):
        play(FRAMES, "a film", 7)


def test_what_a_user_made_without_a_frame_cannot_be_filmed():
    assert not watching.can_be_filmed(Walk())
