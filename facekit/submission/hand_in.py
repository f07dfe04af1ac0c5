"""All that a student hands in of a run, in one zip. Used by `facekit hand-in`.

All texts go through `redaction`, so that no key of the student's leaves with them.
"""

import io
import json
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from facekit.common.errors import DataError, FacekitError, RunError
from facekit.common.files import read_table, write_whole
from facekit.common.redaction import HIDDEN, redact, redact_values
from facekit.data.layout import TermData
from facekit.evaluation.embed import TrainedRun
from facekit.models import weights
from facekit.models.build import build, settings_of
from facekit.models.own_net import OwnNet, looks_trained
from facekit.models.summary import check_limit, count_multiply_adds, count_parameters
from facekit.sources import credentials
from facekit.submission.forms import form_of
from facekit.submission.zips import (
    CURVES,
    METADATA,
    MOST_BYTES,
    README,
    SECTIONS,
    empty_sections,
    pack,
    read,
)
from facekit.training.history import History


def write(
    run: TrainedRun,
    data: TermData,
    out: Path,
    notebooks: Sequence[Path],
    draw: Callable[[History, float], Figure],
) -> list[str]:
    """Write all that is handed in for a finished run into the zip `out`; what to tell the student.

    `draw`: makes a figure of the curves and the level of chance (`course.plots.curves`). A README
    to be filled in is laid into the run's folder where there is none. Raises RecipeError for a
    network over the term's limit, RunError and DataError for what cannot be handed in yet.
    """
    check_limit(run.net, data.term.max_parameters)
    recipe = _json(run.folder / "recipe.json")
    history = read_history(run.folder, recipe)
    submissions = _submissions(run, data)
    readme = _readme(run.folder)
    missing = empty_sections(readme)
    if missing:
        readme = f"> Still empty: {', '.join(missing)}.\n\n{readme}"
    texts = {
        README: readme,
        METADATA: json.dumps(_metadata(run, history), indent=1),
        "recipe.json": json.dumps(recipe, indent=1),
        "history.csv": history.frame().to_csv(index=False, lineterminator="\n"),
    }
    if (run.folder / "own.py").is_file():  # the source of the student's own classes
        texts["own.py"] = _text(run.folder / "own.py")
    secrets = _own_secrets()
    texts |= _notebooks(notebooks, secrets)
    clean = {name: _clean(name, text, secrets) for name, text in texts.items()}
    hidden = [name for name in texts if clean[name].count(HIDDEN) > texts[name].count(HIDDEN)]
    clean["environment.json"] = _environment(run.folder, secrets)
    files = {name: text.encode(errors="replace") for name, text in clean.items()}
    files[CURVES] = _picture(draw(history, 1 / len(run.classes)))
    pack(out, files | submissions, weights.digest(list(run.net.state_dict().values())))
    read(out)  # as the instructor will
    names = ", ".join(sorted(files | submissions))
    return [f"{out}: {names}", *_advice(run, missing, hidden, bool(notebooks))]


def _advice(
    run: TrainedRun, empty: Sequence[str], hidden: Sequence[str], notebook: bool
) -> list[str]:
    """What the student still has to do or should know, a line each."""
    lines = []
    if empty:
        readme = run.folder / README
        lines.append(f"still empty: {', '.join(empty)}; fill in {readme} and hand in once more")
    if "Acknowledgement" in empty:
        lines.append("without the acknowledgement, which only you can write, it may not count")
    if not notebook:
        lines.append("no notebook is in it; add yours: --notebook FILE.ipynb")
    if hidden:
        lines.append(f"what looks like a key was replaced by {HIDDEN} in {', '.join(hidden)}")
    return lines


# ------------------------------------------------------------------ its parts


def read_history(folder: Path, recipe: Mapping[str, Any]) -> History:
    """The curves of a run that is done. Raises RunError where it is not, DataError if damaged."""
    path = folder / "history.csv"
    table = read_table(path, ["epoch", "dev_accuracy"])
    try:
        rows = table.astype(float).astype({"epoch": int}).to_dict("records")
        history = History(rows, best_by=recipe.get("best_by", "accuracy"))
        last, wanted, patience = rows[-1]["epoch"], recipe["epochs"], recipe["patience"]
        done = last >= wanted or 0 < patience <= history.waited
    except (ValueError, LookupError, TypeError, OverflowError) as error:
        raise DataError(f"{path}: no curves of this run; train it again") from error
    if not done:
        raise RunError(
            f"{folder}: its training is not finished (epoch {last} of {wanted}): the same facekit "
            "train goes on; with --set patience=1 it ends as soon as an epoch is no better"
        )
    return history


