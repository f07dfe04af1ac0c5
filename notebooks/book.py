"""The course as a site: python notebooks/book.py [--out build/book].

Jupyter Book makes pages of the README, the lessons with their outputs as committed (nothing is
run) and the pages of docs/. The site begins at OUT/_build/html/index.html and needs no server.
A link to a file that has no page leads to the repository, once pyproject.toml says where that is.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import build
import nbformat
import yaml

LINK = re.compile(r"(?<!!)\[([^\[\]]*)\]\((?!https?:|mailto:|#)([^)#\s]+)(#[^)\s]*)?\)")
FURTHER = ("facekit/faces/MODEL_CARD.md", "SECURITY.md", "CHANGELOG.md")
CONFIG = {
    "title": "facekit",
    "author": "",
    "copyright": "",
    "only_build_toc_files": True,
    "execute": {"execute_notebooks": "off"},
    "parse": {"myst_enable_extensions": ["dollarmath"]},  # no links of names such as mine.py
    "sphinx": {
        "recursive_update": True,
        "config": {
            "myst_heading_anchors": 4,
            "highlight_language": "none",  # of a block that names none: trees of folders
            "nb_merge_streams": True,
            "html_theme_options": {"navbar_persistent": []},  # the search stands in the sidebar
            "html_context": {"default_mode": "auto"},  # light or dark, as the reader's system
            # Jupyter Book's own, without Thebe, whose script fails where no server is named.
            "extensions": [
                *("myst_nb", "jupyter_book", "sphinx_external_toc", "sphinx_comments"),
                *("sphinx_book_theme", "sphinx_copybutton"),
            ],
        },
    },
}
STYLE = """\
/* Where the page is dark, pictures stay as they are: faces keep their tones. */
html[data-theme="dark"] .bd-content img { filter: none; }
html[data-theme="dark"] .bd-content div.cell_output img { padding: 0; }
html[data-theme="dark"] .bd-content div.cell_output div.text_html:has([id^="facekit-"]) {
  padding: 0;
}
/* The theme lets the columns of a table touch, and numbers stand left below their headings. */
.bd-content div.cell_output table.dataframe :is(td, th) { padding: 0.2em 0.6em; }
.bd-content div.cell_output table.dataframe td { text-align: right; }
"""


def chapters() -> dict[str, list[str]]:
    """The pages under each heading of the site's contents, as paths in the repository."""
    docs = sorted(build.REPOSITORY.glob("docs/*.md"))
    pages = [page.relative_to(build.REPOSITORY).as_posix() for page in docs]
    return {
        "Lessons": [f"notebooks/{source.stem}.ipynb" for source in build.sources()],
        "To look things up": [page for page in pages if page not in build.STUDENTS_LACK],
        "About": list(FURTHER),
    }


def contents() -> dict:
    """The site's table of contents, in Jupyter Book's form."""
    parts = [
        {"caption": caption, "chapters": [{"file": page} for page in pages]}
        for caption, pages in chapters().items()
    ]
    return {"format": "jb-book", "root": "README", "parts": parts}


def linked(text: str, page: str, pages: set[str]) -> str:
    """The text of a page with links to files that have no page led to the repository.

    Where nobody knows the repository's address yet, such a link becomes its words.
    """
    where = build.settings()

    def lead(match: re.Match) -> str:
        words, target, anchor = match.groups()
        path = os.path.normpath(Path(page).parent / target).replace(os.sep, "/")
        if path in pages:
            return match[0]
        if build.NOBODY in where["slug"]:
            return words
        kind = "tree" if (build.REPOSITORY / path).is_dir() else "blob"
        return f"[{words}]({where['repository']}/{kind}/{where['branch']}/{path}{anchor or ''})"

    return LINK.sub(lead, text)


def stage_notebook(page: str, pages: set[str]) -> str:
    """A lesson with its links led, and its alt texts where Jupyter Book looks for them."""
    book = nbformat.read(build.REPOSITORY / page, as_version=4)
    book.metadata.language_info["pygments_lexer"] = "ipython3"  # which knows %magic and !shell
    for cell in book.cells:
        if cell.cell_type == "markdown":
            cell.source = linked(cell.source, page, pages)
        elif "alt" in cell.metadata:
            cell.metadata["mystnb"] = {"image": {"alt": cell.metadata["alt"]}}
    return build.text_of(book)


def stage(folder: Path) -> None:
    """Everything that the site is made of, in one folder."""
    pages = {"README.md"}.union(*chapters().values())
    for page in sorted(pages):
        if page.endswith(".ipynb"):
            text = stage_notebook(page, pages)
        else:
            text = linked((build.REPOSITORY / page).read_text(), page, pages)
        (folder / page).parent.mkdir(parents=True, exist_ok=True)
        (folder / page).write_text(text)
    shutil.copytree(build.REPOSITORY / "pictures", folder / "pictures")
    (folder / "_static").mkdir()
    (folder / "_static" / "facekit.css").write_text(STYLE)
    (folder / "_config.yml").write_text(yaml.safe_dump(CONFIG))
    (folder / "_toc.yml").write_text(yaml.safe_dump(contents()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    default = build.REPOSITORY / "build" / "book"
    parser.add_argument("--out", type=Path, default=default, help="folder of the site [build/book]")
    out = parser.parse_args().out
    for old in ("source", "_build"):
        shutil.rmtree(out / old, ignore_errors=True)
    stage(out / "source")
    command = [sys.executable, "-c", "from jupyter_book.cli.main import main; main()", "build"]
    command += ["--warningiserror", "--keep-going", "--path-output", str(out), str(out / "source")]
    done = subprocess.run(command)
    sys.exit(done.returncode)


if __name__ == "__main__":
    main()
