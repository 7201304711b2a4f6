"""Show frames in a window."""

from __future__ import annotations

import itertools

from metarl.envs import UsageError
from metarl.plotting.episodes import Picture


def play(frames: list[Picture], title: str, milliseconds: int) -> None:
    """Show the frames in a loop until the window is closed or Escape or Q is pressed.

    Raises:
        UsageError: pygame isn't installed, or there is no display.
    """
    try:
        import pygame
    except ImportError as error:
        raise UsageError(
            "--window needs pygame: pip install -c constraints.txt -e '.[human]', or leave it out "
            "to write a file."
        ) from error
    height, width = frames[0].shape[:2]
    try:
        pygame.display.init()
        screen = pygame.display.set_mode((width, height))
    except pygame.error as error:
        raise UsageError(f"--window: {error}: leave it out to write a file.") from error
    pygame.display.set_caption(title)
    for frame in itertools.cycle(frames):
        screen.blit(pygame.surfarray.make_surface(frame.swapaxes(0, 1)), (0, 0))
        pygame.display.flip()
        pygame.time.wait(milliseconds)
        if any(_closes(event) for event in pygame.event.get()):
            break
    pygame.display.quit()


def _closes(event: object) -> bool:
    import pygame

    keys = (pygame.K_ESCAPE, pygame.K_q)
    kind = getattr(event, "type", None)
    return kind == pygame.QUIT or (kind == pygame.KEYDOWN and getattr(event, "key", None) in keys)