def _submissions(run: TrainedRun, data: TermData) -> dict[str, bytes]:
    """The term's CSVs in the run's folder. Raises DataError where one is missing or wrong."""
    form, files = form_of(data), {}
    for name in form.FILES.values():
        path = run.folder / name
        if not path.is_file():
            raise DataError(f"{path}: no such file; write it first: facekit submit {run.folder}")
        problems = form.check(path, data)
        if problems:
            raise DataError("; ".join(problems))
        if path.stat().st_mtime < (run.folder / "best.pt").stat().st_mtime:
            raise DataError(
                f"{path}: older than best.pt, so of another network; write it anew: facekit "
                f"submit {run.folder}"
            )
        files[name] = path.read_bytes()
        if redact(files[name].decode()) != files[name].decode():
            raise DataError(f"{path}: holds what looks like a key; facekit submit {run.folder}")
    return files


def _metadata(run: TrainedRun, history: History) -> dict[str, Any]:
    """What the network is: sizes, layers, where its parts come from, how good it was on dev."""
    net, size = run.net, run.preprocess.size
    fresh = (
        build(settings_of(net), len(run.classes), size=size) if isinstance(net, OwnNet) else None
    )
    return {
        "term": run.term,
        "classes": len(run.classes),
        "image_size": size,
        "trainable_parameters": count_parameters(net),
        "multiply_adds": count_multiply_adds(net, size),
        "made_of": sorted({type(part).__module__.partition(".")[0] for part in net.modules()}),
        "begins_trained": fresh is not None and looks_trained(fresh.module),
        "best_epoch": history.best,
        "module": str(net),
    }


def _readme(folder: Path) -> str:
    """The student's README; the template is written into the run's folder where there is none."""
    path = folder / README
    if not path.exists():
        parts = [f"## {name}\n\n<!-- {hint} -->\n" for name, hint in SECTIONS.items()]
        template = "\n".join(["# Hand-in\n", *parts])
        write_whole(path, template.encode())
    return _text(path)


def _picture(figure: Figure) -> bytes:
    content = io.BytesIO()
    figure.savefig(content, format="png", metadata={"Software": None})  # no version: same bytes
    return content.getvalue()


def _notebooks(paths: Sequence[Path], secrets: Sequence[str]) -> dict[str, str]:
    """The texts of notebooks by their names in the zip. DataError for a file that is none."""
    texts = {}
    for path in paths:
        content = _json(path)
        if path.suffix != ".ipynb" or not isinstance(content.get("cells"), list):
            raise DataError(f"{path}: no Jupyter notebook; name a file that ends in .ipynb")
        name = "notebooks/" + re.sub(r"[^\w. -]", "_", redact(path.name, secrets))
        if name in texts:
            raise DataError(f"{path}: another notebook has this name; rename one of them")
        texts[name] = json.dumps(content, indent=1, ensure_ascii=False)
    return texts


def _environment(folder: Path, secrets: Sequence[str]) -> str:
    """Where the run was made. Hashes of code and data stay, which one could take for keys."""
    found = _json(folder / "environment.json")
    hashes = {key: found[key] for key in ("git", "data") if key in found}
    return json.dumps(redact_values(found, secrets) | hashes, indent=1)


def _json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(_text(path))
    except (ValueError, RecursionError):
        content = None
    if not isinstance(content, dict):
        raise DataError(f"{path}: damaged, no JSON; write it anew")
    return content


def _text(path: Path) -> str:
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    if path.stat().st_size > MOST_BYTES:
        raise DataError(f"{path}: more than {MOST_BYTES >> 20} MB; clear large outputs")
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: no text (UTF-8); save it as UTF-8") from error


# ------------------------------------------------------------------ secrets


def _own_secrets() -> list[str]:
    """The student's credentials for Kaggle, wherever they are kept."""
    with suppress(FacekitError):
        found = credentials.find()
        return found.secrets() if found else []
    return []


def _clean(name: str, text: str, secrets: Sequence[str]) -> str:
    """A text without what looks like a key; JSON by its values, for it writes quotes otherwise."""
    if not name.endswith((".json", ".ipynb")):
        return redact(text, secrets)
    return json.dumps(redact_values(json.loads(text), secrets), indent=1, ensure_ascii=False)
