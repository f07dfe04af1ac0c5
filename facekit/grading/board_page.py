"""The leaderboard as one page that stands by itself; with the private part only on request."""

from collections.abc import Sequence
from pathlib import Path

from facekit.common.files import write_whole
from facekit.grading.board import CHOSEN, Board, Standing, Submission, standings
from facekit.grading.pages import page_of, range_of, table_of, text_of


def write(board: Board, out: Path, private: bool = False) -> list[str]:
    """Write the board as one page, and what was written.

    `private`: beside it another one that has the private part, too, which nobody else can read.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    write_whole(out, _page(board, False))
    if not private:
        return [str(out)]
    second = out.with_name(f"{out.stem}-private.html")
    write_whole(second, _page(board, True), private=True)
    return [str(out), str(second)]


def _page(board: Board, private: bool) -> bytes:
    body = [_about(board)]
    for task in board.tasks["public"]:
        public = standings(board, task, "public")
        if private:
            body += [f"<h2>{task}, private part</h2>", _private_table(board, task, public)]
        body += [f"<h2>{task}, public part</h2>", _public_table(board, public)]
    if board.refused:
        rows = [[text_of(cell) for cell in row] for row in board.refused]
        body += ["<h2>Not scored</h2>", table_of(["student", "file", "why"], rows)]
    return page_of("Leaderboard", "\n".join(body), "70rem").encode()


def _about(board: Board) -> str:
    kind = "pairs" if board.data.has_pairs else "test images"
    return (
        f"<p>The public part is {100 * board.share:g} % of the {kind}, the same for all. The "
        f"private part decides in the end, by the file that a student names in {CHOSEN}, else by "
        f"the best public one. Up to {board.daily} submissions a day (UTC) are scored for each "
        "task. By luck alone a place could be any of those in the second column.</p>"
    )


def _measure(board: Board) -> str:
    return "EER (less is better)" if board.data.has_pairs else "accuracy"


def _minute(row: Submission) -> str:
    return f"{row.time[:16].replace('T', ' ')} UTC"


def _cells(place: Standing) -> list[str]:
    low, high = place.mark.places
    cells = [place.mark.place, f"{low} to {high}", place.student, f"{place.mark.figure:.2%}"]
    return [text_of(cell) for cell in [*cells, range_of(place.mark)]]


def _public_table(board: Board, places: Sequence[Standing]) -> str:
    rows = [[*_cells(p), str(p.count), text_of(_minute(p.submission))] for p in places]
    header = ["place", "by luck", "student", _measure(board), "95 %"]
    return table_of([*header, "submissions", "handed in"], rows)


def _private_table(board: Board, task: str, public: Sequence[Standing]) -> str:
    before = {place.student: place.mark.place for place in public}
    rows = []
    for place in standings(board, task, "private"):
        row = place.submission
        cells = [f"{row.public:.2%}", before.get(place.student, ""), row.file]
        cells.append("chosen" if place.chosen else "best public")
        rows.append(_cells(place) + [text_of(cell) for cell in cells])
    header = ["place", "by luck", "student", _measure(board), "95 %"]
    return table_of([*header, "its public score", "place by the best", "file", "which"], rows)
